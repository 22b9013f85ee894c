"""Trusted certificates: whose devices may come, and what issued certificates must lead to."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from issuers.certificate import UNREADABLE
from server.errors import BadRequest, Conflict, LimitReached, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database
from server.trust import Anchor

Service = Literal["bootstrap", "lwm2m"]

# Per account, developer certificates included (a commercial account of the Izuma API).
MOST_CERTIFICATES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCertificate:
    """One trusted (or, inactive, denied) certificate; `certificate` in DER, `fingerprint` SHA-256."""

    id: UUID
    account_id: UUID
    service: Service
    name: str
    description: str
    certificate: bytes = field(repr=False)
    fingerprint: bytes
    subject: str
    issuer: str
    not_after: datetime
    active: bool
    enrollment_mode: bool
    version: int
    device_execution_mode: int
    owner_id: UUID | None
    created_at: datetime
    updated_at: datetime


def _row(row: Any) -> TrustedCertificate:
    return TrustedCertificate(
        id=row["id"],
        account_id=row["account_id"],
        service=row["service"],
        name=row["name"],
        description=row["description"],
        certificate=row["certificate"],
        fingerprint=row["fingerprint"],
        subject=row["subject"],
        issuer=row["issuer"],
        not_after=row["not_after"],
        active=row["active"],
        enrollment_mode=row["enrollment_mode"],
        version=row["version"],
        device_execution_mode=row["device_execution_mode"],
        owner_id=row["owner_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def anchors(database: Database) -> list[Anchor]:
    """Every anchor of every account, denied ones included: what a `TrustIndex` is made of."""
    return [
        Anchor(
            id=row["id"],
            account_id=row["account_id"],
            service=row["service"],
            certificate=row["certificate"],
            active=row["active"],
            enrollment_mode=row["enrollment_mode"],
        )
        for row in await database.fetch("trust_anchors")
    ]


async def listed(database: Database, account_id: UUID, *, service: Service | None = None) -> list[TrustedCertificate]:
    """The trusted certificates of an account, by name."""
    return [_row(row) for row in await database.fetch("trust_list", account_id, service)]


async def add(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    service: Service,
    certificate: bytes,
    name: str = "",
    description: str = "",
    active: bool = True,
    enrollment_mode: bool = False,
    device_execution_mode: int = 0,
    owner_id: UUID | None = None,
) -> TrustedCertificate:
    """Trust `certificate` (DER), called `name`, or by its subject, with a number where that is taken.

    Raises BadRequest when it is no certificate; LimitReached at 50 of an account; Conflict when it or its name is there
    already, or when it is a factory CA active in another account and not both have an enrolment list (design 7).
    """
    async with database.transaction() as connection:
        return await add_within(
            connection,
            database,
            actor,
            account_id,
            service=service,
            certificate=certificate,
            name=name,
            description=description,
            active=active,
            enrollment_mode=enrollment_mode,
            device_execution_mode=device_execution_mode,
            owner_id=owner_id,
        )


async def add_within(
    connection: Any,
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    service: Service,
    certificate: bytes,
    name: str = "",
    description: str = "",
    active: bool = True,
    enrollment_mode: bool = False,
    device_execution_mode: int = 0,
    owner_id: UUID | None = None,
) -> TrustedCertificate:
    """`add`, in a transaction that is under way on `connection`; the first change of that transaction."""
    # Changes take turns: no constraint can count rows, and records from before this rule have names twice.
    await connection.execute(database.queries["trust_lock"])
    subject, issuer, spki, ends = _read(certificate)
    fingerprint = sha256(certificate).digest()
    if active and service == "bootstrap":
        await _alone(connection, database, account_id, fingerprint, enrollment_mode)
    await _check_new(connection, database, account_id, service, fingerprint, subject)
    taken = await _names(connection, database, account_id)
    if len(taken) >= MOST_CERTIFICATES:
        raise LimitReached(f"an account has at most {MOST_CERTIFICATES} trusted certificates; remove one first")
    if name:
        _check_free(name, taken)
    try:
        row = await connection.fetchrow(
            database.queries["trust_add"],
            uuid4(),
            account_id,
            service,
            name or free_name(subject, taken),
            description,
            certificate,
            fingerprint,
            sha256(spki).digest(),
            subject,
            issuer,
            ends,
            active,
            enrollment_mode,
            device_execution_mode,
            owner_id,
        )
    except asyncpg.UniqueViolationError as error:
        raise Conflict(
            f"the certificate {subject} is already there for the service {service}", field="certificate"
        ) from error
    added = _row(row)
    await audit.note(
        connection,
        database,
        actor,
        account_id=account_id,
        action="trusted_certificate.added",
        subject_kind="trusted_certificate",
        subject=added.name,
        detail={"after": _shown(added)},
    )
    return added


def _read(certificate: bytes) -> tuple[str, str, bytes, datetime]:
    """Subject, issuer, SubjectPublicKeyInfo (DER) and end; BadRequest when it is no certificate."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        spki = parsed.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return parsed.subject.rfc4514_string(), parsed.issuer.rfc4514_string(), spki, parsed.not_valid_after_utc
    except UNREADABLE as error:
        raise BadRequest(f"this is no X.509 certificate: {error}") from error


