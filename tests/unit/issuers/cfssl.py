"""A CFSSL that is not there: how the adapter is opened for it, and what it would say."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from issuers import open_issuer
from issuers.cfssl import CfsslIssuer
from issuers.reach import Reach
from tests.pki import Holder

URL = "http://192.0.2.7:8888"
INFO, SIGN = f"{URL}/api/v1/cfssl/info", f"{URL}/api/v1/cfssl/authsign"
KEY = "00ff10ee20dd30cc"
REACH = Reach(private=True)


def opened(
    attributes: Mapping[str, object] | None = None, credentials: Mapping[str, object] | None = None
) -> CfsslIssuer:
    """The adapter as registered with these settings beside those that are fit."""
    issuer = open_issuer(
        "CFSSL_AUTH",
        "theirs",
        {"host_url": URL, "cfssl_profile": "CA", **(attributes or {})},
        {"hmac_hex_key": KEY, **(credentials or {})},
        REACH,
    )
    assert isinstance(issuer, CfsslIssuer)
    return issuer


def success(**result: Any) -> httpx.Response:
    """An answer that holds `result`."""
    return httpx.Response(200, json={"success": True, "result": result, "errors": [], "messages": []})


def refusal(status: int, code: int, message: str, **headers: str) -> httpx.Response:
    """A refusal in its words."""
    envelope = {"success": False, "result": None, "errors": [{"code": code, "message": message}], "messages": []}
    return httpx.Response(status, text=json.dumps(envelope), headers=headers)


def told(ca: Holder) -> httpx.Response:
    """What `info` tells of this CA."""
    return success(certificate=ca.pem.decode().strip(), usages=["client auth"], expiry="17520h")
