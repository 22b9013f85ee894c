"""Operators as an administrator handles them; names and passwords are checked here."""

import asyncio
from uuid import UUID

from server.admin import passwords
from server.errors import BadRequest, NotFound
from server.store import operators
from server.store.accounts import Role
from server.store.audit import Actor
from server.store.database import Database
from server.store.operators import Operator

LONGEST_NAME = 100


async def add(database: Database, actor: Actor, account_id: UUID, *, name: str, role: Role, password: str) -> Operator:
    """Make an operator; BadRequest, Conflict."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise BadRequest(
            f"a name has 1 to {LONGEST_NAME} printable characters and no blank at its ends, you gave {len(name)}",
            field="name",
        )
    return await operators.add(database, actor, account_id, name=name, role=role, password=await _hashed(password))


async def change(
    database: Database,
    actor: Actor,
    account_id: UUID,
    operator_id: UUID,
    *,
    role: Role | None = None,
    active: bool | None = None,
    password: str | None = None,
) -> Operator:
    """Change what is given, None keeps; BadRequest, NotFound."""
    hashed = await _hashed(password) if password is not None else None
    return await operators.update(database, actor, account_id, operator_id, role=role, active=active, password=hashed)


async def by_word(database: Database, account_id: UUID, name: str) -> Operator:
    """The operator of this name; NotFound."""
    for row in await operators.listed(database, account_id):
        if row.name == name:
            return row
    raise NotFound(f"there is no operator {name}; `firstlight operator list` shows them")


async def _hashed(password: str) -> str:
    passwords.check(password)
    return await asyncio.to_thread(passwords.hashed, password)
