"""GLOBAL_SIGN: whom HVCA lets in, with tokens, client certificates, keys and secrets (rows of `matrices.toml`)."""

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from cryptography import x509

from issuers import globalsign_api, open_issuer
from issuers.base import Issued, Issuer
from issuers.errors import (
    IssuerError,
    Misconfigured,
    Unauthorized,
    Unavailable,
)
from tests.issuers.hvca import (
    JUST_NOW,
    ORDER,
    break_down,
    failure,
    got,
    now,
    opened,
    wish,
)
from tests.issuers.peers.atlas import AtlasPeer
from tests.issuers.rigs import LOOPBACK, assert_says
from tests.pki import make_device_certificate, make_factory_ca

pytestmark = pytest.mark.usefixtures("impatient")

# -- tokens ---------------------------------------------------------------------


async def test_a_token_that_ended_is_renewed_once_and_the_call_repeated(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    await got(issuer, wish("first"))
    peer.atlas.expire_tokens()
    await got(issuer, wish("second"))
    assert calls["POST /login"] == 2
    assert calls[ORDER] == 3
    assert peer.atlas.issued == 2


async def test_a_storm_that_meets_an_ended_token_logs_in_once(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    await got(issuer, wish("first"))
    peer.atlas.expire_tokens()
    await asyncio.gather(*(got(issuer, wish(f"device-{number}")) for number in range(12)))
    assert calls["POST /login"] == 2
    assert peer.atlas.issued == 13


async def test_a_ca_that_never_takes_its_own_token_is_asked_twice_and_no_more(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    break_down(peer, ORDER, 401, times=100)
    assert_says(await failure(issuer), Unauthorized, "does not take the token it gave (Unauthorized)", "ask GlobalSign")
    assert calls[ORDER] == calls["POST /login"] == 2


async def test_a_token_is_renewed_before_its_ten_minutes_are_over(
    peer: AtlasPeer, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert globalsign_api.TOKEN_SECONDS == 9 * 60
    monkeypatch.setattr(globalsign_api, "TOKEN_SECONDS", 0.0)
    async with opened(peer) as issuer:
        await issuer.ca_certificates()
        await issuer.revoke((await got(issuer, wish())).leaf.serial_number, x509.ReasonFlags.superseded, now())
    assert calls["POST /login"] == 5, "one for each call"


LOGIN = (
    (400, Unauthorized, "does not take our login (Bad Request): 'api_key', 'api_secret' and 'client_certificate'"),
    (401, Unauthorized, "does not take our login (Unauthorized)"),
    (422, Unauthorized, "does not take our login"),
    (411, Misconfigured, "does not understand our request (HTTP 411, Content-Length required)"),
    (415, Misconfigured, "does not understand our request (HTTP 415, Bad Content-Type)"),
    (404, Misconfigured, "has no such service (Not found); 'base_url' ends in /v2"),
    (503, Unavailable, "is busy (Service busy, please retry later; id "),
    (500, Unavailable, "failed (Internal error; id "),
    ("html", Unavailable, "or a proxy before it, is out of service: HTTP 502 (502 Bad Gateway)"),
    ("hang", Unavailable, "no answer came within"),
    ("reset", Unavailable, "the connection broke"),
    ("half", Unavailable, "the connection broke"),
)


@pytest.mark.parametrize(("do", "kind", "words"), LOGIN, ids=[str(row[0]) for row in LOGIN])
async def test_what_a_login_can_end_with(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str], do: Any, kind: type[IssuerError], words: str
) -> None:
    break_down(peer, "POST /login", do)
    assert_says(await failure(issuer), kind, words)
    assert calls["POST /login"] == 1, "nothing is tried again"
    assert calls[ORDER] == 0


# -- TLS and secrets -------------------------------------------------------------------


async def test_a_client_certificate_of_another_ca_is_unauthorized(peer: AtlasPeer) -> None:
    stranger = make_device_certificate(make_factory_ca("Stranger"), "a stranger")
    credentials = {
        "client_certificate": stranger.pem.decode(),
        "private_key": stranger.key_pem.decode(),
        "passphrase": "",
    }
    async with opened(peer, credentials=credentials) as issuer:
        # The server closes behind its alert with our request unread (TLS 1.3), and the reset may overtake the alert.
        assert_says(await failure(issuer), Unauthorized, "refuses our TLS client certificate", "'client_certificate'")


async def test_a_server_that_nobody_vouches_for_is_named_with_the_remedy(peer: AtlasPeer) -> None:
    async with opened(peer, {"tls_roots": make_factory_ca().pem.decode()}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not trusted", "'tls_roots'")


@pytest.mark.parametrize("name", ["api_key", "api_secret"])
async def test_a_wrong_key_or_secret_is_unauthorized(peer: AtlasPeer, name: str) -> None:
    async with opened(peer, credentials={name: "0123456789abcdef"}) as issuer:
        assert_says(await failure(issuer), Unauthorized, "'api_key', 'api_secret' and 'client_certificate'")


async def test_the_access_key_of_the_page_is_the_api_key(peer: AtlasPeer) -> None:
    credentials = peer.credentials
    credentials["access_key"] = credentials.pop("api_key")
    issuer = open_issuer("GLOBAL_SIGN", "theirs", peer.attributes, credentials, LOOPBACK)
    assert isinstance(await got(issuer, wish()), Issued)
    await issuer.aclose()


async def test_no_secret_shows_in_any_log_error_or_repr(peer: AtlasPeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    async with opened(peer) as issuer:
        await got(issuer, wish())
        tokens = tuple(peer.atlas._tokens)
        for at in ("POST /login", ORDER, "GET /stats/issued"):
            for do in (400, 401, 422, 503, "html", "hang", "half", "reset"):
                peer.atlas.expire_tokens()
                break_down(peer, at, do)
                try:
                    await issuer.issue(request := wish())
                    await issuer.recover(request, JUST_NOW)
                except IssuerError as error:
                    shown += [str(error), repr(error), repr(error.__cause__)]
                tokens += tuple(peer.atlas._tokens)
                peer.atlas.faults.clear()
        shown += [repr(await issuer.check(wish("verify"), now()))]
        inside = [issuer, *vars(issuer).values(), *vars(vars(issuer)["_api"]).values()]
        shown += [repr(each) for each in inside] + [repr(vars(each)) for each in inside if hasattr(each, "__dict__")]
    assert len(tokens) > 10
    text = "\n".join([*shown, caplog.text, *(repr(record.args) for record in caplog.records)])
    assert "does not take our login" in text
    for secret in (*peer.secrets, *tokens):
        assert secret not in text
