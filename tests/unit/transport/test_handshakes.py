"""Handshakes on a fake socket and clock: who comes in, who is refused in which words, and how many at a time."""

from typing import Any

import pytest

from server.transport import records
from server.transport.cookie import SLOT_SECONDS
from server.transport.engine import RefusalReason, TransportLimits
from tests.unit.transport.certificates import Pki, make
from tests.unit.transport.client import Client, psk, psk_client, x509_client
from tests.unit.transport.rig import ADDRESS, OTHER, Server, through_cookie


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


async def test_a_device_that_begins_anew_in_the_middle_starts_a_new_handshake(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_handshakes=1))
    assert server.deliver(through_cookie(server, x509_client(pki)))
    again = await server.connect(x509_client(pki))
    assert again.up
    counters = server.endpoint.counters
    # Every handshake comes to an end that is counted.
    assert (counters.started, counters.completed, counters.failed) == (2, 1, 1)


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


async def test_a_device_that_says_the_same_random_after_a_reboot_comes_in_with_its_next_cookie(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    first = x509_client(pki)
    (hello,) = through_cookie(server, first)
    for datagram in server.deliver([hello]):
        server.deliver(first.receive(datagram))
    assert server.endpoint.established == 1
    server.loop.advance(SLOT_SECONDS)
    (again,) = through_cookie(server, x509_client(pki))
    alike = again[:27] + hello[27:59] + again[59:]
    assert records.parse_client_hello(alike).random == records.parse_client_hello(hello).random
    assert server.deliver([alike]), "it is answered with a flight of its own"
    assert (server.endpoint.counters.started, server.endpoint.counters.dropped_repeated_hello) == (2, 0)
    assert server.endpoint.established == 1, "the old association stays until the new handshake completes"


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
    assert (server.endpoint.handshaking, server.endpoint.counters.dropped_handshakes_full) == (2, 1)


async def test_too_many_associations_drop_a_new_one_and_leave_the_others(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_associations=1))
    first = await server.connect(x509_client(pki))
    second = await server.connect(x509_client(pki), OTHER)
    assert (first.up, second.up) == (True, False)
    assert server.endpoint.counters.dropped_associations_full == 1
    assert server.deliver(first.send(b"x"))


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


async def test_all_addresses_of_an_ipv6_network_are_one_source(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(per_source=2))
    hosts = ["2001:db8::1", "2001:db8::ffff:0:1", "2001:db8:0:0:1234::", "2001:db8:0:1::1", "fe80::1%eth0"]
    for host in hosts:
        address = (host, 40000, 0, 0)
        server.deliver(through_cookie(server, x509_client(pki), address), address)
    assert (server.endpoint.handshaking, server.endpoint.counters.dropped_source_full) == (4, 1)
    # And those that are over make room.
    server.loop.advance(31)
    assert server.endpoint.handshaking == 0
    assert (await server.connect(x509_client(pki), (hosts[2], 40000, 0, 0))).up


def begun(sequence: int, length: int, part: bytes = b"x") -> bytes:
    """A record with the beginning of the handshake message (RFC 6347 4.2.2) that a client has there."""
    message = (
        {2: b"\x0b", 3: b"\x10", 4: b"\x0f"}[sequence]
        + length.to_bytes(3, "big")
        + sequence.to_bytes(2, "big")
        + bytes(3)
    )
    message += len(part).to_bytes(3, "big") + part
    return b"\x16\xfe\xfd\0\0" + sequence.to_bytes(6, "big") + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ([(2, records.LONGEST_HANDSHAKE)], (3, 1)),
        ([(2, 10000), (3, 10000)], (4, records.LONGEST_HANDSHAKE - 20000 + 1)),
        ([(3, 10)], (3, records.LONGEST_HANDSHAKE + 1)),
        ([(3, 10)], (4, 0xFFFFFF)),
    ],
    ids=["one message", "several", "longer the second time", "the longest"],
)
@pytest.mark.parametrize("protected", [False, True], ids=["at once", "after a record that looks protected"])
async def test_a_peer_that_begins_more_than_a_handshake_needs_is_refused(
    pki: Pki, within: list[tuple[int, int]], beyond: tuple[int, int], protected: bool
) -> None:
    server = Server(pki.index, pki.server)
    server.deliver(through_cookie(server, x509_client(pki)))
    if protected:
        server.deliver([b"\x16\xfe\xfd\0\1" + bytes(6) + b"\0\1x"])
    # Begun again and again it is still one message: a lost flight is repeated.
    server.deliver([begun(*message) for message in within] * 3)
    assert server.endpoint.handshaking == 1
    server.deliver([begun(*beyond)])
    assert server.endpoint.handshaking == 0
    (refusal,) = server.refusals
    assert (refusal.reason, refusal.detail) == (
        RefusalReason.HANDSHAKE_FAILED,
        "the handshake has too many bytes",
    )
    assert server.endpoint.counters.failed == 1


async def test_a_peer_whose_key_was_given_may_begin_no_more_than_others(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    await server.connect(psk_client(key=b"w" * 16))
    assert server.endpoint.handshaking == 1
    server.deliver([begun(3, records.LONGEST_HANDSHAKE + 1)])
    assert server.endpoint.handshaking == 0
    (refusal,) = server.refusals
    assert (refusal.identity, refusal.detail) == ("urn:dev:1", "the handshake has too many bytes")


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
    # Nothing but its association holds the old one.
    server.engine = renewed.engine
    second = await server.connect(x509_client(pki), OTHER)
    shown = second.connection.get_peer_certificate(as_cryptography=True)
    assert shown is not None
    assert shown.subject.rfc4514_string() == "CN=renewed.example.com"
    assert server.deliver(first.send(b"x"))
