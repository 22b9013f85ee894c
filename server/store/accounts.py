"""Accounts (tenants) and the keys of their API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg

from server.errors import Conflict, NotFound
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
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of the API; the key itself is nowhere, only its SHA-256."""

    id: UUID
    account_id: UUID
    name: str
    role: Role
    created_at: datetime


def _account(row: Any) -> Account:
    return Account(id=row["id"], name=row["name"], is_default=row["is_default"], created_at=row["created_at"])


def _api_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        role=row["role"],
        created_at=row["created_at"],
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
            raise Conflict(f"there is already an account {name}")
        await connection.execute(database.queries["configuration_ensure"], uuid4(), row["id"], LWM2M)
        await audit.note(
            connection,
            database,
            actor,
            account_id=row["id"],
            action="account.added",
            subject_kind="account",
            subject=name,
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
    database: Database, actor: Actor, account_id: UUID, *, name: str, role: Role, key_sha256: bytes
) -> ApiKey:
    """Record a new key by its SHA-256; Conflict when the account has a key of that name."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["api_key_add"], uuid4(), account_id, name, role, key_sha256
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already an API key {name}") from error
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
    """The key with this SHA-256: what a request that shows the key may do."""
    row = await database.fetchrow("api_key_find", key_sha256)
    return _api_key(row) if row is not None else None


async def api_keys(database: Database, account_id: UUID) -> list[ApiKey]:
    """The keys of an account, by name."""
    return [_api_key(row) for row in await database.fetch("api_key_list", account_id)]


async def remove_api_key(database: Database, actor: Actor, account_id: UUID, name: str) -> None:
    """Remove a key; NotFound."""
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries["api_key_remove"], account_id, name) is None:
            raise NotFound(f"there is no API key {name}")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="api_key.removed",
            subject_kind="api_key",
            subject=name,
        )
