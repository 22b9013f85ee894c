"""The endpoint on a fake socket and clock: who gets a datagram, and what a peer can cost."""

import asyncio
from typing import Any

import pytest

from server.metrics import Metrics
from server.store.errors import StoreUnavailable
from server.transport import records
from server.transport.engine import PreSharedKey, RefusalReason, TransportLimits
from server.transport.udp import BEHIND, DRAIN, LONG_DRAIN
from tests.unit.transport.conftest import Pki
from tests.unit.transport.rig import ADDRESS, PSK_SUITES, Client, Echo, Server, make, psk

OTHER = ("192.0.2.2", 40000)


def x509_client(pki: Pki, **options: Any) -> Client:
    return Client(certificate=pki.device, intermediates=[pki.intermediate], **options)


def psk_client(identity: bytes = b"urn:dev:1", key: bytes = b"k" * 16, **options: Any) -> Client:
    return Client(suites=options.pop("suites", PSK_SUITES), identity=identity, key=key, **options)


def through_cookie(server: Server, client: Client, address: Any = ADDRESS) -> list[bytes]:
    """The client's second ClientHello, which carries the cookie."""
    (request,) = server.deliver(client.start(), address)
    return client.receive(request)


async def settle() -> None:
    """Let the tasks of look-ups run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_device_with_a_factory_certificate_gets_an_association_that_names_its_path(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    assert client.up
    association = server.uppers[0].association
    assert association.peer.kind == "x509"
    assert association.peer.trusted.path == tuple(made.der for made in pki.path)
    assert association.peer.chain == (pki.device.der, pki.intermediate.der)
    assert association.peer.label == "CN=dev-1"
    assert (association.address, association.address_text) == (ADDRESS, "192.0.2.1:40000")
    assert association.local_address == "192.0.2.200"
    assert association.established_at == server.loop.now
    assert association.cleartext_mtu == 1171
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 0)
    assert server.refusals == []


async def test_a_device_with_a_pre_shared_key_gets_an_association_that_names_the_key(pki: Pki) -> None:
    key = psk()
    server = Server(pki.index, pki.server, keys=[key])
    client = await server.connect(psk_client())
    assert client.up
    peer = server.uppers[0].association.peer
    assert (peer.kind, peer.psk_identity, peer.psk, peer.label) == ("psk", b"urn:dev:1", key, "urn:dev:1")
    assert "kkkk" not in repr(peer)


async def test_plaintext_flows_both_ways(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    (answer,) = server.deliver(client.send(b"hello"))
    client.receive(answer)
    assert server.uppers[0].received == [b"hello"]
    assert client.received == [b"echo hello"]


async def test_no_state_is_kept_and_no_engine_asked_before_the_cookie(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    (hello,) = x509_client(pki).start()
    for port in range(500):
        (request,) = server.deliver([hello], ("192.0.2.9", port))
        assert len(request) < len(hello)
    assert (server.endpoint.handshaking, server.endpoint.established) == (0, 0)
    assert (server.endpoint.counters.cookies, server.endpoint.counters.started) == (500, 0)


async def test_a_cookie_is_good_for_its_own_address_only(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    hello = through_cookie(server, x509_client(pki))
    (answer,) = server.deliver(hello, OTHER)
    assert answer[13] == 3
    assert server.endpoint.handshaking == 0
    assert server.deliver(hello)
    assert server.endpoint.handshaking == 1


async def test_a_cookie_grows_old(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    hello = through_cookie(server, x509_client(pki))
    server.loop.advance(121)
    (answer,) = server.deliver(hello)
    assert answer[13] == 3
    assert server.endpoint.handshaking == 0


async def test_a_fragmented_client_hello_is_dropped_and_counted(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    (hello,) = x509_client(pki).start()
    body = hello[25:]
    cut = len(body) // 2
    handshake = hello[13:17] + hello[17:19] + b"\0\0\0" + cut.to_bytes(3, "big") + body[:cut]
    fragment = hello[:11] + len(handshake).to_bytes(2, "big") + handshake
    assert server.deliver([fragment]) == []
    assert server.endpoint.counters.dropped_fragmented_hello == 1


async def test_a_fragmented_client_hello_with_its_cookie_is_dropped_too_and_harms_no_association(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    (hello,) = through_cookie(server, x509_client(pki))
    pieces = fragments(hello, 60)
    assert len(pieces) > 2
    assert server.deliver(pieces) == []
    assert server.endpoint.counters.dropped_fragmented_hello == len(pieces)
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 0)
    assert server.deliver(client.send(b"x"))


@pytest.mark.parametrize("datagram", [b"", b"\x16", b"\x17\xfe\xfd" + b"\0" * 40, b"\x16\xfe\xfd" + b"\0" * 40])
async def test_what_no_flow_knows_meets_silence(pki: Pki, datagram: bytes) -> None:
    server = Server(pki.index, pki.server)
    assert server.deliver([datagram]) == []
    assert server.endpoint.counters.dropped == 1


async def test_a_stranger_is_refused_with_alert_unknown_ca_and_seen(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(Client(certificate=pki.stranger))
    assert "unknown ca" in client.error
    (refusal,) = server.refusals
    assert refusal.reason is RefusalReason.UNKNOWN_CA
    assert (refusal.address, refusal.credential, refusal.identity) == ("192.0.2.1:40000", "x509", "CN=dev-1")
    assert (server.endpoint.counters.failed, server.endpoint.handshaking) == (1, 0)


async def test_a_device_without_any_certificate_is_refused_and_seen(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(Client())
    assert client.error
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.NO_CERTIFICATE]


async def test_an_unknown_identity_is_refused_with_alert_115_and_seen(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    client = await server.connect(psk_client(b"nobody\xff\n"))
    assert "unknown psk identity" in client.error
    (refusal,) = server.refusals
    assert (refusal.reason, refusal.credential) == (RefusalReason.UNKNOWN_IDENTITY, "psk")
    assert refusal.identity == "nobody\\xff\\n"


async def test_a_wrong_key_is_met_with_silence_and_named_at_the_deadline(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    client = await server.connect(psk_client(key=b"x" * 16))
    assert not client.up
    assert server.refusals == []
    server.loop.advance(29)
    assert server.endpoint.handshaking == 1
    server.loop.advance(2)
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.WRONG_KEY]
    assert server.refusals[0].identity == "urn:dev:1"
    assert server.endpoint.handshaking == 0


async def test_a_handshake_that_goes_nowhere_ends_at_its_deadline(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    assert server.deliver(through_cookie(server, x509_client(pki)))
    server.loop.advance(31)
    assert server.endpoint.handshaking == 0
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.DEADLINE]


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

    async def __call__(self, _identity: bytes) -> PreSharedKey | None:
        self.asked += 1
        await self.open.wait()
        return self.key


async def flight_of_key(server: Server, client: Client) -> list[bytes]:
    """The client's ClientKeyExchange flight, one record to a datagram, not yet delivered."""
    flight: list[bytes] = []
    for datagram in server.deliver(through_cookie(server, client)):
        flight += client.receive(datagram)
    return [record for datagram in flight for record in records.datagrams(datagram, 1)]


