"""API keys: made here, shown once, kept as a hash."""

import base64
import secrets
from hashlib import sha256
from uuid import UUID, uuid4

from server.store import accounts
from server.store.accounts import ApiKey, Role
from server.store.audit import Actor
from server.store.database import Database

PREFIX = "ak_1"
# 24 bytes are 32 characters of base64: those that Izuma's API calls the private portion of a key.
SECRET_BYTES = 24


def public_part(account_id: UUID, key_id: UUID) -> str:
    """What a key is without its last 32 characters: Izuma's form of account and key id."""
    # A byte more makes whole groups of base64 of it, so that it shares no character with the secret.
    return PREFIX + base64.urlsafe_b64encode(account_id.bytes + key_id.bytes + b"\0").decode()


def new_key(account_id: UUID, key_id: UUID) -> str:
    """A key: its public part, then the secret."""
    return public_part(account_id, key_id) + base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


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
    key_id = uuid4()
    key = new_key(account_id, key_id)
    row = await accounts.add_api_key(
        database,
        actor,
        account_id,
        key_id=key_id,
        name=name,
        role=role,
        active=active,
        key_sha256=sha256(key.encode()).digest(),
        owner_id=owner_id,
    )
    return row, key
