""" "Seen, not admitted": who proved an address and was refused, by source, reason and identity; bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from server.store.database import Database

# Rows kept, the newest: what unauthenticated peers can make us keep has a fixed size.
MOST = 2000


@dataclass(slots=True)
class SeenRow:
    """What was counted since it was last written; `last_seen` grows with `count`."""

    source: str
    reason: str
    credential: str
    identity: str
    count: int
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRow:
    """One row of the list."""

    source: str
    reason: str
    credential: str
    identity: str
    count: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Unlisted:
    """How many refusals are in no row, and when they were."""

    count: int
    first_at: datetime
    last_at: datetime


async def record(database: Database, rows: Sequence[SeenRow], *, unlisted: int, now: datetime) -> None:
    """Add `rows` and `unlisted` others to the record at `now`, and let the oldest beyond `MOST` go."""
    async with database.acquire() as connection:
        await connection.execute(
            database.queries["refusal_add"],
            [row.source for row in rows],
            [row.reason for row in rows],
            [row.identity.replace("\0", "") for row in rows],
            [row.credential for row in rows],
            [row.count for row in rows],
            [row.last_seen for row in rows],
        )
        gone = await connection.fetchval(database.queries["refusal_trim"], MOST)
        if unlisted or gone:
            await connection.execute(database.queries["refusal_unlisted_add"], unlisted + gone, now)


async def listed(database: Database, *, limit: int = 100) -> list[RefusalRow]:
    """The newest refusals."""
    return [
        RefusalRow(
            source=row["source"],
            reason=row["reason"],
            credential=row["credential"],
            identity=row["identity"],
            count=row["count"],
            first_seen=row["first_seen"],
            last_seen=row["last_seen"],
        )
        for row in await database.fetch("refusal_list", limit)
    ]


async def not_listed(database: Database) -> Unlisted | None:
    """The refusals that no row tells of, None when all are listed."""
    row = await database.fetchrow("refusal_unlisted")
    return Unlisted(row["count"], row["first_at"], row["last_at"]) if row is not None else None
