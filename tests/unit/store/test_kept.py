"""The connection kept for look-ups: what it does itself, and when the pool is asked."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from server.store import kept as kept_module
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.kept import Kept
from server.store.prepared import PLANS_LAST_FIRST, Prepared

QUERIES = {"look_up_session": "the session", "squares": "SELECT squares", "cubes": "SELECT cubes"}


class Connection:
    """One that answers a statement with its text and arguments, when it may."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.running: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self.ended: str | None = None

    async def execute(self, sql: str) -> None:
        self.said.append(sql)

    async def prepare(self, sql: str) -> Any:
        self.said.append(f"PREPARE {sql}")

        async def fetch(*arguments: object) -> list[Any]:
            self.running.append(sql)
            await self.go.wait()
            self.running.remove(sql)
            if self.error is not None:
                raise self.error
            return [sql, *arguments]

        return SimpleNamespace(fetch=fetch)

    async def close(self) -> None:
        self.ended = self.ended or "closed"

    def terminate(self) -> None:
        self.ended = self.ended or "terminated"


class Server:
    """Where connections come from, while it is there."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.attempts = 0
        self.there = True
        self.kept = Kept(self.connect, QUERIES)

    async def connect(self) -> Connection:
        self.attempts += 1
        if not self.there:
            raise StoreUnavailable("played")
        self.connections.append(Connection())
        return self.connections[-1]

    async def opened(self) -> Connection:
        self.kept.open()
        await turns()
        return self.connections[-1]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> Any:
    made = Server()
    yield made
    for connection in made.connections:
        connection.go.set()
    await made.kept.close()


async def test_the_pool_is_asked_until_it_is_open(server: Server) -> None:
    assert await server.kept.fetch("squares", 1) is None
    connection = await server.opened()
    assert await server.kept.fetch("squares", 1) == ["SELECT squares", 1]
    assert connection.said == ["the session", "PREPARE SELECT squares"]


async def test_a_statement_is_prepared_once_and_open_connects_once(server: Server) -> None:
    connection = await server.opened()
    for number in range(3):
        assert await server.kept.fetch("squares", number) == ["SELECT squares", number]
        await server.opened()
    assert await server.kept.fetch("cubes") == ["SELECT cubes"]
    assert connection.said == ["the session", "PREPARE SELECT squares", "PREPARE SELECT cubes"]
    assert server.attempts == 1


async def test_one_statement_runs_at_a_time(server: Server) -> None:
    connection = await server.opened()
    connection.go.clear()
    asked = [asyncio.ensure_future(server.kept.fetch(name)) for name in ("squares", "cubes")]
    await turns()
    assert connection.running == ["SELECT squares"]
    connection.go.set()
    assert await asyncio.gather(*asked) == [["SELECT squares"], ["SELECT cubes"]]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.InvalidCachedStatementError("cached plan must not change result type"),
        asyncpg.DataError("invalid input"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_pool_is_asked_after_any_failure_and_another_connection_opened(
    server: Server, error: Exception
) -> None:
    first = await server.opened()
    first.error = error
    assert await server.kept.fetch("squares") is None
    assert first.ended == "terminated"
    assert await server.kept.fetch("squares") is None
    second = await server.opened()
    assert second is not first
    assert await server.kept.fetch("squares") == ["SELECT squares"]


async def test_nobody_who_has_waited_for_long_waits_once_more(server: Server) -> None:
    connection = await server.opened()
    connection.error = TimeoutError()
    with pytest.raises(TimeoutError):
        await server.kept.fetch("squares")
    assert connection.ended == "terminated"


async def test_a_look_up_that_is_cancelled_takes_its_connection_along(server: Server) -> None:
    connection = await server.opened()
    connection.go.clear()
    asked = asyncio.ensure_future(server.kept.fetch("squares"))
    await turns()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert connection.ended == "terminated"
    assert await server.kept.fetch("squares") is None


async def test_a_server_that_takes_no_connection_is_left_alone_for_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.there = False
    for _ in range(3):
        server.kept.open()
        await turns()
    assert server.attempts == 1
    await server.kept.close()

    monkeypatch.setattr(kept_module, "RETRY_EVERY", 0)
    again = Server()
    again.there = False
    again.kept.open()
    await turns()
    again.there = True
    await again.opened()
    assert again.attempts == 2
    assert await again.kept.fetch("squares") == ["SELECT squares"]


async def test_closing_waits_for_the_statement_that_runs_and_is_for_good(server: Server) -> None:
    connection = await server.opened()
    connection.go.clear()
    asked = asyncio.ensure_future(server.kept.fetch("squares"))
    await turns()
    closing = asyncio.ensure_future(server.kept.close())
    await turns()
    assert connection.ended is None
    connection.go.set()
    assert await asked == ["SELECT squares"]
    await closing
    assert connection.ended == "closed"
    server.kept.open()
    await turns()
    assert server.attempts == 1
    assert await server.kept.fetch("squares") is None


async def test_a_statement_that_does_not_end_is_left_behind(server: Server) -> None:
    connection = await server.opened()
    connection.go.clear()
    asked = asyncio.ensure_future(server.kept.fetch("squares"))
    await turns()
    server.kept.terminate()
    assert connection.ended == "terminated"
    asked.cancel()


async def test_closing_ends_an_attempt_to_connect(server: Server) -> None:
    waits = asyncio.Event()

    async def connect() -> Any:
        await waits.wait()

    kept = Kept(connect, QUERIES)
    kept.open()
    await turns()
    await kept.close()
    waits.set()
    await turns()
    assert await kept.fetch("squares") is None


async def test_plans_are_made_anew_less_and_less_often() -> None:
    connection = Connection()
    prepared = Prepared(connection, QUERIES)
    for _ in range(PLANS_LAST_FIRST * 4 + 1):
        await prepared.begin()
        await prepared.fetch(("squares",))
    assert connection.said == ["PREPARE SELECT squares", *["DISCARD PLANS"] * 3]


class Asked:
    """A pool of which only its answer to a query is played."""

    def __init__(self, database: Database) -> None:
        self.names: list[str] = []
        database.fetch = self.fetch  # type: ignore[method-assign]

    def fetch(self, name: str, *_arguments: object) -> Awaitable[list[Any]]:
        self.names.append(name)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        answer.set_result([{"place": 1, "from": "pool"}])
        return answer


async def test_the_database_looks_up_by_the_kept_connection_once_the_pool_has_answered(server: Server) -> None:
    database = Database(SimpleNamespace(is_closing=lambda: False), QUERIES, kept=server.kept)
    pool = Asked(database)
    assert [row["from"] for row in await database.look_up("squares", 3)] == ["pool"]
    await turns()
    server.connections[-1].prepare = kept_answer  # type: ignore[method-assign]
    assert [row["from"] for row in await database.look_up("squares", 3)] == ["kept"]
    assert pool.names == ["squares"]


async def kept_answer(_sql: str) -> Any:
    async def fetch(*_arguments: object) -> list[Any]:
        return [{"place": 1, "from": "kept"}]

    return SimpleNamespace(fetch=fetch)


async def test_a_kept_connection_that_does_not_answer_means_that_the_database_is_away(server: Server) -> None:
    database = Database(SimpleNamespace(is_closing=lambda: False), QUERIES, kept=server.kept)
    pool = Asked(database)
    connection = await server.opened()
    connection.error = TimeoutError()
    with pytest.raises(StoreUnavailable):
        await database.look_up("squares", 3)
    assert pool.names == []
