"""From a CSR to a checked, recorded certificate, whatever fails on the way (design 2.1, 7, 8).

The steps of one issuance, each durable before the next:

1. the issuer of the service is resolved, once; one that is not ready ends it here, before a key is made
2. the intent row is written: from here on every signature is accounted for
3. the CA is asked; `Pending` is recorded with its reference before the first poll
4. what came back is checked
5. the certificate is recorded; only now may a device see it
6. `delivered`, when the device has it; or `abandoned` and revoked, when its server-made key is gone

A worker renews the leases of its rows; a row whose lease ran out is adopted and settled by whoever sees it first.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import assert_never
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.base import Capability, Issued, Issuer, IssueRequest, Pending, Recovery
from issuers.csr import make_csr
from issuers.errors import BadCertificate, IssuerError, NotSupported, OutcomeUnknown, Rejected, Unavailable
from issuers.returned import Checked
from lwm2m.bootstrap import Credential
from server import logs
from server.config import IssuanceConfig
from server.errors import TemporarilyUnavailable
from server.knowledge import ActiveIssuer, Knowledge
from server.metrics import Metrics
from server.store import certificates, issuances
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.issuances import IssuanceRow
from server.store.writer import (
    Inserted,
    MarkAbandoned,
    OpenIssuance,
    RecordFailed,
    RecordIssued,
    RecordPending,
    Writer,
)

log = logs.get("issuance")

# Back-off while a CA says "in progress": 0.5 s doubling to 5 s (issuers.md B5).
FIRST_POLL = 0.5
LONGEST_POLL = 5.0
# A new attempt after an answer that was lost and cannot be recovered (design 7, `on_unknown = reissue`).
ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One wish for a certificate with a server-made key: who, for which service, under which name."""

    account_id: UUID
    device_id: UUID
    endpoint: str
    service: str
    subject: x509.Name
    session_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerMade:
    """A certificate and the key made for it; lives in this worker only, never stored or logged."""

    issuance_id: UUID
    credential: Credential = field(repr=False)
    serial: int
    issuer: str
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Held:
    made: ServerMade
    until: float


_Slot = tuple[UUID, str, str]


