"""Everything in the record that is sealed: whose key it needs, and all of it sealed again when the key changes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from server.errors import Conflict, TemporarilyUnavailable
from server.store import audit
from server.store.audit import Actor
from server.store.database import APPLICATION_NAME, Database
from server.store.errors import SealBroken, StoreRefused
from server.store.secrets import Sealer

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "pre_shared_key": ("key",),
    "certificate_issuer": ("credentials",),
    "embedded_ca": ("root_key", "issuing_key"),
    "server_credential": ("root_key", "key"),
}
"""Table → its sealed columns; each table has the queries `sealed_<table>` and `sealed_<table>_set`."""

# Rows sealed again in one statement: some milliseconds of work, some hundred kilobytes.
BATCH = 2000
# Seconds after which a rotation that another change kept out may be tried again.
RETRY_AFTER = 5.0
# PostgreSQL takes a moment to see that a process has ended; a rotation waits so many times so many seconds for it.
LOOKS, BETWEEN_LOOKS = 10, 0.1
_FIRST = UUID(int=0)
_pause = asyncio.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation did: values sealed again by table, the key that seals all now, the keys that made the others."""

    resealed: Mapping[str, int]
    current: str
    retired: tuple[str, ...]


def announcement(sealer: Sealer) -> str:
    """The name that a process's connections bear, so that a rotation sees which key each of them seals with."""
    return f"{APPLICATION_NAME} {sealer.current}"


async def check(database: Database, sealer: Sealer) -> None:
    """That the keys at hand open this record, asked before anything is sealed into it; raises StoreRefused.

    Connect under the `announcement` first: a rotation then either sees us, or we see what it did.
    """
    sample = await database.fetchval("sealed_sample")
    if sample is not None and not sealer.knows(sample):
        raise StoreRefused(
            f"the record is sealed with master key {Sealer.key_id(sample).hex()}, the master key given here is "
            f"{' and '.join(sealer.names)}; give the server's own: its --config or "
            "--data-dir, FIRSTLIGHT_SECRETS_MASTER_KEY_FILE, or --master-key-file"
        )


async def rotate(database: Database, sealer: Sealer, actor: Actor) -> Rotated:
    """Seal every value of the record with the first key of `sealer`, all in one transaction; the others must open them.

    Raises Conflict while a process is connected that seals with another key: what it sealed after us could not be
    opened once that key is gone. Raises SealBroken with the row that does not open, TemporarilyUnavailable when
    another change holds a table; then nothing is changed.
    """
    elsewhere = (f"{APPLICATION_NAME} ", announcement(sealer))
    for _ in range(LOOKS):
        if not await database.fetch("sealed_elsewhere", *elsewhere):
            break
        await _pause(BETWEEN_LOOKS)
    try:
        async with database.transaction() as connection:
            return await _rotate(connection, database, sealer, actor)
    except asyncpg.LockNotAvailableError as error:
        raise TemporarilyUnavailable(
            "another change to the record is under way, nothing was changed; try again", RETRY_AFTER
        ) from error


async def _rotate(connection: Any, database: Database, sealer: Sealer, actor: Actor) -> Rotated:
    await connection.execute(database.queries["sealed_patience"])
    # First the row that `check` reads, then the look around: whoever connects after the look waits for our end.
    await connection.execute(database.queries["sealed_lock_sample"])
    await connection.execute(database.queries["sealed_lock"])
    await _nobody_seals_otherwise(connection, database, sealer)
    retired: set[str] = set()
    resealed = {table: await _reseal(connection, database, sealer, table, retired) for table in COLUMNS}
    rotated = Rotated(resealed=resealed, current=sealer.current, retired=tuple(sorted(retired)))
    await audit.note(
        connection,
        database,
        actor,
        account_id=None,
        action="master_key.rotated",
        subject_kind="master_key",
        subject=rotated.current,
        detail={"resealed": rotated.resealed, "retired": rotated.retired},
    )
    return rotated


async def _nobody_seals_otherwise(connection: Any, database: Database, sealer: Sealer) -> None:
    rows = await connection.fetch(database.queries["sealed_elsewhere"], f"{APPLICATION_NAME} ", announcement(sealer))
    if rows:
        who = ", ".join(f"{row['address']} ({row['application_name'].split()[-1]})" for row in rows)
        raise Conflict(
            f"a server or command still seals with another master key than {sealer.current}: {who}; write the new key "
            "as the first line of its master key file, restart it, then try again"
        )


async def _reseal(connection: Any, database: Database, sealer: Sealer, table: str, retired: set[str]) -> int:
    """Seal one table's values again; how many. Adds the names of the keys that made them to `retired`."""
    columns = COLUMNS[table]
    last, count = _FIRST, 0
    while rows := await connection.fetch(database.queries[f"sealed_{table}"], last, BATCH):
        last = rows[-1]["id"]
        ids: list[UUID] = []
        values: tuple[list[bytes | None], ...] = tuple([] for _ in columns)
        for row in rows:
            old = [row[column] for column in columns]
            stale = [value for value in old if value is not None and not sealer.is_current(value)]
            if not stale:
                continue
            retired.update(Sealer.key_id(value).hex() for value in stale)
            count += len(stale)
            ids.append(row["id"])
            for column, value, fresh in zip(columns, old, values, strict=True):
                fresh.append(value if value is None else _sealed_again(sealer, value, table, column, row))
        if ids:
            await connection.execute(database.queries[f"sealed_{table}_set"], ids, *values)
    return count


def _sealed_again(sealer: Sealer, value: bytes, table: str, column: str, row: Any) -> bytes:
    if sealer.is_current(value):
        return value
    place = (table, column, row["account_id"], row["id"])
    try:
        return sealer.seal(sealer.open(value, *place), *place)
    except SealBroken as error:
        raise SealBroken(f"row {row['id']}: {error}; nothing was changed") from error
