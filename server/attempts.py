"""One row of the record, one CA: asked, collected, checked, recorded (design 7, 8; classes: `issuers/errors.py`).

Every way out leaves the row in the state that tells what happened, before the caller hears of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.base import Issued, IssueRequest, Pending
from issuers.csr import OwnRequest
from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from issuers.returned import USUAL_LIMITS, Checked, DeviceLimits
from server import logs
from server.errors import ServiceError, TemporarilyUnavailable
from server.knowledge import ActiveIssuer
from server.latencies import Latencies
from server.leases import LeaseOver, Leases, taken_over
from server.metrics import Metrics
from server.recovery import CannotTell, NotYetKnown, collected_once, jittered, recovered_in_time
from server.store import issuances
from server.store.accounts import LWM2M
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.issuances import IssuanceRow
from server.store.writer import (
    HeldBack,
    Inserted,
    OpenIssuance,
    RecordFailed,
    RecordIssued,
    RecordPending,
    RowRefused,
    TooMany,
    Writer,
)
from server.unopened import held_back, too_many

log = logs.get("issuance")

Row = OpenIssuance | IssuanceRow

# How often one wish is asked for: once more after an answer that was lost (design 7, `on_unknown = reissue`).
MOST_ATTEMPTS = 2
# Back-off while a CA says "in progress": 0.5 s doubling to 5 s.
FIRST_POLL = 0.5
LONGEST_POLL = 5.0


class Issuers(Protocol):
    """Where the CAs come from; raises IssuerError."""

    async def issuer_for(self, account_id: UUID, service: str) -> ActiveIssuer:
        """The CA that is active for `service` now."""

    async def issuer_by_id(self, account_id: UUID, issuer_id: UUID | None, service: str = LWM2M) -> ActiveIssuer:
        """The CA that a row names, with the anchors of its service."""


class Attempts:
    """What one worker asks of CAs."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        owner: str,
        lease: timedelta,
        patience: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._writer = writer
        self.owner = owner
        self._patience = patience
        self._clock = clock
        self._now = now
        self._metrics = metrics
        self.latencies = Latencies()
        self.leases = Leases(database=database, owner=owner, lease=lease, clock=clock, now=now)

    # -- asking ----------------------------------------

    async def ask(
        self,
        active: ActiveIssuer,
        intent: OpenIssuance,
        request: OwnRequest,
        limits: DeviceLimits = USUAL_LIMITS,
    ) -> Checked:
        """Write the intent, have it signed, check and record what came; then the row is ours until it is settled.

        Raises as `asked`, StoreUnavailable, DailyLimit when it would be one too many, TemporarilyUnavailable when it is
        held back.
        """
        since = self._clock()
        outcome = await self._writer.write(intent)
        if isinstance(outcome, TooMany) and intent.most_made_here is not None and not intent.exact:
            # The device is so near its bound that its others, at all workers, are waited for.
            intent.exact = True
            outcome = await self._writer.write(intent)
        if isinstance(outcome, TooMany):
            raise too_many(intent)
        if isinstance(outcome, HeldBack):
            raise held_back(active.name, intent, outcome)
        if not isinstance(outcome, Inserted):
            raise AssertionError(f"a key made a moment ago is known: {outcome}")
        return await self.asked(active, intent, request.csr, since, limits, request.public_key)

    async def asked(
        self,
        active: ActiveIssuer,
        intent: OpenIssuance,
        csr: x509.CertificateSigningRequest,
        since: float,
        limits: DeviceLimits = USUAL_LIMITS,
        public_key: ec.EllipticCurvePublicKey | None = None,
    ) -> Checked:
        """Have an intent signed that is on record, check and record what came; the row is ours until it is settled.

        `since`: when its lease began. Raises IssuerError, which is on record; StoreUnavailable; TemporarilyUnavailable
        when the row is another worker's meanwhile, or might be. A CA that takes its time is waited for.
        """
        self._metrics.issuances.inc("submitted")
        started = self._clock()
        self.leases.take_opened(intent.id, intent.lease_until, since)
        try:
            # hot path: `accounted` without its generator
            try:
                request = request_for(intent, csr, public_key)
                request.still_due = partial(self.leases.still_due, intent.id)
                request.still_due()
                try:
                    answer = await active.issuer.issue(request)
                except OutcomeUnknown as lost:
                    answer = await recovered_in_time(
                        active.issuer, request, lost, self._now(), patience=self._patience, clock=self._clock
                    )
                issued = answer if isinstance(answer, Issued) else await self._collected(active, intent, answer)
                checked = await self.record(active, intent, csr, issued, limits)
            except Exception as error:
                await self._account(intent, error)
                raise
        except BaseException:
            self.leases.leave(intent.id)
            raise
        seconds = self._clock() - started
        self._metrics.issue_seconds.observe(seconds)
        self.latencies.observe(active.id, seconds)
        return checked

    @contextlib.asynccontextmanager
    async def accounted(self, row: Row) -> AsyncIterator[None]:
        """What goes wrong inside the block is on the row before it is raised; a fault of ours makes it `unknown`."""
        try:
            yield
        except Exception as error:
            await self._account(row, error)
            raise

    async def _account(self, row: Row, error: Exception) -> None:
        match error:
            case IssuerError():
                await self.failed(row, error)
            case LeaseOver():
                log.warning("ca_not_asked", endpoint=row.endpoint, issuance=row.id.hex, reason=error.message)
                # Unless somebody has the row: then it says what they found out.
                unasked = RecordFailed(row.id, self.owner, "failed", Unavailable.__name__, error.message)
                if await self._writer.write(unasked):
                    self._metrics.issuances.inc("failed")
            case StoreUnavailable() | TemporarilyUnavailable():
                # The row is as it was, or becomes what was queued for it; its lease runs out and it is settled then.
                pass
            case _:
                # The CA may have signed, so it is looked into like a lost answer. The text stays out of the record.
                await self.failed(
                    row, OutcomeUnknown(f"a fault of this server while the CA was asked: {type(error).__name__}")
                )

    def unheard(self, endpoint: str, error: BaseException) -> None:
        """Say why there is no certificate when nobody waits to hear it."""
        if isinstance(error, IssuerError | ServiceError | StoreUnavailable):
            log.warning("issuance_failed", endpoint=endpoint, kind=type(error).__name__, reason=str(error))
        else:
            self._metrics.internal_errors.inc()
            log.error("issuance_failed", endpoint=endpoint, exc_info=error)

    async def failed(self, row: Row, error: IssuerError) -> None:
        """Record that `row` ended, for now, with `error`."""
        state = state_after(error)
        if state != row.state:
            self._metrics.issuances.inc(state)
            if state == "unknown":
                log.warning("possible_orphan", endpoint=row.endpoint, issuance=row.id.hex, reason=error.message)
        lost_at = error.lost_at if isinstance(error, NotYetKnown) else None
        await self._writer.write(RecordFailed(row.id, self.owner, state, _class_of(error), error.message, lost_at))
        if isinstance(error, CannotTell):
            await issuances.leave_unknown(self._database, self.owner, row.id)

    async def pending(self, row: Row, answer: Pending) -> None:
        """Record that the CA has the request, and the reference that finds it there."""
        retry_at = self._now() + timedelta(seconds=answer.retry_after)
        if not await self._writer.write(RecordPending(row.id, self.owner, answer.reference, retry_at)):
            # Whoever has the row now finds the request by it; else people have the log.
            kept = await issuances.keep_reference(self._database, row.id, answer.reference)
            log.warning("reference_came_late", issuance=row.id.hex, reference=answer.reference, kept=kept)
            raise taken_over()
        if row.state != "pending":
            self._metrics.issuances.inc("pending")

    async def record(
        self,
        active: ActiveIssuer,
        row: Row,
        csr: x509.CertificateSigningRequest,
        issued: Issued,
        limits: DeviceLimits = USUAL_LIMITS,
    ) -> Checked:
        """Check what the CA gave and make it durable; raises BadCertificate, or TemporarilyUnavailable as `asked`."""
        checked = active.check(issued, csr, row.endpoint, self._now(), account_id=row.account_id, limits=limits)
        self._metrics.checks.inc("issued")
        leaf = checked.leaf
        try:
            recorded = await self._writer.write(
                RecordIssued(
                    id=row.id,
                    owner=self.owner,
                    chain=checked.chain,
                    serial=checked.serial,
                    issuer_fingerprint=checked.issuer_fingerprint,
                    not_before=leaf.not_valid_before_utc,
                    not_after=leaf.not_valid_after_utc,
                    warnings=checked.warnings,
                )
            )
        except RowRefused as error:
            if getattr(error.__cause__, "constraint_name", None) != "certificate_serial":
                raise
            raise BadCertificate(
                Check.SERIAL, f"this CA gave the serial number {checked.serial:x} before; its numbering is broken"
            ) from error
        if not recorded:
            log.warning("certificate_not_recorded", issuance=row.id.hex, serial=format(checked.serial, "x"))
            raise taken_over()
        self._metrics.issuances.inc("issued")
        return checked

    async def _collected(self, active: ActiveIssuer, row: Row, answer: Issued | Pending) -> Issued:
        wait = FIRST_POLL
        # Asked sooner it was never done lately.
        pause = min(self.latencies.earliest(active.id), LONGEST_POLL)
        recorded = ""
        while isinstance(answer, Pending):
            if answer.reference != recorded:
                await self.pending(row, answer)
                recorded = answer.reference
            await asyncio.sleep(max(answer.retry_after, pause, jittered(wait)))
            wait, pause = min(wait * 2, LONGEST_POLL), 0.0
            answer = await collected_once(active.issuer, answer.reference)
        return answer


def state_after(error: IssuerError) -> str:
    """The state of an issuance row after `error` (design 7)."""
    match error:
        case Rejected():
            return "refused"
        case BadCertificate():
            return "bad"
        case OutcomeUnknown():
            return "unknown"
        case _:
            return "failed"


def request_for(
    row: Row, csr: x509.CertificateSigningRequest, public_key: ec.EllipticCurvePublicKey | None = None
) -> IssueRequest:
    """What a CA is asked for `row`, the same each time; `public_key` of the CSR, if it is at hand."""
    return IssueRequest(
        issuance_id=row.id,
        csr=csr,
        serial=row.serial,
        not_before=row.not_before,
        validity=None,
        endpoint=row.endpoint,
        account_id=row.account_id,
        purpose="device",
        der=row.csr,
        public_key=public_key,
    )


def _class_of(error: IssuerError) -> str:
    """The kind of `errors.py` that `error` is: the list of what a row may say is closed."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == IssuerError.__module__)
