"""The database behind the record: queries by name, pooled, and `StoreUnavailable` when it is away."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from server.store import database as database_module
from server.store.database import ConnectArguments, Database, connect, is_away
from server.store.errors import StoreRefused, StoreUnavailable
from server.store.postgres import EmbeddedPostgres
from server.store.sql import load_queries

ADDITIONS = {
    "answer": "SELECT $1::integer + 1",
    "numbers": "SELECT n FROM generate_series(1, $1::integer) AS n",
    "sleep": "SELECT pg_sleep($1)",
    "misspelt": "SELECT no_such_column",
    "backend": "SELECT pg_backend_pid()",
    "terminate": "SELECT pg_terminate_backend($1)",
    "make_table": "CREATE TABLE thing (n integer)",
    "put_thing": "INSERT INTO thing VALUES ($1)",
    "things": "SELECT n FROM thing",
    "look_backend": "SELECT w.place, pg_backend_pid() AS backend "
    "FROM unnest($1::integer[]) WITH ORDINALITY AS w (n, place)",
    "look_thing": "WITH w AS (SELECT u.n, u.place FROM unnest($1::integer[]) WITH ORDINALITY AS u (n, place)), "
    "touched AS (UPDATE thing SET n = thing.n FROM w WHERE thing.n = w.n RETURNING thing.n) "
    "SELECT w.place, touched.n FROM w JOIN touched ON touched.n = w.n",
}


@pytest.fixture
async def opened(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """An open database with some queries for these tests."""
    queries = {**load_queries(), **ADDITIONS}
    monkeypatch.setattr(database_module, "load_queries", lambda: queries)
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    database = await Database.open(empty_database_url)
    yield database
    await database.close()


# -- queries by name --


async def test_every_named_query_is_one_that_the_migrated_database_understands(database: Database) -> None:
    async with database.acquire() as connection:
        for name, text in database.queries.items():
            try:
                await connection.prepare(text)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name}: {error} {getattr(error, 'hint', None) or ''}")


async def test_queries_are_run_by_name(opened: Database) -> None:
    assert await opened.fetchval("answer", 41) == 42
    assert (await opened.fetchrow("answer", 1))[0] == 2
    assert [row["n"] for row in await opened.fetch("numbers", 3)] == [1, 2, 3]
    await opened.execute("make_table")
    assert await opened.execute("put_thing", 7) == "INSERT 0 1"
    assert await opened.fetchrow("numbers", 0) is None


async def test_a_transaction_is_whole_or_not_at_all(opened: Database) -> None:
    await opened.execute("make_table")
    put = opened.queries["put_thing"]

    async def fails_half_way() -> None:
        async with opened.transaction() as connection:
            await connection.execute(put, 1)
            raise KeyError

    with pytest.raises(KeyError):
        await fails_half_way()
    async with opened.transaction() as connection:
        await connection.execute(put, 2)
    assert [row["n"] for row in await opened.fetch("things")] == [2]


async def test_the_commit_waits_for_the_disk_even_where_the_database_says_otherwise(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    connection = await connect(empty_database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await connection.close()
    database = await Database.open(empty_database_url)
    async with database.acquire() as pooled:
        assert await pooled.fetchval("SHOW synchronous_commit") == "on"
    # Also after the connection went back and came again.
    async with database.acquire() as pooled:
        assert await pooled.fetchval("SHOW synchronous_commit") == "on"
    await database.close()


# -- away --


async def test_a_wrong_statement_or_call_is_not_taken_for_an_absence(opened: Database) -> None:
    with pytest.raises(asyncpg.UndefinedColumnError):
        await opened.fetch("misspelt")
    with pytest.raises(asyncpg.InterfaceError):
        await opened.fetch("answer")
    with pytest.raises(asyncpg.DataError):
        await opened.fetch("answer", "no number")
    assert await opened.fetchval("answer", 1) == 2


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.ConnectionDoesNotExistError(), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.TooManyConnectionsError(), True),
        (asyncpg.DiskFullError(), True),
        (asyncpg.ReadOnlySQLTransactionError(), True),
        (asyncpg.UniqueViolationError(), False),
        (asyncpg.InterfaceError("wrong call"), False),
        (asyncpg.QueryCanceledError(), False),
        (KeyError(), False),
    ],
)
def test_what_counts_as_an_absence(error: Exception, away: bool) -> None:
    assert is_away(error) is away


async def test_an_idle_connection_that_was_cut_is_replaced_unseen(opened: Database, empty_database_url: str) -> None:
    first = await opened.fetchval("backend")
    connection = await connect(empty_database_url)
    await connection.execute("SELECT pg_terminate_backend($1, 10000)", first)
    await connection.close()
    assert await opened.fetchval("backend") != first


async def test_a_connection_cut_in_the_middle_is_an_absence_and_the_next_call_works(
    opened: Database, empty_database_url: str
) -> None:
    connection = await connect(empty_database_url)
    with capture_logs() as lines:
        await _cut_in_the_middle(opened, connection)
    (away,) = (line for line in lines if line["event"] == "database_away")
    assert away["reason"].endswith("terminating connection due to administrator command")
    await connection.close()
    assert await opened.fetchval("answer", 1) == 2


async def _cut_in_the_middle(opened: Database, connection: Any) -> None:
    async with asyncio.TaskGroup() as group:

        async def sleeps() -> None:
            with pytest.raises(StoreUnavailable, match="the database is away"):
                await opened.fetch("sleep", 600.0)

        group.create_task(sleeps())
        cut = False
        while not cut:
            cut = await connection.fetchval(
                "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )


async def test_a_connection_cut_inside_a_transaction_is_an_absence(opened: Database, empty_database_url: str) -> None:
    await opened.execute("make_table")
    connection = await connect(empty_database_url)

    async def is_cut_half_way() -> None:
        async with opened.transaction() as pooled:
            await pooled.execute(opened.queries["put_thing"], 1)
            pid = await pooled.fetchval(opened.queries["backend"])
            await connection.execute("SELECT pg_terminate_backend($1, 10000)", pid)
            await pooled.execute(opened.queries["put_thing"], 2)

    with pytest.raises(StoreUnavailable):
        await is_cut_half_way()
    await connection.close()
    assert await opened.fetch("things") == []


async def test_when_every_connection_is_busy_the_caller_is_told_so(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    monkeypatch.setattr(database_module, "LINE_TICK", 0.005)
    database = await Database.open(empty_database_url, pool_size=1)
    async with database.acquire():
        with pytest.raises(StoreUnavailable, match="busy"):
            await database.fetchval("schema_migration_exists")
    assert await database.fetchval("schema_migration_exists") is False
    await database.close()


async def test_a_line_that_moves_is_waited_in_and_nobody_is_turned_away(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    database = await Database.open(empty_database_url, pool_size=2)
    served: list[int] = []

    async def caller(number: int) -> None:
        async with database.acquire() as connection:
            await connection.execute("SELECT pg_sleep(0.1)")
            served.append(number)

    # The last of them wait twice as long as a database may be away.
    await asyncio.gather(*(caller(number) for number in range(40)))
    assert sorted(served) == list(range(40))
    # Whoever leaves the line takes no connection along.
    async with database.acquire(), database.acquire():
        leaving = [asyncio.create_task(caller(number)) for number in range(10)]
        await asyncio.sleep(0.05)
        for task in leaving:
            task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.gather(*(caller(number) for number in range(4)))
    monkeypatch.setattr(database_module, "BUSY_PATIENCE", 0.0)
    async with database.acquire(), database.acquire():
        with pytest.raises(StoreUnavailable, match="busy"):
            await caller(0)
    await database.close()


async def test_many_slow_readers_are_all_served_and_leave_a_connection_for_what_is_quick(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    database = await Database.open(empty_database_url, pool_size=3)
    async with database.acquire(), database.acquire(), database.acquire():
        pass
    # A line that stands still so long gives up; each reader takes longer.
    monkeypatch.setattr(database_module, "LINE_TICK", 0.005)
    reading = 0

    async def reader() -> int:
        nonlocal reading
        async with database.reading() as connection:
            reading += 1
            most = reading
            await connection.execute("SELECT pg_sleep(0.3)")
            reading -= 1
            return most

    readers = [asyncio.create_task(reader()) for _ in range(7)]
    while not reading:
        await asyncio.sleep(0.01)
    assert await database.fetchval("schema_migration_exists") is False
    # Never more than two of the three connections.
    assert max(await asyncio.gather(*readers)) == 2
    await database.close()


async def test_a_stopped_database_is_an_absence_and_its_return_is_noticed(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    database = await Database.open(embedded_postgres.arguments)
    await embedded_postgres.stop()
    answers = await asyncio.gather(
        *(database.fetchval("schema_migration_exists") for _ in range(20)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    await embedded_postgres.start()
    assert await database.fetchval("schema_migration_exists") is False
    await database.close()


async def test_a_short_absence_is_waited_out(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    # However slow this machine is: the absence stays shorter.
    monkeypatch.setattr(database_module, "AWAY_AFTER", 300.0)
    database = await Database.open(embedded_postgres.arguments)
    await embedded_postgres.stop()
    waiting = asyncio.create_task(database.fetchval("schema_migration_exists"))
    await embedded_postgres.start()
    assert await waiting is False
    await database.close()


async def test_after_close_the_record_is_away(opened: Database) -> None:
    await opened.close()
    with pytest.raises(StoreUnavailable):
        await opened.fetchval("answer", 1)


async def test_close_does_not_wait_for_a_stuck_connection(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "load_migrations", lambda: ())
    monkeypatch.setattr(database_module, "AWAY_AFTER", 0.1)
    database = await Database.open(empty_database_url)
    connection = await database.pool.acquire()
    await database.close()
    assert is_away(asyncpg.InterfaceError("the connection is closed"), connection)


# -- settings that do not fit --


def changed(url: str, **parts: str) -> str:
    split = urlsplit(url)
    login, _, where = split.netloc.rpartition("@")
    user, _, password = login.partition(":")
    netloc = f"{parts.get('user', user)}:{parts.get('password', password)}@{where}"
    return urlunsplit(split._replace(netloc=netloc, path=parts.get("path", split.path)))


async def test_a_database_that_does_not_exist_is_refused_in_one_line(postgres_url: str) -> None:
    with pytest.raises(StoreRefused, match=r"check database\.url") as caught:
        await Database.open(changed(postgres_url, path="/no_such_database"))
    assert "\n" not in str(caught.value)


async def test_a_wrong_password_is_refused_and_not_shown(embedded_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(StoreRefused, match=r"check database\.url") as caught:
        await Database.open(changed(embedded_postgres.arguments.url, password="wrong-canary"))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://a/b", "nonsense", "postgresql://a:99999999/b", ""])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises((StoreRefused, StoreUnavailable), match=r"check database\.url") as caught:
        await Database.open(url)
    assert "\n" not in str(caught.value)


async def test_a_server_that_is_not_there_is_an_absence(tmp_path: os.PathLike[str]) -> None:
    arguments = ConnectArguments(host=str(tmp_path), user="u", password="canary", database="d")
    with pytest.raises(StoreUnavailable, match=r"check database\.url and that PostgreSQL is running") as caught:
        await Database.open(arguments)
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(arguments)


def test_any_password_and_folder_survive_the_url() -> None:
    arguments = ConnectArguments(host="/a b/ü?&", user="u@", password="p:/@?#&%", database="d/")
    parts = urlsplit(arguments.url)
    assert parts.username == quote("u@", safe="")
    assert parts.password == quote("p:/@?#&%", safe="")
    assert parts.path == "/d%2F"


# -- the connection that looks up --


async def _kept_backend(database: Database) -> int:
    """The backend of the kept connection, once there is one: it is none of the pool's."""
    pooled = await database.fetchval("backend")
    while True:
        ((found,),) = [[row["backend"] for row in await database.look_up("look_backend", 1)]]
        if found != pooled:
            return int(found)
        await asyncio.sleep(0.01)


