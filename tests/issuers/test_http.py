"""The HTTP layer of the adapters against peers that hang, lie and break off, and what it may reach."""

import asyncio
import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_network

import httpx
import pytest
from cryptography import x509

from issuers import connections, failures, http
from issuers.errors import IssuerError, Misconfigured, OutcomeUnknown, Throttled, Unavailable
from issuers.http import Answer, HttpClient, read_url, refused_by_status
from issuers.reach import IPAddress, Listener, Reach
from issuers.tls import tls_context
from tests.issuers.asking import Names, client, failure
from tests.issuers.cfssl import OTHER_KEY, client_of, opened, trusting
from tests.issuers.peers.cfssl import cfssl_serve, page_config
from tests.issuers.peers.sockets import (
    Behaviour,
    answering,
    early_answer,
    hanging,
    raw_peer,
    resetting,
    response,
    server_context,
)
from tests.issuers.rigs import LOOPBACK, make_request
from tests.pki import make_factory_ca, make_server_certificate

CANARY = "cafe00d15ea5ed5ec4e700c0ffee5a17"

pytestmark = pytest.mark.usefixtures("short_of_hearing")

# -- lost answers ------------------------------------------------------------------

HALF = response(b'{"success":true}')[:-6]
LOST: dict[str, tuple[Behaviour, str]] = {
    "hang": (hanging, "no answer came within"),
    "half a head": (answering(HALF[:30]), "the connection broke before the whole answer was here"),
    "half a body": (answering(HALF), "the connection broke before the whole answer was here"),
    "reset": (resetting, "the connection broke before the whole answer was here (Connection reset by peer)"),
    "not a byte": (answering(b""), "the connection broke before the whole answer was here"),
    "no HTTP": (answering(b"SSH-2.0-OpenSSH_9.2\r\n"), "the connection broke before the whole answer was here"),
    "too much": (answering(response(b" " * (1 << 20) + b"{}")), "the answer is larger than 1048576 bytes"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", LOST)
async def test_an_answer_lost_after_an_order_means_outcome_unknown(kind: str) -> None:
    behave, words = LOST[kind]
    async with raw_peer(behave) as peer, client(peer.url) as opened:
        error = await failure(opened)
        assert len(peer.requests) == 1, "nothing is sent twice"
    assert type(error) is OutcomeUnknown
    assert f"the request was sent to the CA at {peer.url} and {words}" in error.message
    assert "it may have issued a certificate" in error.message


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", LOST)
async def test_an_answer_lost_after_a_question_means_unavailable(kind: str) -> None:
    behave, words = LOST[kind]
    async with raw_peer(behave) as peer, client(peer.url) as opened:
        error = await failure(opened, orders=False)
    assert type(error) is Unavailable
    assert words in error.message
    assert "look at the CA and at the network between" in error.message


async def test_an_answer_that_drips_ends_at_the_total_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b" " * 100000)[:80])
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    for module in (http, failures):
        monkeypatch.setattr(module, "TOTAL_SECONDS", 3.0)
    async with raw_peer(drip) as peer, client(peer.url) as opened:
        error = await failure(opened)
    assert type(error) is OutcomeUnknown
    assert "no whole answer came within 3 s" in error.message


async def test_a_deadline_before_anything_left_is_no_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(host: str, port: int) -> Sequence[IPAddress]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(http, "TOTAL_SECONDS", 0.1)
    opened = HttpClient(read_url("http://ca.example:1", "it"), reach=LOOPBACK, tls=None, resolver=slow)
    assert type(await failure(opened)) is Unavailable
    await opened.aclose()


async def test_an_early_503_is_read_although_the_request_was_not() -> None:
    data = response(b"<html><h1>busy</h1></html>", "503 Service Unavailable", "Retry-After: 7")
    async with early_answer(data) as peer, client(peer.url) as opened:
        answer = await opened.send("POST", "/sign", content=b"x" * 3_000_000, orders=True)
    error = refused_by_status(answer, orders=True)
    assert type(error) is Unavailable
    assert error.retry_after == 7
    assert "HTTP 503 (busy)" in error.message


async def test_a_connection_that_never_comes_about_is_unavailable_and_names_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.2)
    # TLS to a peer that says nothing: the connection is there, the handshake never ends.
    async with raw_peer(hanging) as peer:
        url = peer.url.replace("http:", "https:")
        async with client(url, tls=tls_context((make_factory_ca().certificate,), None)) as opened:
            error = await failure(opened)
    assert type(error) is Unavailable
    assert "did not take the connection within 3 s; check address, port and firewalls" in error.message


