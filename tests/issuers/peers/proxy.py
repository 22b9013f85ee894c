"""Proxies before a CA: one that counts what passes and can lose answers, one that wants client certificates."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.issuers.peers.sockets import server_context
from tests.pki import Holder

Forward = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class CountingProxy:
    """What has passed so far; `paths` are the request paths in their order, `unanswered` those nobody heard more of.

    Answers are held back for `slow_by` seconds. While `lose_answers_to` is a path, whole requests to it go through,
    and their connection breaks as soon as the answer comes: the CA has acted and nobody hears of it.
    """

    port: int = 0
    connections: int = 0
    lost: int = 0
    paths: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    lose_answers_to: str = ""
    slow_by: float = 0.0
    _forward: Forward | None = field(default=None, repr=False)
    _server: asyncio.Server | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self, forward: Forward | None = None) -> None:
        """Take connections, on the same port again after `close`."""
        self._forward = forward or self._forward
        assert self._forward is not None
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Take no connections: one that did for a dead CA would hide that it is dead."""
        assert self._server is not None
        self._server.close()

    def requests(self, path: str) -> int:
        """How many requests to a path that ends so have passed."""
        return sum(each.endswith(path) for each in self.paths)

    def lost_answers(self, path: str) -> int:
        """How many requests to a path that ends so went to the CA and had no answer that arrived."""
        return sum(each.endswith(path) for each in self.unanswered)


@contextlib.asynccontextmanager
async def counting_proxy(target_port: int) -> AsyncIterator[CountingProxy]:
    """A proxy on a port of its own before 127.0.0.1:`target_port`."""
    proxy = CountingProxy()
    writers: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.transport.abort()
            return
        writers.update((writer, upstream_writer))
        last_path = waiting = ""

        async def up() -> None:
            nonlocal last_path, waiting
            while data := await reader.read(65536):
                method, _, rest = data.partition(b" ")
                if method in (b"GET", b"POST"):
                    last_path = waiting = rest.partition(b" ")[0].decode()
                    proxy.paths.append(last_path)
                upstream_writer.write(data)
                await upstream_writer.drain()

        async def down() -> None:
            nonlocal waiting
            while data := await upstream_reader.read(65536):
                if proxy.lose_answers_to and last_path.endswith(proxy.lose_answers_to):
                    proxy.lost += 1
                    writer.transport.abort()
                    return
                waiting = ""
                await asyncio.sleep(proxy.slow_by)
                writer.write(data)
                await writer.drain()

        both = [asyncio.create_task(up()), asyncio.create_task(down())]
        with contextlib.suppress(OSError):
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        if waiting:
            proxy.unanswered.append(waiting)
        for each in (writer, upstream_writer):
            each.close()

    await proxy.open(forward)
    try:
        yield proxy
    finally:
        proxy.close()
        for each in writers:
            each.transport.abort()


@contextlib.asynccontextmanager
async def mutual_tls(target_port: int, server: Holder, client_ca: Holder) -> AsyncIterator[int]:
    """The port of a TLS proxy before `target_port` that lets nobody in without a certificate of `client_ca`."""
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=client_ca.pem.decode())
    async with tls(target_port, context) as port:
        yield port


@contextlib.asynccontextmanager
async def tls(target_port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a TLS proxy before `target_port`."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", target_port)
        await asyncio.gather(pass_on(reader, upstream_writer), pass_on(upstream_reader, writer))

    listening = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