async def _check_new(
    connection: Any, database: Database, account_id: UUID, service: Service, fingerprint: bytes, subject: str
) -> None:
    """Conflict, which names the other, when the account has this certificate for the service already."""
    same = await connection.fetchrow(database.queries["trust_same"], account_id, service, fingerprint)
    if same is not None:
        state = "active" if same["active"] else "denied: activate that one to trust it again"
        raise Conflict(
            f"the certificate {subject} is already there for the service {service}, as {same['name']}, {state}",
            field="certificate",
        )


async def update(
    database: Database,
    actor: Actor,
    account_id: UUID,
    certificate_id: UUID,
    *,
    name: str | None = None,
    description: str | None = None,
    active: bool | None = None,
    enrollment_mode: bool | None = None,
) -> TrustedCertificate:
    """Change what is given, None keeps; the certificate and its service stay. NotFound, or Conflict as in `add`."""
    async with database.transaction() as connection:
        await connection.execute(database.queries["trust_lock"])
        row = await connection.fetchrow(database.queries["trust_find"], account_id, certificate_id)
        if row is None:
            raise NotFound("there is no such trusted certificate")
        before = _row(row)
        wanted = (
            before.name if name is None else name,
            before.description if description is None else description,
            before.active if active is None else active,
            before.enrollment_mode if enrollment_mode is None else enrollment_mode,
        )
        # Where a name stands twice, from before names were unique, both can still be denied.
        if wanted[0] != before.name:
            _check_free(wanted[0], await _names(connection, database, account_id))
        if wanted[2] and before.service == "bootstrap":
            await _alone(connection, database, account_id, before.fingerprint, wanted[3])
        after = _row(await connection.fetchrow(database.queries["trust_update"], account_id, certificate_id, *wanted))
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="trusted_certificate.changed",
            subject_kind="trusted_certificate",
            subject=after.name,
            detail={"before": _shown(before), "after": _shown(after)},
        )
    return after


async def find(database: Database, account_id: UUID, certificate_id: UUID) -> TrustedCertificate | None:
    """The trusted certificate with this id."""
    row = await database.fetchrow("trust_find", account_id, certificate_id)
    return _row(row) if row is not None else None


async def set_active(
    database: Database, actor: Actor, account_id: UUID, certificate_id: UUID, active: bool
) -> TrustedCertificate:
    """Activate or deny; NotFound, or Conflict as in `add`."""
    async with database.transaction() as connection:
        await connection.execute(database.queries["trust_lock"])
        before = await connection.fetchrow(database.queries["trust_find"], account_id, certificate_id)
        if before is None:
            raise NotFound("there is no such trusted certificate")
        if active and before["service"] == "bootstrap":
            await _alone(connection, database, account_id, before["fingerprint"], before["enrollment_mode"])
        changed = _row(
            await connection.fetchrow(database.queries["trust_set_active"], account_id, certificate_id, active)
        )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="trusted_certificate.activated" if active else "trusted_certificate.denied",
            subject_kind="trusted_certificate",
            subject=changed.name,
            detail={"service": changed.service, "fingerprint": changed.fingerprint.hex()},
        )
    return changed


async def remove(database: Database, actor: Actor, account_id: UUID, certificate_id: UUID) -> None:
    """Remove; its devices are unknown from then on, not denied. NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["trust_remove"], account_id, certificate_id)
        if row is None:
            raise NotFound("there is no such trusted certificate")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="trusted_certificate.removed",
            subject_kind="trusted_certificate",
            subject=row["name"],
            detail={"before": _shown(_row(row))},
        )


def _shown(row: TrustedCertificate) -> dict[str, object]:
    return {
        "name": row.name,
        "description": row.description,
        "service": row.service,
        "fingerprint": row.fingerprint.hex(),
        "active": row.active,
        "enrollment_mode": row.enrollment_mode,
    }


def free_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, with a number behind it where that name is taken."""
    return next(name for n in count(1) if (name := wanted if n == 1 else f"{wanted} {n}") not in taken)


async def _names(connection: Any, database: Database, account_id: UUID) -> list[str]:
    return [each["name"] for each in await connection.fetch(database.queries["trust_names"], account_id)]


def _check_free(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise Conflict(f"there is already a trusted certificate {name}; give this one another name", field="name")


async def _alone(
    connection: Any, database: Database, account_id: UUID, fingerprint: bytes, enrollment_mode: bool
) -> None:
    # No index can say "shared only if all of them have an enrolment list": `trust_lock` was taken before.
    if await connection.fetchval(database.queries["trust_is_elsewhere"], fingerprint, account_id, enrollment_mode):
        raise Conflict(
            "this factory CA is active in another account; both accounts need it in enrollment mode to share it",
            field="enrollment_mode",
        )
