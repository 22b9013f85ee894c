"""Named statements of one connection, each prepared once, with plans that are kept."""

from collections.abc import Awaitable, Mapping
from typing import Any

from server.store.sql import together

# Uses after which plans are made anew, at first and later on: made for tables that are still empty, where PostgreSQL
# takes any index, they must not go on when the tables have grown.
PLANS_LAST_FIRST = 16
PLANS_LAST = 1024


async def opened(connecting: Awaitable[Any], session: str) -> Any:
    """The connection, with its session as the statement `session` sets it; raises what asyncpg raises."""
    connection = await connecting
    try:
        await connection.execute(session)
    except BaseException:
        connection.terminate()
        raise
    return connection


class Prepared:
    """The statements of one connection, whose session keeps its plans (`plan_cache_mode`)."""

    def __init__(self, connection: Any, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries
        self._statements: dict[tuple[str, ...], Any] = {}
        # How often the database answered: as long as it grows the database is there, however long a batch takes.
        self.answers = 0
        self._uses = 0
        self._plans_end = PLANS_LAST_FIRST

    async def begin(self) -> None:
        """Before each use, outside any transaction: plans that are too old are made anew."""
        if self._uses >= self._plans_end:
            # Twice as many each time: a new table grows fast.
            await self.execute("DISCARD PLANS")
            self._plans_end += min(self._plans_end, PLANS_LAST)
        self._uses += 1

    async def fetch(self, names: tuple[str, ...], *arguments: object) -> list[Any]:
        """All rows of the named queries, run as one statement."""
        statement = self._statements.get(names)
        if statement is None:
            text = together([self._queries[name] for name in names])
            statement = self._statements[names] = await self._connection.prepare(text)
            self.answers += 1
        rows: list[Any] = await statement.fetch(*arguments)
        self.answers += 1
        return rows

    async def execute(self, statement: str) -> None:
        """Run a statement as it stands."""
        await self._connection.execute(statement)
        self.answers += 1
