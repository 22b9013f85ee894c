"""Pre-shared keys: sealed, found by identity for a handshake and by endpoint for a bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from server.transport.engine import PreSharedKey, printable

Service = Literal["bootstrap", "lwm2m"]

TABLE, COLUMN = "pre_shared_key", "key"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to add: `identity` 1 to 1024 bytes, `key` 1 to 512."""

    identity: bytes
    key: bytes = field(repr=False)
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key, without its secret."""

    id: UUID
    account_id: UUID
    service: Service
    identity: bytes
    endpoint: str
    created_at: datetime


async def find(database: Database, sealer: Sealer, identity: bytes) -> PreSharedKey | None:
    """The bootstrap key of `identity`, over all accounts; a handshake waits for it."""
    rows = await database.look_up("psk_find", identity)
    return _open(sealer, rows[0] if rows else None)


async def for_endpoint(
    database: Database, sealer: Sealer, account_id: UUID, endpoint: str, service: Service
) -> PreSharedKey | None:
    """The newest key of an endpoint for a service, with its secret: what a bootstrap writes to the device."""
    return _open(sealer, await database.fetchrow("psk_for_endpoint", account_id, endpoint, service))


async def listed(
    database: Database, account_id: UUID, *, service: Service | None = None, limit: int = 1000
) -> list[KeyRow]:
    """The keys of an account without their secrets, by endpoint."""
    return [_row(row) for row in await database.fetch("psk_list", account_id, service, limit)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which keys of an account: parts of the endpoint name and of the identity, empty for any."""

    endpoint: str = ""
    identity: str = ""

    @property
    def arguments(self) -> tuple[str, bytes]:
        """As the queries take them."""
        return self.endpoint, self.identity.encode()


async def page(
    database: Database,
    account_id: UUID,
    wanted: Wanted,
    *,
    after: KeyRow | None,
    limit: int,
    ascending: bool = True,
) -> list[KeyRow]:
    """The keys behind the row `after`, by endpoint, without their secrets."""
    query = "psk_page" if ascending else "psk_page_descending"
    place = (after.endpoint, after.id) if after is not None else (None, None)
    return [_row(row) for row in await database.fetch(query, account_id, *wanted.arguments, *place, limit)]


async def count(database: Database, account_id: UUID, wanted: Wanted) -> int:
    """How many keys fit."""
    row = await database.fetchrow("psk_count", account_id, *wanted.arguments)
    return int(row["count"]) if row is not None else 0


async def by_id(database: Database, account_id: UUID, key_id: UUID) -> KeyRow | None:
    """One key without its secret."""
    row = await database.fetchrow("psk_row", account_id, key_id)
    return _row(row) if row is not None else None


async def by_identity(database: Database, account_id: UUID, identity: bytes, service: Service) -> KeyRow | None:
    """One key without its secret; an identity is of one account only, for each service."""
    row = await database.fetchrow("psk_row_of", account_id, service, identity)
    return _row(row) if row is not None else None


async def add(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    keys: Sequence[NewKey],
    *,
    service: Service = "bootstrap",
) -> None:
    """Add all of `keys` or none; Conflict names the first identity that is taken, by whichever account."""
    ids = [uuid4() for _ in keys]
    async with database.transaction() as connection:
        rows = await connection.fetch(
            database.queries["psk_add"],
            account_id,
            service,
            ids,
            [new.identity for new in keys],
            [sealer.seal(new.key, TABLE, COLUMN, account_id, row_id) for row_id, new in zip(ids, keys, strict=True)],
            [new.endpoint for new in keys],
        )
        added = {row["id"] for row in rows}
        for row_id, new in zip(ids, keys, strict=True):
            if row_id not in added:
                none = f"; none of the {len(keys)} keys was added" if len(keys) > 1 else ""
                raise Conflict(
                    f"there is already a key with the identity {printable(new.identity)}{none}", field="identity"
                )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="pre_shared_key.added",
            subject_kind="pre_shared_key",
            subject=printable(keys[0].identity) if len(keys) == 1 else f"{len(keys)} keys",
            detail={"service": service, "count": len(keys)},
        )


async def remove(
    database: Database, actor: Actor, account_id: UUID, identity: bytes, *, service: Service = "bootstrap"
) -> None:
    """Remove a key; NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["psk_remove"], account_id, service, identity)
        if row is None:
            raise NotFound(f"there is no key with the identity {printable(identity)}; `firstlight psk list` shows them")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="pre_shared_key.removed",
            subject_kind="pre_shared_key",
            subject=printable(identity),
            detail={"service": service, "endpoint": row["endpoint"]},
        )


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=row["id"],
        account_id=row["account_id"],
        service=row["service"],
        identity=row["identity"],
        endpoint=row["endpoint"],
        created_at=row["created_at"],
    )


def _open(sealer: Sealer, row: Any) -> PreSharedKey | None:
    if row is None:
        return None
    return PreSharedKey(
        id=row["id"],
        account_id=row["account_id"],
        identity=row["identity"],
        key=sealer.open(row["key"], TABLE, COLUMN, row["account_id"], row["id"]),
        endpoint=row["endpoint"],
    )
