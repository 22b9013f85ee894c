"""CoAP as the client speaks it on one session, with confirmable messages and acknowledgements over TCP too.

The bytes of messages are aiocoap's; when what is sent is the client's own habit, which aiocoap does not have.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from aiocoap import Message, error
from aiocoap.numbers import codes
from aiocoap.numbers.types import ACK, CON, NON, RST

from simulators.association import CoapParameters
from simulators.izuma.link import LinkLost

# RFC 7252 4.5: requests of the server that are remembered, to repeat what they were answered.
REMEMBERED = 64
TOKEN_LENGTH = 4


class NoAnswer(Exception):
    """The server reset a message of ours or said nothing about it; the text says which."""


class Conversation:
    """All messages of one session.

    `send` takes bytes, `lost` is the session's, `serve` gets each new request of the server: it answers with
    `answer`, or `acknowledge` and `confirm`, or not at all.
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], None],
        lost: "asyncio.Future[str]",
        serve: Callable[["Conversation", Message], None],
        note: Callable[[str], None],
        parameters: CoapParameters,
        jitter: random.Random,
    ) -> None:
        self._send = send
        self._lost = lost
        self._serve = serve
        self._note = note
        self._parameters = parameters
        self._jitter = jitter
        self._mid = jitter.randrange(1 << 16)
        self._acknowledged: dict[int, asyncio.Future[bool]] = {}
        self._replies: dict[bytes, tuple[int, Callable[[Message], None]]] = {}
        # What each request of the server was answered, by message ID; None = nothing yet.
        self._served: dict[int, bytes | None] = {}

    def new_token(self) -> bytes:
        """Four bytes, as the client's builder makes them."""
        return self._jitter.randbytes(TOKEN_LENGTH)

    def received(self, raw: bytes) -> None:
        """Take one message of the server."""
        try:
            message = Message.decode(raw)
        except error.UnparsableMessage:
            self._note("<- a message that is no CoAP")
            return
        if message.mtype in (ACK, RST):
            self._settle(message.mid, message.mtype is ACK)
            if message.code.is_response():
                self._replied(message)
        elif message.code.is_response():
            if message.mtype is CON:
                self._post(ACK, message.mid, codes.EMPTY)
            self._replied(message)
        elif message.code.is_request() and message.mtype in (CON, NON):
            self._requested(message)
        elif message.mtype is CON:
            self._post(RST, message.mid, codes.EMPTY)

    async def ask(
        self, request: Message, *, patience: float, replied: Callable[[Message], None] = lambda _: None
    ) -> Message:
        """Send a confirmable request with its token set; its answer. Raises NoAnswer and LinkLost.

        `replied` is called as the answer arrives, before anything that comes after it is looked at.
        """
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def take(message: Message) -> None:
            if not answer.done():
                replied(message)
                answer.set_result(message)

        mid = self._next()
        self._replies[request.token] = (mid, take)
        try:
            await self._confirmed(request, mid)
            await asyncio.wait({answer, self._lost}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            self._raise_lost()
            raise NoAnswer(f"the server said nothing for {patience:g} s")
        finally:
            del self._replies[request.token]

    def answer(self, request: Message, code: codes.Code, payload: bytes = b"", *, block1: Any = None) -> None:
        """Answer in the acknowledgement."""
        self._served[request.mid] = self._post(ACK, request.mid, code, request.token, payload, block1)

    def acknowledge(self, request: Message) -> None:
        """Say that the request has come; its answer comes later."""
        self._served[request.mid] = self._post(ACK, request.mid, codes.EMPTY)

    async def confirm(self, request: Message, code: codes.Code, payload: bytes = b"") -> None:
        """Answer an acknowledged request by a confirmable message and wait for its acknowledgement.

        Raises NoAnswer and LinkLost.
        """
        await self._confirmed(Message(code=code, _token=request.token, payload=payload), self._next())

    def forget(self, request: Message) -> None:
        """Have never seen this request: what repeats it is new."""
        self._served.pop(request.mid, None)

    # -- inside -----------------------------------------------------------------------------------------------

    def _next(self) -> int:
        self._mid = (self._mid + 1) % (1 << 16)
        return self._mid

    def _post(
        self,
        kind: object,
        mid: int,
        code: codes.Code,
        token: bytes = b"",
        payload: bytes = b"",
        block1: Any = None,
    ) -> bytes:
        message = Message(code=code, _mtype=kind, _mid=mid, _token=token, payload=payload)
        if block1 is not None:
            message.opt.block1 = block1
        raw: bytes = message.encode()
        self._send(raw)
        return raw

    def _requested(self, request: Message) -> None:
        if request.mid in self._served:
            before = self._served[request.mid]
            if before is not None:
                self._send(before)
            return
        self._served[request.mid] = None
        if len(self._served) > REMEMBERED:
            del self._served[next(iter(self._served))]
        self._serve(self, request)

    def _settle(self, mid: int, good: bool) -> None:
        acknowledged = self._acknowledged.get(mid)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(good)

    def _replied(self, message: Message) -> None:
        waiting = self._replies.get(message.token)
        if waiting is None:
            return
        mid, take = waiting
        # An answer says that the request has come, also when its acknowledgement was lost.
        self._settle(mid, good=True)
        take(message)

    async def _confirmed(self, message: Message, mid: int) -> None:
        """Send and repeat until it is acknowledged (RFC 7252 4.2)."""
        message.mtype, message.mid = CON, mid
        raw = message.encode()
        parameters = self._parameters
        acknowledged = self._acknowledged[mid] = asyncio.get_running_loop().create_future()
        wait = parameters.ack_timeout * self._jitter.uniform(1.0, parameters.ack_random_factor)
        try:
            for _ in range(parameters.max_retransmit + 1):
                self._raise_lost()
                self._send(raw)
                await asyncio.wait({acknowledged, self._lost}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if acknowledged.done():
                    if not acknowledged.result():
                        raise NoAnswer("the server reset the message")
                    return
                wait *= 2
            self._raise_lost()
            raise NoAnswer("the server did not acknowledge the message")
        finally:
            del self._acknowledged[mid]

    def _raise_lost(self) -> None:
        if self._lost.done():
            raise LinkLost(self._lost.result())
