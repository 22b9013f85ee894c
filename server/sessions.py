"""One bootstrap, from an admitted Bootstrap-Request to its row in the record (LwM2M Core 1.2 6.1).

`lwm2m/bootstrap.py` says what comes next; this file sends it, waits, and writes down how it went.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never
from uuid import UUID, uuid4

from lwm2m.bootstrap import (
    AskCredential,
    BootstrapSession,
    Done,
    Failed,
    FailureCause,
    Send,
    Step,
)
from lwm2m.coap import message as coap
from lwm2m.coap.exchange import RequestReceived
from lwm2m.steps import StepRecord
from server import est_unused, logs, recorder
from server.coap.association import CoapAssociation
from server.coap.responses import response_for
from server.config import LimitsConfig
from server.course import Course
from server.credentials import Credentials, Made, Refused
from server.errors import TemporarilyUnavailable
from server.farewells import Farewells
from server.izuma import finish_query
from server.metrics import Metrics
from server.outcomes import Outcome, Outcomes
from server.policy import Admitted, factory
from server.store.devices import device_id
from server.store.errors import StoreUnavailable
from server.store.est_offers import NoteOffer
from server.visit import VisitedSession

log = logs.get("bootstrap")

# 5.03 under load: this much, plus up to as much again at random, so that the devices do not return together.
SHED_RETRY_AFTER = 5.0


@dataclass(slots=True)
class Running:
    """A session under way."""

    id: UUID
    admitted: Admitted
    conversation: CoapAssociation
    started_at: datetime
    started: float
    task: asyncio.Task[None] | None = None
    machine: BootstrapSession | None = None
    made: Made = field(default_factory=dict)
    failed_ca: str | None = None
    answered: bool = False
    interrupted: tuple[FailureCause, str] | None = None
    ending: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """The sessions of one worker, at most one for an endpoint."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        outcomes: Outcomes,
        limits: LimitsConfig,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        jitter: Callable[[], float],
        metrics: Metrics,
        farewells: Farewells,
    ) -> None:
        self._farewells = farewells
        self._credentials = credentials
        self._outcomes = outcomes
        self._limits = limits
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._metrics = metrics
        self._running: dict[tuple[UUID, str], Running] = {}

    @property
    def count(self) -> int:
        """Sessions under way."""
        return len(self._running)

    async def run(self, conversation: CoapAssociation, incoming: RequestReceived, admitted: Admitted) -> None:
        """Serve one Bootstrap-Request to its end; a session of the same endpoint under way is ended first.

        One that goes well on this association goes on instead: its device does not wait for the end of its bootstrap.
        Raises TemporarilyUnavailable when there are as many sessions as allowed.
        """
        slot = (admitted.account_id, admitted.endpoint)
        while (earlier := self._running.get(slot)) is not None:
            if self._goes_on(earlier, conversation, admitted):
                conversation.respond(incoming.request_id, coap.CHANGED)
                return
            await self._interrupt(earlier, FailureCause.SUPERSEDED)
        if len(self._running) >= self._limits.max_sessions:
            self._metrics.shed.inc()
            raise TemporarilyUnavailable("as many sessions as allowed", SHED_RETRY_AFTER * (1 + self._jitter()))
        running = Running(uuid4(), admitted, conversation, self._now(), self._clock(), asyncio.current_task())
        self._running[slot] = running
        self._farewells.returned(conversation)
        visit = conversation.visit
        visit.admitted = admitted
        visited = visit.session = VisitedSession(running.id, running.started_at, running.started)
        self._metrics.bootstraps.inc("started")
        log.info(
            "bootstrap_requested",
            endpoint=admitted.endpoint,
            credential=conversation.association.peer.kind,
            profile=admitted.profile.name,
            pct=admitted.request.pct,
            session=running.id.hex,
        )
        # A device may fall silent in the middle: it has the time of its session, in which each operation is repeated.
        stay = conversation.association.stay(running.started + self._limits.session_seconds)
        try:
            try:
                verdict = await self._bounded(running, incoming)
            finally:
                running.ending = True
                visited.open = False
                # A request for a certificate may be served still.
                if not visit.enrolling:
                    stay.end()
            # A device that is back at once waits for it: what was learned of it decides what it gets now.
            await self._record_end(running, verdict, visited)
        finally:
            del self._running[slot]
            running.ended.set()

    def _goes_on(self, earlier: Running, conversation: CoapAssociation, admitted: Admitted) -> bool:
        """Whether a session under way is what its device asks for once more.

        Contiki-NG takes the 2.04 for the end of its bootstrap, and asks each second until it has an LwM2M server: over
        a slow network no session of it would come to its end.
        """
        return (
            earlier.conversation is conversation
            and not earlier.ending
            and earlier.interrupted is None
            and earlier.admitted.request == admitted.request
            and earlier.admitted.profile == admitted.profile
            and earlier.machine is not None
            and earlier.machine.goes_well(self._clock())
        )

    async def drained(self) -> None:
        """Wait until no session is under way."""
        while self._running:
            await next(iter(self._running.values())).ended.wait()

    async def end_all(self) -> None:
        """End every session under way: the server stops."""
        for running in list(self._running.values()):
            await self._interrupt(running, FailureCause.ASSOCIATION_LOST, "this server was stopped")

    async def _interrupt(self, running: Running, cause: FailureCause, reason: str = "") -> None:
        running.interrupted = running.interrupted or (cause, reason)
        if running.task is not None and not running.ending:
            running.task.cancel()
        await running.ended.wait()

    async def _bounded(self, running: Running, incoming: RequestReceived) -> Done | Failed:
        """The session's verdict, whatever ends it."""
        # `asyncio.timeout` costs five times as much, each bootstrap, and never fires.
        deadline = asyncio.get_running_loop().call_later(self._limits.session_seconds, self._overdue, running)
        try:
            return await self._drive(running, incoming)
        except TimeoutError:
            return self._too_late(running, incoming)
        except asyncio.CancelledError:
            if running.interrupted is None:
                raise
            if running.task is not None:
                # Meant for the session alone: its end is still to be written down.
                running.task.uncancel()
            if running.interrupted[0] is FailureCause.DEADLINE:
                return self._too_late(running, incoming)
            return self._verdict(running, *running.interrupted)
        except Refused as refused:
            code = self._answer(running, incoming, refused.error)
            running.failed_ca = refused.failed_ca
            return Failed(refused.cause, None, code, refused.detail)
        except StoreUnavailable as error:
            later = TemporarilyUnavailable(str(error), error.retry_after * (1 + self._jitter()))
            code = self._answer(running, incoming, later)
            return Failed(FailureCause.STORE_UNAVAILABLE, None, code, str(error))
        except Exception as error:
            self._metrics.internal_errors.inc()
            log.exception("session_failed", endpoint=running.admitted.endpoint)
            self._answer(running, incoming, error)
            return self._verdict(running, FailureCause.INTERNAL)
        finally:
            deadline.cancel()

    @staticmethod
    def _overdue(running: Running) -> None:
        running.interrupted = running.interrupted or (FailureCause.DEADLINE, "")
        if running.task is not None and not running.ending:
            running.task.cancel()

    def _too_late(self, running: Running, incoming: RequestReceived) -> Done | Failed:
        late = TemporarilyUnavailable("the session ran out of time", SHED_RETRY_AFTER * (1 + self._jitter()))
        self._answer(running, incoming, late)
        return self._verdict(running, FailureCause.DEADLINE)

    def _answer(self, running: Running, incoming: RequestReceived, error: Exception) -> int | None:
        """Answer the Bootstrap-Request with the code of `error`, unless it has its 2.04; the code."""
        if running.answered:
            return None
        running.answered = True
        code, options = response_for(error)
        running.conversation.respond(incoming.request_id, code, options=options)
        return code

    def _verdict(self, running: Running, cause: FailureCause, reason: str = "") -> Done | Failed:
        """The verdict of a session that ends from outside; the operation under way goes on record."""
        if running.machine is None:
            return Failed(cause, None, None, reason)
        return running.machine.interrupt(cause, reason, now=self._clock())

    async def _drive(self, running: Running, incoming: RequestReceived) -> Done | Failed:
        admitted, conversation = running.admitted, running.conversation
        credentials, learned = await self._credentials.before_accept(admitted, running.id, running.made)
        last_words = finish_query(device_id(admitted.account_id, admitted.endpoint)) if admitted.izuma else ()
        machine = BootstrapSession(
            request=admitted.request,
            plan=admitted.profile.plan,
            learned=learned if learned.izuma == admitted.izuma else replace(learned, izuma=admitted.izuma),
            credentials=credentials,
            finish_query=last_words,
        )
        running.machine = machine
        running.answered = True
        recorder.began(conversation.tape, admitted, learned, credentials, last_words)
        # Writes start only after the 2.04 has left (LwM2M Core 1.2 6.1.7.1).
        if not await conversation.respond(incoming.request_id, coap.CHANGED):
            return Failed(FailureCause.ASSOCIATION_LOST, None, None, conversation.gone or "")
        recorder.started(conversation.tape, self._clock())
        course = Course(conversation, machine)
        step: Step = machine.start(self._clock())
        while True:
            match step:
                case Send():
                    step = await course.sent(step, self._clock())
                case AskCredential():
                    step = await self._after_accept(running, machine, step.index)
                case Done() | Failed():
                    return step
                case _:
                    assert_never(step)

    async def _after_accept(self, running: Running, machine: BootstrapSession, index: int) -> Step:
        given = await self._credentials.after_accept(running.admitted, running.id, running.made, index, machine.learned)
        recorder.supplied(running.conversation.tape, index, given, self._clock())
        return machine.supply(index, given, self._clock())

    # -- the record ----------------------------------------

    def _offer(self, running: Running, verdict: Done | Failed) -> NoteOffer | None:
        admitted, machine = running.admitted, running.machine
        if machine is None or not admitted.profile.plan.falls_back:
            return None
        wait = self._limits.after_finish_est_seconds
        return est_unused.after_bootstrap(admitted, machine, verdict, now=self._now(), wait=wait)

    async def _record_end(self, running: Running, verdict: Done | Failed, visited: VisitedSession) -> None:
        admitted, machine = running.admitted, running.machine
        recorder.ended(running.conversation.tape, verdict, self._clock())
        doubtful = machine is not None and machine.finish_unanswered
        self._credentials.ended(running.made, delivered=isinstance(verdict, Done), doubtful=doubtful)
        await self._outcomes.write(
            Outcome(
                session_id=running.id,
                account_id=admitted.account_id,
                endpoint=admitted.endpoint,
                profile=admitted.profile.name,
                credential=running.conversation.association.peer.kind,
                address=running.conversation.association.address_text,
                started_at=running.started_at,
                seconds=self._clock() - running.started,
                verdict=verdict,
                steps=_steps(machine.log if machine is not None else (), visited),
                learned=machine.learned.as_json() if machine is not None else None,
                factory=factory(running.conversation.association.peer, admitted.account_id),
                issuances=tuple(made.issuance_id for made, _ in running.made.values()),
                failed_ca=running.failed_ca,
                tape=running.conversation.tape,
                offer=self._offer(running, verdict),
            )
        )
        if isinstance(verdict, Done):
            self._farewells.finished(running.conversation, machine.enrolls if machine is not None else ())


def _steps(log: Sequence[StepRecord], visited: VisitedSession) -> Sequence[StepRecord]:
    """The operations of a session and the device's own requests meanwhile, in the order in which they began."""
    if not visited.steps:
        return log
    asked = [step._replace(at=began - visited.started) for began, step in visited.steps]
    return sorted((*log, *asked), key=lambda step: step.at or 0.0)
