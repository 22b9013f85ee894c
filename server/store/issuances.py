"""Issuances: one wish for a certificate, from its intent to its end (states: design 7)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from server.errors import NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.certificates import serial_number
from server.store.database import Database

# Rows adopted at a time; the others are taken by the next look or the next worker.
ADOPT_LIMIT = 50
# Devices released in one transaction: each has its row in the audit.
RELEASED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceRow:
    """One row of issuance; `csr` in DER."""

    id: UUID
    account_id: UUID
    device_id: UUID | None
    session_id: UUID | None
    issuer_id: UUID | None
    endpoint: str
    service: str
    state: str
    owner: str
    attempt: int
    server_key: bool
    serial: int
    not_before: datetime
    csr: bytes = field(repr=False)
    csr_sha256: bytes = field(repr=False)
    spki_sha256: bytes = field(repr=False)
    subject: str
    opened_at: datetime
    updated_at: datetime
    lease_until: datetime | None
    retry_at: datetime | None
    delivered_at: datetime | None
    answers_until: datetime | None
    settled: bool
    # Since when nobody has been asking its CA, known for a request whose answer was lost.
    lost_at: datetime | None
    reference: str | None
    error_class: str | None
    error_text: str | None


def issuance_row(row: Any) -> IssuanceRow:
    """A row of any query that lists the issuance columns."""
    return IssuanceRow(
        id=row["id"],
        account_id=row["account_id"],
        device_id=row["device_id"],
        session_id=row["session_id"],
        issuer_id=row["issuer_id"],
        endpoint=row["endpoint"],
        service=row["service"],
        state=row["state"],
        owner=row["owner"],
        attempt=row["attempt"],
        server_key=row["server_key"],
        serial=serial_number(row["serial"]),
        not_before=row["not_before"],
        csr=row["csr"],
        csr_sha256=row["csr_sha256"],
        spki_sha256=row["spki_sha256"],
        subject=row["subject"],
        opened_at=row["opened_at"],
        updated_at=row["updated_at"],
        lease_until=row["lease_until"],
        retry_at=row["retry_at"],
        delivered_at=row["delivered_at"],
        answers_until=row["answers_until"],
        settled=row["settled"],
        lost_at=row["lost_at"],
        reference=row["reference"],
        error_class=row["error_class"],
        error_text=row["error_text"],
    )


async def find(database: Database, issuance_id: UUID) -> IssuanceRow | None:
    """The issuance with this id."""
    row = await database.fetchrow("issuance_find", issuance_id)
    return issuance_row(row) if row is not None else None


async def find_by_csr(database: Database, account_id: UUID, service: str, csr_sha256: bytes) -> IssuanceRow | None:
    """The row that answers for this CSR now, if any."""
    row = await database.fetchrow("issuance_by_csr", account_id, service, csr_sha256)
    return issuance_row(row) if row is not None else None


class LeasedRow(NamedTuple):
    """A row that is somebody's until then."""

    id: UUID
    owner: str
    lease_until: datetime


async def retire(database: Database, issuance_id: UUID) -> None:
    """Let the row of a certificate that its device shows answer for its CSR no more: the next one is a new wish."""
    await database.execute("issuance_retire", issuance_id)


async def of_endpoint(database: Database, account_id: UUID, endpoint: str, *, limit: int = 20) -> list[IssuanceRow]:
    """The newest issuances of an endpoint."""
    return [issuance_row(row) for row in await database.fetch("issuance_of_endpoint", account_id, endpoint, limit)]


async def undelivered(
    database: Database, account_id: UUID, endpoint: str, service: str, session_id: UUID
) -> list[IssuanceRow]:
    """Certificates with a server-made key that are issued and neither delivered nor abandoned, of earlier sessions.

    In this one the endpoint is back for another: abandoned ones that it might have held are now due to be revoked.
    """
    rows = await database.look_up("issuance_undelivered", account_id, endpoint, service, session_id)
    return [issuance_row(row) for row in rows]


async def is_for_device(database: Database, owner: str, issuance_id: UUID) -> bool:
    """Whether a certificate is still `owner`'s to deliver, and its device wished for no other meanwhile."""
    return bool(await database.fetchval("issuance_is_for_device", issuance_id, owner))


