"""The transport on real sockets with a client of ours: what is lost, how large it is, from and to which address."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from server.transport.engine import PreSharedKey, TransportLimits
from server.transport.udp import bind
from tests.integration.dtls_device import Device, psk_client, x509_client
from tests.integration.endpoints import running
from tests.integration.factory import Factory
from tests.unit.transport.client import PSK_SUITES, Client, psk


@pytest.mark.parametrize("make_client", [x509_client, psk_client])
async def test_any_one_lost_datagram_is_made_good(factory: Factory, make_client: Callable[[Factory], Client]) -> None:
    """Each datagram of a handshake in turn, both ways; the server's last flight among them (docs/transport.md 18)."""
    async with running(factory, keys=[psk()]) as server:

        async def lose(direction: str, number: int) -> bytes:
            device = Device(make_client(factory), server.port, loses=lambda d, n: (d, n) == (direction, number))
            with device.sock:
                await device.handshake()
                return await device.echo(b"%d" % number)

        cases = [(direction, number) for direction in ("to", "from") for number in range(5)]
        echoed = await asyncio.gather(*(lose(*case) for case in cases))
    assert echoed == [b"echo %d" % number for _ in range(2) for number in range(5)]


@pytest.mark.parametrize("make_client", [x509_client, psk_client])
@pytest.mark.parametrize("mtu", [300, 512, 1200])
async def test_no_datagram_of_a_handshake_is_larger_than_the_mtu(
    factory: Factory, make_client: Callable[..., Client], mtu: int
) -> None:
    async with running(factory, keys=[psk()], limits=TransportLimits(mtu=mtu)) as server:
        device = Device(make_client(factory, mtu=mtu), server.port)
        with device.sock:
            await device.handshake()
            assert device.largest <= mtu
            size = server.uppers[0].association.cleartext_mtu - len(b"echo ")
            assert await device.echo(b"x" * size) == b"echo " + b"x" * size
    assert server.endpoint.counters.oversized == 0


async def test_where_large_datagrams_never_arrive_smaller_ones_are_sent(factory: Factory) -> None:
    """RFC 6347 4.1.1.1: of a flight that was repeated in vain the next copy is smaller, and so is what follows it."""
    async with running(factory) as server:
        device = Device(x509_client(factory, mtu=600), server.port, carries=600)
        with device.sock:
            await device.handshake()
            assert device.client.up
            size = server.uppers[0].association.cleartext_mtu - len(b"echo ")
            assert await device.echo(b"x" * size) == b"echo " + b"x" * size


async def test_what_was_lost_once_does_not_make_datagrams_smaller(factory: Factory) -> None:
    async with running(factory) as server:
        device = Device(x509_client(factory), server.port, loses=lambda way, number: way == "from" and number == 1)
        with device.sock:
            await device.handshake()
            assert device.largest > 600
            assert server.uppers[0].association.cleartext_mtu > 1100


async def test_flights_that_were_small_do_not_make_datagrams_smaller_however_often_they_were_lost(
    factory: Factory,
) -> None:
    """A device with a key on a path that loses much: what follows would be twice as many datagrams to lose."""
    async with running(factory, keys=[psk()]) as server:
        device = Device(psk_client(factory), server.port, loses=lambda way, number: way == "from" and 0 < number < 4)
        with device.sock:
            await device.handshake()
            assert device.client.up
            assert server.uppers[0].association.cleartext_mtu > 1100


async def test_two_hundred_unknown_identities_at_a_slow_store_hold_up_nobody(factory: Factory) -> None:
    """A store that answers none of two hundred until a device with a known key, who came after them, was served."""
    answered: list[bytes] = []
    served = asyncio.Event()

    async def look_up(identity: bytes) -> PreSharedKey | None:
        if identity == psk().identity:
            answered.append(identity)
            return psk()
        await served.wait()
        answered.append(identity)
        return None

    async def stranger(number: int) -> str:
        client = Client(suites=PSK_SUITES, identity=b"nobody-%d" % number)
        device = Device(client, server.port)
        with device.sock:
            await device.handshake()
        return client.error

    async with running(factory, look_up=look_up, limits=TransportLimits(per_source=300)) as server:
        strangers = [asyncio.create_task(stranger(number)) for number in range(200)]
        while server.endpoint.counters.look_ups < 200:
            await asyncio.sleep(0.01)
        device = Device(psk_client(factory), server.port)
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        assert answered == [psk().identity]
        served.set()
        errors = await asyncio.gather(*strangers)
        assert all("unknown psk identity" in error for error in errors)
        assert sorted(answered) == sorted([psk().identity, *(b"nobody-%d" % number for number in range(200))])
        assert server.endpoint.established == 1
        assert server.endpoint.handshaking == 0


async def test_a_rebooted_device_comes_in_from_the_same_port(factory: Factory) -> None:
    async with running(factory) as server:
        first = Device(x509_client(factory), server.port)
        with first.sock:
            await first.handshake()
            second = Device(x509_client(factory), server.port, sock=first.sock)
            await second.handshake()
            assert await second.echo(b"x") == b"echo x"
    assert [upper.lost for upper in server.uppers] == [["replaced"], ["shutdown"]]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.9.9.9"])
async def test_a_wildcard_socket_answers_from_the_address_that_was_asked(factory: Factory, host: str) -> None:
    async with running(factory, host="0.0.0.0") as server:
        # A connected socket takes answers from that address alone.
        device = Device(x509_client(factory), server.port, host=host)
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        assert server.uppers[0].association.local_address == host


async def test_an_ipv6_wildcard_socket_answers_and_leaves_ipv4_to_its_own(factory: Factory) -> None:
    async with running(factory, host="::") as server:
        device = Device(x509_client(factory), server.port, host="::1")
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        assert server.uppers[0].association.local_address == "::1"
        with bind("0.0.0.0", server.port, reuse_port=False, receive_buffer=1 << 16) as other:
            assert other.getsockname()[1] == server.port


async def test_one_remote_port_may_hold_an_association_with_each_of_our_addresses(factory: Factory) -> None:
    async with running(factory, host="0.0.0.0") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            first = Device(x509_client(factory), server.port, host="127.0.0.1", sock=sock)
            await first.handshake()
            second = Device(x509_client(factory), server.port, host="127.0.0.2", sock=sock)
            await second.handshake()
        assert [upper.lost for upper in server.uppers] == [[], []]
        assert server.endpoint.established == 2