async def test_while_a_key_is_looked_up_later_datagrams_wait_in_order(pki: Pki) -> None:
    gate = Gate(psk())
    server = Server(pki.index, pki.server, look_up=gate)
    client = psk_client()
    flight = await flight_of_key(server, client)
    assert len(flight) == 3
    assert server.deliver(flight) == []
    await asyncio.sleep(0)
    assert gate.asked == 1
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
    # What stands alone says nothing of what follows it: then all are read, the first of them again.
    assert len(read) == (4 if apart else 1)


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


def fragments(record: bytes, size: int, *, start: int = 0) -> list[bytes]:
    """A handshake record of one message, cut into records of `size` body bytes each (RFC 6347 4.2.3)."""
    body = record[25:]
    made: list[bytes] = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        handshake = record[13:19] + at.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part
        number = start + len(made)
        made.append(record[:5] + number.to_bytes(6, "big") + len(handshake).to_bytes(2, "big") + handshake)
    return made


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
    announced = announced[:17] + b"\0\x07" + announced[19:]
    announced = announced[:5] + (20).to_bytes(6, "big") + announced[11:]
    server.deliver([announced])
    await settle()
    server.deliver([key_exchange, *rest])
    await settle()
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.IDENTITY_MISMATCH]
    assert server.endpoint.established == 0


async def test_a_rebooted_device_replaces_its_association_only_when_the_new_handshake_completes(
    pki: Pki,
) -> None:
    server = Server(pki.index, pki.server)
    first = await server.connect(x509_client(pki))
    rebooted = x509_client(pki)
    flight = server.deliver(through_cookie(server, rebooted))
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 1)
    # The old keys still work beside the handshake.
    (answer,) = server.deliver(first.send(b"still here"))
    first.receive(answer)
    assert first.received == [b"echo still here"]
    assert server.uppers[0].lost == []
    answers = [answer for datagram in flight for answer in rebooted.receive(datagram)]
    for datagram in server.deliver(answers):
        rebooted.receive(datagram)
    assert rebooted.up
    assert server.uppers[0].lost == ["replaced"]
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 0)
    (answer,) = server.deliver(rebooted.send(b"new"))
    rebooted.receive(answer)
    assert rebooted.received == [b"echo new"]
    assert server.endpoint.counters.replaced == 1