async def has_all_of_a_day(database: Database, account_id: UUID, endpoint: str, service: str, most: int) -> bool:
    """Whether a device had `most` certificates of a service with a key made here within 24 hours."""
    asked = [uuid4()], [account_id], [endpoint], [service], [None], [most]
    return bool(await database.fetch("write_opened_lately", *asked))


async def renew_leases(
    database: Database, owner: str, issuance_ids: Sequence[UUID], until: datetime
) -> frozenset[UUID]:
    """Extend the leases of `owner`; the ids that are still its own and under way."""
    rows = await database.fetch("issuance_renew_leases", owner, list(issuance_ids), until)
    return frozenset(row["id"] for row in rows)


async def adopt_expired(database: Database, owner: str, now: datetime, lease: timedelta) -> list[IssuanceRow]:
    """Make rows whose lease ended before `now` those of `owner`; each is given to one caller only (design 7)."""
    rows = await database.fetch("issuance_adopt_expired", owner, now, now + lease, ADOPT_LIMIT)
    return [issuance_row(row) for row in rows]


async def leased_beyond(database: Database, farthest: datetime) -> frozenset[LeasedRow]:
    """Rows whose lease ends after `farthest`; those of which a CA said when to ask again are not among them."""
    rows = await database.fetch("issuance_leased_beyond", farthest, ADOPT_LIMIT)
    return frozenset(LeasedRow(row["id"], row["owner"], row["lease_until"]) for row in rows)


async def end_leases(database: Database, rows: Collection[LeasedRow], at: datetime) -> int:
    """Let the leases of these rows end `at`, unless they were renewed meanwhile; how many ended."""
    columns = [[row.id for row in rows], [row.owner for row in rows], [row.lease_until for row in rows]]
    return len(await database.fetch("issuance_end_leases", *columns, at))


async def keep_reference(database: Database, issuance_id: UUID, reference: str) -> bool:
    """Note the CA's `reference` for a row that others look into and that is without one; whether it was noted."""
    return await database.fetchval("issuance_keep_reference", issuance_id, reference) is not None


async def leave_unknown(database: Database, owner: str, issuance_id: UUID) -> None:
    """Look no further into a request whose outcome stays unknown: it is for people now."""
    await database.execute("issuance_leave_unknown", issuance_id, owner)


async def waiting(database: Database, account_id: UUID, endpoint: str) -> int:
    """How many requests of an endpoint wait for a person: those that `release` would free."""
    row = await database.fetchrow("issuance_waiting", account_id, endpoint)
    return int(row["count"]) if row is not None else 0


async def waiting_endpoints(database: Database, account_id: UUID, *, limit: int) -> list[str]:
    """The endpoints with such requests, those that wait longest first."""
    return [row["endpoint"] for row in await database.fetch("issuance_waiting_endpoints", account_id, limit)]


async def release(database: Database, actor: Actor, account_id: UUID, endpoint: str) -> list[UUID]:
    """Let a device have a new certificate although the outcome of earlier requests is unknown; NotFound if of none.

    The rows stay `unknown`: what they may have left behind at the CA is not settled by it.
    """
    async with database.transaction() as connection:
        rows = await connection.fetch(database.queries["issuance_release"], account_id, endpoint)
        if not rows:
            raise NotFound(f"no request for {endpoint} waits for a person")
        await _note_released(connection, database, actor, account_id, rows)
    return [row["id"] for row in rows]


async def release_all(database: Database, actor: Actor, account_id: UUID, *, most: int = RELEASED) -> list[UUID]:
    """The same for up to `most` devices, those that wait longest; none left when nothing comes back."""
    async with database.transaction() as connection:
        rows = await connection.fetch(database.queries["issuance_release_all"], account_id, most)
        await _note_released(connection, database, actor, account_id, rows)
    return [row["id"] for row in rows]


async def _note_released(
    connection: Any, database: Database, actor: Actor, account_id: UUID, rows: Sequence[Mapping[str, Any]]
) -> None:
    """One line of the audit for each device."""
    of: dict[str, list[str]] = {}
    for row in rows:
        of.setdefault(row["endpoint"], []).append(row["id"].hex)
    for endpoint, released in of.items():
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="issuance.released",
            subject_kind="device",
            subject=endpoint,
            detail={"issuances": released},
        )
