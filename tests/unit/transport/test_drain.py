"""The drain of a socket: what one wake-up takes and answers, and a queue that stands."""

from typing import Any

from server.transport.udp import BEHIND, DRAIN, LONG_DRAIN
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import x509_client
from tests.unit.transport.rig import OTHER, Echo, Server, through_cookie


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


async def test_an_idle_socket_is_never_behind(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    server.loop.advance(60)
    assert (await server.connect(x509_client(pki))).up
    assert server.endpoint.counters.dropped_behind == 0