async def test_when_all_connections_wait_the_next_request_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 1)
    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.2)
    async with raw_peer(hanging) as peer, client(peer.url) as opened:
        first = asyncio.create_task(opened.send("GET", "/", orders=False))
        await peer.arrived.wait()
        error = await failure(opened)
        first.cancel()
        await asyncio.wait([first])
    assert type(error) is Throttled
    assert "connections to the CA at" in error.message
    assert error.retry_after is not None


async def test_a_redirect_is_not_followed() -> None:
    async with raw_peer(answering(response(b"{}"))) as target:
        data = response(b"", "302 Found", f"Location: {target.url}/other")
        async with raw_peer(answering(data)) as peer, client(peer.url) as opened:
            answer = await opened.send("GET", "/", orders=False)
        assert target.requests == []
    error = refused_by_status(answer, orders=False)
    assert type(error) is Misconfigured
    assert f"sends us on to {target.url}/other, which is not followed; give the final address" in error.message


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_peer(hanging) as proxy, raw_peer(answering(response(b"{}"))) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with client(peer.url) as opened:
            assert (await opened.send("GET", "/", orders=False)).status == 200
        assert proxy.requests == []


async def test_no_compression_is_asked_for_and_none_is_undone() -> None:
    data = response(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip")
    async with raw_peer(answering(data)) as peer, client(peer.url) as opened:
        answer = await opened.send("GET", "/", orders=False)
    assert b"\r\naccept-encoding: identity\r\n" in peer.requests[0].lower()
    assert answer.body == b"\x1f\x8b"
    assert answer.json() is None


# -- closing ---------------------------------------------------------------------


async def test_closing_lets_a_request_under_way_end() -> None:
    go = asyncio.Event()

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(response(b"{}"))
        await writer.drain()

    async with raw_peer(later) as peer, client(peer.url) as opened:
        under_way = asyncio.create_task(opened.send("GET", "/", orders=False))
        await peer.arrived.wait()
        await opened.aclose()
        go.set()
        assert (await under_way).status == 200


async def test_a_request_after_closing_is_still_answered_and_leaves_nothing_open() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        gone.set() if await reader.read() == b"" else None

    gone = asyncio.Event()
    async with raw_peer(twice) as peer, client(peer.url) as opened:
        await opened.aclose()
        for _ in range(2):
            gone.clear()
            assert (await opened.send("GET", "/", orders=False)).status == 200
            await gone.wait()


# -- reach -----------------------------------------------------------------------


async def test_a_name_is_resolved_once_and_the_connection_goes_to_the_address_that_passed() -> None:
    names = Names(["127.0.0.1"], ["192.0.2.1"])
    async with (
        raw_peer(answering(response(b"{}"))) as peer,
        client(f"http://ca.example:{peer.port}", names=names) as opened,
    ):
        for _ in range(2):
            assert (await opened.send("GET", "/", orders=False)).status == 200
    assert names.asked == ["ca.example"]
    assert f"\r\nHost: ca.example:{peer.port}\r\n".lower().encode() in peer.requests[0].lower()


async def test_the_tls_server_is_known_by_its_name_not_by_its_address() -> None:
    ca = make_factory_ca()
    server = make_server_certificate(ca, x509.DNSName("ca.example"))
    seen: list[str | None] = []
    context = server_context(server)
    context.sni_callback = lambda connection, name, _: seen.append(name)
    async with raw_peer(answering(response(b"{}")), tls=context) as peer:
        tls = tls_context((ca.certificate,), None)
        async with client(f"https://ca.example:{peer.port}", tls=tls, names=Names(["127.0.0.1"])) as opened:
            assert (await opened.send("GET", "/", orders=False)).status == 200
    assert seen == ["ca.example"]


async def test_a_name_that_leads_into_our_network_is_refused_with_what_to_set() -> None:
    async with raw_peer(hanging) as peer:
        async with client(f"http://ca.example:{peer.port}", reach=Reach(), names=Names(["127.0.0.1"])) as opened:
            error = await failure(opened)
        assert not peer.arrived.is_set()
    assert type(error) is Misconfigured
    assert (
        "the CA's address ca.example leads where issuers may not go: 127.0.0.1 is a loopback address" in error.message
    )
    assert 'put "127.0.0.1" or its network into `allow` of [issuers]' in error.message


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_another_way_to_write_a_refused_address_is_refused_too(host: str) -> None:
    async with client(f"http://{host}:1", reach=Reach()) as opened:
        error = await failure(opened)
    assert type(error) is Misconfigured
    assert "leads where issuers may not go" in error.message


async def test_of_several_addresses_those_out_of_reach_are_left_out() -> None:
    reach = Reach(allow=(ip_network("127.0.0.1"),))
    async with raw_peer(answering(response(b"{}"))) as peer:
        names = Names(["169.254.169.254", "127.0.0.2", "127.0.0.1"])
        async with client(f"http://ca.example:{peer.port}", reach=reach, names=names) as opened:
            assert (await opened.send("GET", "/", orders=False)).status == 200


async def test_the_next_address_is_tried_when_the_first_takes_no_connections() -> None:
    async with raw_peer(answering(response(b"{}"))) as peer:
        names = Names(["127.0.0.9", "127.0.0.1"])
        async with client(f"http://ca.example:{peer.port}", names=names) as opened:
            assert (await opened.send("POST", "/", content=b"{}", orders=True)).status == 200
    assert peer.requests[0].endswith(b"{}")


async def test_after_a_failed_connection_the_name_is_resolved_again() -> None:
    async with raw_peer(answering(response(b"{}"))) as peer:
        names = Names(["127.0.0.9"], ["127.0.0.1"])
        async with client(f"http://ca.example:{peer.port}", names=names) as opened:
            assert type(await failure(opened)) is Unavailable
            assert (await opened.send("GET", "/", orders=False)).status == 200


async def test_our_own_listener_is_never_contacted() -> None:
    async with raw_peer(hanging) as peer:
        for listener in (Listener(IPv4Address("127.0.0.1"), peer.port), Listener(None, peer.port)):
            reach = Reach(private=True, allow=(ip_network("127.0.0.0/8"),), listeners=(listener,))
            async with client(peer.url, reach=reach) as opened:
                error = await failure(opened)
            assert type(error) is Misconfigured
            assert "is our own" in error.message
        assert not peer.arrived.is_set()


async def test_a_name_without_an_address_is_unavailable() -> None:
    async with client("http://ca.example:1", names=Names([])) as opened:
        assert type(await failure(opened)) is Unavailable


# -- the canary -------------------------------------------------------------------


async def test_no_credential_shows_in_a_log_an_error_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ca, tls_ca = make_factory_ca(), make_factory_ca("TLS Root")
    credentials = {**client_of(tls_ca), "hmac_hex_key": CANARY}
    shown: list[str] = []
    config = page_config()
    config["auth_keys"]["ca_key"]["key"] = CANARY
    async with cfssl_serve(ca, config) as peer, raw_peer(resetting) as broken:
        tls = {**trusting(tls_ca), "cfssl_label": "x"}
        for url, attributes, given in (
            (peer.url, {"cfssl_profile": "CA"}, {"hmac_hex_key": CANARY}),
            (peer.url, {"cfssl_profile": "CA"}, {"hmac_hex_key": OTHER_KEY}),
            (broken.url, {"cfssl_profile": "CA"}, {"hmac_hex_key": CANARY}),
            ("https://127.0.0.1:1", tls, credentials),
        ):
            async with opened(url, attributes, given) as issuer:
                try:
                    shown.append(repr(await issuer.issue(make_request())))
                except IssuerError as error:
                    shown += [repr(error), error.message, _whole_story(error)]
                shown += [repr(issuer), repr(vars(issuer))]
                shown += [repr(vars(each)) for each in vars(issuer).values() if hasattr(each, "__dict__")]
    text = "\n".join([*shown, caplog.text])
    assert "send_request_body.started" in caplog.text, "httpcore was heard"
    key_lines = str(credentials["private_key"]).splitlines()[1:-1]
    for secret in (CANARY, OTHER_KEY, repr(bytes.fromhex(CANARY))[2:-1], *key_lines):
        assert secret.lower() not in text.lower()


def _whole_story(error: BaseException | None) -> str:
    words = ""
    while error is not None:
        words += repr(error) + str(error)
        error = error.__cause__ or error.__context__
    return words


def test_an_answers_repr_has_no_body() -> None:
    assert "canary" not in repr(Answer(200, httpx.Headers(), b"canary", "the CA"))
