"""Late records of an older attempt of an address, and whatever else no handshake needs, end none (RFC 6347 4.1.2.7)."""

from collections.abc import Callable

import pytest

from server.transport import records
from server.transport.engine import RefusalReason
from server.transport.handshakes import ALERT_PATIENCE, MOST_REPLACED
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import Client, psk, psk_client, x509_client
from tests.unit.transport.rig import ADDRESS, Server, each_record, settle, through_cookie
from tests.unit.transport.test_records import handshake, record

CLOSE_NOTIFY, UNKNOWN_CA = record(21, 0, 900, b"\1\0"), record(21, 0, 900, b"\2\x30")

STRAYS = {
    "an alert": UNKNOWN_CA,
    "close_notify": CLOSE_NOTIFY,
    "no_renegotiation": record(21, 0, 900, b"\1\x64"),
    "a broken alert": record(21, 0, 900, b"\2"),
    "an alert of no level": record(21, 0, 900, b"\3\x28"),
    "a broken ChangeCipherSpec": record(20, 0, 900, b"\2"),
    "application data": record(23, 0, 900, b"hello"),
    "a type that nobody knows": record(99, 0, 900, b"hello"),
    "a HelloRequest": record(22, 0, 900, handshake(0, 2, b"")),
    "a ServerHello": record(22, 0, 900, handshake(2, 2, b"x" * 9)),
    "a Finished": record(22, 0, 900, handshake(20, 3, b"x" * 12)),
    "a Certificate in the place of the key exchange": record(22, 0, 900, handshake(11, 3, b"x" * 9)),
    "a key exchange in the place of the proof": record(22, 0, 900, handshake(16, 4, b"x" * 9)),
    "a proof in the place of the key exchange": record(22, 0, 900, handshake(15, 3, b"x" * 9)),
    "a message too many": record(22, 0, 900, handshake(11, 5, b"x" * 9)),
    "a message that begins too much": record(22, 0, 900, handshake(11, 9, b"x", total=0xFFFFFF)),
    "half a header": record(22, 0, 900, b"\x0b\0\0"),
    "more than it says": record(22, 0, 900, handshake(11, 2, b"x" * 9) + b"\0"),
    "less than it says": record(22, 0, 900, handshake(11, 2, b"x" * 9)[:-1]),
    "a part beyond its message": record(22, 0, 900, handshake(11, 2, b"x" * 9, offset=5, total=9)),
    "a part without a byte": record(22, 0, 900, handshake(11, 2, b"", total=20)),
}


async def flight(server: Server, client: Client) -> list[bytes]:
    """Begin; the records of the client's last flight."""
    answers = server.deliver(through_cookie(server, client))
    return [record for datagram in answers for answer in client.receive(datagram) for record in each_record(answer)]


async def finish(server: Server, client: Client, datagrams: list[bytes]) -> None:
    waiting = server.deliver(datagrams)
    await settle()
    for datagram in waiting + server.sent():
        client.receive(datagram)


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "in one datagram with the rest"])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", ["x509", "psk"])
@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
async def test_what_is_part_of_no_handshake_ends_none(pki: Pki, stray: bytes, kind: str, at: int, joined: bool) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    client = x509_client(pki) if kind == "x509" else psk_client()
    sent = await flight(server, client)
    sent[at:at] = [stray]
    await finish(server, client, [b"".join(sent)] if joined else sent)
    assert client.up
    assert (server.endpoint.established, server.refusals) == (1, [])


async def test_a_datagram_without_any_part_of_its_handshake_is_counted(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    sent = await flight(server, x509_client(pki))
    server.deliver([STRAYS["application data"], STRAYS["a ServerHello"] + STRAYS["half a header"]])
    assert server.endpoint.counters.dropped_stray == 2
    server.deliver([STRAYS["application data"] + sent[0], UNKNOWN_CA])
    assert server.endpoint.counters.dropped_stray == 2


@pytest.mark.parametrize(
    ("alert", "words"),
    [(UNKNOWN_CA, "the device ended it with alert 48"), (CLOSE_NOTIFY, "the device ended it with close_notify")],
)
async def test_an_alert_in_the_clear_is_believed_when_nothing_follows(pki: Pki, alert: bytes, words: str) -> None:
    server = Server(pki.index, pki.server)
    await flight(server, x509_client(pki))
    server.loop.advance(2)
    server.deliver([alert])
    server.loop.advance(ALERT_PATIENCE - 1)
    # Once more is nothing new.
    server.deliver([alert])
    assert server.endpoint.handshaking == 1
    server.loop.advance(1.5)
    (refusal,) = server.refusals
    assert (refusal.reason, refusal.detail) == (RefusalReason.PEER_ALERT, words)
    assert (server.endpoint.handshaking, server.endpoint.counters.failed) == (0, 1)


async def test_a_device_that_goes_on_has_sent_no_alert(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = x509_client(pki)
    sent = await flight(server, client)
    server.deliver([UNKNOWN_CA])
    server.loop.advance(ALERT_PATIENCE - 1)
    server.deliver(sent[:1])
    server.loop.advance(ALERT_PATIENCE * 3)
    assert server.endpoint.handshaking == 1
    server.loop.advance(30)
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.DEADLINE]


async def test_a_device_that_begins_anew_after_its_alert_is_quoted(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    await flight(server, x509_client(pki))
    server.deliver([UNKNOWN_CA])
    again = await server.connect(x509_client(pki))
    assert again.up
    assert [refusal.detail for refusal in server.refusals] == ["the device ended it with alert 48"]
    counters = server.endpoint.counters
    assert (counters.started, counters.completed, counters.failed) == (2, 1, 1)


@pytest.mark.parametrize("newer", [1, 2, MOST_REPLACED])
async def test_a_late_client_hello_of_an_older_attempt_does_not_end_the_newest(pki: Pki, newer: int) -> None:
    server = Server(pki.index, pki.server)
    late = through_cookie(server, x509_client(pki))
    server.deliver(late)
    for _ in range(newer - 1):
        server.deliver(through_cookie(server, x509_client(pki)))
    client = x509_client(pki)
    sent = await flight(server, client)
    assert server.deliver(late) == []
    await finish(server, client, sent)
    assert client.up
    assert server.endpoint.counters.dropped_repeated_hello == 1
    assert server.endpoint.counters.started == newer + 1


@pytest.mark.parametrize("make", [x509_client, lambda _pki: psk_client()], ids=["x509", "psk"])
async def test_a_device_that_begins_anew_comes_in_whatever_alert_of_before_is_late(
    pki: Pki, make: Callable[[Pki], Client]
) -> None:
    """Its first attempt, which did not trust us, has been forgotten; its alert comes twice, and late."""
    server = Server(pki.index, pki.server, keys=[psk()])
    await flight(server, make(pki))
    server.deliver([UNKNOWN_CA])
    server.loop.advance(ALERT_PATIENCE + 1)
    assert server.endpoint.handshaking == 0
    client = make(pki)
    sent = await flight(server, client)
    server.deliver([UNKNOWN_CA], ADDRESS)
    await finish(server, client, sent)
    assert client.up


def test_a_record_that_is_no_part_of_a_handshake_is_kept_from_the_engine() -> None:
    reader = records.KeyExchangeReader()
    good, bad = record(22, 0, 1, handshake(11, 2, b"\0\0\0")), STRAYS["application data"]
    assert reader.feed(bad + good + bad + bad + record(22, 1, 0, b"sealed")) is None
    assert reader.kept == good + record(22, 1, 0, b"sealed")
    whole = good + record(20, 0, 2, b"\1")
    reader.feed(whole)
    assert reader.kept is whole
