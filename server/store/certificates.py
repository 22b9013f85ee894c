"""Certificates on record: found, searched, revoked; kept for ever (design 7)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database

# How long a revocation that failed is left alone before somebody tries again.
REVOCATION_PAUSE = timedelta(minutes=10)


def serial_bytes(serial: int) -> bytes:
    """A serial number as the record holds it: big-endian, as short as possible, at least one byte."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8), "big")


def serial_number(recorded: bytes) -> int:
    """The inverse of `serial_bytes`."""
    return int.from_bytes(recorded, "big")


def split_chain(certificates: bytes) -> tuple[bytes, ...]:
    """DER certificates that stand one after the other, as `issuing_chain` holds them (X.690 8.1.3 lengths)."""
    found: list[bytes] = []
    start = 0
    while start < len(certificates):
        length = certificates[start + 1]
        head = 2
        if length & 0x80:
            head += length & 0x7F
            length = int.from_bytes(certificates[start + 2 : start + head], "big")
        found.append(certificates[start : start + head + length])
        start += head + length
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """One certificate; `state` is its issuance's, `chain` in DER, leaf first, without root."""

    issuance_id: UUID
    account_id: UUID
    device_id: UUID | None
    issuer_id: UUID | None
    endpoint: str
    service: str
    state: str
    serial: int
    issuer_fingerprint: bytes
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    revocation_reason: str | None
    chain: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revoked:
    """An entry of a CRL (RFC 5280 5.1.2.6); `reason` as RFC 5280 5.3.1 spells it, or None."""

    serial: int
    revoked_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRevocation:
    """An abandoned certificate that is still to be revoked at its CA."""

    issuance_id: UUID
    account_id: UUID
    issuer_id: UUID | None
    endpoint: str
    serial: int


def certificate_row(row: Any) -> CertificateRow:
    """A row of any query that lists the certificate columns."""
    return CertificateRow(
        issuance_id=row["issuance_id"],
        account_id=row["account_id"],
        device_id=row["device_id"],
        issuer_id=row["issuer_id"],
        endpoint=row["endpoint"],
        service=row["service"],
        state=row["state"],
        serial=serial_number(row["serial"]),
        issuer_fingerprint=row["issuer_fingerprint"],
        not_before=row["not_before"],
        not_after=row["not_after"],
        issued_at=row["issued_at"],
        revoked_at=row["revoked_at"],
        revocation_reason=row["revocation_reason"],
        chain=(row["certificate"], *split_chain(row["certificates"])),
    )


async def find(database: Database, issuance_id: UUID) -> CertificateRow | None:
    """The certificate of an issuance."""
    row = await database.fetchrow("certificate_find", issuance_id)
    return certificate_row(row) if row is not None else None


async def by_serial(database: Database, serial: int, spki_sha256: bytes) -> list[CertificateRow]:
    """The certificates on record with this number and public key; more than one only if a CA used a number twice."""
    rows = await database.fetch("certificate_by_serial", serial_bytes(serial), spki_sha256)
    return [certificate_row(row) for row in rows]


async def of_service(
    database: Database, account_id: UUID, endpoint: str, service: str, *, limit: int = 4
) -> list[bytes]:
    """The newest certificates, in DER, that a device got for a service and that are not revoked."""
    rows = await database.fetch("certificate_of_service", account_id, endpoint, service, limit)
    return [row["certificate"] for row in rows]


async def at_work(
    database: Database, account_id: UUID, endpoint: str, now: datetime, *, limit: int
) -> list[CertificateRow]:
    """The newest certificates that a device has or may have, and that are valid at `now`."""
    rows = await database.fetch("certificate_at_work", account_id, endpoint, now, limit)
    return [certificate_row(row) for row in rows]


async def search(
    database: Database,
    account_id: UUID,
    *,
    endpoint: str | None = None,
    serial: int | None = None,
    state: str | None = None,
    before: datetime | None = None,
    limit: int = 100,
) -> list[CertificateRow]:
    """The newest certificates of an account that fit all that is given; `before` continues a list (`issued_at`)."""
    wanted = serial_bytes(serial) if serial is not None else None
    rows = await database.fetch("certificate_search", account_id, endpoint, wanted, state, before, limit)
    return [certificate_row(row) for row in rows]


async def revoke(
    database: Database, actor: Actor, account_id: UUID, issuance_id: UUID, reason: str, at: datetime
) -> CertificateRow:
    """Record that a certificate is revoked (the CA was told before); Conflict if it already is, NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["certificate_revoke"], account_id, issuance_id, reason, at)
        if row is None:
            if await connection.fetchrow(database.queries["certificate_find"], issuance_id) is None:
                raise NotFound("there is no such certificate")
            raise Conflict("the certificate is already revoked")
        revoked = certificate_row(row)
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="certificate.revoked",
            subject_kind="certificate",
            subject=format(revoked.serial, "x"),
            detail={"endpoint": revoked.endpoint, "reason": reason},
        )
    return revoked


async def revoke_abandoned(database: Database, issuance_id: UUID, at: datetime) -> None:
    """Record that an abandoned certificate is revoked at its CA."""
    await database.execute("certificate_revoke_abandoned", issuance_id, at)


async def keep_abandoned(database: Database, issuance_id: UUID) -> None:
    """Record that an abandoned certificate stays: its CA cannot revoke."""
    await database.execute("certificate_keep_abandoned", issuance_id)


async def take_due_revocations(database: Database, now: datetime, *, limit: int = 50) -> list[DueRevocation]:
    """Abandoned certificates whose revocation failed or was interrupted; each is given to one caller only.

    One that is not reported by `revoke_abandoned` or `keep_abandoned` is given out again after `REVOCATION_PAUSE`.
    """
    rows = await database.fetch("certificate_take_due", now, now + REVOCATION_PAUSE, limit)
    return [
        DueRevocation(
            issuance_id=row["issuance_id"],
            account_id=row["account_id"],
            issuer_id=row["issuer_id"],
            endpoint=row["endpoint"],
            serial=serial_number(row["serial"]),
        )
        for row in rows
    ]


async def revoked(database: Database, issuer_fingerprint: bytes, now: datetime) -> Sequence[Revoked]:
    """What the CRL of an issuing certificate (SHA-256) lists: everything revoked that has not expired by itself."""
    rows = await database.fetch("certificate_revoked", issuer_fingerprint, now)
    return [Revoked(serial_number(row["serial"]), row["revoked_at"], row["revocation_reason"]) for row in rows]


async def revoked_count(database: Database, account_id: UUID) -> int | None:
    """How many certificates of the account's embedded CA were ever revoked, which only grows; None = it has none."""
    count: int | None = await database.fetchval("certificate_revoked_count", account_id)
    return count
