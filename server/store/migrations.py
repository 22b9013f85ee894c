"""Schema migrations: forward only, each once, in the order of their numbers, with a checksum of each."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import asyncpg

from server import logs
from server.store.errors import StoreRefused, StoreUnavailable
from server.store.sql import SqlFileError

log = logs.get("store")

# 0001_record.sql
FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# Seconds that one try of a migration waits for a table that a backup or a long query holds: all others wait behind it.
LOCK_PATIENCE = 1.0
TRIES, BETWEEN_TRIES = 6, 1.0
# That wait was in vain, or of two that waited for each other PostgreSQL ended the migration.
IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
# Seconds after which a step that is still at work says so: whoever watches an upgrade must not think that it hangs.
TOLD_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/migrations`; `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    text: str = field(repr=False)

    @property
    def checksum(self) -> bytes:
        """32 bytes; line endings count as one kind, so a checkout on another system has the same sum."""
        return hashlib.sha256("\n".join(self.text.splitlines()).encode()).digest()


def load_migrations() -> tuple[Migration, ...]:
    """Everything in `server.sql`'s `migrations`; SqlFileError for a misnamed, doubled or missing number."""
    folder = files("server.sql").joinpath("migrations")
    return parse(
        (entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    )


def parse(sources: Iterable[tuple[str, str]]) -> tuple[Migration, ...]:
    """Migrations in order of number from pairs of file name and text; errors as `load_migrations`."""
    found: list[Migration] = []
    for file, text in sorted(sources):
        match = FILE.fullmatch(file)
        if match is None:
            raise SqlFileError(f"{file}: a migration is called like 0001_record.sql")
        found.append(Migration(int(match[1]), match[2], text))
        if found[-1].version != len(found):
            raise SqlFileError(f"{file}: number {len(found):04d} was expected; none may be missing or doubled")
    return tuple(found)


def pending(migrations: Sequence[Migration], applied: Mapping[int, bytes]) -> tuple[Migration, ...]:
    """Those of `migrations` not in `applied` (version → checksum).

    A database ahead of the program is accepted: code works before and after each migration, and a node of the
    old version may restart while the new one is rolled out. Raises StoreRefused when a file was changed.
    """
    for migration in migrations:
        checksum = applied.get(migration.version)
        if checksum is not None and checksum != migration.checksum:
            raise StoreRefused(
                f"migration {migration.version:04d}_{migration.name} of this program is not the one that the "
                "database ran; use the release that made this database or a newer one"
            )
    return tuple(migration for migration in migrations if migration.version not in applied)


async def applied(connection: Any, queries: Mapping[str, str]) -> dict[int, bytes]:
    """Version → checksum of what this database has run; empty for a new one."""
    if not await connection.fetchval(queries["schema_migration_exists"]):
        return {}
    return {row["version"]: row["checksum"] for row in await connection.fetch(queries["schema_migration_all"])}


async def migrate(connection: Any, migrations: Sequence[Migration], queries: Mapping[str, str]) -> int:
    """Run what is missing, all in one transaction, one starter at a time; how many were run.

    The lock is taken before the look: of many concurrent starters one migrates, the others find it done. Raises
    StoreUnavailable where none of `TRIES` got through; then nothing is changed.
    """
    for left in reversed(range(TRIES)):
        try:
            async with connection.transaction():
                missing = await _migrate(connection, migrations, queries)
            break
        except IN_THE_WAY as error:
            if not left:
                raise StoreUnavailable(
                    "the database could not be brought to this version: another connection, a backup or a long query "
                    "perhaps, keeps a table that is to be changed. Nothing was changed; start again when it is through"
                ) from error
            log.warning(
                "schema_migration_put_off",
                tries_left=left,
                reason="a backup or a long query holds a table that is to be changed; it is tried again in a second",
            )
        # Whoever waited behind it has its turn.
        await asyncio.sleep(BETWEEN_TRIES)
    for migration in missing:
        log.info("schema_migrated", version=migration.version, name=migration.name)
    return len(missing)


@contextlib.asynccontextmanager
async def _telling(event: str, **told: object) -> AsyncIterator[None]:
    """Say again every `TOLD_EVERY` seconds that the block is at work, and for how long."""

    async def tell() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(TOLD_EVERY)
            log.info(event, seconds=round(time.monotonic() - began), **told)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()


async def _migrate(
    connection: Any, migrations: Sequence[Migration], queries: Mapping[str, str]
) -> tuple[Migration, ...]:
    if not await connection.fetchval(queries["schema_migration_try_lock"]):
        log.info(
            "schema_migration_awaited", reason="another server or command is migrating this record; that is waited for"
        )
        async with _telling(
            "schema_migration_awaited", reason="another server or command is still migrating this record"
        ):
            await connection.execute(queries["schema_migration_lock"])
    await connection.fetchval(queries["schema_migration_patience"], f"{LOCK_PATIENCE * 1000:.0f}ms")
    await connection.execute(queries["schema_migration_create"])
    done = await applied(connection, queries)
    missing = pending(migrations, done)
    if missing and done:
        megabytes = await connection.fetchval(queries["schema_migration_megabytes"])
        log.info(
            "schema_migration_began",
            since=missing[0].version - 1,
            to=missing[-1].version,
            megabytes=megabytes,
            reason="no device is served here until it is done; a large record takes seconds to minutes: do not stop it",
        )
    for migration in missing:
        step = {"version": migration.version, "name": migration.name, "of": missing[-1].version}
        if done:
            log.info("schema_step_began", **step)
        async with _telling("schema_step_goes_on", **step):
            await connection.execute(migration.text)
        await connection.execute(queries["schema_migration_add"], migration.version, migration.name, migration.checksum)
    return missing
