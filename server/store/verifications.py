"""Verifications of CAs: begun before the CA is asked, ended with what was found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from server.errors import NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.certificates import serial_bytes, serial_number
from server.store.database import Database


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a verification: `outcome` is ok, warn, fail or skipped."""

    name: str
    outcome: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One verification; without `finished_at` it runs, or the server stopped meanwhile."""

    id: UUID
    issuer_id: UUID
    started_at: datetime
    finished_at: datetime | None
    actor_name: str
    issue_test: bool
    serial: int | None
    successful: bool
    message: str
    steps: tuple[Step, ...]


def _row(row: Any) -> Verification:
    return Verification(
        id=row["id"],
        issuer_id=row["issuer_id"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        actor_name=row["actor_name"],
        issue_test=row["issue_test"],
        serial=serial_number(row["serial"]) if row["serial"] is not None else None,
        successful=row["successful"],
        message=row["message"],
        steps=tuple(Step(*step) for step in json.loads(row["steps"])),
    )


async def begin(
    database: Database, actor: Actor, account_id: UUID, issuer_id: UUID, *, csr_sha256: bytes | None
) -> UUID:
    """Record that a CA is about to be verified; `csr_sha256` of the test certificate's CSR, if one is wanted."""
    row_id = uuid4()
    await database.execute(
        "verification_begin", row_id, account_id, issuer_id, actor.name, csr_sha256 is not None, csr_sha256
    )
    return row_id


async def progress(database: Database, verification_id: UUID, steps: Sequence[Step]) -> None:
    """Record the steps of a verification that runs."""
    await database.execute("verification_progress", verification_id, _json(steps))


async def end(
    database: Database,
    actor: Actor,
    account_id: UUID,
    verification_id: UUID,
    *,
    issuer_name: str,
    successful: bool,
    message: str,
    steps: Sequence[Step],
    serial: int | None,
    works: bool,
) -> Verification:
    """Record what was found, with its audit row; NotFound when the CA was removed meanwhile.

    One that `works` is ready again for all workers, and what it failed with before counts no more.
    """
    async with database.transaction() as connection:
        row = await connection.fetchrow(
            database.queries["verification_end"],
            verification_id,
            successful,
            message,
            _json(steps),
            # What a broken CA gives may have a negative one, which is among its faults and no number to look for.
            serial_bytes(serial) if serial is not None and serial >= 0 else None,
        )
        if row is None:
            raise NotFound("the certificate issuer was removed while it was verified")
        if works:
            await connection.execute(database.queries["readiness_worked"], row["issuer_id"], None)
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="certificate_issuer.verified",
            subject_kind="certificate_issuer",
            subject=issuer_name,
            detail={"successful": successful, "message": message, "serial": f"{serial:x}" if serial else None},
        )
    return _row(row)


async def listed(database: Database, account_id: UUID, issuer_id: UUID, *, limit: int = 50) -> list[Verification]:
    """The verifications of a CA, newest first."""
    return [_row(row) for row in await database.fetch("verification_list", account_id, issuer_id, limit)]


async def find(database: Database, account_id: UUID, verification_id: UUID) -> Verification | None:
    """One verification, also while it runs."""
    row = await database.fetchrow("verification_find", account_id, verification_id)
    return _row(row) if row is not None else None


async def latest(database: Database, account_id: UUID) -> dict[UUID, Verification]:
    """The last verification that ended of each CA of an account."""
    return {row["issuer_id"]: _row(row) for row in await database.fetch("verification_latest", account_id)}


def _json(steps: Sequence[Step]) -> str:
    return json.dumps([[step.name, step.outcome, step.message] for step in steps])
