"""A device that says whatever bytes a test likes, over a real DTLS association; its CoAP codec is aiocoap's."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import CON
from aiocoap.optiontypes import OpaqueOption

from simulators.dtls import Credential, DtlsClient, DtlsContext, Stage
from tests.integration.field import Field
from tests.integration.service import PATIENCE

_ROOM = 65535


class RawPeer:
    """One association; `send` bytes, `receive` messages."""

    def __init__(self, sock: socket.socket, context: DtlsContext) -> None:
        self._socket = sock
        self._client = DtlsClient(context)
        self._received: list[bytes] = []
        self._kept = b""
        self._mid = 0

    async def knock(self) -> None:
        """Get as far as the server's first flight, which is state there, and go no further."""
        loop = asyncio.get_running_loop()
        self._flush()
        async with asyncio.timeout(PATIENCE):
            self._client.receive(await loop.sock_recv(self._socket, _ROOM))
            self._flush()
            self._kept = await loop.sock_recv(self._socket, _ROOM)

    async def handshake(self) -> None:
        """Finish the DTLS handshake, from wherever it is."""
        kept, self._kept = self._kept, b""
        if kept:
            self._client.receive(kept)
        async with asyncio.timeout(PATIENCE):
            while self._client.stage is Stage.HANDSHAKING:
                await self._turn()
        assert self._client.stage is Stage.ESTABLISHED, self._client.reason
        self._flush()

    def send(self, plaintext: bytes) -> None:
        """One datagram of the association."""
        self._client.send(plaintext)
        assert self._client.stage is Stage.ESTABLISHED, self._client.reason
        self._flush()

    async def receive(self) -> Message:
        """The next message of the server."""
        async with asyncio.timeout(PATIENCE):
            while not self._received:
                await self._turn()
        return Message.decode(self._received.pop(0))

    async def ask(self, request: Message) -> Message:
        """Send `request` and return its answer, whatever else comes before; empty ACKs are passed over."""
        self.send(request.encode())
        while True:
            answer = await self.receive()
            if answer.token == request.token and answer.code.is_response():
                return answer
            if answer.mid == request.mid and answer.mtype.name == "RST":
                return answer

    def request(
        self,
        code: Any,
        path: str,
        *query: str,
        payload: bytes = b"",
        critical: int | None = None,
        block1: tuple[int, bool, int] | None = None,
    ) -> Message:
        """A confirmable request with a message ID and token of its own; `critical` adds an option of this number."""
        self._mid += 1
        message = Message(
            code=code,
            uri_path=path.strip("/").split("/"),
            uri_query=query,
            payload=payload,
            _mtype=CON,
            _mid=self._mid,
            _token=self._mid.to_bytes(2, "big"),
        )
        if critical is not None:
            message.opt.add_option(OpaqueOption(critical, b"?"))
        if block1 is not None:
            message.opt.block1 = block1
        return message

    def bootstrap_request(self, *query: str, **others: Any) -> Message:
        """`POST /bs`."""
        return self.request(codes.POST, "/bs", *query, **others)

    def close(self) -> None:
        """Say close_notify."""
        self._client.close()
        self._flush()

    async def _turn(self) -> None:
        self._flush()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._client.next_timer()):
                datagram = await loop.sock_recv(self._socket, _ROOM)
        except TimeoutError:
            self._client.handle_timer()
            return
        self._received += self._client.receive(datagram)

    def _flush(self) -> None:
        for datagram in self._client.datagrams_to_send():
            self._socket.send(datagram)


@contextlib.asynccontextmanager
async def raw_peer(field: Field, credential: Credential, *, up: bool = True) -> AsyncIterator[RawPeer]:
    """A peer whose handshake is done, or has not begun."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(field.address)
        context = DtlsContext(credential, server_name=field.server.host, server_anchors=field.server.anchors)
        peer = RawPeer(sock, context)
        if up:
            await peer.handshake()
        yield peer
        peer.close()