async def test_an_association_outlives_a_failed_handshake_of_its_address(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    first = await server.connect(x509_client(pki))
    await server.connect(Client(certificate=pki.stranger))
    assert [refusal.reason for refusal in server.refusals] == [RefusalReason.UNKNOWN_CA]
    (answer,) = server.deliver(first.send(b"x"))
    first.receive(answer)
    assert first.received == [b"echo x"]


async def test_a_device_that_begins_anew_in_the_middle_starts_a_new_handshake(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_handshakes=1))
    assert server.deliver(through_cookie(server, x509_client(pki)))
    again = await server.connect(x509_client(pki))
    assert again.up
    assert server.endpoint.counters.started == 2


async def test_a_late_copy_of_the_client_hello_starts_nothing(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = x509_client(pki)
    hello = through_cookie(server, client)
    flight = server.deliver(hello)
    assert server.deliver(hello) == []
    for datagram in flight:
        server.deliver(client.receive(datagram))
    assert server.endpoint.established == 1
    assert server.deliver(hello) == []
    assert (server.endpoint.handshaking, server.endpoint.counters.dropped_repeated_hello) == (0, 2)


async def test_what_follows_a_repeated_client_hello_in_its_datagram_is_not_lost(pki: Pki) -> None:
    """As from a client whose timer ran out just when the server's flight came: both of its flights in one datagram."""
    server = Server(pki.index, pki.server)
    client = x509_client(pki)
    (hello,) = through_cookie(server, client)
    answers = [answer for datagram in server.deliver([hello]) for answer in client.receive(datagram)]
    # A repeated record has a number of its own.
    again = hello[:5] + (900).to_bytes(6, "big") + hello[11:]
    for datagram in server.deliver([again + answers[0], *answers[1:]]):
        client.receive(datagram)
    assert client.up
    assert server.endpoint.counters.dropped_repeated_hello == 1
    # And inside an association.
    (datagram,) = server.deliver([again + client.send(b"x")[0]])
    client.receive(datagram)
    assert client.received == [b"echo x"]
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 0)


@pytest.mark.parametrize("order", ["reversed", "doubled"])
async def test_a_flight_may_come_in_any_order_and_twice(pki: Pki, order: str) -> None:
    server = Server(pki.index, pki.server)
    client = x509_client(pki, mtu=400)
    flight = server.deliver(through_cookie(server, client))
    answers = [answer for datagram in flight for answer in client.receive(datagram)]
    single = [record for datagram in answers for record in records.datagrams(datagram, 1)]
    # OpenSSL drops a ChangeCipherSpec before its time; the client repeats it, so here the last two stay last.
    messages, end = single[:-2], single[-2:]
    assert len(messages) > 3
    shuffled = messages[::-1] + end if order == "reversed" else [part for part in single for _ in range(2)]
    for datagram in server.deliver(shuffled):
        client.receive(datagram)
    assert client.up


async def test_too_many_handshakes_drop_a_new_one_without_state(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_handshakes=2))
    clients = [x509_client(pki) for _ in range(3)]
    answered = [
        bool(server.deliver(through_cookie(server, client, ("192.0.2.3", port)), ("192.0.2.3", port)))
        for port, client in enumerate(clients)
    ]
    assert answered == [True, True, False]
    assert server.endpoint.counters.dropped_handshakes_full == 1


