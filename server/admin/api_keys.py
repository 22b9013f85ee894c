"""API keys: made here, shown once, kept as a hash."""

import base64
import secrets
from hashlib import sha256
from uuid import UUID

from server.store import accounts
from server.store.accounts import ApiKey, Role
from server.store.audit import Actor
from server.store.database import Database

SECRET_BYTES = 32


def new_key(account_id: UUID) -> str:
    """A key in Izuma's form (izuma.md B6): `ak_1` and base64 of account, key id and secret."""
    packed = account_id.bytes + secrets.token_bytes(16) + secrets.token_bytes(SECRET_BYTES)
    return "ak_1" + base64.urlsafe_b64encode(packed).decode().rstrip("=")


async def make(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    name: str,
    role: Role,
    active: bool = True,
    owner_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key: its row, and the key itself, which nobody can show again. Conflict."""
    key = new_key(account_id)
    row = await accounts.add_api_key(
        database,
        actor,
        account_id,
        name=name,
        role=role,
        active=active,
        key_sha256=sha256(key.encode()).digest(),
        owner_id=owner_id,
    )
    return row, key
