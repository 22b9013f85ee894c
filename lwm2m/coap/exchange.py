"""The exchanges of one association, both directions, behind one door (RFC 7252 4, 5; RFC 7959).

Time comes in as `now` (monotonic seconds), randomness as arguments. After every call the caller sends
`datagrams_to_send()`, takes the events and arms one timer for `next_timer()`. Who does so for thousands of associations
looks at `messages` first, whether there is anything in its `outbox`, and at its `due`, which is no later than
`next_timer()` and costs no call; its `refused` tells after `receive` whether the message went no further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from lwm2m.coap.events import (
    Event,
    ExchangeFailed,
    ExchangeFailure,
    MessageFault,
    RequestReceived,
    ResponseDelivered,
    ResponseLost,
    ResponseReceived,
)
from lwm2m.coap.incoming import IncomingRequests
from lwm2m.coap.message import CON, EMPTY, MAX_TOKEN, NON, RST, Malformed, Message, Option, decode_fields
from lwm2m.coap.message_layer import MessageLayer
from lwm2m.coap.outgoing import OutgoingRequests
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.request import written_head

__all__ = [
    "Event",
    "ExchangeFailed",
    "ExchangeFailure",
    "Exchanges",
    "Parameters",
    "RequestReceived",
    "ResponseDelivered",
    "ResponseLost",
    "ResponseReceived",
]


class Exchanges:
    """All exchanges of one DTLS association, ours and the peer's; RFC 7252 9.1.1 scopes matching to it.

    `first_mid` is 0..65535 and `token_seed` 1..8 bytes, both random per association (RFC 7252 4.4, 5.3.1);
    `jitter` returns 0..1 for the first timeout of a message (RFC 7252 4.2). The endpoint sees whole
    messages only.
    """

    __slots__ = ("_incoming", "_outgoing", "messages")

    def __init__(
        self, *, parameters: Parameters, first_mid: int, token_seed: bytes, jitter: Callable[[], float]
    ) -> None:
        if not 1 <= len(token_seed) <= MAX_TOKEN:
            raise ValueError("a token seed has 1 to 8 bytes")
        self.messages = MessageLayer(parameters, first_mid, jitter)
        self._incoming = IncomingRequests(self.messages)
        self._outgoing = OutgoingRequests(self.messages, token_seed)

    def receive(self, datagram: bytes, now: float) -> list[Event]:
        """Take one datagram of the peer; whatever its bytes, nothing is raised."""
        messages = self.messages
        messages.now = now
        messages.refused = None
        try:
            type, code, mid, token, options, payload = decode_fields(datagram)
        except Malformed as malformed:
            # RFC 7252 4.2: a malformed confirmable message is rejected; anything else is ignored.
            messages.refused = MessageFault.MALFORMED, malformed.reason
            if malformed.type == CON and malformed.mid is not None:
                messages.send_empty(RST, malformed.mid)
            return self.take_events()
        if code >= 0x40:
            self._outgoing.receive(type, code, mid, token, options, payload)
        elif code != EMPTY:
            repeated = messages.is_answered(mid)
            self._incoming.receive(Message(type, code, mid, token, options, payload))
            if repeated:
                self._outgoing.came_too_early()
        else:
            self._receive_empty(type, mid)
        events, messages.events = messages.events, []
        return events

    def request(
        self,
        code: int,
        path: Sequence[str],
        now: float,
        *,
        options: Sequence[Option] = (),
        payload: bytes = b"",
        query: Sequence[str] = (),
        max_retransmit: int | None = None,
        repeats: int | None = None,
        patience: float | None = None,
    ) -> int:
        """Send a confirmable request, in Block1 blocks when it is larger than one; returns its exchange id.

        It ends in ResponseReceived or ExchangeFailed. One request is under way at a time, from its first
        block to its whole answer; further ones wait in order. `max_retransmit` and `repeats` replace the
        parameters of that name for a request that may well find silence, `patience` the seconds for the separate
        answer to one that takes the peer long. EncodeError when the code or an option cannot be sent.
        """
        self.messages.now = now
        head = written_head(code, tuple(path), tuple(query), tuple(options))
        return self._outgoing.send(head, payload, max_retransmit, repeats, patience)

    def respond(
        self,
        request_id: int,
        code: int,
        now: float,
        *,
        options: Sequence[Option] = (),
        payload: bytes = b"",
    ) -> bool:
        """Answer a request once; one already answered stays as it is and False is returned. The fate of the
        answer comes as an event.

        In the acknowledgement when none has left yet, else as a message of its own (RFC 7252 5.2); in
        Block2 blocks when it is larger than one of ours or of the size the peer asked for (RFC 7959 2.4).
        """
        self.messages.now = now
        return self._incoming.respond(request_id, code, options, payload)

    def say_again(self) -> None:
        """Send the newest answer to the peer once more: it may be lost, and a copy does no harm (RFC 7252 4.5)."""
        self.messages.say_again()

    def abandon(self, request_id: int, now: float) -> bool:
        """Give up a request that will never be answered, so that it takes none of the peer's places; one
        answered stays as it is and False is returned.

        Its acknowledgement leaves now if it has not yet: the peer need not send it again (RFC 7252 4.2).
        """
        self.messages.now = now
        return self._incoming.abandon(request_id)

    def cancel(self, exchange_id: int) -> None:
        """Stop one of our requests: no more of its messages are sent and no event tells its end.

        After calling this method arm the timer anew: a request that waited behind it is due at once.
        """
        self._outgoing.cancel(exchange_id)

    def handle_timer(self, now: float) -> list[Event]:
        """Do what is due at `now`: acknowledge, send again, give up, forget."""
        self.messages.now = now
        self._incoming.handle_timer()
        self._outgoing.handle_timer()
        self.messages.due = min(self._incoming.next_timer(), self._outgoing.next_timer())
        return self.take_events()

    def next_timer(self) -> float | None:
        """When `handle_timer` is due; None when nothing is under way, at once while events wait to be
        taken.
        """
        if self.messages.events:
            return self.messages.now
        due = min(self._incoming.next_timer(), self._outgoing.next_timer())
        return None if due == inf else due

    def take_events(self) -> list[Event]:
        """What happened since the last call. `receive` and `handle_timer` return it; call it after
        `respond`.
        """
        events, self.messages.events = self.messages.events, []
        return events

    def datagrams_to_send(self) -> list[bytes]:
        """What is to be sent now, in order; each datagram is handed out once."""
        outbox, self.messages.outbox = self.messages.outbox, []
        return outbox

    def _receive_empty(self, type: int, mid: int) -> None:
        if type == CON:
            self.messages.send_empty(RST, mid)  # RFC 7252 4.3: a ping.
        elif type != NON and not self._incoming.receive_empty(type, mid):
            self._outgoing.receive_empty(type, mid)
