"""Changes reach every worker: the `revision` row is the truth, NOTIFY only wakes earlier (design 7)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from server import logs
from server.store.database import ConnectArguments, Database, connect
from server.store.errors import StoreError, StoreUnavailable

log = logs.get("store")

CHANNEL = "revision"
POLL_EVERY = 1.0


async def current(database: Database) -> int:
    """The number of the newest change."""
    number: int = await database.fetchval("revision_current")
    return number


class Revisions:
    """Tells of changes that people made to the record."""

    def __init__(self, database: Database, url: str | ConnectArguments, *, poll_every: float = POLL_EVERY) -> None:
        self._database = database
        self._url = url
        self._poll_every = poll_every
        self._woken = asyncio.Event()

    async def follow(self, since: int | None = None) -> AsyncIterator[int]:
        """Yield each new number (several changes may share one); without `since` the current one comes first.

        Looks every second, at once after a NOTIFY and after each reconnect; while the database is away it waits.
        """
        listening = asyncio.get_running_loop().create_task(self._listen())
        seen = since
        try:
            while True:
                self._woken.clear()
                # Whoever needs the database says that it is away; here a later look is all there is to do.
                with contextlib.suppress(StoreUnavailable):
                    number = await current(self._database)
                    if number != seen:
                        seen = number
                        yield number
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_every):
                        await self._woken.wait()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            connection: Any = None
            try:
                connection = await connect(self._url)
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, lambda *_: self._woken.set())
                # What changed before LISTEN was heard by nobody.
                self._woken.set()
                await lost.wait()
            except (StoreError, OSError) as error:
                log.debug("listen_failed", reason=str(error))
            finally:
                if connection is not None and not connection.is_closed():
                    connection.terminate()
            await asyncio.sleep(self._poll_every)
