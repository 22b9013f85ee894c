"""The other end of an association, message by message: says exactly what a test wants said."""

from collections.abc import Sequence

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived
from lwm2m.coap.exchange import Event, Exchanges, Parameters
from lwm2m.coap.message import Message, Option, decode, encode
from lwm2m.coap.options import BLOCK1, BLOCK2, Block, decode_block, encode_block


class Peer:
    """Holds the Exchanges under test, a clock that only a test moves, and what came out of them."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.now = 1000.0
        self.exchanges = Exchanges(
            parameters=parameters or Parameters(), first_mid=0x10, token_seed=b"\x20\x00", jitter=lambda: 0.0
        )
        self.events: list[Event] = []
        self._mid = 0x7000

    def sent(self) -> list[Message]:
        """What the exchanges sent since the last call."""
        self.look()
        return [decode(datagram) for datagram in self.exchanges.datagrams_to_send()]

    def sent_one(self) -> Message:
        """The single message they sent."""
        (message,) = self.sent()
        return message

    def happened(self) -> list[Event]:
        """The events since the last call."""
        events = self.events + self.exchanges.take_events()
        self.events = []
        return events

    def say(
        self,
        type: int,
        code: int,
        mid: int | None = None,
        token: bytes = b"",
        options: Sequence[Option] = (),
        payload: bytes = b"",
    ) -> int:
        """Send one message to the exchanges; its message id."""
        if mid is None:
            self._mid = mid = self._mid + 1
        self.say_bytes(encode(Message(type, code, mid, token, list(options), payload)))
        return mid

    def say_bytes(self, datagram: bytes) -> None:
        """Send any bytes to the exchanges."""
        self.events += self.exchanges.receive(datagram, self.now)
        self.look()

    def ask(self, code: int, *path: str, options: Sequence[Option] = (), **fields: object) -> int:
        """Send a confirmable request."""
        target = [(11, segment.encode()) for segment in path]
        return self.say(coap.CON, code, options=[*target, *options], **fields)  # type: ignore[arg-type]

    def answer(self, request: Message, code: int, options: Sequence[Option] = (), payload: bytes = b"") -> None:
        """Answer in the acknowledgement."""
        self.say(coap.ACK, code, request.mid, request.token, options, payload)

    def wait(self, seconds: float) -> None:
        """Let time pass, the timer handled whenever it is due."""
        until = self.now + seconds
        while (due := self.exchanges.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.events += self.exchanges.handle_timer(self.now)
            self.look()
        self.now = until

    def look(self) -> None:
        """What the endpoint looks at instead of asking never says "not yet" too long."""
        never_too_late(self.exchanges)


def never_too_late(exchanges: Exchanges) -> None:
    """`due` is a bound of what is due; events that wait to be taken are the caller's to know of."""
    due = exchanges.next_timer()
    assert due is None or exchanges.messages.events or exchanges.messages.due <= due


def block1(number: int, more: bool, size: int) -> Option:
    return BLOCK1, encode_block(Block(number, more, size))


def block2(number: int, more: bool, size: int) -> Option:
    return BLOCK2, encode_block(Block(number, more, size))


def block_of(message: Message, number: int) -> Block:
    """The block option `number` of a message."""
    return decode_block(dict(message.options)[number])


def received(peer: Peer) -> RequestReceived:
    """The one request that the exchanges told of."""
    (event,) = peer.happened()
    assert isinstance(event, RequestReceived)
    return event


def respond(peer: Peer, request_id: int, code: int, **fields: object) -> None:
    """Have the exchanges answer a request."""
    peer.exchanges.respond(request_id, code, peer.now, **fields)  # type: ignore[arg-type]


def upload(
    peer: Peer, number: int, more: bool, payload: bytes, *path: str, options: tuple[Option, ...] = ()
) -> Message:
    """Send one block of 16 bytes of a body; what is answered."""
    peer.ask(coap.POST, *(path or ("est", "sen")), options=[block1(number, more, 16), *options], payload=payload)
    return peer.sent_one()


def write(peer: Peer, payload: bytes) -> tuple[int, Message]:
    """Have the exchanges write an instance; the exchange and its first message."""
    exchange = peer.exchanges.request(coap.PUT, ("0", "1"), peer.now, options=[(12, b"\x2d\x16")], payload=payload)
    return exchange, peer.sent_one()
