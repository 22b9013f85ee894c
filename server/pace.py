"""The rate at which one CA is asked, over all workers and servers: a bucket of tokens that stands in the record.

One statement takes a token or says how long the next is away, so that however many workers ask, the CA sees the rate
of its setting and no more. A second's worth of tokens may be saved up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from issuers.errors import Throttled
from server.store import readiness
from server.store.database import Database

# Longer than this nobody waits for a token: the device is told to come back.
PATIENCE = timedelta(seconds=5)
SAVED = timedelta(seconds=1)


class Pace:
    """When it is whose turn to ask the CAs."""

    def __init__(
        self,
        *,
        database: Database,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._now = now
        self._sleep = sleep

    async def turn(self, issuer_id: UUID, name: str, rate: float) -> None:
        """Return when a request may go to the CA; Throttled when too many are waiting, StoreUnavailable."""
        apart = timedelta(seconds=1 / rate)
        now = self._now()
        at = await readiness.take_turn(
            self._database, issuer_id, now, apart=apart, saved=max(SAVED - apart, timedelta(0)), patience=PATIENCE
        )
        if at is None:
            raise Throttled(
                f"the CA {name} is asked for {rate:g} certificates a second at most, and more are waiting",
                PATIENCE.total_seconds(),
            )
        if at > now:
            await self._sleep((at - now).total_seconds())
