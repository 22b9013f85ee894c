"""Operators, who sign in to the console by name and password, and the browsers that are signed in."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.accounts import Role
from server.store.audit import Actor
from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person who may sign in; `password` is its hash."""

    id: UUID
    account_id: UUID
    name: str
    role: Role
    password: str = field(repr=False)
    active: bool
    active_since: datetime
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who a browser is signed in as, by what is on record now: an operator, or an API key."""

    account_id: UUID
    name: str
    role: Role
    operator_id: UUID | None
    api_key_id: UUID | None
    used_at: datetime
    expires_at: datetime


def _row(row: Any) -> Operator:
    return Operator(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        role=row["role"],
        password=row["password"],
        active=row["active"],
        active_since=row["active_since"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


# -- operators ----------------------------------------------------------------------------


async def add(database: Database, actor: Actor, account_id: UUID, *, name: str, role: Role, password: str) -> Operator:
    """Record an operator by the hash of the password; Conflict when the installation has one of that name."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(database.queries["operator_add"], uuid4(), account_id, name, role, password)
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already an operator {name}", field="name") from error
        added = _row(row)
        await _note(connection, database, actor, added, "operator.added", {"after": _shown(added)})
    return added


async def listed(database: Database, account_id: UUID) -> list[Operator]:
    """The operators of an account, oldest first."""
    return [_row(row) for row in await database.fetch("operator_list", account_id)]


async def by_name(database: Database, name: str) -> Operator | None:
    """The active operator of this name, in whatever account."""
    row = await database.fetchrow("operator_by_name", name)
    return _row(row) if row is not None else None


async def update(
    database: Database,
    actor: Actor,
    account_id: UUID,
    operator_id: UUID,
    *,
    role: Role | None = None,
    active: bool | None = None,
    password: str | None = None,
) -> Operator:
    """Change what is given, None keeps; whoever is signed in as this operator signs in again. NotFound."""
    async with database.transaction() as connection:
        before = await _locked(connection, database, account_id, operator_id)
        row = await connection.fetchrow(
            database.queries["operator_update"],
            account_id,
            operator_id,
            before.role if role is None else role,
            before.active if active is None else active,
            password,
        )
        after = _row(row)
        await connection.execute(database.queries["console_sessions_end"], operator_id)
        detail = {"before": _shown(before), "after": _shown(after), "password_replaced": password is not None}
        await _note(connection, database, actor, after, "operator.changed", detail)
    return after


async def remove(database: Database, actor: Actor, account_id: UUID, operator_id: UUID) -> None:
    """Remove an operator and sign it out; NotFound."""
    async with database.transaction() as connection:
        before = await _locked(connection, database, account_id, operator_id)
        await connection.execute(database.queries["operator_remove"], account_id, operator_id)
        await _note(connection, database, actor, before, "operator.removed", {"before": _shown(before)})


async def _locked(connection: Any, database: Database, account_id: UUID, operator_id: UUID) -> Operator:
    row = await connection.fetchrow(database.queries["operator_lock"], account_id, operator_id)
    if row is None:
        raise NotFound("there is no such operator")
    return _row(row)


def _shown(row: Operator) -> dict[str, object]:
    return {"name": row.name, "role": row.role, "active": row.active}


async def _note(
    connection: Any, database: Database, actor: Actor, row: Operator, action: str, detail: dict[str, object]
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=row.account_id,
        action=action,
        subject_kind="operator",
        subject=row.name,
        detail=detail,
    )


# -- browsers that are signed in ------------------------------------------------------------


async def begin_session(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    token_sha256: bytes,
    operator_id: UUID | None,
    api_key_id: UUID | None,
    source: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Record a sign-in by the hash of its token, as an operator or with a key, with its audit row."""
    async with database.transaction() as connection:
        await connection.execute(
            database.queries["console_session_begin"], token_sha256, operator_id, api_key_id, now, expires_at
        )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="console.signed_in",
            subject_kind="operator" if operator_id is not None else "api_key",
            subject=actor.name,
            detail={"source": source},
        )


async def find_session(
    database: Database, token_sha256: bytes, *, now: datetime, used_after: datetime
) -> SignedIn | None:
    """Who has this token, unless the sign-in has ended, was idle since `used_after`, or its owner is gone or off."""
    row = await database.fetchrow("console_session_find", token_sha256, now, used_after)
    if row is None:
        return None
    return SignedIn(
        account_id=row["account_id"],
        name=row["name"],
        role=row["role"],
        operator_id=row["operator_id"],
        api_key_id=row["api_key_id"],
        used_at=row["used_at"],
        expires_at=row["expires_at"],
    )


async def use_session(database: Database, token_sha256: bytes, now: datetime) -> None:
    """Note that a sign-in was used, which keeps it from ending idle."""
    await database.execute("console_session_used", token_sha256, now)


async def end_session(database: Database, token_sha256: bytes) -> None:
    """Sign out."""
    await database.execute("console_session_end", token_sha256)


async def trim_sessions(database: Database, *, now: datetime, used_after: datetime) -> None:
    """Let go of sign-ins that have ended."""
    await database.execute("console_sessions_trim", now, used_after)
