"""The endpoint on a fake socket: what it costs before the cookie, what the socket may do, and its end."""

import pytest

from server.metrics import Metrics
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import x509_client
from tests.unit.transport.rig import ADDRESS, OTHER, Server, fragments, through_cookie


async def test_no_state_is_kept_and_no_engine_asked_before_the_cookie(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    server.endpoint.engine = None  # type: ignore[assignment]
    (hello,) = x509_client(pki).start()
    for port in range(500):
        (request,) = server.deliver([hello], ("192.0.2.9", port))
        assert len(request) < len(hello)
    assert (server.endpoint.handshaking, server.endpoint.established) == (0, 0)
    assert (server.endpoint.counters.cookies, server.endpoint.counters.started) == (500, 0)
    assert server.loop.faults == []


@pytest.mark.parametrize("other", [OTHER, (ADDRESS[0], ADDRESS[1] + 1)])
async def test_a_cookie_is_good_for_its_own_address_only(pki: Pki, other: tuple[str, int]) -> None:
    server = Server(pki.index, pki.server)
    hello = through_cookie(server, x509_client(pki))
    (answer,) = server.deliver(hello, other)
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
    first, _ = fragments(hello, len(hello) // 2)
    assert server.deliver([first]) == []
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
    addresses = [("192.0.2.3", port) for port in range(2)]
    clients = [await server.connect(x509_client(pki), address) for address in addresses]
    server.deliver(through_cookie(server, x509_client(pki), OTHER), OTHER)
    server.endpoint.close()
    for client, address in zip(clients, addresses, strict=True):
        for datagram in server.sent(address):
            client.receive(datagram)
    assert [client.closed for client in clients] == [True, True]
    assert [upper.lost for upper in server.uppers] == [["shutdown"], ["shutdown"]]
    assert not server.sock.open
    server.endpoint.close()


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
