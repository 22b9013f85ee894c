"""One DTLS association of a device on its UDP socket, as aiocoap sees it: a message interface with one remote."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from aiocoap import Context, Message, error, interfaces
from aiocoap.numbers.codes import EMPTY
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import ACK, CON, RST

from simulators.dtls import DtlsClient, DtlsContext, Stage

LOGGER = "simulators.coap"
# Nobody configures logging for a witness; its story is the transcript.
logging.getLogger(LOGGER).addHandler(logging.NullHandler())

# Datagrams taken at one wake-up, so that one device does not keep the loop from the others.
DRAIN = 32
# RFC 7252 4.5: how many separate responses are remembered, to acknowledge their duplicates.
REMEMBERED_RESPONSES = 32
_ROOM = 65535


class AssociationLost(Exception):
    """The association is gone or never came up; the text says why."""


@dataclass(frozen=True, slots=True)
class CoapParameters:
    """RFC 7252 4.8, seconds; `block_exponent` n allows blocks of 2^(n+4) bytes."""

    ack_timeout: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    empty_ack_after: float = 0.1
    block_exponent: int = 6

    def tuning(self) -> Any:
        """The same as aiocoap takes it, by message."""
        tuning = TransportTuning()
        tuning.ACK_TIMEOUT = self.ack_timeout
        tuning.ACK_RANDOM_FACTOR = self.ack_random_factor
        tuning.MAX_RETRANSMIT = self.max_retransmit
        tuning.EMPTY_ACK_DELAY = self.empty_ack_after
        return tuning


class Remote(interfaces.EndpointAddress):  # type: ignore[misc]
    """The server at the other end of one association; equal to itself alone (RFC 7252 9.1.2).

    aiocoap keeps it for EXCHANGE_LIFETIME, so it holds nothing that is large.
    """

    scheme = "coaps"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp = 6

    def __init__(self, hostinfo: str) -> None:
        self._hostinfo = hostinfo

    @property
    def hostinfo(self) -> str:
        """Host and port of the server."""
        return self._hostinfo

    @property
    def hostinfo_local(self) -> str:
        """A device has no name of its own."""
        raise error.AnonymousHost

    @property
    def uri_base(self) -> str:
        """Scheme and authority of the server."""
        return f"{self.scheme}://{self._hostinfo}"

    @property
    def uri_base_local(self) -> str:
        """A device has no name of its own."""
        raise error.AnonymousHost

    @property
    def blockwise_key(self) -> "Remote":
        """Blocks of two associations never mix."""
        return self


class _Begun:
    """A rendering that begins when it is first waited for.

    aiocoap makes a coroutine of every request and runs it a step later. One that is cancelled in between (the context
    was shut down, a second request has its token) would be a coroutine that nobody ever awaits.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin().__await__()


class _Context(Context):  # type: ignore[misc]
    """aiocoap's context, whose requests leave nothing behind when they are given up before they began."""

    def _render_to_pipe(self, pipe: Any) -> _Begun:
        return _Begun(lambda: super(_Context, self)._render_to_pipe(pipe))