async def test_look_ups_have_a_connection_of_their_own_and_another_when_it_is_lost(opened: Database) -> None:
    first = await _kept_backend(opened)
    assert [row["backend"] for row in await opened.look_up("look_backend", 2)] == [first]
    assert await opened.fetchval("terminate", first)
    assert len(await opened.look_up("look_backend", 3)) == 1
    assert await _kept_backend(opened) != first


async def test_a_row_that_another_holds_is_waited_for_without_keeping_other_look_ups_waiting(opened: Database) -> None:
    await opened.execute("make_table")
    await opened.execute("put_thing", 7)
    await _kept_backend(opened)
    async with opened.transaction() as connection:
        await connection.execute("UPDATE thing SET n = n")
        waiting = asyncio.ensure_future(opened.look_up("look_thing", 7))
        await asyncio.sleep(0)
        assert len(await opened.look_up("look_backend", 1)) == 1
        assert not waiting.done()
    assert [row["n"] for row in await waiting] == [7]


async def test_look_ups_with_plans_that_are_kept_answer_as_the_tables_grow(opened: Database) -> None:
    await opened.execute("make_table")
    await _kept_backend(opened)
    for number in range(40):
        await opened.execute("put_thing", number)
        found = await asyncio.gather(*(opened.look_up("look_thing", n) for n in (number, number + 1)))
        assert [[row["n"] for row in rows] for rows in found] == [[number], []]
