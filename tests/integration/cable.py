"""The way to a database, to be cut in the middle of what a test does and mended when it says so."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit, urlunsplit


class Cable:
    """The way to a database, which can be cut and mended; connections through it break at once."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._listener: socket.socket | None = None
        self._port = 0
        self._ends: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The database behind the cable."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{self._port}", query=""))

    async def mend(self) -> None:
        """Let connections through (again)."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        # A server of asyncio that is closed in the moment in which it accepts leaves that connection open.
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def cut(self) -> None:
        """Break every connection; new ones are refused."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            near, _ = listener.accept()
            task = asyncio.get_running_loop().create_task(self._relay(listener, near))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _relay(self, listener: socket.socket, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near)
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        if self._listener is not listener:
            # Cut meanwhile.
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._ends |= {writer, far_writer}
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        self._ends -= {writer, far_writer}

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._parts.query)
        host = query.get("host", [self._parts.hostname or "127.0.0.1"])[0]
        port = int(query.get("port", [self._parts.port or 5432])[0])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def cable(url: str) -> AsyncIterator[Cable]:
    """A whole cable to the database at `url`."""
    laid = Cable(url)
    await laid.mend()
    try:
        yield laid
    finally:
        laid.cut()