class Association(interfaces.MessageInterface):  # type: ignore[misc]
    """A DTLS association over `sock` (connected, not blocking), which it leaves open at the end.

    Requests that `silent` names are lost before CoAP sees them, like in a client that does not answer them.
    `note` gets what is worth a line in a transcript. Use: `await handshake()`, then `await open_coap()`.
    """

    def __init__(
        self,
        sock: socket.socket,
        shared: DtlsContext,
        *,
        hostinfo: str,
        parameters: CoapParameters,
        silent: Callable[[Message], bool],
        note: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._parameters = parameters
        self._tuning = parameters.tuning()
        self._silent = silent
        self._note = note
        self._manager: Any = None
        self._context: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._gone = False
        self._pings: dict[int, asyncio.Future[None]] = {}
        # Message ID of a separate response → whether we acknowledged it.
        self._responses: dict[int, bool] = {}
        self.remote = Remote(hostinfo)
        self.remote.maximum_block_size_exp = parameters.block_exponent
        # Resolves to the reason when the association ends; never an exception, so nobody has to look.
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.last_received = self._loop.time()
        # Stray datagrams of an association before this one must not be its first.
        self._drain(drop=True)
        self._client = DtlsClient(shared)

    # -- life ---------------------------------------------------------------------------------------------

    async def handshake(self, timeout: float) -> str:
        """Finish the DTLS handshake within `timeout` seconds; returns the suite. Raises AssociationLost."""
        self._loop.add_reader(self._socket, self._readable)
        self._after_step()
        waiting: set[asyncio.Future[Any]] = {self._established, self.lost}
        done, _ = await asyncio.wait(waiting, timeout=timeout, return_when="FIRST_COMPLETED")
        if self._established in done:
            return self._client.suite
        if self.lost in done:
            raise AssociationLost(self.lost.result())
        raise AssociationLost(f"the handshake was not finished within {timeout:g} s")

    async def open_coap(self, site: object) -> Any:
        """An aiocoap Context on this association whose requests `site` answers."""
        self._context = _Context(loop=self._loop, serversite=site, loggername=LOGGER)
        # The only way to add a transport; aiocoap is pinned, and the tests of this module hold it.
        await self._context._append_tokenmanaged_messagemanaged_transport(self._attach)
        return self._context

    async def _attach(self, manager: Any) -> "Association":
        self._manager = manager
        return self

    def vanish(self) -> None:
        """Send nothing any more, as after a loss of power; `close` then says nothing either."""
        self._lose("the device lost its power")
        self._gone = True

    async def close(self) -> None:
        """Say close_notify, stop everything that runs for this association; the socket stays."""
        if self._context is not None:
            context, self._context = self._context, None
            # aiocoap cancels what it serves, also what it has not begun: from here on nothing new comes to it.
            self._manager = None
            await context.shutdown()
        self._client.close()
        self._after_step()

    async def ping(self, timeout: float) -> bool:
        """A CoAP ping (RFC 7252 4.3): whether the server's message layer answered in `timeout` seconds.

        On a path that keeps the order of datagrams the answer means that all we sent before has arrived.
        """
        mid = self._manager._next_message_id()
        message = Message(_mtype=CON, _mid=mid, code=EMPTY, payload=b"")
        message.remote = self.remote
        answer: asyncio.Future[None] = self._loop.create_future()
        self._pings[mid] = answer
        wait = self._parameters.ack_timeout
        deadline = self._loop.time() + timeout
        try:
            while (left := deadline - self._loop.time()) > 0:
                self.send(message)
                waiting: set[asyncio.Future[Any]] = {answer, self.lost}
                done, _ = await asyncio.wait(waiting, timeout=min(wait, left), return_when="FIRST_COMPLETED")
                if done:
                    return answer in done
                wait *= 2
            return False
        finally:
            del self._pings[mid]

    # -- aiocoap's message interface ----------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Encrypt and send one message; on an association that is gone it is lost, as on a wire."""
        if message.mtype is ACK and message.code is EMPTY and message.mid in self._responses:
            self._responses[message.mid] = True
        self._client.send(message.encode())
        self._after_step()

    async def recognize_remote(self, remote: object) -> bool:
        """Whether a request to `remote` is for us."""
        return remote is self.remote and not self.lost.done()

    async def determine_remote(self, message: Message) -> None:
        """No other server is reached through this."""
        return

    async def shutdown(self) -> None:
        """Nothing more comes from below; the end of the association itself is `close`."""
        self._manager = None

    # -- below --------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._drain(drop=False)

    def _drain(self, *, drop: bool) -> None:
        for _ in range(DRAIN):
            try:
                datagram = self._socket.recv(_ROOM)
            except BlockingIOError:
                return
            except OSError as failure:
                # An ICMP error of an earlier datagram. Once up, the association outlives a restart of its path.
                if not drop and not self._established.done():
                    self._lose(f"nobody answers at {self.remote.hostinfo}: {failure.strerror}")
                continue
            if drop:
                continue
            self.last_received = self._loop.time()
            for plaintext in self._client.receive(datagram):
                self._dispatch(plaintext)
            self._after_step()
            if self.lost.done():
                return

    def _dispatch(self, plaintext: bytes) -> None:
        try:
            message = Message.decode(plaintext, self.remote)
        except error.UnparsableMessage:
            self._note("<- a message that is no CoAP")
            return
        message.transport_tuning = self._tuning
        if message.mtype is RST and message.mid in self._pings:
            answer = self._pings[message.mid]
            if not answer.done():
                answer.set_result(None)
            return
        if self.lost.done() or self._manager is None or (message.code.is_request() and self._silent(message)):
            return
        if message.mtype is CON and message.code.is_response():
            if self._responses.get(message.mid):
                # RFC 7252 4.5; aiocoap would answer the duplicate with a reset.
                again = Message(_mtype=ACK, _mid=message.mid, code=EMPTY, payload=b"")
                again.remote = self.remote
                self.send(again)
                return
            self._responses.setdefault(message.mid, False)
            if len(self._responses) > REMEMBERED_RESPONSES:
                del self._responses[next(iter(self._responses))]
        self._manager.dispatch_message(message)

    def _after_step(self) -> None:
        for datagram in self._client.datagrams_to_send():
            if self._gone:
                continue
            try:
                self._socket.send(datagram)
            except OSError:
                # Full or refused: DTLS and CoAP repeat, and the reading side sees what the reason is.
                pass
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        match self._client.stage:
            case Stage.CLOSED:
                self._lose(self._client.reason)
            case Stage.ESTABLISHED:
                if not self._established.done():
                    self._established.set_result(None)
            case Stage.HANDSHAKING:
                due = self._client.next_timer()
                if due is not None and not self.lost.done():
                    self._timer = self._loop.call_later(due, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._client.handle_timer()
        self._after_step()

    def _lose(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._loop.remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Not from here: this may run inside one of aiocoap's own steps of sending.
        self._loop.call_soon(self._tell_manager, reason)

    def _tell_manager(self, reason: str) -> None:
        if self._manager is not None:
            self._manager.dispatch_error(error.NetworkError(reason), self.remote)
