"""Drives the sans-IO CoAP exchanges of every association of one worker: one clock, one router (RFC 7252 4, RFC 9147).

Plaintext comes up from `transport/udp.py` or `tls.py`, requests go to the resource that has their path, requests of
ours are awaited.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import (
    Event,
    ExchangeFailed,
    Exchanges,
    Parameters,
    RequestReceived,
    ResponseDelivered,
    ResponseLost,
    ResponseReceived,
)
from lwm2m.coap.tape import Abandoned, Answered, Cancelled, Requested, Tape
from server import logs
from server.coap.responses import is_internal, response_for
from server.metrics import Metrics
from server.recorder import TapedSession
from server.transport.udp import Association
from server.visit import Visit

log = logs.get("coap")

# Seconds between two looks at the timers, while there are any: a retransmission may be this late.
TICK = 0.05
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
Resource = Callable[["CoapAssociation", RequestReceived], Awaitable[None]]
"""Serves one request; one it has not answered when it returns is given up."""
Routes = Mapping[tuple[str, ...], Mapping[int, Resource]]
ANY = "*"
"""Stands in a route for one segment of a path, whatever it is; a path named in full comes before."""


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
        "said_1_2",
        "tape",
        "visit",
    )

    def __init__(
        self,
        endpoint: "CoapEndpoint",
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
        self._lost: list[Callable[[str], None]] = []
        self.association = association
        self.gone: str | None = None
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
        now = self._endpoint.clock()
        if self.tape is not None:
            self.tape.received(now, plaintext)
        events = self._exchanges.receive(plaintext, now)
        if events:
            self._take(events, now)
        messages = self._messages
        if messages.outbox or messages.due < self.due:
            self._flush(now)

    def association_lost(self, reason: str) -> None:
        """The association is gone: whoever waits learns it at once."""
        self.gone = reason
        self.due = float("inf")
        answers, self._answers = self._answers, {}
        if answers:
            now = self._endpoint.clock()
            for heard in answers.values():
                heard(Gone(reason), now)
        for delivered in self._delivered.values():
            if not delivered.done():
                delivered.set_result(False)
        self._delivered.clear()
        for callback in self._lost:
            callback(reason)
        self._lost.clear()

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

    def abandon(self, request_id: int) -> None:
        """Forget a request that nobody will answer any more; nothing when it has its answer."""
        if self.gone is None:
            now = self._endpoint.clock()
            if self._exchanges.abandon(request_id, now) and self.tape is not None:
                self.tape.note(Abandoned, now, request_id)
            self._flush(now)

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the reason when the association ends."""
        if self.gone is not None:
            callback(self.gone)
        else:
            self._lost.append(callback)

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
        for event in events:
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


class CoapEndpoint:
    """All associations of one worker: their timers in one heap, their requests through one table of routes."""

    def __init__(
        self,
        *,
        routes: Routes,
        parameters: Parameters,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        jitter: Callable[[], float],
        metrics: Metrics,
        tape_bytes: int = 0,
    ) -> None:
        """`tape_bytes` is what the flight recorder keeps of one association; 0 records nothing."""
        self._tape_bytes = tape_bytes
        self._routes = routes
        self._patterns = [(path, methods) for path, methods in routes.items() if ANY in path]
        self._parameters = parameters
        self.clock = clock
        self._random_bytes = random_bytes
        self._jitter = jitter
        self._metrics = metrics
        self._heap: list[tuple[float, int, CoapAssociation]] = []
        self._pushed = 0
        # Set when the heap holds something; where nothing is due the worker sleeps.
        self._anything_due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def established(self, association: Association) -> CoapAssociation:
        """A handshake completed: give the transport the conversation that takes its datagrams."""
        # RFC 7252 4.4, 5.3.1: message ids and tokens start at random places, per association.
        seed = self._random_bytes(10)
        parameters, largest = self._parameters, _block_size_for(association.cleartext_mtu)
        if largest != parameters.largest_block:
            parameters = parameters.with_largest_block(largest)
        first_mid, token_seed = int.from_bytes(seed[:2], "big"), seed[2:]
        tape: Tape[TapedSession] | None = None
        if self._tape_bytes:
            tape = Tape(parameters, first_mid, token_seed, self._jitter, self._tape_bytes)
        exchanges = Exchanges(
            parameters=parameters,
            first_mid=first_mid,
            token_seed=token_seed,
            jitter=self._jitter if tape is None else tape.draw,
        )
        return CoapAssociation(self, association, exchanges, tape)

    def schedule(self, conversation: CoapAssociation, due: float) -> None:
        """Look at the timers of `conversation` then, and not later; an earlier entry for it becomes stale."""
        if due < conversation.due:
            if not self._heap:
                self._anything_due.set()
            conversation.due = due
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, conversation))

    def tick(self) -> None:
        """Handle every timer that is due."""
        now = self.clock()
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, conversation = heapq.heappop(heap)
            if due != conversation.due:
                continue
            conversation.due = float("inf")
            conversation.handle_timer(now)

    async def run(self) -> None:
        """Tick until cancelled, as long as there is anything that will be due."""
        while True:
            if not self._heap:
                self._anything_due.clear()
                await self._anything_due.wait()
            await asyncio.sleep(TICK)
            try:
                self.tick()
            except Exception:
                self._metrics.internal_errors.inc()
                log.exception("timer_failed")

    def dispatch(self, conversation: CoapAssociation, request: RequestReceived) -> None:
        """Hand `request` to its resource in a task of its own, or answer 4.04 or 4.05 at once."""
        methods = self._methods(request.path)
        resource = methods.get(request.code) if methods is not None else None
        if resource is None:
            conversation.respond(request.request_id, coap.NOT_FOUND if methods is None else coap.METHOD_NOT_ALLOWED)
            return
        task = asyncio.get_running_loop().create_task(self._serve(resource, conversation, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _methods(self, path: tuple[str, ...]) -> Mapping[int, Resource] | None:
        methods = self._routes.get(path)
        if methods is None:
            methods = next((methods for pattern, methods in self._patterns if _fits(pattern, path)), None)
        return methods

    async def _serve(self, resource: Resource, conversation: CoapAssociation, request: RequestReceived) -> None:
        try:
            await resource(conversation, request)
        except Exception as error:
            if is_internal(error):
                self._metrics.internal_errors.inc()
                log.exception("request_failed", path="/" + "/".join(request.path))
            code, options = response_for(error)
            conversation.respond(request.request_id, code, options=options)
        finally:
            conversation.abandon(request.request_id)

    async def drained(self) -> None:
        """Wait until every request under way has ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    @property
    def busy(self) -> int:
        """Requests under way."""
        return len(self._tasks)


def _fits(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(pattern) == len(path) and all(
        word in (ANY, segment) for word, segment in zip(pattern, path, strict=True)
    )


def _block_size_for(cleartext_mtu: int) -> int:
    """The largest CoAP block that fits one datagram of `cleartext_mtu` bytes beside 64 bytes of header and options.

    OpenSSL does not fragment application data (dtls.md trap 16), so a block must fit.
    """
    size = 1024
    while size > 16 and size + 64 > cleartext_mtu:
        size //= 2
    return size
