"""A CoapEndpoint above an association that is a list: a device's side message by message, under a clock of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import Parameters, RequestReceived
from lwm2m.coap.message import Message, Option, decode, encode
from lwm2m.coap.options import URI_PATH
from server.coap.association import CoapAssociation
from server.coap.endpoint import CoapEndpoint, Resource
from server.metrics import Metrics
from server.transport.udp import Association


class Wire:
    """What a CoapAssociation needs of an Association."""

    address_text = "192.0.2.1:40000"

    def __init__(self, cleartext_mtu: int) -> None:
        self.cleartext_mtu = cleartext_mtu
        self.datagrams: list[bytes] = []
        self.closed = False

    def send(self, plaintext: bytes) -> None:
        self.datagrams.append(plaintext)

    def close(self) -> None:
        self.closed = True


class Rig:
    """One endpoint whose every route is `resource`, and the requests that reached it."""

    def __init__(
        self,
        resource: Callable[["Talk", RequestReceived], Awaitable[None]] | None = None,
        *,
        paths: Sequence[tuple[str, ...]] = (("bs",),),
        random_bytes: Callable[[int], bytes] | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        self.now = 1000.0
        self.served: list[RequestReceived] = []
        self.metrics = Metrics()
        self.refused: list[tuple[str, str]] = []
        self._resource = resource or agree
        self._talks: dict[CoapAssociation, Talk] = {}
        methods: dict[int, Resource] = {coap.POST: self._serve, coap.GET: self._serve}
        self.endpoint = CoapEndpoint(
            routes=dict.fromkeys(paths, methods),
            parameters=parameters or Parameters(),
            clock=lambda: self.now,
            random_bytes=random_bytes or (lambda length: bytes(range(length))),
            jitter=lambda: 0.0,
            metrics=self.metrics,
            on_refused=lambda _association, reason, words: self.refused.append((reason, words)),
        )

    async def _serve(self, conversation: CoapAssociation, request: RequestReceived) -> None:
        self.served.append(request)
        await self._resource(self._talks[conversation], request)

    def connect(self, cleartext_mtu: int = 1157) -> "Talk":
        """A device whose handshake is done."""
        wire = Wire(cleartext_mtu)
        talk = Talk(self, wire, self.endpoint.established(cast(Association, wire)))
        self._talks[talk.conversation] = talk
        return talk

    def forget(self, talk: "Talk") -> None:
        """Hold the device's conversation no longer."""
        del self._talks[talk.conversation]

    async def wait(self, seconds: float) -> None:
        """Let time pass, in the steps in which the endpoint looks at it."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.05)
            self.endpoint.tick()
            await settle()

    @property
    def internal_errors(self) -> int:
        """Faults of ours that were counted."""
        return self.metrics.internal_errors.values[""]


class Talk:
    """One device's association, seen from the device."""

    def __init__(self, rig: Rig, wire: Wire, conversation: CoapAssociation) -> None:
        self.rig = rig
        self.wire = wire
        self.conversation = conversation
        self._mid = 0x7000

    async def say_bytes(self, datagram: bytes) -> None:
        """Send any bytes and let the server act on them."""
        self.conversation.datagram_received(datagram)
        await settle()

    async def say(
        self,
        type: int,
        code: int,
        *path: str,
        mid: int | None = None,
        token: bytes = b"t",
        options: Sequence[Option] = (),
        payload: bytes = b"",
    ) -> int:
        """Send one message; its message id."""
        if mid is None:
            self._mid = mid = self._mid + 1
        target = [(URI_PATH, segment.encode()) for segment in path]
        message = Message(type, code, mid, token if code else b"", [*target, *options], payload)
        await self.say_bytes(encode(message))
        return mid

    async def answer(self, request: Message, code: int, **fields: Any) -> None:
        """Answer in the acknowledgement."""
        await self.say(coap.ACK, code, mid=request.mid, token=request.token, **fields)

    def sent(self) -> list[Message]:
        """What the server sent since the last call."""
        datagrams, self.wire.datagrams = self.wire.datagrams, []
        return [decode(datagram) for datagram in datagrams]

    def sent_one(self) -> Message:
        """The single message it sent."""
        (message,) = self.sent()
        return message

    def lose(self) -> None:
        """The association ends."""
        self.conversation.association_lost("closed_by_peer")


async def agree(talk: Talk, request: RequestReceived) -> None:
    """2.04 at once."""
    talk.conversation.respond(request.request_id, coap.CHANGED)


async def settle() -> None:
    """Let every task go as far as it can without time passing."""
    for _ in range(4):
        await asyncio.sleep(0)
