"""Issued certificates as an operator handles them: found, withdrawn."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

from cryptography import x509

from server.admin import issuers as issuer_admin
from server.config import Config
from server.errors import Conflict, NotFound
from server.store import certificates, issuers
from server.store.audit import Actor
from server.store.certificates import CertificateRow
from server.store.database import Database
from server.store.secrets import Sealer


async def find(database: Database, account_id: UUID, certificate_id: UUID) -> CertificateRow:
    """The certificate of this id; NotFound, also for one of another account."""
    row = await certificates.find(database, certificate_id)
    if row is None or row.account_id != account_id:
        raise NotFound("there is no such certificate")
    return row


def fingerprint(row: CertificateRow) -> str:
    """SHA-256 of the leaf, in hexadecimal."""
    return sha256(row.chain[0]).hexdigest()


async def revoke(
    database: Database,
    sealer: Sealer,
    config: Config,
    actor: Actor,
    account_id: UUID,
    certificate_id: UUID,
    *,
    reason: str,
    now: datetime,
) -> CertificateRow:
    """Withdraw a certificate at its CA, then on record; `reason` as RFC 5280 5.3.1 spells it.

    The embedded CA's list is made from the record. Raises NotFound, Conflict when it is revoked, IssuerError when the
    CA cannot or will not.
    """
    row = await find(database, account_id, certificate_id)
    if row.revoked_at is not None:
        raise Conflict(f"the certificate was revoked at {row.revoked_at:%Y-%m-%d %H:%M} UTC")
    if row.issuer_id is not None:
        ca = await issuers.find(database, account_id, row.issuer_id)
        if ca is None:
            raise NotFound("the certificate issuer that signed it is no longer registered; revoke it at the CA itself")
        issuer = issuer_admin.opened(ca, sealer, await issuer_admin.reach_of(database, config))
        try:
            await issuer.revoke(row.serial, x509.ReasonFlags(reason), now)
        finally:
            await issuer.aclose()
    return await certificates.revoke(database, actor, account_id, certificate_id, reason, now)
