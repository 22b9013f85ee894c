"""Bootstrap sessions on record, each with its steps; read only: the writer writes them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """One bootstrap, or (`kind`) an enrolment outside any; `steps` are rows as `lwm2m/steps.py` has them."""

    id: UUID
    account_id: UUID
    kind: str
    endpoint: str
    started_at: datetime
    ended_at: datetime | None
    profile: str
    credential: str
    address: str
    outcome: str
    cause: str | None
    sentence: str
    issuance_id: UUID | None
    steps: Sequence[Any] = field(repr=False)


def _row(row: Any) -> SessionRow:
    return SessionRow(
        id=row["id"],
        account_id=row["account_id"],
        kind=row["kind"],
        endpoint=row["endpoint"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        profile=row["profile"],
        credential=row["credential"],
        address=row["address"],
        outcome=row["outcome"],
        cause=row["cause"],
        sentence=row["sentence"],
        issuance_id=row["issuance_id"],
        steps=json.loads(row["steps"]),
    )


async def find(database: Database, session_id: UUID) -> SessionRow | None:
    """The session with this id."""
    row = await database.fetchrow("session_find", session_id)
    return _row(row) if row is not None else None


async def of_endpoint(
    database: Database, account_id: UUID, endpoint: str, *, before: datetime | None = None, limit: int = 10
) -> list[SessionRow]:
    """The newest sessions of an endpoint, those that started before `before` if given."""
    rows = await database.fetch("session_of_endpoint", account_id, endpoint, before, limit)
    return [_row(row) for row in rows]
