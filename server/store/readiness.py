"""What all workers know of a CA's readiness: failures in a row, until when nobody asks, the last error."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from server.store.database import Database

# Nobody is told to leave a CA alone for longer, clocks of servers that differ included. A time beyond it was said by a
# clock that was set back since, and counts for nothing.
FARTHEST = timedelta(minutes=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """One CA: `open_until` None = it is asked; `since` None = nothing is wrong, the error is an old one."""

    issuer_id: UUID
    failures: int
    open_until: datetime | None
    # The CA itself asked for less, until then.
    throttled_until: datetime | None
    error_class: str
    error_text: str
    since: datetime | None
    updated_at: datetime

    def is_throttled(self, now: datetime) -> bool:
        """Whether nobody asks at `now` because the CA asked for less."""
        return self.throttled_until is not None and now < self.throttled_until <= now + FARTHEST

    def is_shut(self, now: datetime) -> bool:
        """Whether nobody asks at `now` because the CA failed."""
        return self.open_until is not None and now < self.open_until <= now + FARTHEST


def _row(row: Any) -> Readiness:
    return Readiness(
        issuer_id=row["issuer_id"],
        failures=row["failures"],
        open_until=row["open_until"],
        throttled_until=row["throttled_until"],
        error_class=row["error_class"],
        error_text=row["error_text"],
        since=row["since"],
        updated_at=row["updated_at"],
    )


async def find(database: Database, issuer_id: UUID) -> Readiness | None:
    """What is known of a CA; None = nothing was ever wrong."""
    row = await database.fetchrow("readiness_find", issuer_id)
    return _row(row) if row is not None else None


async def listed(database: Database, account_id: UUID) -> dict[UUID, Readiness]:
    """What is known of the CAs of an account."""
    return {row["issuer_id"]: _row(row) for row in await database.fetch("readiness_list", account_id)}


async def failed(
    database: Database, issuer_id: UUID, error_class: str, error_text: str, *, opens_at: int, open_until: datetime
) -> Readiness | None:
    """One more failure in a row; from the `opens_at`-th on nobody asks before `open_until`. None: the CA is gone."""
    row = await database.fetchrow("readiness_failed", issuer_id, error_class, error_text, opens_at, open_until)
    return _row(row) if row is not None else None


async def throttled(database: Database, issuer_id: UUID, error_text: str, until: datetime) -> Readiness | None:
    """The CA asked for less; nobody asks it before `until`. None: the CA is gone."""
    row = await database.fetchrow("readiness_throttled", issuer_id, error_text, until, FARTHEST)
    return _row(row) if row is not None else None


async def take_turn(
    database: Database, issuer_id: UUID, now: datetime, *, apart: timedelta, saved: timedelta, patience: timedelta
) -> datetime | None:
    """Take the next token of the CA's bucket; when it falls due, None when that is more than `patience` away."""
    row = await database.fetchrow("issuer_pace_take", issuer_id, now, apart, saved, patience, FARTHEST)
    return row["at"] if row is not None else None


async def worked(database: Database, issuer_id: UUID, disproved: Sequence[str] | None = None) -> bool:
    """The CA did its work, which ends a row of failures whose last is `disproved`, or any; whether there was one."""
    return await database.fetchrow("readiness_worked", issuer_id, disproved) is not None


async def take_probe(database: Database, issuer_id: UUID, now: datetime, until: datetime) -> bool:
    """Whether it is the caller's turn to look if the CA is back; the others leave it alone `until` then."""
    return await database.fetchrow("readiness_take_probe", issuer_id, now, until, now + FARTHEST) is not None
