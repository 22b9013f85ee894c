"""What both directions of one association share: message ids, duplicates, timeouts, what waits to be sent
(RFC 7252 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from lwm2m.coap.events import Event, MessageFault
from lwm2m.coap.message import ACK, CON, EMPTY, NON, Option, encode_fields
from lwm2m.coap.parameters import Parameters

NOTHING = b""
"""What a duplicate gets when nothing is to be sent: before the first answer, and to NON (RFC 7252 4.5)."""

_EMPTY_CODE = bytes((EMPTY,))


class MessageLayer:
    """Numbers and remembers the messages of one association; `now` is the time of the call being handled.

    Nothing is due before `due`, which may be too early, of something that has come to its end since, and never too
    late.
    """

    __slots__ = (
        "_jitter",
        "_mid",
        "_remembered",
        "due",
        "events",
        "heard",
        "now",
        "open_mids",
        "outbox",
        "parameters",
        "refused",
    )

    def __init__(self, parameters: Parameters, first_mid: int, jitter: Callable[[], float]) -> None:
        self.parameters = parameters
        self.now = 0.0
        self.due = inf
        self.outbox: list[bytes] = []
        self.events: list[Event] = []
        # Whether the peer said anything of a request of ours since the newest answer to one of its own.
        self.heard = False
        # What the call being handled refused of the peer, and in which words.
        self.refused: tuple[MessageFault, str] | None = None
        # Of the peer's requests not answered yet: forgetting one of them would have it done twice.
        self.open_mids: set[int] = set()
        self._mid = first_mid
        self._jitter = jitter
        # Peer's message id → when it may mean another message, and the bytes that answer a duplicate. Bytes,
        # not messages: a tenth of the memory, and nothing to encode again.
        self._remembered: dict[int, tuple[float, bytes]] = {}

    def look_at(self, deadline: float) -> None:
        """Something new will be due then."""
        if deadline < self.due:
            self.due = deadline

    def next_mid(self) -> int:
        """The message id of a new message of ours, RFC 7252 4.4."""
        self._mid = (self._mid + 1) & 0xFFFF
        return self._mid

    def first_timeout(self) -> float:
        """Seconds until a new message is sent again for the first time, RFC 7252 4.2."""
        parameters = self.parameters
        return parameters.ack_timeout * (1 + (parameters.ack_random_factor - 1) * self._jitter())

    def send_empty(self, type: int, mid: int) -> bytes:
        """Send an empty ACK or RST, RFC 7252 4.2; returns its bytes."""
        datagram = encode_fields(type, EMPTY, mid, b"", (), b"")
        self.outbox.append(datagram)
        return datagram

    def reply(self, type: int, mid: int, token: bytes, code: int, options: Sequence[Option], payload: bytes) -> None:
        """Answer the peer's message `mid` in its acknowledgement, or with NON when it was NON, and remember
        that.
        """
        if type == CON:
            datagram = again = encode_fields(ACK, code, mid, token, options, payload)
            self.heard = False
        else:
            datagram = encode_fields(NON, code, self.next_mid(), token, options, payload)
            again = NOTHING
        self.outbox.append(datagram)
        self.remember(mid, again)

    def remember(self, mid: int, again: bytes) -> None:
        """From now on duplicates of the peer's message `mid` get `again`.

        The oldest message that is answered is forgotten for it when it would be one too many. When all are open
        requests it is not remembered itself: only a separate answer of the peer comes then, and a duplicate of that
        is known by its token.
        """
        remembered = self._remembered
        if mid not in remembered and len(remembered) >= self.parameters.max_remembered:
            oldest = next((each for each in remembered if each not in self.open_mids), None)
            if oldest is None:
                return
            del remembered[oldest]
        remembered[mid] = (self.now + self.parameters.exchange_lifetime, again)

    def say_again(self) -> None:
        """Send the newest of the answers that went out in an acknowledgement once more, as for a duplicate of its
        request.
        """
        newest = next((again for _, again in reversed(self._remembered.values()) if again), NOTHING)
        if newest:
            self.outbox.append(newest)

    def is_answered(self, mid: int) -> bool:
        """Whether a duplicate of the peer's message `mid` gets an answer, and not an acknowledgement alone."""
        remembered = self._remembered.get(mid)
        return remembered is not None and remembered[1][1:2] not in (b"", _EMPTY_CODE)

    def is_duplicate(self, mid: int) -> bool:
        """Whether the peer's message `mid` came before; it is answered then as its first copy was (RFC 7252
        4.5).
        """
        remembered = self._remembered.get(mid)
        if remembered is None:
            return False
        expires, again = remembered
        if expires <= self.now:
            del self._remembered[mid]
            return False
        if again:
            self.outbox.append(again)
        return True
