"""How a CA stands before devices depend on it: verified, trusted for LWM2M, ready. Nobody is contacted to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography import x509

from issuers.base import StepOutcome
from server.admin import trust as trust_admin
from server.store import issuer_chains, issuers, readiness, trust, verifications
from server.store.database import Database
from server.store.issuers import IssuerRow
from server.store.readiness import Readiness
from server.store.verifications import Verification

TRUST = "trust"


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


async def standings(database: Database, account_id: UUID) -> Mapping[UUID, Standing]:
    """Every registered CA of an account, oldest first; StoreUnavailable."""
    known = await readiness.listed(database, account_id)
    verified = await verifications.latest(database, account_id)
    chains = await issuer_chains.listed(database, account_id)
    anchors = [
        x509.load_der_x509_certificate(each.certificate)
        for each in await trust.listed(database, account_id, service="lwm2m")
        if each.active
    ]
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
        )
    return found
