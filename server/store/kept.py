"""A connection kept for what every bootstrap looks up: none to borrow and give back, statements and plans at hand.

Whatever it cannot do, the pool does: it knows whether the database is away, and waits for a row that another holds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from server import logs
from server.store.prepared import Prepared, opened

log = logs.get("store")

# Seconds between two attempts to open it.
RETRY_EVERY = 1.0


class Kept:
    """One connection of its own, one statement at a time, opened behind the back of those who look up."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], queries: Mapping[str, str]) -> None:
        self._connect = connect
        self._queries = queries
        self._connection: Any = None
        self._prepared: Prepared | None = None
        self._turn = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._closing = False

    async def fetch(self, name: str, *arguments: object) -> list[Any] | None:
        """All rows of the named query; None = ask the pool. TimeoutError when the database does not answer."""
        async with self._turn:
            if self._prepared is None:
                return None
            try:
                await self._prepared.begin()
                return await self._prepared.fetch((name,), *arguments)
            except Exception as error:
                log.debug("look_up_failed", query=name, reason=str(error))
                self._drop()
                if isinstance(error, TimeoutError):
                    raise
                return None
            except BaseException:
                # The statement may still be running.
                self._drop()
                raise

    def open(self) -> None:
        """Begin to connect, unless that is under way or done: the database has just answered."""
        if self._prepared is None and self._opening is None and not self._closing:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def close(self) -> None:
        """Disconnect once the statement that runs has its answer; `terminate` does not wait."""
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        async with self._turn:
            connection, self._connection, self._prepared = self._connection, None, None
            if connection is not None:
                with contextlib.suppress(Exception):
                    await connection.close()

    def terminate(self) -> None:
        """Disconnect at once."""
        self._closing = True
        self._drop()

    async def _open(self) -> None:
        try:
            connection = await opened(self._connect(), self._queries["look_up_session"])
            self._connection, self._prepared = connection, Prepared(connection, self._queries)
        except Exception as error:
            log.debug("look_ups_without_connection", reason=str(error))
            await asyncio.sleep(RETRY_EVERY)
        finally:
            self._opening = None

    def _drop(self) -> None:
        connection, self._connection, self._prepared = self._connection, None, None
        if connection is not None:
            connection.terminate()
