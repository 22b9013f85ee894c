"""Profiles: what is written to a device, as the TOML text an operator gave and the files it names."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from server.errors import NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """One profile; `files` maps the names in its text to their content."""

    id: UUID
    account_id: UUID
    name: str
    toml: str = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    created_at: datetime
    updated_at: datetime


def _row(row: Any) -> ProfileRow:
    return ProfileRow(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        toml=row["toml"],
        files={name: base64.b64decode(content) for name, content in json.loads(row["files"]).items()},
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _packed(files: Mapping[str, bytes]) -> str:
    return json.dumps({name: base64.b64encode(content).decode() for name, content in files.items()})


async def all_profiles(database: Database) -> list[ProfileRow]:
    """Every profile of every account, by name."""
    return [_row(row) for row in await database.fetch("profile_all")]


async def listed(database: Database, account_id: UUID) -> list[ProfileRow]:
    """The profiles of an account, by name."""
    return [_row(row) for row in await database.fetch("profile_list", account_id)]


async def find(database: Database, account_id: UUID, name: str) -> ProfileRow | None:
    """The profile of this name."""
    row = await database.fetchrow("profile_find", account_id, name)
    return _row(row) if row is not None else None


async def ensure(
    connection: Any, database: Database, account_id: UUID, name: str, toml: str, files: Mapping[str, bytes]
) -> None:
    """Make the profile if the account has none of that name, in a transaction of `connection`: the default one."""
    await connection.execute(database.queries["profile_ensure"], uuid4(), account_id, name, toml, _packed(files))


async def put(
    database: Database, actor: Actor, account_id: UUID, name: str, toml: str, files: Mapping[str, bytes]
) -> ProfileRow:
    """Make or replace the profile of this name; its text was parsed before."""
    async with database.transaction() as connection:
        before = await connection.fetchrow(database.queries["profile_find"], account_id, name)
        row = await connection.fetchrow(
            database.queries["profile_put"], uuid4(), account_id, name, toml, _packed(files)
        )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="profile.set",
            subject_kind="profile",
            subject=name,
            detail={
                "before": {"toml": before["toml"], "files": sorted(json.loads(before["files"]))} if before else None,
                "after": {"toml": toml, "files": sorted(files)},
            },
        )
    return _row(row)


async def remove(database: Database, actor: Actor, account_id: UUID, name: str) -> None:
    """Remove the profile of this name; NotFound."""
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries["profile_remove"], account_id, name) is None:
            raise NotFound(f"there is no profile {name}; `firstlight profile list` shows them")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="profile.removed",
            subject_kind="profile",
            subject=name,
        )
