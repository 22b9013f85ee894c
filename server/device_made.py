"""From a device's own CSR to a checked, recorded certificate: signed once, however often it is asked for (design 7).

One CSR has one row that answers for it (account, service, SHA-256), in the database and not here: whoever asks, at
whichever worker, before or after a crash, gets what that row has come to. Only where there is none, or where what it
ended with may be tried again, is a CA asked. What is issued waits for its device; nobody abandons it. A device that
renews the very certificate it shows has it: the row of that one answers no more.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, assert_never
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from issuers.csr import same_names
from issuers.errors import IssuerError, Rejected, Unavailable
from issuers.returned import USUAL_LIMITS, DeviceLimits
from server import logs, tasks
from server.attempts import MOST_ATTEMPTS, Attempts, Issuers
from server.config import IssuanceConfig
from server.errors import ComeAgain, Conflict, KeyTaken, NotAuthorized, TemporarilyUnavailable
from server.knowledge import ActiveIssuer
from server.latencies import USUAL_HOLD, USUAL_RETRY
from server.metrics import Metrics
from server.recovery import CannotTell, NeverIssued
from server.store import certificates, devices, issuance_operations, issuances
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.issuances import IssuanceRow
from server.store.writer import Inserted, Joined, MarkDelivered, OpenIssuance, Writer
from server.unopened import HOLD_RETRY_AFTER, too_many

log = logs.get("issuance")

# A CA whose answer broke a check is not asked for the same CSR again before this.
BAD_PAUSE = timedelta(hours=1)
# Seconds between two looks at a row that another worker is at work on: first, and at most.
FIRST_LOOK = 0.1
LONGEST_LOOK = 2.0
# Seconds between two looks at how long an exchange is worth holding.
PATIENCE_STEP = 1.0
# CSRs under way of one device: no device takes the places of the others, whatever it asks for.
MOST_OF_ONE_DEVICE = 8
# Seconds that a server which stops holds an exchange: who is under way gets the certificate of a CA that is quick.
LAST_HOLD = 5.0
# Seconds that `close` gives CAs that were asked: an answer that is dropped costs the device a retry.
CLOSE_PATIENCE = 5.0


class StillAsking(ComeAgain):
    """The CA takes longer than the exchange is worth holding; the same CSR finds what comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrWish:
    """A device's wish for a certificate for its own key; `csr` has passed every check. None = the CA's own time.

    `renews` is the issuance of the certificate that the device showed and wants another one for.
    """

    account_id: UUID
    device_id: UUID
    endpoint: str
    service: str
    csr: x509.CertificateSigningRequest
    session_id: UUID | None = None
    limits: DeviceLimits = USUAL_LIMITS
    hold_seconds: float | None = None
    retry_after: float | None = None
    renews: UUID | None = None
    der: bytes = field(init=False, repr=False)
    csr_sha256: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        der = self.csr.public_bytes(serialization.Encoding.DER)
        object.__setattr__(self, "der", der)
        object.__setattr__(self, "csr_sha256", sha256(der).digest())


@dataclass(frozen=True, kw_only=True, slots=True)
class Certified:
    """The certificate of a CSR: `chain` in DER, leaf first, without root; `again` when it was on record before."""

    issuance_id: UUID
    chain: tuple[bytes, ...]
    serial: int
    again: bool = False


@dataclass(slots=True, eq=False)
class _Making:
    task: asyncio.Task[Certified]
    started: float
    # Done once the record had no outcome to give out and only a CA can bring one.
    asking: asyncio.Future[None]
    waiting: int = 0
    # Whether it is known which CA has it, and which (None = the embedded one).
    resolved: bool = False
    issuer_id: UUID | None = None


_Slot = tuple[UUID, str, bytes, UUID | None]


