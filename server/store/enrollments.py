"""Enrolment lists: which account claimed a device that a shared factory CA vouches for (design 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database

# What one factory CA's unclaimed devices may take in the record.
MOST_DENIALS = 10_000
# Before and behind all claims.
_FIRST = datetime.min.replace(tzinfo=UTC), UUID(int=0)
_LAST = datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """A claim: `fingerprint` is the SHA-256 of the device's bootstrap certificate; claimed when it first came."""

    id: UUID
    account_id: UUID
    fingerprint: bytes
    created_at: datetime
    claimed_at: datetime | None
    device_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A device that came and that nobody had claimed."""

    id: UUID
    account_id: UUID
    trusted_certificate_id: UUID
    fingerprint: bytes
    endpoint: str
    created_at: datetime


def _row(row: Any) -> Enrollment:
    return Enrollment(
        id=row["id"],
        account_id=row["account_id"],
        fingerprint=row["fingerprint"],
        created_at=row["created_at"],
        claimed_at=row["claimed_at"],
        device_id=row["device_id"],
    )


async def add(database: Database, actor: Actor, account_id: UUID, fingerprint: bytes) -> Enrollment:
    """Claim a device; Conflict when an account, this or another, has claimed it."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["enrollment_add"], uuid4(), account_id, fingerprint)
        if row is None:
            raise Conflict("this device is claimed already", field="enrollment_identity")
        added = _row(row)
        await _note(connection, database, actor, added, "added", {"after": _shown(added)})
    return added


async def listed(
    database: Database, account_id: UUID, *, after: Enrollment | None = None, ascending: bool = True, limit: int
) -> list[Enrollment]:
    """Claims of an account in the order of their making, or the newest first; from the one behind `after` on.

    An account may have claimed a million devices by its files.
    """
    if ascending:
        query, (at, id) = "enrollment_after", (_FIRST if after is None else (after.created_at, after.id))
    else:
        query, (at, id) = "enrollment_before", (_LAST if after is None else (after.created_at, after.id))
    return [_row(row) for row in await database.fetch(query, account_id, at, id, limit)]


async def count(database: Database, account_id: UUID) -> int:
    """How many devices an account has claimed."""
    return int(await database.fetchval("enrollment_count", account_id))


async def find(database: Database, account_id: UUID, enrollment_id: UUID) -> Enrollment:
    """One claim; NotFound."""
    row = await database.fetchrow("enrollment_find", account_id, enrollment_id)
    if row is None:
        raise NotFound("there is no such device enrollment")
    return _row(row)


async def remove(database: Database, actor: Actor, account_id: UUID, enrollment_id: UUID) -> None:
    """Give a claim up; NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["enrollment_remove"], account_id, enrollment_id)
        if row is None:
            raise NotFound("there is no such device enrollment")
        removed = _row(row)
        await _note(connection, database, actor, removed, "removed", {"before": _shown(removed)})


async def claimed_by(database: Database, fingerprint: bytes) -> UUID | None:
    """The account that claimed the device with this bootstrap certificate."""
    found: UUID | None = await database.fetchval("enrollment_claimed_by", fingerprint)
    return found


async def claimed(database: Database, fingerprints: Sequence[bytes]) -> set[bytes]:
    """Which of these are on a list, of whichever account."""
    return {row["fingerprint"] for row in await database.fetch("enrollment_claimed", list(fingerprints))}


async def claim(database: Database, fingerprint: bytes, device_id: UUID, at: datetime) -> None:
    """The claimed device came; nothing happens when it was here before, or when nobody claimed it."""
    await database.execute("enrollment_claim", fingerprint, device_id, at)


async def deny(database: Database, trusted_certificates: list[UUID], fingerprint: bytes, endpoint: str) -> None:
    """Remember a device that nobody claimed, for every account that shares its CA; bounded for each CA."""
    await database.execute("enrollment_deny", trusted_certificates, fingerprint, endpoint, MOST_DENIALS)


async def denials(database: Database, account_id: UUID, trusted_certificate_id: UUID) -> list[Denial]:
    """Devices of a shared CA that nobody had claimed, oldest first."""
    rows = await database.fetch("enrollment_denials", account_id, trusted_certificate_id)
    return [
        Denial(
            id=row["id"],
            account_id=row["account_id"],
            trusted_certificate_id=row["trusted_certificate_id"],
            fingerprint=row["fingerprint"],
            endpoint=row["endpoint"],
            created_at=row["created_at"],
        )
        for row in rows
    ]


def _shown(claim: Enrollment) -> dict[str, object]:
    return {
        "id": claim.id.hex,
        "fingerprint": claim.fingerprint.hex(),
        "claimed_at": claim.claimed_at.isoformat() if claim.claimed_at is not None else None,
        "device_id": claim.device_id.hex if claim.device_id is not None else None,
    }


async def _note(
    connection: Any, database: Database, actor: Actor, claim: Enrollment, what: str, detail: Mapping[str, object]
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=claim.account_id,
        action=f"device_enrollment.{what}",
        subject_kind="device_enrollment",
        subject=claim.fingerprint.hex(),
        detail=detail,
    )
