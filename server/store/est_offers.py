"""What devices made of mode 4 where a key made here would do as well."""

import json
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from server.store.database import Database
from server.store.operation import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class EstOffer:
    """One device: it took mode 4 in `rounds` bootstraps and asked for no certificate, the last time at `offered_at`.

    Its CSR was waited for until `waited_until`; `asked_at` is when it asked for the first time, if it ever did.
    """

    rounds: int = 0
    offered_at: datetime | None = None
    waited_until: datetime | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteOffer(Operation[None]):
    """A device took mode 4 (`offered_at`) and is waited for, or asked for a certificate (`asked_at`); neither: the
    rounds are counted anew. `services` are those it may ask for.
    """

    statement: ClassVar[str] = "write_est_offers"
    kept: ClassVar[bool] = True

    account_id: UUID
    endpoint: str
    offered_at: datetime | None = None
    waited_until: datetime | None = None
    asked_at: datetime | None = None
    services: frozenset[str] = frozenset()

    def keys(self) -> tuple[Hashable, ...]:
        """The device, by what names it."""
        return ((self.account_id, self.endpoint),)

    def row(self) -> tuple[object, ...]:
        """As `write_est_offers`."""
        return (
            self.account_id,
            self.endpoint,
            self.offered_at,
            self.waited_until,
            self.asked_at,
            json.dumps(sorted(self.services)),
        )


async def find(database: Database, account_id: UUID, endpoint: str) -> EstOffer | None:
    """What is on record of a device; None when it was never offered mode 4 so, nor asked for a certificate."""
    row = await database.fetchrow("est_offer_find", account_id, endpoint)
    if row is None:
        return None
    return EstOffer(
        rounds=row["rounds"],
        offered_at=row["offered_at"],
        waited_until=row["waited_until"],
        asked_at=row["asked_at"],
    )
