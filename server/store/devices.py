"""Devices: who was here, how it ended, what was learned of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database


def device_id(account_id: UUID, endpoint: str) -> UUID:
    """The id of a device follows from its account and name, so that a first bootstrap needs no row beforehand."""
    return uuid5(account_id, endpoint)


def device_lock(account_id: UUID, endpoint: str) -> int:
    """What stands for a device among the database's advisory locks: who has it alone writes intents that look back."""
    return int.from_bytes(device_id(account_id, endpoint).bytes[:8], "big", signed=True)


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True, kw_only=True)
class DeviceRow:
    """One device; `learned` is JSON; without `state` it was never here.

    `verified_by` is the SHA-256 of the trusted certificate that its factory certificate led to.
    """

    id: UUID
    account_id: UUID
    endpoint: str
    profile: str | None = None
    learned: str = "{}"
    state: str | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    last_session_id: UUID | None = None
    verified_by: bytes | None = None


def _row(row: Any) -> DeviceRow:
    return DeviceRow(
        id=row["id"],
        account_id=row["account_id"],
        endpoint=row["endpoint"],
        profile=row["profile"],
        learned=row["learned"],
        state=row["state"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        last_session_id=row["last_session_id"],
        verified_by=row["verified_by"],
    )


async def find(database: Database, account_id: UUID, endpoint: str) -> DeviceRow | None:
    """The device of this name, if it was ever here."""
    rows = await database.look_up("device_find", account_id, endpoint)
    return _row(rows[0]) if rows else None


async def ensure(database: Database, account_id: UUID, endpoint: str) -> DeviceRow:
    """The device of this name; one that was never here is not written yet, the end of its session does that."""
    found = await find(database, account_id, endpoint)
    return found or DeviceRow(id=device_id(account_id, endpoint), account_id=account_id, endpoint=endpoint)


async def listed(
    database: Database, account_id: UUID, *, state: str | None = None, after: str = "", limit: int = 100
) -> list[DeviceRow]:
    """Devices in the order of their names, from the one behind `after` on."""
    return [_row(row) for row in await database.fetch("device_list", account_id, state, after, limit)]


async def add(
    database: Database,
    actor: Actor,
    account_id: UUID,
    endpoint: str,
    *,
    name: str | None,
    description: str,
    now: datetime,
) -> UUID:
    """Write down a device that is expected, `now` in UTC; Conflict when it is known already."""
    new = device_id(account_id, endpoint)
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries["device_add"], new, account_id, endpoint, name, description, now):
            await audit.note(
                connection,
                database,
                actor,
                account_id=account_id,
                action="device.added",
                subject_kind="device",
                subject=endpoint,
                detail={"name": name or endpoint, "description": description},
            )
            return new
    raise Conflict(f"there is already a device {endpoint}", field="endpoint_name")


async def label(
    database: Database, actor: Actor, account_id: UUID, device_id: UUID, *, name: str | None, description: str | None
) -> None:
    """Call a device by another name or describe it, for people; None keeps. NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["device_labels"], account_id, device_id)
        if row is None:
            raise NotFound("there is no such device")
        before = {"name": row["name"], "description": row["description"]}
        given = {"name": name, "description": description}
        after = {what: before[what] if value is None else value for what, value in given.items()}
        await connection.execute(
            database.queries["device_label"], account_id, device_id, after["name"], after["description"]
        )
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="device.changed",
            subject_kind="device",
            subject=row["endpoint"],
            detail={"before": before, "after": after},
        )


async def forget(database: Database, actor: Actor, account_id: UUID, endpoint: str) -> None:
    """Forget what was learned of a device, for instance after new firmware; NotFound."""
    await _change(database, actor, account_id, endpoint, "device_forget", "device.forgotten")


async def remove(database: Database, actor: Actor, account_id: UUID, endpoint: str) -> None:
    """Remove a device and free the public keys that were its own; issuances and certificates stay. NotFound."""
    await _change(database, actor, account_id, endpoint, "device_remove", "device.removed")


async def _change(database: Database, actor: Actor, account_id: UUID, endpoint: str, query: str, action: str) -> None:
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries[query], account_id, endpoint) is None:
            raise NotFound(f"there is no device {endpoint}; `firstlight device list` shows them")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action=action,
            subject_kind="device",
            subject=endpoint,
        )


async def by_id(database: Database, account_id: UUID, device_id: UUID) -> DeviceRow:
    """The device with this id; NotFound."""
    row = await database.fetchrow("device_by_id", account_id, device_id)
    if row is None:
        raise NotFound("there is no such device")
    return _row(row)


async def held(database: Database, account_id: UUID, device_id: UUID) -> UUID | None:
    """The issuance of the certificate that the device holds; None when it holds none."""
    found: UUID | None = await database.fetchval("device_held", account_id, device_id)
    return found


async def has_factory_key(database: Database, spki_sha256: bytes, account_id: UUID, endpoint: str) -> bool:
    """Whether a public key is that of the factory certificate of another device than this one."""
    return await database.fetchrow("device_of_factory_key", spki_sha256, account_id, endpoint) is not None
