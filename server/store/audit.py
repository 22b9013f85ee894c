"""Who changed what, and how things ended: the audit (design 7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: `kind` is cli, api, console or system; `request_id` ties the rows of one request together."""

    kind: str
    name: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One row of the audit."""

    id: UUID
    at: datetime
    account_id: UUID | None
    actor: Actor
    action: str
    subject_kind: str
    subject: str
    detail: Mapping[str, Any] = field(repr=False)


async def note(
    connection: Any,
    database: Database,
    actor: Actor,
    *,
    account_id: UUID | None,
    action: str,
    subject_kind: str,
    subject: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write the audit row of a change, in the change's own transaction on `connection`; no secret may be in it."""
    await connection.execute(
        database.queries["audit_add"],
        uuid4(),
        account_id,
        actor.kind,
        actor.name,
        actor.request_id,
        action,
        subject_kind,
        subject,
        json.dumps(detail or {}),
    )


async def entries(
    database: Database, account_id: UUID, *, before: datetime | None = None, limit: int = 100
) -> list[AuditEntry]:
    """The newest `limit` entries of an account, older than `before` if given."""
    rows = await database.fetch("audit_list", account_id, before, limit)
    return [
        AuditEntry(
            id=row["id"],
            at=row["at"],
            account_id=row["account_id"],
            actor=Actor(kind=row["actor_kind"], name=row["actor_name"], request_id=row["request_id"]),
            action=row["action"],
            subject_kind=row["subject_kind"],
            subject=row["subject"],
            detail=json.loads(row["detail"]),
        )
        for row in rows
    ]
