"""One (D)TLS session of the client on a socket of its own: over UDP, or over TCP where a record is a message.

Over TCP there is no framing and no length in front of a message: what one TLS record holds is one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from simulators.dtls import DtlsClient, DtlsContext, Stage

Transport = Literal["udp", "tcp"]
Address = tuple[str, int]
# The one cipher suite of a default build; OpenSSL has it at security level 0 only.
SUITE = b"ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"


class LinkLost(Exception):
    """The session is gone or never came up; the text says why."""


class Link:
    """One session. `received` gets each message; `lost` resolves to the reason when it ends."""

    def __init__(self, shared: DtlsContext, received: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._shared = shared
        self._received = received
        self._wire: Any = None
        self._client: DtlsClient | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._silent = False
        self.lost: asyncio.Future[str] = self._loop.create_future()

    @classmethod
    async def opened(
        cls, shared: DtlsContext, address: Address, *, received: Callable[[bytes], None], patience: float
    ) -> "Link":
        """A session whose handshake is done within `patience` seconds. Raises LinkLost."""
        link = cls(shared, received)
        try:
            async with asyncio.timeout(patience):
                await link._connect(address)
                waiting: set[asyncio.Future[Any]] = {link._established, link.lost}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except OSError as failure:
            raise LinkLost(f"{address[0]}:{address[1]} cannot be reached: {failure.strerror}") from failure
        except TimeoutError:
            await link.close()
            raise LinkLost(f"the handshake was not finished within {patience:g} s") from None
        if link.lost.done():
            await link.close()
            raise LinkLost(link.lost.result())
        return link

    async def _connect(self, address: Address) -> None:
        if self._shared.stream:
            await self._loop.create_connection(lambda: _Wire(self), *address)
        else:
            protocol: Any = _Wire
            await self._loop.create_datagram_endpoint(lambda: protocol(self), remote_addr=address)

    def hand_to(self, received: Callable[[bytes], None]) -> None:
        """Give each message to `received` from now on."""
        self._received = received

    @property
    def suite(self) -> str:
        """The agreed cipher suite."""
        return "" if self._client is None else self._client.suite

    @property
    def server_time(self) -> int:
        """The time by the server's ServerHello."""
        return 0 if self._client is None else self._client.server_time

    def send(self, message: bytes) -> None:
        """Send one message as one record; nothing once the session is gone."""
        if self._client is not None:
            self._client.send(message)
            self._step()

    def vanish(self) -> None:
        """Send nothing any more, as after a loss of power."""
        self._silent = True
        self._lose("the device lost its power")

    async def close(self) -> None:
        """Say close_notify and give the socket back; safe to call again."""
        if self._client is not None:
            self._client.close()
            self._step()
        self._lose("closed by the device")
        wire, self._wire = self._wire, None
        if wire is not None:
            if self._silent and self._shared.stream:
                wire.abort()
            else:
                wire.close()

    # -- from the socket --------------------------------------------------------------------------------------

    def connected(self, wire: Any) -> None:
        """The socket is there: begin the handshake."""
        self._wire = wire
        self._client = DtlsClient(self._shared)
        self._step()

    def arrived(self, data: bytes) -> None:
        """Take a datagram, or a piece of the stream."""
        if self._client is None or self.lost.done():
            return
        messages = self._client.receive(data)
        self._step()
        for message in messages:
            self._received(message)

    def ended(self, reason: str) -> None:
        """The socket says that it is over."""
        self._lose(reason)

    def _step(self) -> None:
        client = self._client
        if client is None:
            return
        for data in client.datagrams_to_send():
            if self._wire is not None and not self._silent:
                (self._wire.write if self._shared.stream else self._wire.sendto)(data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        match client.stage:
            case Stage.CLOSED:
                self._lose(client.reason)
            case Stage.ESTABLISHED:
                if not self._established.done():
                    self._established.set_result(None)
            case Stage.HANDSHAKING:
                due = client.next_timer()
                if due is not None and not self.lost.done():
                    self._timer = self._loop.call_later(due, self._timed)

    def _timed(self) -> None:
        self._timer = None
        if self._client is not None:
            self._client.handle_timer()
            self._step()

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Wire(asyncio.Protocol):
    """asyncio's view of the socket, datagrams and streams alike."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: Any) -> None:
        self._link.connected(transport)

    def data_received(self, data: bytes) -> None:
        self._link.arrived(data)

    def datagram_received(self, data: bytes, _address: object) -> None:
        self._link.arrived(data)

    def error_received(self, failure: OSError) -> None:
        # An ICMP error: before the handshake nobody is there, later the session outlives a restart of its path.
        if not self._link._established.done():
            self._link.ended(f"nobody answers: {failure.strerror}")

    def connection_lost(self, failure: Exception | None) -> None:
        self._link.ended("the server closed the connection" if failure is None else f"the connection broke: {failure}")
