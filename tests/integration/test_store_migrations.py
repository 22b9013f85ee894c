"""The migrations of the record: run once, whole or not at all, by whoever may, and never changed afterwards."""

import asyncio
from types import SimpleNamespace

import asyncpg
import pytest
from structlog.testing import capture_logs

from server.store import database as database_module
from server.store import migrations as migrations_module
from server.store.database import Database, connect
from server.store.errors import StoreRefused, StoreUnavailable
from server.store.migrations import Migration
from server.store.sql import load_queries
from tests.integration.field import until

ONE = Migration(1, "first", "CREATE TABLE first (n integer); INSERT INTO first VALUES (1);")
TWO = Migration(2, "second", "CREATE TABLE second (n integer);")
BROKEN = Migration(2, "broken", "CREATE TABLE second (n integer); SELECT no_such_column;")


def use_migrations(monkeypatch: pytest.MonkeyPatch, *migrations: Migration) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: migrations)


async def test_of_eight_concurrent_starters_one_migrates(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE, TWO)
    opened = await asyncio.gather(*(Database.open(empty_database_url, pool_size=1) for _ in range(8)))
    async with opened[0].acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM first") == 1
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migration ORDER BY version")
    assert [tuple(row) for row in rows] == [(1, "first", ONE.checksum), (2, "second", TWO.checksum)]
    await asyncio.gather(*(database.close() for database in opened))


async def test_only_the_new_migration_runs_the_next_time(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for migrations in ([ONE], [ONE, TWO], [ONE, TWO]):
        use_migrations(monkeypatch, *migrations)
        database = await Database.open(empty_database_url)
        async with database.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM first") == 1
            assert await connection.fetchval("SELECT count(*) FROM schema_migration") == len(migrations)
        await database.close()


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE, BROKEN)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await Database.open(empty_database_url)
    connection = await connect(empty_database_url)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    assert tables == 0


async def test_a_migration_gives_up_where_a_backup_holds_its_table_as_all_others_would_wait_behind_it(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE)
    await (await Database.open(empty_database_url)).close()
    use_migrations(monkeypatch, ONE, Migration(2, "wider", "ALTER TABLE first ADD COLUMN m integer"))
    monkeypatch.setattr(migrations_module, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(migrations_module, "BETWEEN_TRIES", 0.01)
    backup = await connect(empty_database_url)
    async with backup.transaction():
        await backup.execute("LOCK TABLE first IN ACCESS SHARE MODE")
        with pytest.raises(StoreUnavailable, match="Nothing was changed; start again"):
            await Database.open(empty_database_url)
    await backup.close()
    await (await Database.open(empty_database_url)).close()


async def test_a_migration_lets_others_through_again_and_again_while_it_waits_for_a_table(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE)
    await (await Database.open(empty_database_url)).close()
    use_migrations(monkeypatch, ONE, Migration(2, "wider", "ALTER TABLE first ADD COLUMN m integer"))
    monkeypatch.setattr(migrations_module, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(migrations_module, "TRIES", 1000)
    monkeypatch.setattr(migrations_module, "BETWEEN_TRIES", 0.01)
    backup, other = await connect(empty_database_url), await connect(empty_database_url)

    async def waits() -> bool:
        asked = "SELECT count(*) FROM pg_locks WHERE relation = 'first'::regclass AND NOT granted"
        return bool(await other.fetchval(asked))

    async with backup.transaction():
        await backup.execute("LOCK TABLE first IN ACCESS SHARE MODE")
        opening = asyncio.create_task(Database.open(empty_database_url))
        await until(waits)
        assert len(await other.fetch("SELECT n FROM first")) == 1
        assert not opening.done()
    await (await opening).close()
    assert [row["m"] for row in await other.fetch("SELECT m FROM first")] == [None]
    await backup.close()
    await other.close()


async def test_a_migration_that_is_in_the_way_of_a_server_at_work_and_it_in_its_way_is_tried_again(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is ended by PostgreSQL, and it is the migration where the other has waited for long."""
    view = "VIEW seen AS SELECT n"
    use_migrations(monkeypatch, Migration(1, "first", f"CREATE TABLE first (n integer); CREATE {view} FROM first"))
    await (await Database.open(empty_database_url)).close()
    # Seconds for an index of a large table; a list that is asked for meanwhile has the view and waits for the table.
    slow = "LOCK TABLE first; SELECT pg_sleep(1.5)"
    second = Migration(2, "second", f"{slow}; CREATE OR REPLACE {view}, 2 AS m FROM first")
    use_migrations(
        monkeypatch, Migration(1, "first", f"CREATE TABLE first (n integer); CREATE {view} FROM first"), second
    )
    other = await connect(empty_database_url)

    async def locked() -> bool:
        held = "SELECT count(*) FROM pg_locks WHERE relation = 'first'::regclass AND mode = 'AccessExclusiveLock'"
        return bool(await other.fetchval(held))

    opening = asyncio.create_task(Database.open(empty_database_url))
    await until(locked)
    assert await other.fetch("SELECT * FROM seen") == []
    await other.close()
    await (await opening).close()


async def test_an_upgrade_says_what_it_does_before_it_is_done(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE)
    with capture_logs() as lines:
        await (await Database.open(empty_database_url)).close()
    # Of a first start nobody has to be told.
    assert [line["event"] for line in lines] == ["schema_migrated"]
    use_migrations(monkeypatch, ONE, Migration(2, "long", "SELECT pg_sleep(1)"), Migration(3, "short", "SELECT 1"))
    monkeypatch.setattr(migrations_module, "TOLD_EVERY", 0.05)
    with capture_logs() as lines:
        await (await Database.open(empty_database_url)).close()
    began, *steps, _, _ = lines
    assert (began["event"], began["since"], began["to"]) == ("schema_migration_began", 1, 3)
    assert began["megabytes"] > 0
    told = list(dict.fromkeys((line["event"], line["version"], line["of"]) for line in steps))
    assert told == [("schema_step_began", 2, 3), ("schema_step_goes_on", 2, 3), ("schema_step_began", 3, 3)]


async def test_who_waits_for_another_that_migrates_says_so(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_migrations(monkeypatch, ONE)
    monkeypatch.setattr(migrations_module, "TOLD_EVERY", 0.05)
    other = await connect(empty_database_url)
    queries = load_queries()
    with capture_logs() as lines:
        async with other.transaction():
            await other.execute(queries["schema_migration_lock"])
            waiting = asyncio.ensure_future(Database.open(empty_database_url))

            async def told_again() -> bool:
                return [line["event"] for line in lines].count("schema_migration_awaited") > 1

            await until(told_again)
            assert not waiting.done()
        await (await waiting).close()
    await other.close()


async def test_a_changed_migration_is_refused(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_migrations(monkeypatch, ONE)
    await (await Database.open(empty_database_url)).close()
    use_migrations(monkeypatch, Migration(1, "first", "CREATE TABLE other ();"))
    for migrate in (True, False):
        with pytest.raises(StoreRefused, match="migration 0001_first of this program is not"):
            await Database.open(empty_database_url, migrate=migrate)


async def test_a_worker_does_not_migrate_but_says_how(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_migrations(monkeypatch, ONE)
    with pytest.raises(StoreRefused, match="lacks migration 0001_first; run `firstlight db migrate`"):
        await Database.open(empty_database_url, migrate=False)


async def test_an_old_server_is_refused() -> None:
    connection = SimpleNamespace(get_server_version=lambda: SimpleNamespace(major=14))
    with pytest.raises(StoreRefused, match="PostgreSQL 14; this program needs 15"):
        await database_module._fit(connection, {}, migrate_it=True, create=True)