async def test_a_queue_that_stands_keeps_new_handshakes_out_and_lets_those_under_way_go_on(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    server.sock.seconds_each = 2 * LONG_DRAIN / DRAIN
    inside, outside = x509_client(pki), x509_client(pki)
    flight = server.deliver(through_cookie(server, inside))
    hello = through_cookie(server, outside, OTHER)
    assert server.loop.reader is not None
    began = server.loop.now
    while server.loop.now - began <= BEHIND:
        server.sock.incoming.extend([(b"noise", ("192.0.2.9", 9))] * 2 * DRAIN)
        server.loop.reader()
    assert server.sock.incoming, "the queue must still stand"
    server.sock.incoming.extendleft((datagram, OTHER) for datagram in hello)
    server.loop.reader()
    assert (server.sent(OTHER), server.endpoint.counters.dropped_behind) == ([], 1)
    for answer in [answer for datagram in flight for answer in inside.receive(datagram)]:
        for datagram in server.deliver([answer]):
            inside.receive(datagram)
    assert inside.up
    assert server.deliver(hello, OTHER), "the queue is empty again: the repeated hello gets in"


async def test_a_wake_up_takes_a_crowd_that_is_little_work_and_leaves_time_to_others(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    assert server.loop.reader is not None
    server.sock.incoming.extend([(b"noise", ("192.0.2.9", 9))] * 5 * DRAIN)
    server.loop.reader()
    assert not server.sock.incoming
    server.sock.seconds_each = LONG_DRAIN / DRAIN
    server.sock.incoming.extend([(b"noise", ("192.0.2.9", 9))] * 5 * DRAIN)
    server.loop.reader()
    assert len(server.sock.incoming) == 4 * DRAIN


async def test_what_a_wake_up_answers_leaves_at_its_end_in_order(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    hellos = [(x509_client(pki).start()[0], ("192.0.2.3", port)) for port in range(5)]
    waiting: list[int] = []
    send = server.sock.sendto

    def sendto(datagram: bytes, address: Any) -> int:
        waiting.append(len(server.sock.incoming))
        return send(datagram, address)

    server.sock.sendto = sendto  # type: ignore[method-assign]
    server.sock.incoming.extend(hellos)
    assert server.loop.reader is not None
    server.loop.reader()
    assert waiting == [0] * 5
    assert [address for _, address in server.sock.outgoing] == [address for _, address in hellos]


async def test_an_idle_socket_is_never_behind(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    server.loop.advance(60)
    assert (await server.connect(x509_client(pki))).up
    assert server.endpoint.counters.dropped_behind == 0


async def test_too_many_associations_drop_a_new_one_and_leave_the_others(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_associations=1))
    first = await server.connect(x509_client(pki))
    second = await server.connect(x509_client(pki), OTHER)
    assert (first.up, second.up) == (True, False)
    assert server.endpoint.counters.dropped_associations_full == 1


async def test_one_source_has_its_own_limit_of_unfinished_handshakes(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(per_source=2))
    for port in range(3):
        address = ("192.0.2.3", port)
        server.deliver(through_cookie(server, x509_client(pki), address), address)
    assert (server.endpoint.handshaking, server.endpoint.counters.dropped_source_full) == (2, 1)
    assert (await server.connect(x509_client(pki), OTHER)).up
    server.loop.advance(31)
    address = ("192.0.2.3", 9)
    assert (await server.connect(x509_client(pki), address)).up


async def test_draining_begins_nothing_new_and_lets_the_rest_go_on(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    half = x509_client(pki)
    flight = server.deliver(through_cookie(server, half, OTHER), OTHER)
    server.endpoint.stop_accepting()
    assert server.deliver(x509_client(pki).start(), ("192.0.2.7", 1)) == []
    answers = [answer for datagram in flight for answer in half.receive(datagram)]
    for datagram in server.deliver(answers, OTHER):
        half.receive(datagram)
    assert half.up
    assert server.deliver(client.send(b"x"))


async def test_closing_says_goodbye_to_every_device(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.deliver(through_cookie(server, x509_client(pki), OTHER), OTHER)
    server.endpoint.close()
    for datagram in server.sent():
        client.receive(datagram)
    assert client.closed
    assert server.uppers[0].lost == ["shutdown"]
    assert not server.sock.open
    server.endpoint.close()


async def test_an_association_closed_by_us_tells_the_device_and_the_upper_once(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    association = server.uppers[0].association
    association.close()
    association.close()
    association.send(b"into the void")
    for datagram in server.sent():
        client.receive(datagram)
    assert client.closed
    assert server.uppers[0].lost == ["closed"]
    assert server.endpoint.established == 0


async def test_a_scrap_of_a_record_from_the_address_of_an_association_is_malformed(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    assert server.deliver([b"", b"\x17", client.send(b"x")[0][: records.RECORD_HEADER - 1]]) == []
    assert server.endpoint.counters.dropped_malformed == 3
    assert server.deliver(client.send(b"y"))


async def test_two_records_in_one_datagram_are_two_messages(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.deliver([client.send(b"one")[0] + client.send(b"two")[0]])
    assert server.uppers[0].received == [b"one", b"two"]


async def test_a_device_that_says_goodbye_is_forgotten_and_answered(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    answers = server.deliver(client.close())
    assert server.uppers[0].lost == ["closed_by_peer"]
    assert [answer[0] for answer in answers] == [records.ALERT]
    assert server.endpoint.established == 0


async def test_an_idle_association_is_closed(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(idle_deadline=60))
    client = await server.connect(x509_client(pki))
    server.loop.advance(50)
    server.deliver(client.send(b"alive"))
    server.loop.advance(50)
    assert server.endpoint.established == 1
    server.loop.advance(20)
    assert server.uppers[0].lost == ["idle"]
    assert server.endpoint.established == 0


async def test_an_association_that_is_to_stay_is_closed_when_its_time_is_over(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(idle_deadline=60))
    await server.connect(x509_client(pki))
    (association,) = (upper.association for upper in server.uppers)
    association.stays_until = server.loop.now + 200
    server.loop.advance(190)
    assert server.endpoint.established == 1
    server.loop.advance(30)
    assert server.uppers[0].lost == ["idle"]


async def test_a_full_send_buffer_loses_the_datagram_and_nothing_else(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.sock.full = True
    assert server.deliver(client.send(b"x")) == []
    server.sock.full = False
    assert server.endpoint.counters.dropped_sending == 1
    assert server.deliver(client.send(b"y"))


async def test_an_icmp_error_on_the_socket_ends_nothing(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.deliver([b""], ConnectionRefusedError(111, "refused"))
    assert server.endpoint.counters.socket_errors == 1
    assert server.deliver(client.send(b"x"))


class Faulty(Echo):
    """An Upper with a fault of ours in it."""

    def datagram_received(self, plaintext: bytes) -> None:
        raise RuntimeError("a fault of ours")


async def test_a_fault_above_one_device_is_reported_and_reaches_no_other(pki: Pki) -> None:
    kinds = iter([Faulty, Echo])
    server = Server(pki.index, pki.server, upper=lambda association: next(kinds)(association))
    faulty = await server.connect(x509_client(pki))
    sound = await server.connect(x509_client(pki), OTHER)
    server.sock.incoming.append((faulty.send(b"x")[0], ADDRESS))
    assert server.deliver(sound.send(b"y"), OTHER)
    assert len(server.loop.faults) == 1


async def test_an_endpoint_that_is_closed_in_the_middle_of_a_wake_up_takes_no_more(pki: Pki) -> None:
    class Closing(Echo):
        def datagram_received(self, plaintext: bytes) -> None:
            super().datagram_received(plaintext)
            server.endpoint.close()

    server = Server(pki.index, pki.server, upper=Closing)
    client = await server.connect(x509_client(pki))
    server.deliver([*client.send(b"one"), *client.send(b"two")])
    assert [upper.received for upper in server.uppers] == [[b"one"]]
    assert server.endpoint.counters.socket_errors == 0


async def test_an_upper_that_cannot_be_made_ends_its_association(pki: Pki) -> None:
    def broken(_association: Any) -> Any:
        raise RuntimeError("a fault of ours")

    server = Server(pki.index, pki.server, upper=broken)
    await server.connect(x509_client(pki))
    assert server.endpoint.established == 0
    assert len(server.loop.faults) == 1


async def test_a_new_engine_serves_new_handshakes_and_the_old_associations_go_on(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    first = await server.connect(x509_client(pki))
    renewed = Server(pki.index, make("renewed.example.com"))
    server.endpoint.engine = renewed.engine
    server.engine = renewed.engine
    second = await server.connect(x509_client(pki), OTHER)
    shown = second.connection.get_peer_certificate(as_cryptography=True)
    assert shown is not None
    assert shown.subject.rfc4514_string() == "CN=renewed.example.com"
    assert server.deliver(first.send(b"x"))


async def test_a_send_larger_than_the_mtu_leaves_as_one_datagram_and_is_counted(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.uppers[0].association.send(b"x" * 2000)
    (datagram,) = server.sent()
    client.receive(datagram)
    assert client.received == [b"x" * 2000]
    assert server.endpoint.counters.oversized == 1


async def test_counters_tell_metrics_only_what_is_new(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    metrics = Metrics()
    server.endpoint.counters.add_to(metrics)
    await server.connect(x509_client(pki))
    server.endpoint.counters.add_to(metrics)
    server.endpoint.counters.add_to(metrics)
    assert metrics.handshakes.values == {"started": 1, "completed": 1, "failed": 0}
    assert metrics.cookies.values == {"": 1}
    assert set(metrics.drops.values.values()) == {0}
    server.deliver([b"?"])
    server.endpoint.counters.add_to(metrics)
    assert (metrics.datagrams.values["dropped"], metrics.drops.values["malformed"]) == (1, 1)
    assert metrics.datagrams.values["received"] == server.endpoint.counters.received
