"""An association from its handshake to its end: what it carries, and what ends it, alone or in favour of a new one."""

from server.transport import records
from server.transport.engine import RefusalReason, TransportLimits
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import Client, x509_client
from tests.unit.transport.rig import ADDRESS, OTHER, Echo, Server, through_cookie


async def test_plaintext_flows_both_ways(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    (answer,) = server.deliver(client.send(b"hello"))
    client.receive(answer)
    assert server.uppers[0].received == [b"hello"]
    assert client.received == [b"echo hello"]


async def test_two_records_in_one_datagram_are_two_messages(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.deliver([client.send(b"one")[0] + client.send(b"two")[0]])
    assert server.uppers[0].received == [b"one", b"two"]


async def test_a_scrap_of_a_record_from_the_address_of_an_association_is_malformed(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    assert server.deliver([b"", b"\x17", client.send(b"x")[0][: records.RECORD_HEADER - 1]]) == []
    assert server.endpoint.counters.dropped_malformed == 3
    assert server.deliver(client.send(b"y"))


async def test_a_send_larger_than_the_mtu_leaves_as_one_datagram_and_is_counted(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    client = await server.connect(x509_client(pki))
    server.uppers[0].association.send(b"x" * 2000)
    (datagram,) = server.sent()
    client.receive(datagram)
    assert client.received == [b"x" * 2000]
    assert server.endpoint.counters.oversized == 1


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
        # Nothing under the old keys, which nobody has any more: no goodbye either.
        first.receive(datagram)
    assert rebooted.up
    assert not first.closed
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


async def test_what_nobody_with_the_keys_has_sent_keeps_no_association(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(idle_deadline=60))
    client = await server.connect(x509_client(pki))
    (sent,) = client.send(b"once")
    server.deliver([sent])
    for forged in (sent[:-1] + bytes([sent[-1] ^ 1]), sent, sent[:3] + b"\0\0" + sent[5:], bytes(40)):
        server.loop.advance(14)
        assert server.deliver([forged]) == []
    server.loop.advance(14)
    assert server.uppers[0].received == [b"once"]
    assert server.uppers[0].lost == ["idle"]


async def test_an_association_that_is_to_stay_is_closed_when_its_time_is_over(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(idle_deadline=60))
    await server.connect(x509_client(pki))
    (association,) = (upper.association for upper in server.uppers)
    association.stays_until = server.loop.now + 200
    server.loop.advance(190)
    assert server.endpoint.established == 1
    server.loop.advance(30)
    assert server.uppers[0].lost == ["idle"]


async def test_a_handshake_under_way_counts_before_one_that_only_waits_makes_room(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_associations=2))
    await server.connect(x509_client(pki), OTHER)
    under_way = ("192.0.2.3", 1)
    server.deliver(through_cookie(server, x509_client(pki), under_way), under_way)
    server.endpoint.on_full = server.uppers[0].association.close
    assert (await server.connect(x509_client(pki))).up
    assert server.uppers[0].lost == ["closed"]
    assert (server.endpoint.established, server.endpoint.handshaking) == (1, 1)


async def test_a_stay_lasts_until_it_is_over_unless_another_one_says_more(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    await server.connect(x509_client(pki))
    association = server.uppers[0].association
    session = association.stay(100.0)
    shorter = association.stay(50.0)
    assert association.stays_until == 100.0
    shorter.end(70.0)
    assert association.stays_until == 100.0
    longer = association.stay(200.0)
    session.end()
    assert association.stays_until == 200.0
    longer.end(120.0)
    assert association.stays_until == 120.0
    last = association.stay(150.0)
    # A registration.
    association.stays_until = 1000.0
    last.end()
    assert association.stays_until == 1000.0
    alone = association.stay(2000.0)
    alone.end()
    assert association.stays_until == 1000.0


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


class OneOnly(Echo):
    """An Upper that has enough after one message."""

    def datagram_received(self, plaintext: bytes) -> None:
        self.received.append(plaintext)
        self.association.close()


async def test_what_follows_in_a_datagram_is_not_delivered_to_an_association_that_has_ended(pki: Pki) -> None:
    server = Server(pki.index, pki.server, upper=OneOnly)
    client = await server.connect(x509_client(pki))
    (goodbye,) = server.deliver([client.send(b"one")[0] + client.send(b"two")[0]])
    client.receive(goodbye)
    assert client.closed
    assert (server.uppers[0].received, server.uppers[0].lost) == ([b"one"], ["closed"])
    assert server.loop.faults == []


async def test_with_as_many_associations_as_allowed_one_that_only_waits_makes_room(pki: Pki) -> None:
    server = Server(pki.index, pki.server, limits=TransportLimits(max_associations=2))
    waiting = [await server.connect(x509_client(pki), ("192.0.2.3", port)) for port in range(2)]
    asked: list[int] = []

    def relieve() -> None:
        asked.append(server.endpoint.established)
        if len(asked) == 1:
            server.uppers[0].association.close()

    server.endpoint.on_full = relieve
    assert (await server.connect(x509_client(pki))).up
    assert (asked, server.endpoint.established) == ([2], 2)
    for datagram in server.sent(("192.0.2.3", 0)):
        waiting[0].receive(datagram)
    assert [client.closed for client in waiting] == [True, False]
    # With nobody left who only waits, a new one stays outside.
    assert not (await server.connect(x509_client(pki), ("192.0.2.4", 1))).up
    assert server.endpoint.counters.dropped_associations_full == 1
