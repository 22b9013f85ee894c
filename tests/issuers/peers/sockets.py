"""Peers that misbehave below HTTP: each answers a request with bytes of the test's choice, or breaks off."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.pki import Holder

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawPeer:
    """Where it listens, and the requests it has read, heads and bodies."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def raw_peer(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawPeer]:
    """A server that reads one whole request per connection and then lets `behave` go on."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            peer.requests.append(await read_request(reader))
            peer.arrived.set()
            await behave(reader, writer)
        writer.close()
        # Python 3.11.2 breaks over the end of a TLS connection that was closed twice.
        open_writers.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    peer = RawPeer(server.sockets[0].getsockname()[1])
    try:
        yield peer
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of one request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)


def answering(data: bytes) -> Behaviour:
    """Send `data`, whole or half, and close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the other side goes."""
    await reader.read()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection with RST."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP/1.1 response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def early_answer(data: bytes) -> AsyncIterator[RawPeer]:
    """A server that answers and closes as soon as the first byte is there, the request half read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield RawPeer(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def server_context(server: Holder) -> ssl.SSLContext:
    """TLS of a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = server.key_pem + server.pem
    descriptor = os.memfd_create("server")
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(pem)
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context