class DeviceMade:
    """The CSRs of devices that one worker is at work on."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        issuers: Issuers,
        attempts: Attempts,
        config: IssuanceConfig,
        most: int,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._writer = writer
        self._issuers = issuers
        self._attempts = attempts
        self._config = config
        self._most = most
        self._clock = clock
        self._now = now
        self._metrics = metrics
        self._lease = timedelta(seconds=config.lease_seconds)
        self._making: dict[_Slot, _Making] = {}
        self._of_device: Counter[UUID] = Counter()
        self._stopping = False

    async def certificate(self, wish: CsrWish) -> Certified:
        """The certificate for `wish`: the recorded one, the one being made, or a new one; then tell `delivered`.

        Raises IssuerError; KeyTaken; Conflict while another CSR for the same key is under way; StoreUnavailable; or
        TemporarilyUnavailable when the CA takes longer than the exchange is worth holding: the work goes on, and the
        same CSR finds it. What is on record is given out however little that is.
        """
        slot = wish.account_id, wish.service, wish.csr_sha256, wish.renews
        making = self._making.get(slot)
        if making is None:
            if len(self._making) >= self._most:
                raise ComeAgain("as many CSRs under way as allowed", retry_after=5.0)
            if self._of_device[wish.device_id] >= MOST_OF_ONE_DEVICE:
                raise ComeAgain("as many CSRs of this device under way as one may have", retry_after=5.0)
            making = self._begin(slot, wish)
        started = self._clock()
        making.waiting += 1
        try:
            while not making.task.done():
                waited = self._clock() - started
                if self._stopping and waited >= LAST_HOLD:
                    raise ComeAgain("this server is stopping", retry_after=5.0)
                left = self._hold(wish, making) - waited
                if not making.asking.done():
                    # The record is never slow, and says by itself when it is away.
                    either: set[asyncio.Future[Any]] = {making.task, making.asking}
                    await asyncio.wait(either, timeout=PATIENCE_STEP, return_when=asyncio.FIRST_COMPLETED)
                elif left > 0:
                    await asyncio.wait({making.task}, timeout=min(left, PATIENCE_STEP))
                else:
                    raise StillAsking(
                        f"the CA has not answered within {waited:.0f} s; it is still being asked",
                        retry_after=self._retry_after(wish, making),
                    )
        finally:
            making.waiting -= 1
        if making.task.cancelled():
            raise ComeAgain("this server is stopping", retry_after=5.0)
        return making.task.result()

    async def delivered(self, issuance_id: UUID) -> None:
        """Put on record that the device has its certificate; a day later the same CSR is a new wish.

        While the database is away it is put on record later.
        """
        self._metrics.issuances.inc("delivered")
        try:
            await self._writer.write(MarkDelivered(issuance_id))
        except StoreUnavailable as error:
            log.error("record_postponed", issuance=issuance_id.hex, reason=str(error))

    # -- how long a device waits ----------------------------------------

    def _hold(self, wish: CsrWish, making: _Making) -> float:
        if wish.hold_seconds is not None:
            return wish.hold_seconds
        return self._attempts.latencies.hold(making.issuer_id) if making.resolved else USUAL_HOLD

    def _retry_after(self, wish: CsrWish, making: _Making) -> float:
        if wish.retry_after is not None:
            return wish.retry_after
        if not making.resolved:
            return USUAL_RETRY
        return self._attempts.latencies.retry_after(making.issuer_id, self._clock() - making.started)

    # -- making ----------------------------------------

    def _begin(self, slot: _Slot, wish: CsrWish) -> _Making:
        # The task begins to run after this, so it finds itself.
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._make(slot, wish))
        making = self._making[slot] = _Making(task, self._clock(), loop.create_future())
        self._of_device[wish.device_id] += 1
        task.add_done_callback(partial(self._made, slot, wish, making))
        return making

    def _made(self, slot: _Slot, wish: CsrWish, making: _Making, task: asyncio.Task[Certified]) -> None:
        del self._making[slot]
        self._of_device[wish.device_id] -= 1
        if not self._of_device[wish.device_id]:
            del self._of_device[wish.device_id]
        if task.cancelled():
            return
        error = task.exception()
        # Whoever waits hears it.
        if error is not None and not making.waiting:
            self._attempts.unheard(wish.endpoint, error)

    async def _make(self, slot: _Slot, wish: CsrWish) -> Certified:
        making = self._making[slot]
        for attempt in range(1, MOST_ATTEMPTS + 1):
            try:
                return await self._answered(wish, making)
            except (CannotTell, NeverIssued):
                # The next round finds the row as it is now: it says whether the CSR may be signed once more.
                if attempt == MOST_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _answered(self, wish: CsrWish, making: _Making) -> Certified:
        row = await issuances.find_by_csr(self._database, wish.account_id, wish.service, wish.csr_sha256)
        if row is not None and row.id == wish.renews and row.endpoint == wish.endpoint:
            await issuances.retire(self._database, row.id)
            log.info("certificate_renewed", endpoint=row.endpoint, issuance=row.id.hex)
            row = None
        if row is not None:
            found = await self._outcome(row, wish, making)
            if found is not None:
                return found
            row = await issuances.find(self._database, row.id)
        active = await self._issuers.issuer_for(wish.account_id, wish.service)
        making.resolved, making.issuer_id = True, active.id
        since = self._clock()
        intent = self._intent(wish, active, row)
        if await devices.has_factory_key(self._database, intent.spki_sha256, wish.account_id, wish.endpoint):
            raise KeyTaken("the CSR's key is the factory key of another device; a key belongs to one device")
        opened = await self._writer.write(intent)
        match opened:
            case Inserted():
                _only_a_ca_knows(making)
                checked = await self._attempts.asked(active, intent, wish.csr, since, wish.limits)
                self._attempts.leases.leave(intent.id)
                return Certified(issuance_id=intent.id, chain=checked.chain, serial=checked.serial)
            case issuance_operations.KeyTaken():
                whose = opened.endpoint or "a device of another account"
                raise KeyTaken(f"the CSR's key is the one of {whose}; a key belongs to one device")
            case issuance_operations.TooMany():
                raise too_many(intent)
            case Joined():
                return await self._joined(opened.row, wish, making)
            case issuance_operations.HeldBack():
                raise AssertionError("a CSR of a device's own is held back by its own row alone")
            case _:
                assert_never(opened)

    async def _joined(self, row: IssuanceRow, wish: CsrWish, making: _Making) -> Certified:
        """What a row comes to that another worker wrote for this CSR, or for the same key under the same names."""
        same = row.csr_sha256 == wish.csr_sha256
        if not same and not same_names(x509.load_der_x509_csr(row.csr), wish.csr):
            raise Conflict(f"another CSR of {wish.endpoint} for the same key and other names is under way")
        found = await self._outcome(row, wish, making)
        if found is None:
            raise ComeAgain("what was under way for this key gave no certificate", retry_after=1.0)
        return found

    async def _outcome(self, row: IssuanceRow, wish: CsrWish, making: _Making) -> Certified | None:
        """What `row` has come to, None when the CSR may be tried again; waits while somebody is at work on it."""
        making.resolved, making.issuer_id = True, row.issuer_id
        pause = FIRST_LOOK
        while True:
            if row.endpoint != wish.endpoint:
                raise KeyTaken(f"the CSR's key is the one of {row.endpoint}; a key belongs to one device")
            match row.state:
                case "issued" | "delivered":
                    return await self._recorded(row)
                case "refused":
                    raise Rejected(f"this CSR was refused before: {row.error_text}")
                case "bad" if (left := row.updated_at + BAD_PAUSE - self._now()) > timedelta():
                    raise Unavailable(
                        f"what the CA gave for this CSR was no good: {row.error_text}", left.total_seconds()
                    )
                case "unknown" if row.settled and await self._is_for_people(row):
                    raise TemporarilyUnavailable(
                        f"nobody knows what became of this CSR, and on_unknown is hold; look for it at the CA, then "
                        f"run `firstlight device release {wish.endpoint}`",
                        retry_after=HOLD_RETRY_AFTER,
                    )
                case "bad" | "failed" | "abandoned":
                    return None
                case "unknown" if row.settled:
                    return None
                case _:
                    # requested, submitted, pending, and unknown while it is looked into: its lease brings it on.
                    if not making.waiting:
                        raise ComeAgain("nobody waits for this CSR any more", retry_after=1.0)
                    _only_a_ca_knows(making)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK)
            again = await issuances.find(self._database, row.id)
            if again is None:
                return None
            row = again

    async def _is_for_people(self, row: IssuanceRow) -> bool:
        """Whether the CA of a request that nobody can find out about signs no more until a person acts."""
        try:
            return (await self._issuers.issuer_by_id(row.account_id, row.issuer_id)).on_unknown == "hold"
        except IssuerError:
            return False

    async def _recorded(self, row: IssuanceRow) -> Certified:
        held = await certificates.find(self._database, row.id)
        if held is None:
            raise AssertionError(f"issuance {row.id.hex} is {row.state} and has no certificate")
        if held.revoked_at is not None:
            raise NotAuthorized("the certificate of this CSR was revoked; a new one needs a new CSR")
        log.info("certificate_found", endpoint=row.endpoint, issuance=row.id.hex, state=row.state)
        return Certified(issuance_id=row.id, chain=held.chain, serial=held.serial, again=True)

    def _intent(self, wish: CsrWish, active: ActiveIssuer, before: IssuanceRow | None) -> OpenIssuance:
        now = self._now()
        spki = wish.csr.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return OpenIssuance(
            id=uuid4(),
            account_id=wish.account_id,
            device_id=wish.device_id,
            endpoint=wish.endpoint,
            service=wish.service,
            issuer_id=active.id,
            csr=wish.der,
            csr_sha256=wish.csr_sha256,
            spki_sha256=sha256(spki).digest(),
            server_key=False,
            # 159 random bits, recorded before anything is signed with them.
            serial=x509.random_serial_number(),
            not_before=now.replace(microsecond=0),
            state="submitted",
            owner=self._attempts.owner,
            lease_until=now + self._lease,
            attempt=before.attempt + 1 if before is not None else 1,
            session_id=wish.session_id,
            subject=wish.csr.subject.rfc4514_string(),
            replaces=before.id if before is not None else None,
            most=self._config.daily_csrs,
        )

    def release(self) -> None:
        """Let no device wait for a CA that takes its time: the same CSR finds its certificate later."""
        self._stopping = True

    async def close(self) -> None:
        """Wait a little for CAs that were asked, then stop; what is under way is settled by whoever adopts its row."""
        await tasks.end([making.task for making in self._making.values()], CLOSE_PATIENCE)


def _only_a_ca_knows(making: _Making) -> None:
    if not making.asking.done():
        making.asking.set_result(None)
