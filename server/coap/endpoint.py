"""All CoAP conversations of one worker: one clock, one heap of timers, one table of routes (RFC 7252 4, RFC 9147)."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping

from lwm2m.coap import message as coap
from lwm2m.coap.blockwise import LARGEST_BLOCK
from lwm2m.coap.exchange import Exchanges, Parameters, RequestReceived
from lwm2m.coap.message import code_text
from lwm2m.coap.tape import Tape
from server import logs
from server.coap.association import CoapAssociation
from server.coap.responses import is_internal, response_for
from server.metrics import Metrics
from server.recorder import TapedSession
from server.transport.udp import Association

log = logs.get("coap")

# Seconds between two looks at the timers, while there are any: a retransmission may be this late.
TICK = 0.05

Resource = Callable[[CoapAssociation, RequestReceived], Awaitable[None]]
"""Serves one request; one it has not answered when it returns is given up."""
Routes = Mapping[tuple[str, ...], Mapping[int, Resource]]
METHODS = {coap.GET: "GET", coap.POST: "POST", coap.PUT: "PUT", coap.DELETE: "DELETE"}
# Bytes of a datagram for what stands before a payload: header, token and options. OpenSSL does not fragment application
# data (docs/transport.md 16), so both must fit.
BESIDE_PAYLOAD = 64
ANY = "*"
"""Stands in a route for one segment of a path, whatever it is; a path named in full comes before."""


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
        on_refused: Callable[[Association, str, str], None],
        tape_bytes: int = 0,
    ) -> None:
        """`on_refused` hears of a device's messages that reached no resource: which device, the word that is counted,
        and what was wrong. `tape_bytes` is what the flight recorder keeps of one association; 0 records nothing.
        """
        self._on_refused = on_refused
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
        parameters, room = self._parameters, association.cleartext_mtu - BESIDE_PAYLOAD
        if room < LARGEST_BLOCK:
            parameters = parameters.with_room(room)
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
        """Handle every timer that is due; a fault with one conversation ends it and reaches no other."""
        now = self.clock()
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, conversation = heapq.heappop(heap)
            if due != conversation.due:
                continue
            conversation.due = float("inf")
            try:
                conversation.handle_timer(now)
            except Exception:
                self.fault("timer_failed", conversation)
                # Nobody knows what is left of it. Its device hears that it is over, and begins anew.
                try:
                    conversation.close()
                except Exception:
                    self.fault("association_not_closed", conversation)

    async def run(self) -> None:
        """Tick until cancelled, as long as there is anything that will be due."""
        while True:
            if not self._heap:
                self._anything_due.clear()
                await self._anything_due.wait()
            await asyncio.sleep(TICK)
            self.tick()

    def refused(self, conversation: CoapAssociation, reason: str, words: str) -> None:
        """Count a message that reached no resource, and pass on what was wrong with it."""
        self._metrics.coap_refusals.inc(reason)
        self._on_refused(conversation.association, reason, words)

    def fault(self, event: str, conversation: CoapAssociation) -> None:
        """Count and log in full what just went wrong here."""
        self._metrics.internal_errors.inc()
        log.exception(event, address=conversation.association.address_text)

    def dispatch(self, conversation: CoapAssociation, request: RequestReceived) -> None:
        """Hand `request` to its resource in a task of its own, or answer 4.04 or 4.05 at once."""
        methods = self._methods(request.path)
        resource = methods.get(request.code) if methods is not None else None
        if resource is None:
            conversation.respond(request.request_id, coap.NOT_FOUND if methods is None else coap.METHOD_NOT_ALLOWED)
            asked = f"{METHODS.get(request.code, code_text(request.code))} /{'/'.join(request.path)}"
            self.refused(conversation, "path" if methods is None else "method", f"{asked} is not served here")
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
            else:
                self._metrics.coap_refusals.inc("resource")
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
