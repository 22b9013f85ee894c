"""TLS over TCP: what one source and all together may take, who is slow or speaks something else, and a stop."""

import asyncio
import contextlib
import socket
from functools import partial

import pytest
from OpenSSL import SSL

from server.transport.engine import RefusalReason, TransportLimits
from server.transport.records import LONGEST_HANDSHAKE
from tests.integration import endpoints
from tests.integration.endpoints import Running
from tests.integration.factory import Factory
from tests.integration.tls_client import Client, device

running = partial(endpoints.running, stream=True)


async def connected(server: Running) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    return sock


async def ended(sock: socket.socket) -> bool:
    """Whether the server closed it, however."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            pass
    sock.close()
    return True


@pytest.mark.parametrize("limit", ["max_handshakes", "per_source", "max_associations"])
async def test_connections_past_a_limit_are_closed_at_once(factory: Factory, limit: str) -> None:
    async with running(factory, limits=TransportLimits(**{limit: 2})) as server:
        held = [await connected(server) for _ in range(2)]
        await server.until(lambda: server.endpoint.handshaking == 2)
        assert await ended(await connected(server))
        assert server.endpoint.counters.dropped == 1
        held.pop().close()
        # The place of one that left is free again.
        await server.until(lambda: server.endpoint.handshaking == 1)
        held.append(await connected(server))
        await server.until(lambda: server.endpoint.handshaking == 2)
        for sock in held:
            sock.close()


@pytest.mark.parametrize("says", [b"", b"\x16", b"\x16\x03\x01\x02\0\x01\0\x01"])
async def test_who_is_slow_is_ended_at_the_deadline(factory: Factory, says: bytes) -> None:
    async with running(factory, limits=TransportLimits(handshake_deadline=0.3)) as server:
        sock = await connected(server)
        await asyncio.get_running_loop().sock_sendall(sock, says)
        assert (await server.refusals.get()).reason is RefusalReason.DEADLINE
        assert await ended(sock)
        assert (server.endpoint.handshaking, server.endpoint.counters.failed) == (0, 1)


async def test_who_says_nothing_after_the_handshake_is_ended(factory: Factory) -> None:
    async with (
        running(factory, limits=TransportLimits(idle_deadline=0.5)) as server,
        device(server, factory) as client,
    ):
        assert await client.record() is None
        assert server.uppers[0].lost == ["idle"]


async def test_a_client_that_leaves_in_the_handshake_is_seen(factory: Factory) -> None:
    async with running(factory) as server:
        client = Client(server.port, certificate=factory.device)
        with contextlib.suppress(SSL.WantReadError):
            client.connection.do_handshake()
        await client.flush()
        await client.take()
        client.close()
        refusal = await server.refusals.get()
        assert refusal.reason is RefusalReason.HANDSHAKE_FAILED
        assert "closed the connection" in refusal.detail
        assert server.endpoint.handshaking == 0


async def test_a_probe_of_a_load_balancer_is_no_refused_device(factory: Factory) -> None:
    async with running(factory) as server:
        (await connected(server)).close()
        await server.until(lambda: server.endpoint.counters.failed == 1)
        assert server.refusals.empty()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x03\xff\xff" + bytes(100)])
async def test_what_is_no_tls_is_refused(factory: Factory, noise: bytes) -> None:
    async with running(factory) as server:
        sock = await connected(server)
        await asyncio.get_running_loop().sock_sendall(sock, noise)
        assert (await server.refusals.get()).reason in (
            RefusalReason.HANDSHAKE_FAILED,
            RefusalReason.PROTOCOL_VERSION,
        )
        assert await ended(sock)


async def test_a_handshake_without_end_is_cut(factory: Factory) -> None:
    # A ClientHello that says it is as long as OpenSSL allows, and comes record by record.
    piece = b"\x16\x03\x01\x40\0" + b"\x01\x01\xff\xff" + bytes(16380)
    async with running(factory) as server:
        sock = await connected(server)
        with contextlib.suppress(ConnectionError):
            for _ in range(LONGEST_HANDSHAKE // len(piece) + 2):
                await asyncio.get_running_loop().sock_sendall(sock, piece)
        refusal = await server.refusals.get()
        assert refusal.reason is RefusalReason.HANDSHAKE_FAILED
        assert await ended(sock)


async def test_draining_refuses_new_connections_and_keeps_those_that_are_up(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        server.endpoint.stop_accepting()
        assert await ended(await connected(server))
        client.connection.send(b"still here")
        await client.flush()
        assert await client.record() == b"echo still here"


async def test_closing_says_goodbye_to_all(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        waiting = await connected(server)
        await server.until(lambda: server.endpoint.handshaking == 1)
        server.endpoint.close()
        assert server.uppers[0].lost == ["shutdown"]
        assert await client.record() is None
        assert await ended(waiting)
        assert (server.endpoint.established, server.endpoint.handshaking) == (0, 0)
