"""A TLS client on a real socket that cuts the stream at will."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

from OpenSSL import SSL

from tests.integration.endpoints import Running
from tests.integration.factory import Factory
from tests.pki import Holder
from tests.unit.transport.client import PSK_SUITES, X509_SUITES, give


class Client:
    """A TLS 1.2 client that shows each piece of the stream before it leaves."""

    def __init__(
        self,
        port: int,
        *,
        certificate: Holder | None = None,
        above: Iterable[Holder] = (),
        identity: bytes | None = None,
        key: bytes = b"k" * 16,
        receive_buffer: int | None = None,
    ) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(f"{PSK_SUITES if identity else X509_SUITES}:@SECLEVEL=0".encode())
        self._callback = give(context, certificate, above, identity, key)
        self.connection = SSL.Connection(context, None)
        self.connection.set_connect_state()
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.records: list[bytes] = []

    def written(self) -> bytes:
        """What the client's TLS wants to send."""
        with contextlib.suppress(SSL.WantReadError):
            return self.connection.bio_read(1 << 17)
        return b""

    async def flush(self, *, piece: int = 1 << 17) -> None:
        """Send it, in segments of `piece` bytes."""
        loop = asyncio.get_running_loop()
        data = self.written()
        for at in range(0, len(data), piece):
            await loop.sock_sendall(self.sock, data[at : at + piece])
            await asyncio.sleep(0)

    async def take(self) -> bool:
        """Read some of the stream; False at its end."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        except ConnectionError:
            return False
        if data:
            self.connection.bio_write(data)
        return bool(data)

    async def handshake(self, *, piece: int = 1 << 17) -> str:
        """Shake hands; empty when it worked, else what the server said to it."""
        while True:
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                await self.flush(piece=piece)
                if not await self.take():
                    return "closed"
            except SSL.Error as error:
                return str(error)
            else:
                await self.flush(piece=piece)
                return ""

    async def record(self) -> bytes | None:
        """The next record of the server; None at the end of the connection."""
        while True:
            try:
                return self.connection.recv(1 << 16)
            except SSL.WantReadError:
                if not await self.take():
                    return None
            except SSL.ZeroReturnError:
                return None

    def close(self) -> None:
        self.sock.close()


@contextlib.asynccontextmanager
async def device(server: Running, factory: Factory, **options: Any) -> AsyncIterator[Client]:
    """A client of the factory whose handshake is done."""
    client = Client(server.port, certificate=factory.device, above=[factory.line], **options)
    try:
        assert await client.handshake() == ""
        yield client
    finally:
        client.close()
