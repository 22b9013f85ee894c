"""Many devices claimed, or given up, by one list: one transaction, one audit row, a report of faults."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, assert_never
from uuid import UUID, uuid4

from server.errors import NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database

Kind = Literal["upload", "delete"]

CLAIMED, NOT_OURS, TWICE = "is claimed already", "is not claimed by this account", "stands in the list twice"


@dataclass(frozen=True, slots=True)
class Fault:
    """A line of the list that nothing came of; counted from 1."""

    line: int
    identity: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A list that was worked through."""

    id: UUID
    account_id: UUID
    kind: Kind
    created_at: datetime
    completed_at: datetime
    total: int
    faults: Sequence[Fault]


def _row(row: Any) -> Task:
    return Task(
        id=row["id"],
        account_id=row["account_id"],
        kind=row["kind"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        total=row["total"],
        faults=[Fault(*fault) for fault in json.loads(row["faults"])],
    )


async def run(
    database: Database,
    actor: Actor,
    account_id: UUID,
    kind: Kind,
    wanted: Mapping[bytes, tuple[int, str]],
    faults: Sequence[Fault],
    now: datetime,
) -> Task:
    """Work through `wanted` (fingerprint → line and identity); `faults` are the lines that hold no identity."""
    match kind:
        case "upload":
            query, reason = "enrollment_add_many", CLAIMED
        case "delete":
            query, reason = "enrollment_remove_many", NOT_OURS
        case _:
            assert_never(kind)
    async with database.transaction() as connection:
        rows = await connection.fetch(database.queries[query], account_id, list(wanted))
        done = {row["fingerprint"] for row in rows}
        failed = [Fault(*place, reason) for fingerprint, place in wanted.items() if fingerprint not in done]
        every = sorted([*faults, *failed], key=lambda fault: fault.line)
        task = await connection.fetchrow(
            database.queries["enrollment_task_add"],
            uuid4(),
            account_id,
            kind,
            now,
            len(wanted) + len(faults),
            json.dumps([[fault.line, fault.identity, fault.reason] for fault in every]),
        )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action=f"device_enrollment.{'added' if kind == 'upload' else 'removed'}_many",
            subject_kind="device_enrollment_task",
            subject=task["id"].hex,
            detail={"done": len(done), "failed": len(every)},
        )
    return _row(task)


async def find(database: Database, account_id: UUID, kind: Kind, task_id: UUID) -> Task:
    """One task of this kind; NotFound."""
    row = await database.fetchrow("enrollment_task_find", account_id, task_id, kind)
    if row is None:
        raise NotFound(f"there is no such bulk {kind}")
    return _row(row)
