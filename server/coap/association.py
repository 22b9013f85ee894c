"""One device's CoAP conversation: requests of its go up, requests of ours are awaited (RFC 7252 4, 5).

Plaintext comes from `transport/udp.py` or `tls.py`; `endpoint.py` has the clock, the timers and the routes of all.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lwm2m.coap.exchange import (
    Event,
    ExchangeFailed,
    Exchanges,
    RequestReceived,
    ResponseDelivered,
    ResponseLost,
    ResponseReceived,
)
from lwm2m.coap.tape import Abandoned, Answered, Cancelled, Requested, Tape
from server.recorder import TapedSession
from server.transport.udp import Association
from server.visit import Visit

# Seconds a timer is looked at ahead of time at most. A timer of minutes would keep a conversation in the heap, with all
# that its device made us keep, for minutes after the association ended.
LOOK_AHEAD = 5.0


@dataclass(frozen=True, slots=True)
class Gone:
    """The association ended before an answer came; `reason` is the transport's."""

    reason: str


Outcome = ResponseReceived | ExchangeFailed | Gone
Heard = Callable[[Outcome, float], None]
"""Told what became of a request of ours, and when."""


class Driver(Protocol):
    """The endpoint that a conversation belongs to."""

    clock: Callable[[], float]

    def schedule(self, conversation: "CoapAssociation", due: float) -> None:
        """Call `handle_timer` of `conversation` then."""

    def dispatch(self, conversation: "CoapAssociation", request: RequestReceived) -> None:
        """Have `request` served."""

    def refused(self, conversation: "CoapAssociation", reason: str, words: str) -> None:
        """Count a message of the device that went no further, and tell why."""

    def fault(self, event: str, conversation: "CoapAssociation") -> None:
        """Count and log the exception that is being handled."""