class Issuance:
    """Every issuance of one worker."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        knowledge: Knowledge,
        config: IssuanceConfig,
        owner: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._writer = writer
        self._knowledge = knowledge
        self._config = config
        self._owner = owner
        self._clock = clock
        self._now = now
        self._metrics = metrics
        self._lease = timedelta(seconds=config.lease_seconds)
        self._held: dict[_Slot, _Held] = {}
        self._making: dict[_Slot, asyncio.Task[ServerMade]] = {}
        # Rows whose leases this worker renews: asked of a CA, or issued with a key held here.
        self._ours: set[UUID] = set()

    # -- server-made keys (design 2.1) ----------------------------------------

    async def server_made(self, wish: Wish) -> ServerMade:
        """A certificate and key for `wish`: the held one, the one being made, or a new one.

        Raises IssuerError of the attempt that failed, StoreUnavailable, or TemporarilyUnavailable while the CA takes
        its time; the work then goes on and the device finds it when it returns.
        """
        slot = (wish.account_id, wish.service, wish.endpoint)
        held = self._held.get(slot)
        if held is not None and await self._still_ours(held.made.issuance_id):
            log.info("held_key_used", endpoint=wish.endpoint, issuance=held.made.issuance_id.hex)
            return held.made
        making = self._making.get(slot)
        if making is None:
            making = asyncio.get_running_loop().create_task(self._make(wish, slot))
            self._making[slot] = making
            making.add_done_callback(lambda task: self._made(slot, task))
        try:
            async with asyncio.timeout(self._config.answer_seconds):
                return await asyncio.shield(making)
        except TimeoutError:
            raise TemporarilyUnavailable(
                f"the CA has not answered within {self._config.answer_seconds:g} s; it is still being asked",
                retry_after=self._config.answer_seconds / 2,
            ) from None

    def delivered(self, issuance_id: UUID, wish: Wish) -> None:
        """The device has certificate and key: forget the key (the row is written with the session's end)."""
        self._held.pop((wish.account_id, wish.service, wish.endpoint), None)
        self._ours.discard(issuance_id)
        self._metrics.issuances.inc("delivered")

    def _made(self, slot: _Slot, task: asyncio.Task[ServerMade]) -> None:
        self._making.pop(slot, None)
        if not task.cancelled() and task.exception() is None:
            self._held[slot] = _Held(task.result(), self._clock() + self._config.key_hold_seconds)

    async def _still_ours(self, issuance_id: UUID) -> bool:
        row = await issuances.find(self._database, issuance_id)
        return row is not None and row.state == "issued" and row.owner == self._owner

    async def _make(self, wish: Wish, slot: _Slot) -> ServerMade:
        active = await self._knowledge.issuer_for(wish.account_id, wish.service)
        await self._abandon_earlier(wish)
        for attempt in range(ATTEMPTS):
            key = ec.generate_private_key(ec.SECP256R1())
            csr = make_csr(key, wish.subject)
            row = self._intent(wish, csr, active, attempt)
            outcome = await self._writer.write(row)
            if not isinstance(outcome, Inserted):
                raise TemporarilyUnavailable("another worker is issuing for this device", retry_after=5)
            self._metrics.issuances.inc("submitted")
            self._ours.add(row.id)
            try:
                checked = await self._ask(active, row, csr)
            except OutcomeUnknown as error:
                self._ours.discard(row.id)
                # The key of this attempt is gone with it: should the certificate exist, it is an orphan.
                log.warning("possible_orphan", endpoint=wish.endpoint, issuance=row.id.hex, reason=error.message)
                if self._config.on_unknown == "hold" or attempt + 1 == ATTEMPTS:
                    raise
                continue
            except BaseException:
                self._ours.discard(row.id)
                raise
            return ServerMade(
                issuance_id=row.id,
                credential=Credential(
                    chain=checked.chain,
                    private_key_pkcs8=key.private_bytes(
                        serialization.Encoding.DER,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    ),
                ),
                serial=checked.serial,
                issuer=active.name,
                warnings=checked.warnings,
            )
        raise AssertionError("the last attempt returns or raises")

    async def _abandon_earlier(self, wish: Wish) -> None:
        """Certificates of this endpoint whose keys no longer exist: abandoned, and revoked where the issuer can."""
        for row in await issuances.undelivered(self._database, wish.account_id, wish.endpoint, wish.service):
            await self.abandon(row, "the device came back and the key made for it no longer exists")

    def _intent(
        self, wish: Wish, csr: x509.CertificateSigningRequest, active: ActiveIssuer, attempt: int
    ) -> OpenIssuance:
        now = self._now()
        der = csr.public_bytes(serialization.Encoding.DER)
        spki = csr.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return OpenIssuance(
            id=uuid4(),
            account_id=wish.account_id,
            device_id=wish.device_id,
            endpoint=wish.endpoint,
            service=wish.service,
            issuer_id=active.id,
            csr=der,
            csr_sha256=sha256(der).digest(),
            spki_sha256=sha256(spki).digest(),
            server_key=True,
            # 159 random bits, recorded before anything is signed with them (issuers.md E).
            serial=x509.random_serial_number(),
            not_before=now.replace(microsecond=0),
            state="submitted",
            owner=self._owner,
            lease_until=now + self._lease,
            attempt=attempt + 1,
            session_id=wish.session_id,
            subject=wish.subject.rfc4514_string(),
        )

    # -- asking a CA ----------------------------------------

    async def _ask(
        self, active: ActiveIssuer, row: OpenIssuance | IssuanceRow, csr: x509.CertificateSigningRequest
    ) -> Checked:
        """Ask, wait, check, record; every way out leaves the row in the state that tells what happened."""
        request = _request(row, csr)
        started = self._clock()
        try:
            answer = await self._recovering(active.issuer, request)
            issued = await self._collected(active.issuer, row.id, answer)
            checked = active.check(issued, csr, row.endpoint, self._now())
        except IssuerError as error:
            await self._failed(row.id, error)
            raise
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A fault of ours after the CA may have signed: the row says so and is settled like a lost answer.
            unknown = OutcomeUnknown(f"internal fault while the CA was asked: {type(error).__name__}")
            await self._failed(row.id, unknown)
            raise
        await self._record(row.id, checked)
        self._metrics.issue_seconds.observe(self._clock() - started)
        return checked

    async def _recovering(self, issuer: Issuer, request: IssueRequest) -> Issued | Pending:
        try:
            return await issuer.issue(request)
        except OutcomeUnknown:
            recovered = await _recover(issuer, request)
            if recovered is None:
                raise
            return recovered

    async def _collected(self, issuer: Issuer, issuance_id: UUID, answer: Issued | Pending) -> Issued:
        wait = FIRST_POLL
        while isinstance(answer, Pending):
            retry_at = self._now() + timedelta(seconds=answer.retry_after)
            await self._writer.write(RecordPending(issuance_id, self._owner, answer.reference, retry_at))
            self._metrics.issuances.inc("pending")
            await asyncio.sleep(max(answer.retry_after, wait))
            wait = min(wait * 2, LONGEST_POLL)
            answer = await issuer.collect(answer.reference)
        return answer

    async def _record(self, issuance_id: UUID, checked: Checked) -> None:
        leaf = checked.leaf
        recorded = await self._writer.write(
            RecordIssued(
                id=issuance_id,
                owner=self._owner,
                chain=checked.chain,
                serial=checked.serial,
                issuer_fingerprint=checked.issuer_fingerprint,
                not_before=leaf.not_valid_before_utc,
                not_after=leaf.not_valid_after_utc,
                warnings=checked.warnings,
            )
        )
        if not recorded:
            raise TemporarilyUnavailable("another worker settled this issuance meanwhile", retry_after=5)
        self._metrics.issuances.inc("issued")

    async def _failed(self, issuance_id: UUID, error: IssuerError) -> None:
        state = state_after(error)
        self._metrics.issuances.inc(state)
        await self._writer.write(RecordFailed(issuance_id, self._owner, state, type(error).__name__, error.message))

    # -- rows whose owner is gone, and keys whose time is up ----------------------------------------

    async def run(self) -> None:
        """Renew our leases, adopt rows nobody renews, let held keys go; until cancelled."""
        while True:
            try:
                if self._ours:
                    await issuances.renew_leases(
                        self._database, self._owner, tuple(self._ours), self._now() + self._lease
                    )
                await self.expire_keys()
                await self.settle_expired()
                await self.revoke_due()
            except (StoreUnavailable, IssuerError) as error:
                log.warning("settling_postponed", reason=str(error))
            await asyncio.sleep(self._config.lease_seconds / 3)

    async def expire_keys(self) -> None:
        """Forget keys past `key_hold`; their certificates are abandoned."""
        now = self._clock()
        for slot, held in [item for item in self._held.items() if item[1].until <= now]:
            del self._held[slot]
            self._ours.discard(held.made.issuance_id)
            row = await issuances.find(self._database, held.made.issuance_id)
            if row is not None and row.state == "issued":
                await self.abandon(row, f"not delivered within {self._config.key_hold_seconds:g} s")

    async def settle_expired(self) -> None:
        """Adopt and settle every row whose lease ran out (design 7)."""
        adopted = await issuances.adopt_expired(self._database, self._owner, self._now(), self._lease)
        for row in adopted:
            log.info("issuance_adopted", issuance=row.id.hex, endpoint=row.endpoint, state=row.state)
            with contextlib.suppress(IssuerError):
                await self._settle(row)

    async def _settle(self, row: IssuanceRow) -> None:
        match row.state:
            case "requested":
                await self._failed(row.id, Unavailable("the server stopped before the CA was asked", None))
            case "issued":
                if row.server_key:
                    await self.abandon(row, "the server that held its key is gone")
            case "submitted" | "unknown" | "pending":
                await self._recover_row(row)
            case _:
                raise AssertionError(f"a row in state {row.state} has no lease")

    async def _recover_row(self, row: IssuanceRow) -> None:
        active = await self._knowledge.issuer_by_id(row.account_id, row.issuer_id)
        csr = x509.load_der_x509_csr(row.csr)
        request = _request(row, csr)
        if row.state == "pending" and row.reference is not None:
            answer: Issued | Pending | None = await active.issuer.collect(row.reference)
        else:
            answer = await _recover(active.issuer, request)
        if answer is None:
            await self._failed(row.id, OutcomeUnknown("the server stopped while the CA was asked"))
            log.warning("possible_orphan", endpoint=row.endpoint, issuance=row.id.hex)
            return
        try:
            issued = await self._collected(active.issuer, row.id, answer)
            checked = active.check(issued, csr, row.endpoint, self._now())
        except IssuerError as error:
            await self._failed(row.id, error)
            return
        await self._record(row.id, checked)
        if row.server_key:
            found = await issuances.find(self._database, row.id)
            if found is not None:
                await self.abandon(found, "the server that held its key is gone")

    async def abandon(self, row: IssuanceRow, reason: str) -> None:
        """Give up an issued, undelivered certificate whose key is gone; revoke it where the issuer can."""
        if not await self._writer.write(MarkAbandoned(row.id, reason)):
            return
        self._metrics.issuances.inc("abandoned")
        log.info("issuance_abandoned", issuance=row.id.hex, endpoint=row.endpoint, reason=reason)
        await self._revoke(row.account_id, row.issuer_id, row.id, row.serial)

    async def revoke_due(self) -> None:
        """Try again what could not be revoked when it was abandoned."""
        for due in await certificates.take_due_revocations(self._database, self._now()):
            await self._revoke(due.account_id, due.issuer_id, due.issuance_id, due.serial)

    async def _revoke(self, account_id: UUID, issuer_id: UUID | None, issuance_id: UUID, serial: int) -> None:
        """Revoke an abandoned certificate at its CA and on record; one that fails is due again later."""
        try:
            active = await self._knowledge.issuer_by_id(account_id, issuer_id)
            if Capability.REVOKE not in active.issuer.capabilities:
                await certificates.keep_abandoned(self._database, issuance_id)
                return
            await active.issuer.revoke(serial, x509.ReasonFlags.cessation_of_operation, self._now())
        except IssuerError as error:
            log.warning("revocation_postponed", issuance=issuance_id.hex, reason=error.message)
            return
        await certificates.revoke_abandoned(self._database, issuance_id, self._now())
        log.info("certificate_revoked", issuance=issuance_id.hex, serial=format(serial, "x"))


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


async def _recover(issuer: Issuer, request: IssueRequest) -> Issued | Pending | None:
    """What became of a request whose answer was lost, by the adapter's declared recovery; None = it cannot tell."""
    match issuer.recovery:
        case Recovery.LOOKUP | Recovery.TOKEN:
            try:
                return await issuer.recover(request)
            except (OutcomeUnknown, NotSupported):
                return None
        case Recovery.NONE:
            return None
        case other:
            assert_never(other)


def _request(row: OpenIssuance | IssuanceRow, csr: x509.CertificateSigningRequest) -> IssueRequest:
    return IssueRequest(
        issuance_id=row.id,
        csr=csr,
        serial=row.serial,
        not_before=row.not_before,
        validity=None,
        endpoint=row.endpoint,
        account_id=row.account_id,
        purpose="device",
    )
