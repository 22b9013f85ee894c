"""A small HTTP/1.1 server (RFC 9112) that can also hang, break off in the middle of an answer, or reset on purpose."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from simulators.tls_stream import TlsStream

LARGEST_BODY = 1 << 20
# A client that keeps a connection and says nothing.
IDLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request; header names are in lower case, `client` is the DER of the TLS client certificate."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; Content-Length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BreakOff:
    """No whole answer: silence until the client goes, RST, or half of an answer and the end."""

    how: Literal["hang", "reset", "half"]


Reply = Response | BreakOff


class HttpServer:
    """Serves `answer` on one address, with TLS when a context is given."""

    def __init__(self, answer: Callable[[Request], Awaitable[Reply]], tls: ssl.SSLContext | None) -> None:
        self._answer = answer
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.address: tuple[str, int] = ("", 0)

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port)
        self.address = self._server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Stop at once; clients see their connections end."""
        if self._server is not None:
            self._server.close()
            serving = dict(self._open)
            for writer in serving.values():
                writer.transport.abort()
            await self._server.wait_closed()
            if serving:
                await asyncio.wait(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None, "asyncio serves each connection in a task"
        self._open[serving] = writer
        stream: TlsStream | None = None
        pumping: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                way = _Way(reader, writer, writer.write, None)
                if self._tls is not None:
                    stream = TlsStream(reader, writer, self._tls)
                    async with asyncio.timeout(IDLE_SECONDS):
                        await stream.handshake()
                    pumping = asyncio.create_task(stream.pump())
                    way = _Way(stream.plain, writer, stream.write, stream.client)
                while await self._exchange(way):
                    pass
        finally:
            if stream is not None and pumping is not None:
                stream.end()
                pumping.cancel()
                await asyncio.gather(pumping, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            del self._open[serving]

    async def _exchange(self, way: "_Way") -> bool:
        """One request and its answer; whether the connection stays."""
        async with asyncio.timeout(IDLE_SECONDS):
            request = await _read(way)
        if isinstance(request, Response):
            await _write(way, request, keep=False)
            return False
        match await self._answer(request):
            case Response() as response:
                keep = request.headers.get("connection", "").lower() != "close"
                await _write(way, response, keep=keep)
                return keep
            case BreakOff("hang"):
                await way.reader.read()
            case BreakOff("half"):
                way.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                await way.writer.drain()
            case BreakOff("reset"):
                connection: socket.socket = way.writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                way.writer.transport.abort()
        return False


@dataclass(frozen=True, slots=True)
class _Way:
    """To a client and back: `reader` and `write` carry plaintext, `writer` what the network carries."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    write: Callable[[bytes], None]
    client: bytes | None


async def _read(way: _Way) -> Request | Response:
    """The next request, or what to say to one that cannot be read."""
    reader = way.reader
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return Response(400)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > LARGEST_BODY:
        return Response(413)
    body = await reader.readexactly(int(length))
    target = urlsplit(parts[1])
    return Request(
        method=parts[0],
        path=unquote(target.path),
        query=dict(parse_qsl(target.query)),
        headers=headers,
        body=body,
        client=way.client,
    )


async def _write(way: _Way, response: Response, *, keep: bool) -> None:
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    # RFC 9110 8.6: an answer without content has no Content-Length.
    if response.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(response.body)}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if not keep:
        lines.append("Connection: close")
    way.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + response.body)
    await way.writer.drain()
