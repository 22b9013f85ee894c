"""Changes reach every worker: the `revision` row is the truth, NOTIFY only wakes earlier (design 7)."""

import contextlib
from collections.abc import AsyncIterator

from server.store.database import ConnectArguments, Database
from server.store.errors import StoreUnavailable
from server.store.notifications import occasions

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

    async def follow(self, since: int | None = None) -> AsyncIterator[int]:
        """Yield each new number (several changes may share one); without `since` the current one comes first.

        Looks every second, at once after a NOTIFY and after each reconnect; while the database is away it waits.
        """
        seen = since
        async with contextlib.aclosing(occasions(self._url, CHANNEL, poll_every=self._poll_every)) as looks:
            async for _ in looks:
                # Whoever needs the database says that it is away; here a later look is all there is to do.
                with contextlib.suppress(StoreUnavailable):
                    number = await current(self._database)
                    if number != seen:
                        seen = number
                        yield number