class CoapAssociation:
    """One device's CoAP conversation: what `transport` calls an Upper, what a session talks through."""

    __slots__ = (
        "_answers",
        "_delivered",
        "_endpoint",
        "_exchanges",
        "_loop",
        "_lost",
        "_messages",
        "association",
        "due",
        "gone",
        "heard",
        "said_1_2",
        "tape",
        "visit",
    )

    def __init__(
        self,
        endpoint: Driver,
        association: Association,
        exchanges: Exchanges,
        tape: "Tape[TapedSession] | None" = None,
    ) -> None:
        self._endpoint = endpoint
        self._exchanges = exchanges
        self._messages = exchanges.messages
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, Heard] = {}
        self._delivered: dict[int, asyncio.Future[bool]] = {}
        self._lost: dict[object, Callable[[str], None]] = {}
        self.association = association
        self.gone: str | None = None
        # When its newest datagram came.
        self.heard = endpoint.clock()
        # The device asked for a Bootstrap-Pack: it speaks LwM2M 1.2.
        self.said_1_2 = False
        self.visit = Visit()
        # The flight recorder; None = nothing is recorded, or nothing any more.
        self.tape = tape
        # When the endpoint looks at this association's timers next; infinite = nothing due.
        self.due = float("inf")

    # -- from the transport ----------------------------------------

    def datagram_received(self, plaintext: bytes) -> None:
        """Take one decrypted datagram."""
        now = self.heard = self._endpoint.clock()
        if self.tape is not None:
            self.tape.received(now, plaintext)
        events = self._exchanges.receive(plaintext, now)
        if events:
            self._take(events, now)
        messages = self._messages
        if messages.refused is not None:
            fault, words = messages.refused
            self._endpoint.refused(self, fault.value, words)
        if messages.outbox or messages.due < self.due:
            self._flush(now)

    def association_lost(self, reason: str) -> None:
        """The association is gone: whoever waits learns it at once, whatever becomes of the one told before."""
        self.gone = reason
        self.due = float("inf")
        answers, self._answers = self._answers, {}
        told, self._lost = self._lost, {}
        if answers:
            now = self._endpoint.clock()
            for heard in answers.values():
                self._tell(heard, Gone(reason), now)
        for delivered in self._delivered.values():
            if not delivered.done():
                delivered.set_result(False)
        self._delivered.clear()
        for callback in told.values():
            self._tell(callback, reason)

    def _tell(self, callback: Callable[..., None], *of: object) -> None:
        try:
            callback(*of)
        except Exception:
            self._endpoint.fault("loss_not_told", self)

    # -- for the resources ----------------------------------------

    def ask(
        self,
        heard: Heard,
        code: int,
        path: tuple[str, ...],
        now: float,
        *,
        options: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
        query: Sequence[str] = (),
        may_be_silent: bool = False,
        patience: float | None = None,
    ) -> int | None:
        """Send a request to the device; `heard` is called once with its whole answer, in the call that brings it.

        `may_be_silent`: one message and two repeats will do. `patience`: seconds for an answer that comes late.
        Returns what `cancel` takes, None when `heard` has been called: the association is gone. EncodeError when it
        cannot be sent.
        """
        if self.gone is not None:
            heard(Gone(self.gone), now)
            return None
        if self.tape is not None:
            if payload:
                self.tape.body(payload)
            self.tape.note(Requested, now)
        exchange = self._exchanges.request(
            code,
            path,
            now,
            options=options,
            payload=payload,
            query=query,
            max_retransmit=0 if may_be_silent else None,
            patience=patience,
        )
        self._answers[exchange] = heard
        self._flush(now)
        return exchange

    def cancel(self, exchange: int) -> None:
        """End the exchange of a request of ours; nobody hears of it any more. Nothing when somebody has."""
        if self._answers.pop(exchange, None) is None:
            return
        self._exchanges.cancel(exchange)
        now = self._endpoint.clock()
        if self.tape is not None:
            self.tape.note(Cancelled, now)
        self._flush(now)

    async def request(
        self,
        code: int,
        path: tuple[str, ...],
        *,
        options: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
        may_be_silent: bool = False,
        patience: float | None = None,
    ) -> Outcome:
        """`ask`, and wait for the answer; cancelling ends the exchange."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def heard(outcome: Outcome, _now: float) -> None:
            if not answer.done():
                answer.set_result(outcome)

        now = self._endpoint.clock()
        exchange = self.ask(
            heard,
            code,
            path,
            now,
            options=options,
            payload=payload,
            may_be_silent=may_be_silent,
            patience=patience,
        )
        try:
            return await answer
        except asyncio.CancelledError:
            if exchange is not None:
                self.cancel(exchange)
            raise

    def respond(
        self, request_id: int, code: int, *, options: Sequence[tuple[int, bytes]] = (), payload: bytes = b""
    ) -> asyncio.Future[bool]:
        """Answer a request; the future tells whether the device has the answer, as far as CoAP can tell.

        False at once for a request that has its answer: the first one stays.
        """
        delivered: asyncio.Future[bool] = self._loop.create_future()
        now = self._endpoint.clock()
        if self.gone is not None or not self._exchanges.respond(
            request_id, code, now, options=options, payload=payload
        ):
            delivered.set_result(False)
            return delivered
        if self.tape is not None:
            self.tape.note(Answered, now, request_id, code, tuple(options), len(payload))
        self._delivered[request_id] = delivered
        self._take(self._exchanges.take_events(), now)
        self._flush(now)
        return delivered

    def say_again(self) -> None:
        """Send the newest answer to the device once more; it leaves with the request of ours that follows."""
        self._exchanges.say_again()

    def abandon(self, request_id: int) -> None:
        """Forget a request that nobody will answer any more; nothing when it has its answer."""
        if self.gone is None:
            now = self._endpoint.clock()
            if self._exchanges.abandon(request_id, now) and self.tape is not None:
                self.tape.note(Abandoned, now, request_id)
            self._flush(now)

    def on_lost(self, listener: object, callback: Callable[[str], None]) -> None:
        """Call `callback` with the reason when the association ends; the newest of each `listener` alone.

        A device may bootstrap and register on one association as often as it likes, and must not make it grow.
        """
        if self.gone is not None:
            callback(self.gone)
        else:
            self._lost[listener] = callback

    def close(self) -> None:
        """Say goodbye to the device (close_notify) and forget it."""
        if self.gone is None:
            self.association.close()

    # -- for the endpoint ----------------------------------------

    def handle_timer(self, now: float) -> None:
        """Let what is due happen."""
        self._take(self._exchanges.handle_timer(now), now)
        self._flush(now)

    def next_timer(self) -> float | None:
        """When something will be due."""
        return self._exchanges.next_timer()

    def _take(self, events: Sequence[Event], now: float) -> None:
        tape = self.tape
        for event in events:
            if tape is not None and isinstance(event, ResponseReceived | RequestReceived) and event.payload:
                tape.heard(event.payload, event.options)
            match event:
                case ResponseReceived() | ExchangeFailed():
                    heard = self._answers.pop(event.exchange_id, None)
                    if heard is not None:
                        heard(event, now)
                case RequestReceived():
                    self._endpoint.dispatch(self, event)
                case ResponseDelivered() | ResponseLost():
                    delivered = self._delivered.pop(event.request_id, None)
                    if delivered is not None and not delivered.done():
                        delivered.set_result(isinstance(event, ResponseDelivered))

    def _flush(self, now: float) -> None:
        """Send what is to be sent, and have the timers looked at in time."""
        messages = self._messages
        if messages.outbox:
            send, tape = self.association.send, self.tape
            for datagram in self._exchanges.datagrams_to_send():
                if self.gone is not None:
                    return
                if tape is not None:
                    tape.sent(now, datagram)
                send(datagram)
        if messages.due < self.due and self.gone is None:
            self._endpoint.schedule(self, min(messages.due, now + LOOK_AHEAD))
