"""A CA that is slow, failing or throttling: how many ask it at once, and when nobody asks (design 7).

The breaker opens after five failures of the CA's own in a row, answers that never came among them, whichever worker
met them: its state is in the record, and so is the time until which a CA asked for less. While it is open a device is
told to come back before any key is made for it. After ten seconds one worker looks, with a check that signs nothing;
if the CA is back, all go on. Where it signed what nobody can use such a look shows nothing: one device is let through
after it, and the others go on when its certificate is good. An answer ends a row of failures only of the kinds that it
disproves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509

from issuers.base import CheckReport, Issued, Issuer, IssueRequest, Pending, Recovery, Unsettled
from issuers.errors import (
    BadCertificate,
    IssuerError,
    Misconfigured,
    OutcomeUnknown,
    QuotaExhausted,
    Throttled,
    Unauthorized,
    Unavailable,
)
from server import logs
from server.pace import Pace
from server.store import readiness
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.readiness import Readiness
from server.terms import Terms

log = logs.get("breaker")

OPENS_AT = 5
OPEN_SECONDS = 10.0
# Up to so much shorter or longer, so that the workers of many nodes do not look at once.
JITTER = 0.2
# What a worker believes of a CA without asking the record again.
FRESH_SECONDS = 1.0
# A CA that says "slower" without a time.
THROTTLED_SECONDS = 5.0
LONGEST_THROTTLE = 60.0

# What is disproved, by name as on record. A CA that hands out what it took before is there and lets us in, and may take
# nothing more; one that takes a request may still sign what nobody can use.
BY_COLLECTING = tuple(kind.__name__ for kind in (Unavailable, OutcomeUnknown, Unauthorized))
BY_TAKING = (*BY_COLLECTING, QuotaExhausted.__name__, Misconfigured.__name__)
BY_A_GOOD_CERTIFICATE = (BadCertificate.__name__,)


class BreakerOpen(Unavailable):
    """Nobody asks the CA at present; that is no failure of its own."""


class Breaker:
    """What one worker knows of the readiness of every CA; states are shared through the record."""

    def __init__(
        self,
        *,
        database: Database,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._now = now
        self.clock = clock
        self._jitter = jitter
        self._known: dict[UUID, tuple[float, Readiness | None]] = {}
        # CAs that one request may go to although nobody asks them.
        self._let_through: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self, issuer_id: UUID, name: str, issuer: Issuer) -> None:
        """Return when the CA may be asked; raises Unavailable or Throttled with the time to wait, StoreUnavailable."""
        known = await self._readiness(issuer_id)
        if known is None:
            return
        now = self._now()
        if known.throttled_until is not None and known.is_throttled(now):
            wait = (known.throttled_until - now).total_seconds()
            raise Throttled(f"the CA {name} asked us to go slower: {known.error_text}", wait)
        if known.open_until is None:
            return
        if not known.is_shut(now) and await readiness.take_probe(
            self._database, issuer_id, now, now + self._open_for()
        ):
            self._known.pop(issuer_id, None)
            report = await issuer.check(None, now)
            if report.successful and known.error_class in BY_A_GOOD_CERTIFICATE:
                log.info("issuer_tried", issuer=name, failures=known.failures)
                self._let_through.add(issuer_id)
                # Known to be shut: only so does a good certificate open it.
                await self._readiness(issuer_id)
                return
            if report.successful:
                await self.worked(issuer_id, name)
                return
            await self.failed(issuer_id, name, Unavailable(report.message))
            known = await self._readiness(issuer_id) or known
        raise _shut(known, name, now)

    def refuse_if_open(self, issuer_id: UUID, name: str) -> None:
        """Unavailable when the breaker opened while the caller waited for its turn, but for one that is let through."""
        if issuer_id in self._let_through:
            self._let_through.discard(issuer_id)
            return
        _, known = self._known.get(issuer_id, (0.0, None))
        now = self._now()
        if known is not None and known.is_shut(now):
            raise _shut(known, name, now)

    async def failed(self, issuer_id: UUID, name: str, error: IssuerError) -> None:
        """Count `error` when it is the CA's fault; the record being away loses a count, nothing else."""
        if not error.issuer_fault and not isinstance(error, Throttled):
            return
        try:
            if isinstance(error, Throttled):
                wait = timedelta(seconds=min(error.retry_after or THROTTLED_SECONDS, LONGEST_THROTTLE))
                known = await readiness.throttled(self._database, issuer_id, error.message, self._now() + wait)
            else:
                known = await readiness.failed(
                    self._database,
                    issuer_id,
                    type(error).__name__,
                    error.message,
                    opens_at=OPENS_AT,
                    open_until=self._now() + self._open_for(),
                )
        except StoreUnavailable as away:
            log.warning("readiness_not_recorded", issuer=name, reason=str(away))
            return
        self._known[issuer_id] = (self.clock(), known)
        if known is not None and known.failures == OPENS_AT:
            log.error("issuer_not_ready", issuer=name, failures=known.failures, reason=error.message)

    async def worked(self, issuer_id: UUID, name: str, disproved: Sequence[str] | None = None) -> None:
        """The CA did its work: failures in a row begin anew, when the last is of a kind that is `disproved`, or any."""
        try:
            _, known = self._known.get(issuer_id) or (0.0, await self._readiness(issuer_id))
            if not _ends(known, disproved):
                # Nothing was ever wrong: the usual case costs the record nothing.
                return
            if await readiness.worked(self._database, issuer_id, disproved):
                log.info("issuer_ready", issuer=name)
                self._known[issuer_id] = (self.clock(), None)
        except StoreUnavailable as away:
            log.warning("readiness_not_recorded", issuer=name, reason=str(away))

    def report(self, issuer_id: UUID, name: str, error: IssuerError) -> None:
        """`failed` from where nothing can be awaited."""
        self._start(self.failed(issuer_id, name, error))

    def report_good(self, issuer_id: UUID, name: str) -> None:
        """A certificate passed every check, from where nothing can be awaited."""
        _, known = self._known.get(issuer_id, (None, None))
        if _ends(known, BY_A_GOOD_CERTIFICATE):
            self._start(self.worked(issuer_id, name, BY_A_GOOD_CERTIFICATE))

    async def close(self) -> None:
        """Wait for what is being recorded."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _readiness(self, issuer_id: UUID) -> Readiness | None:
        known = self._known.get(issuer_id)
        if known is not None and self.clock() - known[0] < FRESH_SECONDS:
            return known[1]
        found = await readiness.find(self._database, issuer_id)
        if found is not None and found.failures == 0 and not found.is_throttled(self._now()):
            found = None
        self._known[issuer_id] = (self.clock(), found)
        return found

    def _open_for(self) -> timedelta:
        return timedelta(seconds=OPEN_SECONDS * (1 + JITTER * (2 * self._jitter() - 1)))


def _ends(known: Readiness | None, disproved: Sequence[str] | None) -> bool:
    """Whether an answer ends the row of failures that is `known`."""
    return known is not None and known.failures > 0 and (disproved is None or known.error_class in disproved)


def _shut(known: Readiness, name: str, now: datetime) -> BreakerOpen:
    left = OPEN_SECONDS
    if known.open_until is not None and known.open_until <= now + readiness.FARTHEST:
        left = max(1.0, (known.open_until - now).total_seconds())
    return BreakerOpen(f"the CA {name} failed {known.failures} times in a row: {known.error_text}", left)


class Guarded(Issuer):
    """A CA behind its breaker, asked by so many at once and so often, and no more."""

    def __init__(
        self, inner: Issuer, *, issuer_id: UUID, name: str, breaker: Breaker, pace: Pace, terms: Terms
    ) -> None:
        self.type = inner.type
        self.capabilities = inner.capabilities
        self.recovery = inner.recovery
        self._inner = inner
        self._id = issuer_id
        self._name = name
        self._breaker = breaker
        self._pace = pace
        self._rate = terms.rate
        self._turn = asyncio.Semaphore(terms.concurrency)
        self._under_way = 0
        self._closing = False

    async def admit(self) -> None:
        """Return when this CA may be asked for one more; raises Unavailable or Throttled while nobody asks it."""
        await self._breaker.admit(self._id, self._name, self._inner)
        if self._rate:
            await self._pace.turn(self._id, self._name, self._rate)

    def broke_a_check(self, error: IssuerError) -> None:
        """What it returned was not what was asked for."""
        self._breaker.report(self._id, self._name, error)

    def kept_its_word(self) -> None:
        """What it returned was what was asked for."""
        self._breaker.report_good(self._id, self._name)

    async def issue(self, request: IssueRequest) -> Issued | Pending:
        """As the CA's own; counted."""
        asked = self._breaker.clock()
        async with self._counted(BY_TAKING):
            # The CA may have died while this one waited for its turn.
            self._breaker.refuse_if_open(self._id, self._name)
            request.still_due()
            waited = timedelta(seconds=int(self._breaker.clock() - asked))
            if self.recovery is not Recovery.TOKEN:
                # A CA takes only a notBefore that is near its own present; one that repeats itself wants the same.
                request = replace(request, not_before=request.not_before + waited)
            return await self._inner.issue(request)

    async def collect(self, reference: str) -> Issued | Pending:
        """As the CA's own; counted."""
        async with self._counted(BY_COLLECTING):
            return await self._inner.collect(reference)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued | Pending | Unsettled | None:
        """As the CA's own; a failure counts, but to tell what became of a lost answer is not to sign."""
        async with self._counted(()):
            return await self._inner.recover(request, quiet)

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        """As the CA's own: an operator's look counts for nothing."""
        return await self._inner.check(issue_test, now)

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """As the CA's own."""
        return await self._inner.ca_certificates()

    async def certificates_left(self) -> int | None:
        """As the CA's own."""
        return await self._inner.certificates_left()

    async def revoke(self, serial: int, reason: x509.ReasonFlags, at: datetime) -> None:
        """As the CA's own."""
        await self._inner.revoke(serial, reason, at)

    async def aclose(self) -> None:
        """Let connections go, once the last request under way has its answer: a changed setting loses none."""
        self._closing = True
        if self._under_way == 0:
            await self._inner.aclose()

    @asynccontextmanager
    async def _counted(self, disproved: Sequence[str]) -> AsyncIterator[None]:
        """One question to the CA; an answer ends a row of failures of the kinds that are `disproved`."""
        self._under_way += 1
        try:
            # How it went is known before the next one has its turn.
            async with self._turn:
                try:
                    yield
                    if disproved:
                        await self._breaker.worked(self._id, self._name, disproved)
                except BreakerOpen:
                    raise
                except IssuerError as error:
                    await self._breaker.failed(self._id, self._name, error)
                    raise
        finally:
            self._under_way -= 1
            if self._closing and self._under_way == 0:
                await self._inner.aclose()
