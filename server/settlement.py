"""What is left over: rows nobody is at work on are settled, certificates whose keys are gone are revoked (design 7).

Nothing here makes a device wait, and no row that cannot be settled keeps the others from it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509

from issuers.base import Capability, Pending
from issuers.errors import IssuerError, NotSupported, OutcomeUnknown, Unavailable
from issuers.returned import DeviceLimits
from server import logs, tasks
from server.attempts import Attempts, Issuers, request_for
from server.errors import ServiceError
from server.knowledge import ActiveIssuer
from server.metrics import Metrics
from server.profile_est import MAX_CERTIFICATE_BYTES
from server.recovery import collected_once, recovered
from server.store import certificates, issuances
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.issuances import ADOPT_LIMIT, IssuanceRow, LeasedRow
from server.store.writer import MarkAbandoned, Writer

log = logs.get("issuance")

# CAs asked at a time about what is left over: the devices that wait come first.
ASKED_AT_ONCE = 8
# No lease is longer (`issuance.lease_seconds`), nor any pause before somebody looks into a row again.
FARTHEST = timedelta(hours=1, minutes=5)
KEY_LOST = "the server that held its key is gone"
# The most that any profile may say a device stores.
LARGEST = DeviceLimits(certificate_bytes=MAX_CERTIFICATE_BYTES)


class Settlement:
    """The adopting, abandoning and revoking of one worker."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        database: Database,
        writer: Writer,
        issuers: Issuers,
        lease: timedelta,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._attempts = attempts
        self._database = database
        self._writer = writer
        self._issuers = issuers
        self._lease = lease
        self._clock = clock
        self._now = now
        self._metrics = metrics
        self._few = asyncio.Semaphore(ASKED_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: set[UUID] = set()
        self._adopt_from = clock()
        # Leases that no present clock gave, and since when each was seen so.
        self._far: dict[LeasedRow, float] = {}

    async def settle(self) -> None:
        """One look at everything that is left over; raises StoreUnavailable.

        After the database was away every owner has a whole lease to come back to its rows, and to write down what its
        devices were given meanwhile.
        """
        try:
            await self.revoke_due()
            if self._clock() >= self._adopt_from:
                await self.end_far_leases()
                await self.settle_expired()
        except StoreUnavailable:
            self._adopt_from = self._clock() + self._lease.total_seconds()
            raise

    async def end_far_leases(self) -> None:
        """End leases that a clock said which was set back since, and that nobody renews: their workers are gone.

        Whoever lives renews what is its own several times within a lease, by the present clock; a row that stood as it
        is for a whole one, by the clock that nobody sets, is nobody's.
        """
        found = await issuances.leased_beyond(self._database, self._now() + FARTHEST)
        clock = self._clock()
        self._far = {row: self._far.get(row, clock) for row in found}
        left = [row for row, since in self._far.items() if clock - since > self._lease.total_seconds()]
        if left:
            ended = await issuances.end_leases(self._database, left, self._now() - timedelta(seconds=1))
            log.warning("far_leases_ended", count=ended, reason="the clock was set back, and their workers are gone")

    async def settle_expired(self) -> None:
        """Adopt and settle every row whose lease ran out."""
        while True:
            lease = self._attempts.leases.new()
            adopted = await issuances.adopt_expired(self._database, self._attempts.owner, self._now(), self._lease)
            # One of our own whose renewal came too late has its new lease and goes on.
            rows = [row for row in adopted if not self._attempts.leases.holds(row.id)]
            # In one breath: a device that is back at this moment sees either nobody at work on its row, or us.
            self._attempts.leases.take((row.id for row in rows), lease)
            self._settling.update(row.id for row in rows)
            await asyncio.gather(*(self._settled(row) for row in rows))
            if len(adopted) < ADOPT_LIMIT:
                return

    def settles(self, issuance_id: UUID) -> bool:
        """Whether the row is one that another left over: no key of it is here."""
        return issuance_id in self._settling

    async def abandon(self, issuance_id: UUID, endpoint: str, reason: str, *, doubtful: bool = False) -> None:
        """Give up an issued certificate whose key is gone; it is revoked in the background where the issuer can.

        `doubtful`: the device may have accepted the Finish and hold both. Then it is revoked when the device comes back
        for another one, and never if it does not: a device that is at work must not lose its certificate.
        """
        self._attempts.leases.leave(issuance_id)
        if not await self._writer.write(MarkAbandoned(issuance_id, reason, doubtful)):
            return
        self._metrics.issuances.inc("abandoned")
        log.info("issuance_abandoned", endpoint=endpoint, issuance=issuance_id.hex, reason=reason, doubtful=doubtful)
        if not doubtful:
            self._start(self._revoke_abandoned(issuance_id))

    async def revoke_due(self) -> None:
        """Try again what could not be revoked when it was abandoned."""
        due = await certificates.take_due_revocations(self._database, self._now())
        await asyncio.gather(*(self._revoke(row.account_id, row.issuer_id, row.issuance_id, row.serial) for row in due))

    async def close(self) -> None:
        """Stop; what is left is settled by the next worker that looks."""
        await tasks.end(list(self._tasks))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- adopted rows ----------------------------------------

    async def _settled(self, row: IssuanceRow) -> None:
        """Settle `row`, or leave it to the next look; never raises."""
        log.info("issuance_adopted", endpoint=row.endpoint, issuance=row.id.hex, state=row.state)
        try:
            async with self._few:
                await self._settle(row)
        except (StoreUnavailable, ServiceError) as error:
            log.warning("settling_postponed", issuance=row.id.hex, reason=str(error))
        except Exception:
            self._metrics.internal_errors.inc()
            log.exception("settling_failed", issuance=row.id.hex)
        finally:
            self._settling.discard(row.id)
            self._attempts.leases.leave(row.id)

    async def _settle(self, row: IssuanceRow) -> None:
        match row.state:
            case "requested":
                await self._attempts.failed(row, Unavailable("the server stopped before the CA was asked"))
            case "issued":
                # The worker that knew how far its session came is gone.
                await self.abandon(row.id, row.endpoint, KEY_LOST, doubtful=True)
            case "submitted" | "pending" | "unknown":
                # An IssuerError is on the row.
                with contextlib.suppress(IssuerError):
                    await self._find_out(row)
            case _:
                raise AssertionError(f"a row in state {row.state} has no lease")

    async def _find_out(self, row: IssuanceRow) -> None:
        async with self._attempts.accounted(row):
            active = await self._issuer_of(row)
            csr = x509.load_der_x509_csr(row.csr)
            if row.reference is not None:
                answer = await collected_once(active.issuer, row.reference)
            else:
                lost = OutcomeUnknown("the server stopped while the CA was asked")
                # Adopted, a row has a time since when nobody has been asking.
                quiet = self._now() - row.lost_at if row.lost_at is not None else timedelta()
                answer = await recovered(active.issuer, request_for(row, csr), lost, quiet)
            if isinstance(answer, Pending):
                await self._attempts.pending(row, answer)
                self._attempts.leases.leave(row.id)
                look_again = self._now() + max(self._lease, timedelta(seconds=answer.retry_after))
                await issuances.renew_leases(self._database, self._attempts.owner, (row.id,), look_again)
                return
            # What a device can store is its profile's word, given again before it is sent.
            await self._attempts.record(active, row, csr, answer, LARGEST)
        if row.server_key:
            await self.abandon(row.id, row.endpoint, KEY_LOST)

    async def _issuer_of(self, row: IssuanceRow) -> ActiveIssuer:
        try:
            return await self._issuers.issuer_by_id(row.account_id, row.issuer_id, row.service)
        except IssuerError as error:
            raise OutcomeUnknown(f"the CA that was asked cannot be asked what became of it: {error.message}") from error

    # -- revoking ----------------------------------------

    async def _revoke_abandoned(self, issuance_id: UUID) -> None:
        try:
            row = await certificates.find(self._database, issuance_id)
        except StoreUnavailable as error:
            log.warning("revocation_postponed", issuance=issuance_id.hex, reason=str(error))
            return
        if row is not None:
            # The certificate's serial number, not the one that was wished for: many CAs choose their own.
            await self._revoke(row.account_id, row.issuer_id, issuance_id, row.serial)

    async def _revoke(self, account_id: UUID, issuer_id: UUID | None, issuance_id: UUID, serial: int) -> None:
        """Revoke an abandoned certificate at its CA and on record; what fails is due again later. Never raises."""
        try:
            async with self._few:
                await self._revoke_at_its_ca(account_id, issuer_id, issuance_id, serial)
        except (IssuerError, StoreUnavailable) as error:
            log.warning("revocation_postponed", issuance=issuance_id.hex, reason=str(error))
        except Exception:
            self._metrics.internal_errors.inc()
            log.exception("revocation_failed", issuance=issuance_id.hex)

    async def _revoke_at_its_ca(self, account_id: UUID, issuer_id: UUID | None, issuance_id: UUID, serial: int) -> None:
        active = await self._issuers.issuer_by_id(account_id, issuer_id)
        if Capability.REVOKE not in active.issuer.capabilities:
            await certificates.keep_abandoned(self._database, issuance_id)
            return
        try:
            await active.issuer.revoke(serial, x509.ReasonFlags.cessation_of_operation, self._now())
        except NotSupported as error:
            log.warning("certificate_not_revocable", issuance=issuance_id.hex, reason=error.message)
            await certificates.keep_abandoned(self._database, issuance_id)
            return
        await certificates.revoke_abandoned(self._database, issuance_id, self._now())
        log.info("certificate_revoked", issuance=issuance_id.hex, serial=format(serial, "x"))
