"""Accounts (tenants) and the keys of their API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg

from server.errors import BadRequest, Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database

Role = Literal["admin", "operator", "reader"]

DEFAULT_NAME = "default"
# The service whose configuration row every account has from its first moment.
LWM2M = "LWM2M"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A tenant."""

    id: UUID
    name: str
    is_default: bool
    third_party_ca: bool
    third_party_ca_since: datetime
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of the API; the key itself is nowhere, only its SHA-256."""

    id: UUID
    account_id: UUID
    name: str
    role: Role
    active: bool
    active_since: datetime
    version: int
    # The key that made it, if one did.
    owner_id: UUID | None
    created_at: datetime
    updated_at: datetime


def _account(row: Any) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        is_default=row["is_default"],
        third_party_ca=row["third_party_ca"],
        third_party_ca_since=row["third_party_ca_since"],
        version=row["version"],
        created_at=row["created_at"],
    )


def _api_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        role=row["role"],
        active=row["active"],
        active_since=row["active_since"],
        version=row["version"],
        owner_id=row["owner_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def ensure_default(database: Database, name: str = DEFAULT_NAME) -> Account:
    """The default account, made at the first start together with its LWM2M service; safe to race."""
    row = await database.fetchrow("account_default")
    if row is None:
        async with database.transaction() as connection:
            await connection.execute(database.queries["account_add"], uuid4(), name, True)
            # A racing starter's row is visible only to a statement of its own.
            row = await connection.fetchrow(database.queries["account_default"])
            await connection.execute(database.queries["configuration_ensure"], uuid4(), row["id"], LWM2M)
    return _account(row)


async def add(database: Database, actor: Actor, name: str) -> Account:
    """Make an account with its LWM2M service; Conflict when the name is taken."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["account_add"], uuid4(), name, False)
        if row is None:
            raise Conflict(f"there is already an account {name}", field="name")
        await connection.execute(database.queries["configuration_ensure"], uuid4(), row["id"], LWM2M)
        await audit.note(
            connection,
            database,
            actor,
            account_id=row["id"],
            action="account.added",
            subject_kind="account",
            subject=name,
            detail={"after": {"name": row["name"], "third_party_ca": row["third_party_ca"]}},
        )
    return _account(row)


async def find(database: Database, account_id: UUID) -> Account | None:
    """The account with this id."""
    row = await database.fetchrow("account_find", account_id)
    return _account(row) if row is not None else None


async def all_accounts(database: Database) -> list[Account]:
    """Every account, by name."""
    return [_account(row) for row in await database.fetch("account_all")]


async def add_api_key(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    key_id: UUID,
    name: str,
    role: Role,
    key_sha256: bytes,
    active: bool = True,
    owner_id: UUID | None = None,
) -> ApiKey:
    """Record a new key by its SHA-256; Conflict when the account has a key of that name."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["api_key_add"], key_id, account_id, name, role, key_sha256, active, owner_id
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already an API key {name}", field="name") from error
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="api_key.added",
            subject_kind="api_key",
            subject=name,
            detail={"role": role},
        )
    return _api_key(row)


async def find_api_key(database: Database, key_sha256: bytes) -> ApiKey | None:
    """The active key with this SHA-256: what a request that shows the key may do."""
    row = await database.fetchrow("api_key_find", key_sha256)
    return _api_key(row) if row is not None else None


async def api_keys(database: Database, account_id: UUID) -> list[ApiKey]:
    """The keys of an account, oldest first."""
    return [_api_key(row) for row in await database.fetch("api_key_list", account_id)]


async def remove_api_key(database: Database, actor: Actor, account_id: UUID, name: str) -> None:
    """Remove a key; NotFound."""
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries["api_key_remove"], account_id, name) is None:
            raise NotFound(f"there is no API key {name}; `firstlight api-key list` shows them")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="api_key.removed",
            subject_kind="api_key",
            subject=name,
        )


async def update_api_key(
    database: Database, actor: Actor, account_id: UUID, key_id: UUID, *, name: str, role: Role, active: bool
) -> ApiKey:
    """Rename a key, change its role or switch it off; NotFound, Conflict, BadRequest for the last administrator."""
    async with database.transaction() as connection:
        before = await _locked_key(connection, database, account_id, key_id)
        if before.role == "admin" and before.active and not (role == "admin" and active):
            await _not_the_last(connection, database, account_id, key_id)
        try:
            row = await connection.fetchrow(database.queries["api_key_update"], account_id, key_id, name, role, active)
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already an API key {name}", field="name") from error
        after = _api_key(row)
        await _note_key(
            connection, database, actor, after, "api_key.changed", {"before": _shown(before), "after": _shown(after)}
        )
    return after


async def remove_api_key_by_id(database: Database, actor: Actor, account_id: UUID, key_id: UUID) -> None:
    """Remove a key; NotFound, BadRequest for the last administrator."""
    async with database.transaction() as connection:
        before = await _locked_key(connection, database, account_id, key_id)
        if before.role == "admin" and before.active:
            await _not_the_last(connection, database, account_id, key_id)
        await connection.execute(database.queries["api_key_remove_by_id"], account_id, key_id)
        await _note_key(connection, database, actor, before, "api_key.removed", {"before": _shown(before)})


async def set_third_party_ca(database: Database, actor: Actor, account_id: UUID, allowed: bool) -> Account:
    """Allow an account CAs of its own, or not; NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["account_set_third_party_ca"], account_id, allowed)
        if row is None:
            raise NotFound("there is no such account")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="account.changed",
            subject_kind="account",
            subject=row["name"],
            detail={"before": {"third_party_ca": row["before"]}, "after": {"third_party_ca": allowed}},
        )
    return _account(row)


async def _locked_key(connection: Any, database: Database, account_id: UUID, key_id: UUID) -> ApiKey:
    # The account's row is the lock: two administrators could otherwise remove each other at once.
    await connection.execute(database.queries["account_lock"], account_id)
    row = await connection.fetchrow(database.queries["api_key_by_id"], account_id, key_id)
    if row is None:
        raise NotFound("there is no such API key")
    return _api_key(row)


async def _not_the_last(connection: Any, database: Database, account_id: UUID, key_id: UUID) -> None:
    if await connection.fetchval(database.queries["api_key_other_admins"], account_id, key_id) == 0:
        raise BadRequest("this is the account's last active administrator key; make another one first")


def _shown(key: ApiKey) -> dict[str, object]:
    return {"name": key.name, "role": key.role, "active": key.active}


async def _note_key(
    connection: Any, database: Database, actor: Actor, key: ApiKey, action: str, detail: Mapping[str, object]
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=key.account_id,
        action=action,
        subject_kind="api_key",
        subject=key.name,
        detail=detail,
    )
