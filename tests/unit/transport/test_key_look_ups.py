"""The look-up of a pre-shared key: what waits for it, what it may come to, and one identity a handshake."""

import asyncio

import pytest

from server.store.errors import StoreUnavailable
from server.transport import records
from server.transport.engine import PreSharedKey, RefusalReason, TransportLimits
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import Client, psk, psk_client
from tests.unit.transport.rig import Server, fragments, settle, through_cookie


async def flight_of_key(server: Server, client: Client) -> list[bytes]:
    """The client's ClientKeyExchange flight, one record to a datagram, not yet delivered."""
    flight: list[bytes] = []
    for datagram in server.deliver(through_cookie(server, client)):
        flight += client.receive(datagram)
    return [record for datagram in flight for record in records.datagrams(datagram, 1)]


async def test_a_store_that_is_away_means_silence_and_the_repeated_flight_asks_again(pki: Pki) -> None:
    asked: list[bytes] = []

    async def look_up(identity: bytes) -> PreSharedKey | None:
        asked.append(identity)
        if len(asked) == 1:
            raise StoreUnavailable("away")
        return psk()

    server = Server(pki.index, pki.server, look_up=look_up)
    client = psk_client()
    flight = await flight_of_key(server, client)
    server.deliver(flight)
    await settle()
    assert server.sent() == []
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.STORE_UNAVAILABLE]
    assert server.refusals[0].identity == "urn:dev:1"
    server.deliver(flight)
    await settle()
    for datagram in server.sent():
        client.receive(datagram)
    assert client.up
    assert asked == [b"urn:dev:1", b"urn:dev:1"]
    assert server.loop.faults == []


async def test_a_look_up_that_breaks_is_reported_and_never_looks_like_an_unknown_identity(pki: Pki) -> None:
    async def look_up(_identity: bytes) -> PreSharedKey | None:
        raise RuntimeError("a fault of ours")

    server = Server(pki.index, pki.server, look_up=look_up)
    client = await server.connect(psk_client())
    assert client.error == ""
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.STORE_UNAVAILABLE]
    assert len(server.loop.faults) == 1


class Gate:
    """A look-up that answers when told."""

    def __init__(self, key: PreSharedKey | None) -> None:
        self.key = key
        self.open = asyncio.Event()
        self.asked = 0
        self.cancelled = 0

    async def __call__(self, _identity: bytes) -> PreSharedKey | None:
        self.asked += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.key


async def test_while_a_key_is_looked_up_later_datagrams_wait_in_order(pki: Pki) -> None:
    gate = Gate(psk())
    server = Server(pki.index, pki.server, look_up=gate)
    client = psk_client()
    flight = await flight_of_key(server, client)
    assert len(flight) == 3
    assert server.deliver(flight) == []
    await asyncio.sleep(0)
    assert gate.asked == 1
    # Its flight has come: nothing of ours is repeated to ask for it.
    server.loop.advance(20)
    assert server.sent() == []
    gate.open.set()
    await settle()
    for datagram in server.sent():
        client.receive(datagram)
    assert client.up
    assert server.endpoint.counters.look_ups == 1


