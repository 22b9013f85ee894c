"""What CFSSL and GlobalSign's HVCA answer when nothing is wrong with them, and how they refuse."""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from cryptography import x509

from simulators.atlas_policy import DEFAULT_POLICY
from tests import pki
from tests.fuzz.csr import ACCOUNT, KEY, NAME, NOW

SUBJECT = pki.make_name(NAME, locality_name="d1", organizational_unit_name=ACCOUNT.hex)
BEFORE, AFTER = NOW - timedelta(days=1), NOW + timedelta(days=3000)
SERIAL = 0x5A0123456789ABCDEF0123456789ABCDEF012345
DATE = "Mon, 01 Jun 2026 12:00:00 GMT"

CFSSL_REFUSALS = (
    (400, 1, "invalid token"),
    (400, 1, "bad request"),
    (400, 1, "bad label"),
    (400, 400, 'no authentication provider "x"'),
    (400, 5200, "Invalid or unknown policy: invalid profile"),
    (400, 9000, "CSR: malformed"),
    (500, 2002, "the key is away"),
    (500, 11000, "the database is away"),
    (429, 0, "slower"),
)
HVCA_REFUSALS = (400, 401, 402, 403, 404, 405, 409, 422, 429, 500, 502, 503)


@dataclass(slots=True)
class Reply:
    """An answer before it is bytes; `body` is a JSON value, or what else the CA sends."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What an adapter asks."""

    method: str
    path: str
    body: bytes


def read_request(data: bytes) -> Request:
    """The bytes of a whole request."""
    head, _, body = data.partition(b"\r\n\r\n")
    method, path, _ = head.partition(b"\r\n")[0].decode().split(" ")
    return Request(method, path, body)


class Authorities:
    """One PKI, and both CAs that sign with it."""

    def __init__(self) -> None:
        self.root = pki.make_factory_ca("Root", not_before=BEFORE, not_after=AFTER)
        self.issuing = pki.make_factory_ca(
            "Issuing", issuer=self.root, path_length=0, not_before=BEFORE, not_after=AFTER
        )
        self.leaf = pki.make_certificate(
            SUBJECT,
            self.issuing,
            key=KEY,
            serial=SERIAL,
            not_before=BEFORE,
            not_after=NOW + timedelta(days=99),
            extensions=[
                (pki.key_usage("digital_signature"), True),
                (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing.key.public_key()), False),
            ],
        )
        self.client = pki.make_device_certificate(self.root, "firstlight", not_before=BEFORE, not_after=AFTER)

    def cfssl(self, random: Random, request: Request, *, refuses: bool) -> Reply:
        """What CFSSL says."""
        if request.method == "GET":
            return _text(random.choice((404, 405)))
        if refuses:
            return _refusal(*random.choice(CFSSL_REFUSALS))
        if request.path.endswith("/info"):
            certificate = self.issuing.pem.decode().strip()
            return _success({"certificate": certificate, "usages": ["client auth"], "expiry": "2160h"})
        wish = json.loads(b64decode(json.loads(request.body)["request"]))
        if not wish["certificate_request"]:
            return _refusal(400, 400, "missing parameter 'certificate_request'")
        result: dict[str, Any] = {"certificate": self.leaf.pem.decode()}
        if wish.get("bundle"):
            chain = (self.leaf.pem + self.issuing.pem).decode()
            result["bundle"] = {"bundle": chain, "root": self.root.pem.decode(), "status": {"is_rebundled": False}}
        return _success(result)

    def hvca(self, random: Random, request: Request, *, refuses: bool) -> Reply:
        """What HVCA says."""
        if refuses:
            told = {"description": "no", "errors": {"subject_dn.common_name": ["too long"]}, "id": "4711"}
            return Reply(random.choice(HVCA_REFUSALS), told, {"Date": DATE, "Retry-After": "2"})
        status, body, headers = self._hvca(random, request)
        return Reply(status, body, {"Date": DATE, **headers})

    def _hvca(self, random: Random, request: Request) -> tuple[int, Any, Mapping[str, str]]:
        serial = f"{SERIAL:X}"
        match request.method, request.path.removeprefix("/v2").partition("?")[0]:
            case _, "/login":
                return 200, {"access_token": "abc.def.ghi"}, {}
            case _, "/validationpolicy":
                return 200, json.loads(json.dumps(DEFAULT_POLICY)), {}
            case _, "/trustchain":
                return 200, [self.issuing.pem.decode(), self.root.pem.decode()], {}
            case _, "/certificates":
                return 201, None, {"Location": f"https://ca.example.com/v2/certificates/{serial}"}
            case (("PATCH" | "DELETE"), _):
                return 204, None, {}
            case _, "/stats/issued":
                begin = int(NOW.timestamp())
                return (
                    200,
                    [
                        {"serial_number": f"{number:X}", "not_before": begin, "not_after": begin + 86400}
                        for number in (SERIAL, SERIAL + 1, 17)
                    ],
                    {"Total-Count": "3"},
                )
            case _, path if path.startswith("/certificates/"):
                if int(path.rpartition("/")[2], 16) != SERIAL:
                    return 404, {"description": "not found"}, {}
                if random.random() < 0.1:
                    return 202, {"description": "Operation in progress"}, {"Retry-After": "1"}
                return 200, {"certificate": self.leaf.pem.decode(), "status": "ISSUED", "updated_at": 1780000000}, {}
            case _:
                return 200, {"value": 1000}, {}


def _success(result: Mapping[str, Any]) -> Reply:
    return _envelope(200, {"success": True, "result": result, "errors": [], "messages": []})


def _refusal(status: int, code: int, message: str) -> Reply:
    errors = [{"code": code, "message": message}]
    return _envelope(status, {"success": False, "result": None, "errors": errors, "messages": []})


def _envelope(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status, body, {"Date": DATE, "Content-Type": "application/json"})


def _text(status: int) -> Reply:
    return Reply(status, "Method Not Allowed", {"Date": DATE, "Content-Type": "text/plain"})
