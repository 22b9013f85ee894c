"""How a CA stands before devices depend on it: verified, trusted for LWM2M, ready. Nobody is contacted to know."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from cryptography import x509

from issuers.base import StepOutcome
from server.admin import trust as trust_admin
from server.doubt import Doubt
from server.store import issuer_chains, issuers, readiness, verifications
from server.store.accounts import LWM2M
from server.store.database import Database
from server.store.issuer_chains import Use
from server.store.issuers import Configuration, IssuerRow
from server.store.readiness import Readiness
from server.store.verifications import Verification

TRUST = "trust"
# A CA that ends sooner signs few certificates that its end does not cut short.
CA_ENDS_WITHIN = timedelta(days=90)

Unproven = Literal["", "not verified yet", "verification failed"]
"""What is called the state of a CA that nothing is known against but this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One registered CA, as the record knows it."""

    row: IssuerRow
    readiness: Readiness | None
    # The last that ended.
    verification: Verification | None
    # As it showed itself, the issuing CA first; empty when it never did.
    chain: tuple[x509.Certificate, ...]
    # Whether what it signs leads to an active trusted certificate of service lwm2m; None = it never showed its own.
    trusted: bool | None
    # When it was looked at, UTC.
    at: datetime

    @property
    def refused_by(self) -> Readiness | None:
        """Why nobody asks it at present, or None."""
        return self.readiness if self.readiness is not None and self.readiness.open_until is not None else None

    @property
    def lacks_trust_only(self) -> bool:
        """Whether its last verification failed for want of trust and nothing else."""
        if self.verification is None or self.verification.successful:
            return False
        return {s.name for s in self.verification.steps if s.outcome == StepOutcome.FAIL.value} == {TRUST}

    def is_refused_for(self, *services: str) -> bool:
        """Whether devices are refused with what it signs for these; a custom service needs no trusted certificate."""
        return LWM2M in services and self.trusted is False

    @property
    def ends(self) -> datetime | None:
        """When the first certificate of its chain ends; None = it never showed one."""
        return min((each.not_valid_after_utc for each in self.chain), default=None)

    def failed_for(self, *services: str) -> Verification | None:
        """Its last verification, if it failed and for these services says more than that trust is missing."""
        if self.verification is None or self.verification.successful:
            return None
        says_no_more = self.is_refused_for(*services) or LWM2M not in services
        return None if self.lacks_trust_only and says_no_more else self.verification

    def doubts(self, service: str = LWM2M) -> Iterator[Doubt]:
        """What is to be known before devices depend on it for `service`."""
        if self.is_refused_for(service):
            yield Doubt(
                "not_trusted",
                "Its CA certificate is not trusted for LWM2M: devices will be refused",
                "trust its certificate for service lwm2m, then verify it",
            )
        if self.ends is not None and self.ends - self.at <= CA_ENDS_WITHIN:
            yield Doubt(
                "issuer_ends",
                f"Its CA certificate {'ended' if self.ends <= self.at else 'ends'} on {self.ends:%Y-%m-%d}: "
                "what it signs to be valid longer is refused before a device gets it",
                "have the CA renew it, trust the new one for service lwm2m, then verify the CA",
            )
        if self.verification is None:
            yield Doubt(
                "not_verified", "It was never verified: nobody knows whether it would sign for a device", "verify it"
            )
        elif (failed := self.failed_for(service)) is not None:
            yield Doubt(
                "verification_failed",
                f"Its last verification failed{_at(failed.finished_at)}: {failed.message}",
                "mend what that says, then verify it again",
            )


async def doubts_of(database: Database, account_id: UUID, service: Configuration, now: datetime) -> tuple[Doubt, ...]:
    """What speaks against the CA that is active for a service; nothing against the embedded one."""
    if service.issuer_id is None:
        return ()
    standing = (await standings(database, account_id, now)).get(service.issuer_id)
    return tuple(standing.doubts(service.reference)) if standing is not None else ()


def unproven(row: IssuerRow, last: Verification | None, use: Use) -> Unproven:
    """What the last verification of a CA has against it; nothing of one that signs, or whose settings are newer."""
    if use.hour:
        return ""
    if last is None:
        return "not verified yet"
    return "verification failed" if not last.successful and last.started_at > row.updated_at else ""


def _at(moment: datetime | None) -> str:
    return f" at {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment is not None else ""


async def standings(database: Database, account_id: UUID, now: datetime) -> Mapping[UUID, Standing]:
    """Every registered CA of an account at `now` (UTC), oldest first; StoreUnavailable."""
    known = await readiness.listed(database, account_id)
    verified = await verifications.latest(database, account_id)
    chains = await issuer_chains.listed(database, account_id)
    anchors = await trust_admin.anchors(database, account_id)
    found: dict[UUID, Standing] = {}
    for row in await issuers.listed(database, account_id):
        shown = chains[row.id].certificates if row.id in chains else ()
        chain = tuple(x509.load_der_x509_certificate(der) for der in shown)
        found[row.id] = Standing(
            row=row,
            readiness=known.get(row.id),
            verification=verified.get(row.id),
            chain=chain,
            trusted=trust_admin.leads_to(chain, anchors) if chain else None,
            at=now,
        )
    return found
