"""Connections to a CA are used again, closed when they are not needed, and given back whatever happens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from issuers import connections
from issuers.http import HttpClient, read_url
from tests.integration.field import until
from tests.issuers.rigs import LOOPBACK

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class KeepingAlive:
    """A server that keeps connections open; answers while `let_go` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.opened = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.asked = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                await self.let_go.wait()
                writer.write(ANSWER)
        self.open.discard(writer)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[KeepingAlive]:
    kept = KeepingAlive()
    listening = await asyncio.start_server(kept.serve, "127.0.0.1", 0)
    kept.port = listening.sockets[0].getsockname()[1]
    yield kept
    listening.close()
    for writer in kept.open:
        writer.transport.abort()


@pytest.fixture
async def client(server: KeepingAlive) -> AsyncIterator[HttpClient]:
    url = f"http://127.0.0.1:{server.port}"
    opened = HttpClient(read_url(url, "'host_url'"), reach=LOOPBACK, tls=None)
    yield opened
    await opened.aclose()


async def ask(client: HttpClient) -> None:
    assert (await client.send("GET", "/", orders=False)).body == b"{}"


async def at_once(client: HttpClient, server: KeepingAlive, number: int) -> None:
    """So many requests, none of them answered before the last has come."""
    server.let_go.clear()
    before = server.asked
    asking = [asyncio.create_task(ask(client)) for _ in range(number)]
    await until(lambda: _reached(server, before + number))
    server.let_go.set()
    await asyncio.gather(*asking)


async def _reached(server: KeepingAlive, asked: int) -> bool:
    return server.asked >= asked


async def test_one_after_the_other_share_a_connection(client: HttpClient, server: KeepingAlive) -> None:
    for _ in range(5):
        await ask(client)
    assert (server.opened, server.asked) == (1, 5)


async def test_those_not_needed_any_more_are_closed(
    client: HttpClient, server: KeepingAlive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at_once(client, server, 3)
    assert (server.opened, len(server.open)) == (3, 3)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    await ask(client)

    async def one_is_left() -> bool:
        return len(server.open) <= 1

    await until(one_is_left)
    assert server.opened == 3


async def test_one_that_the_ca_closed_is_replaced(client: HttpClient, server: KeepingAlive) -> None:
    await ask(client)
    for writer in list(server.open):
        writer.close()
        await writer.wait_closed()
    # What the kernel knows by now our side learns when it looks.
    await ask(client)
    assert server.opened == 2


async def test_a_request_given_up_frees_its_connection(
    client: HttpClient, server: KeepingAlive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 1)
    only = HttpClient(read_url(f"http://127.0.0.1:{server.port}", "'host_url'"), reach=LOOPBACK, tls=None)
    server.let_go.clear()
    given_up = asyncio.create_task(ask(only))
    await until(lambda: _reached(server, 1))
    given_up.cancel()
    await asyncio.wait([given_up])
    server.let_go.set()
    await ask(only)
    await only.aclose()


async def test_when_the_client_closes_so_do_its_connections(client: HttpClient, server: KeepingAlive) -> None:
    await at_once(client, server, 3)
    await client.aclose()

    async def all_are_closed() -> bool:
        return not server.open

    await until(all_are_closed)
    # Who comes late still gets an answer, and leaves nothing open.
    await ask(client)
    await until(all_are_closed)
