"""Counts over the record for the start page: a span of time in bins, and what waits for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from server.store.database import Database

# No count of `facts` goes on beyond this.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Count:
    """How often `what` came to pass in the bin that begins `at`.

    `bucket` is the place of a duration among the bounds; `issuer_id` None with `asked` is the embedded CA.
    """

    what: str
    at: datetime
    bucket: int
    cause: str | None
    family: str | None
    issuer_id: UUID | None
    asked: bool
    number: int
    last: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What waits for a person, with the oldest time of each."""

    expired: int
    expired_since: datetime | None
    expiring: int
    expiring_first: datetime | None
    unknown: int
    unknown_since: datetime | None
    unrevoked: int
    unrevoked_since: datetime | None


async def counted(
    database: Database,
    account_id: UUID,
    *,
    since: datetime,
    until: datetime,
    bin: timedelta,
    bounds: Sequence[float],
) -> list[Count]:
    """What came to pass from `since` until before `until`."""
    async with database.transaction() as connection:
        await connection.execute(database.queries["listing_session"])
        rows = await connection.fetch(database.queries["statistics_slice"], account_id, since, until, bin, list(bounds))
    return [Count(*row) for row in rows]


async def facts(database: Database, account_id: UUID, *, now: datetime, soon: timedelta, overdue: timedelta) -> Facts:
    """What waits for a person: certificates that end within `soon`, revocations `overdue`, unknown outcomes."""
    async with database.transaction() as connection:
        await connection.execute(database.queries["listing_session"])
        row = await connection.fetchrow(
            database.queries["attention_facts"], account_id, now, MOST, now + soon, now - overdue
        )
    return Facts(**dict(row))
