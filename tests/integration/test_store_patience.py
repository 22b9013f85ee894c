"""What passes a moment later is no fault: statements that the server gives up, work that takes its time."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from server import serve
from server.config import Config
from server.record import Record
from server.store import database as database_module
from server.store import notifications
from server.store.database import Database, connect
from server.store.errors import StoreUnavailable
from server.store.prune import prune
from server.store.secrets import Sealer
from tests.integration import rows

MASTER_KEY = bytes(32)
# Seconds for what is to happen by itself.
PATIENCE = 20.0
ADD_OLD_SESSION = (
    "INSERT INTO session (id, account_id, endpoint, started_at, profile, credential, address, outcome, sentence, steps)"
    " VALUES ($1, $2, 'dev', $3, 'default', 'x509', 'a', 'succeeded', '', '[]')"
)


async def add_old_session(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(ADD_OLD_SESSION, uuid4(), rows.ACCOUNT, datetime.now(UTC) - timedelta(days=100))


async def sessions(database: Database) -> int:
    async with database.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM session"))


async def execute(database: Database, statement: str) -> None:
    async with database.acquire() as connection:
        await connection.execute(statement)


async def test_a_statement_that_the_server_cancels_is_one_to_come_back_with(database: Database) -> None:
    async def too_slow() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = '20ms'")
            await connection.execute("SELECT pg_sleep(60)")

    with capture_logs() as lines, pytest.raises(StoreUnavailable, match="gave a statement up"):
        await too_slow()
    # The database is there all the same.
    assert lines == []
    assert await database.fetchval("ping") == 1


async def test_whoever_loses_a_deadlock_is_to_come_back(database: Database) -> None:
    await execute(database, "CREATE TABLE held (id integer PRIMARY KEY)")
    await execute(database, "INSERT INTO held VALUES (1), (2)")
    both_hold_one = asyncio.Barrier(2)

    async def hold(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT FROM held WHERE id = $1 FOR UPDATE", first)
            await both_hold_one.wait()
            await connection.execute("SELECT FROM held WHERE id = $1 FOR UPDATE", second)

    ended = await asyncio.gather(hold(1, 2), hold(2, 1), return_exceptions=True)
    (lost,) = (each for each in ended if each is not None)
    assert isinstance(lost, StoreUnavailable)


async def test_what_is_too_old_goes_however_long_that_takes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT", 0.2)
    database = await Database.open(database_url, migrate=False)
    try:
        await add_old_session(database)
        await execute(
            database,
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.5); RETURN OLD; END $$",
        )
        await execute(
            database, "CREATE TRIGGER lingering BEFORE DELETE ON session_default FOR EACH ROW EXECUTE FUNCTION linger()"
        )
        pruned = await prune(database, sessions_days=90, audit_days=730, transcripts_days=7, failed_issuances_days=730)
        assert pruned.sessions_deleted == 1
    finally:
        await database.close()


async def test_a_prune_that_fails_is_tried_the_next_night(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PRUNE_EVERY", 0.02)
    opened = Record(
        database=database,
        database_url=database_url,
        sealer=Sealer(MASTER_KEY),
        master_keys=(MASTER_KEY,),
        account_id=rows.ACCOUNT,
        config=Config(),
        made=False,
    )
    await add_old_session(database)
    await execute(database, "ALTER FUNCTION drop_partitions RENAME TO mislaid")
    with capture_logs() as lines:
        async with nightly(opened), asyncio.timeout(PATIENCE):
            while all(line["event"] != "prune_failed" for line in lines):
                await asyncio.sleep(0.01)
            await execute(database, "ALTER FUNCTION mislaid RENAME TO drop_partitions")
            while await sessions(database):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def nightly(opened: Record) -> AsyncIterator[None]:
    task = asyncio.create_task(serve.Service(opened.config)._nightly(opened))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_connection_that_breaks_before_it_listens_is_made_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = itertools.count(1)
    listening = asyncio.Event()

    async def breaking(url: str) -> Any:
        attempt = next(attempts)
        connection = await connect(url)
        if attempt == 1:
            await connection.close()
        else:
            listening.set()
        return connection

    monkeypatch.setattr(notifications, "connect", breaking)
    looks = notifications.occasions(database_url, "revision", poll_every=0.02)
    try:
        async with asyncio.timeout(PATIENCE):
            while not listening.is_set():
                await anext(looks)
    finally:
        await looks.aclose()