@pytest.mark.parametrize("apart", [False, True], ids=["one datagram", "a datagram each"])
async def test_a_flight_that_waited_for_its_key_is_read_once_for_its_identity(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    read: list[bytes] = []
    feed = records.KeyExchangeReader.feed
    monkeypatch.setattr(
        records.KeyExchangeReader, "feed", lambda reader, datagram: (read.append(datagram), feed(reader, datagram))[1]
    )
    server = Server(pki.index, pki.server, keys=[psk()])
    client = psk_client()
    flight = await flight_of_key(server, client)
    server.deliver(flight if apart else [b"".join(flight)])
    await settle()
    assert server.endpoint.established == 1
    assert len(read) == (3 if apart else 1)


async def test_at_most_eight_datagrams_wait_behind_a_look_up(pki: Pki) -> None:
    gate = Gate(psk())
    server = Server(pki.index, pki.server, look_up=gate)
    (key_exchange, *_) = await flight_of_key(server, psk_client())
    server.deliver([key_exchange] * 20)
    assert server.endpoint.counters.dropped_parked_full == 12
    gate.open.set()
    await asyncio.sleep(0)


async def test_a_handshake_that_ends_during_its_look_up_is_left_alone(pki: Pki) -> None:
    gate = Gate(psk())
    server = Server(pki.index, pki.server, look_up=gate)
    server.deliver(await flight_of_key(server, psk_client()))
    await asyncio.sleep(0)
    server.loop.advance(31)
    assert server.endpoint.handshaking == 0
    (refusal,) = server.refusals
    assert (refusal.reason, refusal.identity) == (RefusalReason.STORE_UNAVAILABLE, "urn:dev:1")
    # Nobody waits for the key any more, and nothing waits at the store.
    await settle()
    assert (gate.asked, gate.cancelled) == (1, 1)
    gate.open.set()
    await settle()
    assert server.sent() == []
    assert server.loop.faults == []
    assert server.endpoint.established == 0


async def test_two_hundred_unknown_identities_at_once_do_not_hold_up_a_known_one(pki: Pki) -> None:
    gate = Gate(None)
    known = psk()

    async def look_up(identity: bytes) -> PreSharedKey | None:
        return known if identity == known.identity else await gate(identity)

    server = Server(pki.index, pki.server, look_up=look_up, limits=TransportLimits(per_source=300))
    slow = [(("192.0.2.3", port), psk_client(b"nobody-%d" % port)) for port in range(200)]
    for address, client in slow:
        await server.connect(client, address)
    assert (await server.connect(psk_client())).up
    gate.open.set()
    await settle()
    for address, client in slow:
        for datagram in server.sent(address):
            client.receive(datagram)
        assert "unknown psk identity" in client.error


@pytest.mark.parametrize("identity", [b"urn:dev:1\0", b"urn:dev:1\0tail"])
async def test_an_identity_with_a_nul_is_refused_without_a_look_up(pki: Pki, identity: bytes) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    client = psk_client()
    (key_exchange, *rest) = await flight_of_key(server, client)
    body = len(identity).to_bytes(2, "big") + identity
    handshake = key_exchange[13:14] + len(body).to_bytes(3, "big") + key_exchange[17:19] + b"\0\0\0"
    handshake += len(body).to_bytes(3, "big") + body
    forged = key_exchange[:11] + len(handshake).to_bytes(2, "big") + handshake
    server.deliver([forged, *rest])
    assert server.endpoint.counters.look_ups == 0
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.IDENTITY_MISMATCH]
    assert server.endpoint.established == 0


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_fragmented_client_key_exchange_is_understood_in_any_order(pki: Pki, backwards: bool) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    client = psk_client()
    (key_exchange, change, finished) = await flight_of_key(server, client)
    parts = fragments(key_exchange, 3, start=100)
    # Every record needs a sequence number of its own, else the later one is a replay.
    change = change[:5] + (200).to_bytes(6, "big") + change[11:]
    for part in reversed(parts) if backwards else parts:
        server.deliver([part])
    await settle()
    for datagram in server.deliver([change, finished]):
        client.receive(datagram)
    assert client.up
    assert server.endpoint.counters.look_ups == 1


async def test_a_second_identity_in_one_handshake_is_refused(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk(b"urn:dev:2"), psk()])
    client = psk_client()
    (key_exchange, *rest) = await flight_of_key(server, client)
    # A future message number: looked up early by us, kept for later by OpenSSL, which then reads the other.
    announced = key_exchange.replace(b"urn:dev:1", b"urn:dev:2")
    announced = announced[:17] + b"\0\3" + announced[19:]
    announced = announced[:5] + (20).to_bytes(6, "big") + announced[11:]
    server.deliver([announced])
    await settle()
    server.deliver([key_exchange, *rest])
    await settle()
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.IDENTITY_MISMATCH]
    assert server.endpoint.established == 0
