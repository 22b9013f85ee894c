"""CFSSL_AUTH without a CFSSL: the bytes it sends, and the answers no server of ours gives.

The real servers are in tests/issuers/test_cfssl.py.
"""

import asyncio
import hmac
import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.base import Capability, Recovery, StepOutcome
from issuers.cfssl import CfsslIssuer
from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    Misconfigured,
    NotSupported,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from tests.issuers.rigs import make_request
from tests.pki import Holder, make_certificate, make_factory_ca, pem_chain
from tests.unit.issuers.cfssl import INFO, KEY, SIGN, URL, opened, refusal, success, told


@pytest.fixture
def ca() -> Holder:
    return make_factory_ca("CFSSL Root")


@pytest.fixture
def server(ca: Holder) -> Iterator[respx.MockRouter]:
    """A CFSSL that tells of `ca` and signs whatever comes for the key that comes."""
    with respx.mock(assert_all_called=False) as router:
        router.post(INFO).mock(return_value=told(ca))
        router.post(SIGN).mock(side_effect=lambda request: success(certificate=signed(ca, request).pem.decode()))
        yield router


def wish(request: httpx.Request) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(b64decode(json.loads(request.content)["request"]))
    return read


def signed(ca: Holder, request: httpx.Request) -> Holder:
    csr = x509.load_pem_x509_csr(wish(request)["certificate_request"].encode())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return make_certificate(csr.subject, ca, public_key=csr.public_key(), extensions=[(identifier, False)])  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nobody_to_ask_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken connection is looked into by a real one; here there is none."""

    async def silent(transport: object) -> None:
        return None

    monkeypatch.setattr("issuers.pinned.PinnedTransport.why_broken_off", silent)


async def failure(issuer: CfsslIssuer) -> IssuerError:
    with pytest.raises(IssuerError) as raised:
        await issuer.issue(make_request())
    return raised.value


# -- what is sent -------------------------------------------------------------------


async def test_the_token_is_the_hmac_of_the_very_bytes_of_the_request(server: respx.MockRouter) -> None:
    request = make_request()
    await opened().issue(request)
    body = json.loads(server.calls[-1].request.content)
    assert set(body) == {"token", "request"}
    sent = b64decode(body["request"], validate=True)
    assert b64decode(body["token"], validate=True) == hmac.digest(bytes.fromhex(KEY), sent, "sha256")
    assert json.loads(sent) == {
        "certificate_request": request.csr.public_bytes(Encoding.PEM).decode(),
        "profile": "CA",
    }


async def test_label_and_bundle_are_sent_when_set_and_inside_what_is_signed(server: respx.MockRouter) -> None:
    await opened({"cfssl_label": "meters", "bundle": "true"}).issue(make_request())
    sent = wish(server.calls[-1].request)
    assert (sent["label"], sent["bundle"]) == ("meters", True)
    assert json.loads(server.calls[0].request.content) == {"label": "meters", "profile": "CA"}


async def test_validity_serial_and_times_are_the_profiles_matter(server: respx.MockRouter) -> None:
    await opened().issue(replace(make_request(), serial=4711))
    assert set(wish(server.calls[-1].request)) == {"certificate_request", "profile"}


async def test_the_issuing_certificate_is_asked_for_again_after_a_day(
    server: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = opened()
    loop = asyncio.get_running_loop()
    for days in (0, 0.9, 1.1):
        at = loop.time()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda at=at, days=days: at + 86400 * days)
            await issuer.ca_certificates()
    assert [call.request.url.path for call in server.calls] == ["/api/v1/cfssl/info"] * 2


async def test_many_at_once_ask_info_once(server: respx.MockRouter, ca: Holder) -> None:
    async def later(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        return told(ca)

    server.post(INFO).mock(side_effect=later)
    issuer = opened()
    await asyncio.gather(*(issuer.issue(make_request(f"device-{n}")) for n in range(5)))
    assert len([call for call in server.calls if call.request.url == INFO]) == 1


async def test_a_check_asks_info_afresh(server: respx.MockRouter, ca: Holder) -> None:
    issuer = opened()
    await issuer.ca_certificates()
    new = make_factory_ca("CFSSL Root")
    server.post(INFO).mock(return_value=told(new))
    server.get(url__startswith=URL).mock(return_value=httpx.Response(404, text="404 page not found"))
    server.post(SIGN).mock(return_value=refusal(400, 400, "missing parameter 'certificate_request'"))
    report = await issuer.check(None, datetime.now(UTC))
    assert report.successful
    assert [step.outcome for step in report.steps if step.name == "clock"] == [StepOutcome.SKIPPED]
    assert await issuer.ca_certificates() == (new.certificate,)


# -- what comes back ------------------------------------------------------------------

ROWS: dict[str, tuple[httpx.Response, type[IssuerError], str]] = {
    "token missing": (refusal(400, 400, "invalid token"), Unauthorized, "give that profile's key"),
    "token not base64": (
        refusal(400, 400, "illegal base64 data at input byte 3"),
        Misconfigured,
        "did not understand our request (illegal base64 data at input byte 3, code 400)",
    ),
    "request not JSON": (
        refusal(400, 400, "Unable to parse authenticated sign request"),
        Misconfigured,
        "check 'host_url' and report this",
    ),
    "CSR missing": (
        refusal(400, 400, "missing parameter 'certificate_request'"),
        Misconfigured,
        "did not understand our request",
    ),
    "GET": (refusal(405, 405, 'Method is not allowed:"GET"'), Misconfigured, "did not understand our request"),
    "another type, 1.6.5": (refusal(400, 9300, "not a csr"), Rejected, "refuses the CSR: not a csr, code 9300"),
    "serial numbers wanted": (
        refusal(400, 1400, "bad serial"),
        Misconfigured,
        "turn ClientProvidesSerialNumbers off there",
    ),
    "the CA's key": (
        refusal(400, 2300, "failed"),
        Misconfigured,
        "cannot sign: failed, code 2300; look at the CA's own",
    ),
    "the CA's policy": (refusal(400, 5200, "Invalid or unknown policy"), Misconfigured, "its configuration"),
    "its database": (
        refusal(400, 11100, "database is locked"),
        Unavailable,
        "cannot sign now: database is locked, code 11100; look at the services it depends on",
    ),
    "a profile of multirootca": (refusal(400, 1, "invalid profile"), Misconfigured, "correct 'cfssl_profile'"),
    "an address outside": (refusal(403, 1, "not authorised"), Unauthorized, "add our address to the label's nets"),
    "no key in multirootca": (refusal(401, 1, "authorisation required"), Misconfigured, "give the profile an auth_key"),
    "new words": (refusal(400, 1, "moon in the wrong house"), Misconfigured, "(moon in the wrong house, code 1)"),
    "no words": (httpx.Response(400, json={"success": False}), Misconfigured, "(no reason, code 0)"),
    "its own failure": (refusal(500, 1, "bad certificate"), OutcomeUnknown, "failed: HTTP 500"),
    "a name of mutual TLS": (httpx.Response(403, text="Invalid CN"), Unauthorized, "-mutual-tls-cn"),
    "a proxy without a CA": (
        httpx.Response(502, html="<html><title>502 Bad Gateway</title></html>", headers={"Retry-After": "12"}),
        Unavailable,
        "or a proxy before it, is out of service: HTTP 502 (502 Bad Gateway); look at the CA and its proxy",
    ),
    "a proxy with a busy CA": (httpx.Response(503, headers={"Retry-After": "12"}), Unavailable, "HTTP 503;"),
    "a proxy that gave up": (httpx.Response(504), OutcomeUnknown, "failed: HTTP 504; look at its log"),
    "a proxy that limits": (httpx.Response(429, headers={"Retry-After": "12"}), Throttled, "asks us to be slower"),
    "a proxy that wants a password": (
        httpx.Response(401, text="who?"),
        Unauthorized,
        "does not let us in: HTTP 401 (who?)",
    ),
    "another program": (
        httpx.Response(200, html="<h1>It works!</h1>"),
        OutcomeUnknown,
        "(It works!), which is none of",
    ),
    "too large for a proxy": (httpx.Response(413), Misconfigured, "refuses our request: HTTP 413"),
}


@pytest.mark.parametrize("row", ROWS)
async def test_each_answer_has_its_class_and_its_words(server: respx.MockRouter, row: str) -> None:
    answer, kind, words = ROWS[row]
    server.post(SIGN).mock(return_value=answer)
    error = await failure(opened())
    assert type(error) is kind, error.message
    assert words in error.message
    if "Retry-After" in answer.headers:
        assert getattr(error, "retry_after", None) == 12


@pytest.mark.parametrize(
    ("exception", "orders", "question"),
    [
        (httpx.ReadTimeout, OutcomeUnknown, Unavailable),
        (httpx.ReadError, OutcomeUnknown, Unavailable),
        (httpx.WriteError, OutcomeUnknown, Unavailable),
        (httpx.RemoteProtocolError, OutcomeUnknown, Unavailable),
        (httpx.ConnectError, Unavailable, Unavailable),
        (httpx.ConnectTimeout, Unavailable, Unavailable),
        (httpx.PoolTimeout, Throttled, Throttled),
    ],
)
async def test_each_failure_of_the_connection_has_its_class(
    server: respx.MockRouter,
    exception: type[httpx.TransportError],
    orders: type[IssuerError],
    question: type[IssuerError],
) -> None:
    issuer = opened()
    await issuer.ca_certificates()
    for url in (SIGN, INFO):
        server.post(url).mock(side_effect=exception)
    assert type(await failure(issuer)) is orders
    assert type(await failure(opened())) is question


async def test_a_refusal_of_info_is_understood_too(server: respx.MockRouter) -> None:
    server.post(INFO).mock(return_value=refusal(400, 400, "bad label"))
    error = await failure(opened({"cfssl_label": "x"}))
    assert type(error) is Misconfigured
    assert "has no label 'x'; correct 'cfssl_label'" in error.message


@pytest.mark.parametrize(
    ("text", "check", "words"),
    [
        ("", Check.PARSE, "it sent is no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            Check.PARSE,
            "what it sent is no certificate",
        ),
        (pem_chain(make_factory_ca(), make_factory_ca()).decode(), Check.ONE_LEAF, "sent 2 certificates"),
    ],
)
async def test_a_signed_answer_without_one_certificate_is_bad(
    server: respx.MockRouter, text: str, check: Check, words: str
) -> None:
    server.post(SIGN).mock(return_value=success(certificate=text))
    error = await failure(opened())
    assert isinstance(error, BadCertificate)
    assert error.check is check
    assert words in error.message


async def test_an_issuing_certificate_that_is_none_is_bad(server: respx.MockRouter) -> None:
    server.post(INFO).mock(return_value=success(certificate="nothing"))
    error = await failure(opened())
    assert isinstance(error, BadCertificate)
    assert "the issuing certificate that the CA at http://192.0.2.7:8888 shows (info) cannot be read" in error.message


async def test_a_certificate_of_another_ca_than_info_shows_is_refused(server: respx.MockRouter) -> None:
    other = make_factory_ca("CFSSL Root")
    server.post(SIGN).mock(side_effect=lambda request: success(certificate=signed(other, request).pem.decode()))
    error = await failure(opened())
    assert isinstance(error, BadCertificate)
    assert error.check is Check.PATH
    assert "the CA has a new key, or profile and label lead to two CAs" in error.message
    assert [call.request.url.path.rpartition("/")[2] for call in server.calls] == ["info", "authsign", "info"]


async def test_a_chain_lost_after_the_signature_leaves_an_unknown_outcome(server: respx.MockRouter, ca: Holder) -> None:
    other = make_factory_ca("CFSSL Root")
    server.post(SIGN).mock(side_effect=lambda request: success(certificate=signed(other, request).pem.decode()))
    server.post(INFO).mock(side_effect=[told(ca), httpx.ConnectError("gone")])
    error = await failure(opened())
    assert type(error) is OutcomeUnknown
    assert "a certificate was issued, but its issuing certificate could not be fetched" in error.message


async def test_a_certificate_without_key_identifiers_is_matched_by_name(server: respx.MockRouter, ca: Holder) -> None:
    def sign(request: httpx.Request) -> httpx.Response:
        csr = x509.load_pem_x509_csr(wish(request)["certificate_request"].encode())
        bare = make_certificate(csr.subject, ca, public_key=csr.public_key())  # type: ignore[arg-type]
        return success(certificate=bare.pem.decode())

    server.post(SIGN).mock(side_effect=sign)
    assert (await opened().issue(make_request())).reference


# -- bundle (CFSSL 1.6.5) ---------------------------------------------------------------


async def test_a_bundle_gives_the_chain_without_the_root_and_teaches_the_cas(server: respx.MockRouter) -> None:
    root = make_factory_ca("Root")
    middle = make_factory_ca("Middle", issuer=root)
    issuing = make_factory_ca("Issuing", issuer=middle)

    def sign(request: httpx.Request) -> httpx.Response:
        leaf = signed(issuing, request)
        bundle = {"bundle": pem_chain(leaf, issuing, middle).decode(), "root": root.pem.decode()}
        return success(certificate=leaf.pem.decode(), bundle=bundle)

    server.post(INFO).mock(return_value=told(issuing))
    server.post(SIGN).mock(side_effect=sign)
    issuer = opened({"bundle": "true"})
    issued = await issuer.issue(make_request())
    assert issued.chain == (issued.leaf, issuing.certificate, middle.certificate)
    assert await issuer.ca_certificates() == (issuing.certificate, middle.certificate, root.certificate)


@pytest.mark.parametrize(
    ("bundle", "check", "words"),
    [
        ({"bundle": "nothing", "root": "nothing"}, Check.PARSE, "turn 'bundle' off"),
        ({}, Check.PARSE, "turn 'bundle' off"),
        (
            {"bundle": make_factory_ca().pem.decode(), "root": make_factory_ca().pem.decode()},
            Check.ONE_LEAF,
            "begins with",
        ),
    ],
)
async def test_a_bundle_that_is_none_is_bad(
    server: respx.MockRouter, ca: Holder, bundle: dict[str, str], check: Check, words: str
) -> None:
    server.post(SIGN).mock(
        side_effect=lambda request: success(certificate=signed(ca, request).pem.decode(), bundle=bundle)
    )
    error = await failure(opened({"bundle": "true"}))
    assert isinstance(error, BadCertificate)
    assert error.check is check
    assert words in error.message


# -- contract -------------------------------------------------------------------------


async def test_cfssl_has_nothing_to_ask_for_what_was_lost() -> None:
    issuer = opened()
    assert issuer.recovery is Recovery.NONE
    assert issuer.capabilities == {Capability.CHAIN}
    with pytest.raises(NotSupported):
        await issuer.recover(make_request(), timedelta())
