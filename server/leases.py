"""Which rows of the record are this worker's, and until when (design 7).

A row that is being asked about, or whose certificate is on its way to a device, is its worker's for as long as the
lease is renewed.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from server.errors import TemporarilyUnavailable
from server.store import issuances
from server.store.database import Database

# Seconds that a device stays away whose row is another worker's, or may be.
RETRY_AFTER = 5


class LeaseOver(TemporarilyUnavailable):
    """The lease of a row ended before the CA was asked for it: it was not, and is not, by us."""


class Lease(NamedTuple):
    """Until when a row is a worker's: in UTC as on record, and by the clock that nobody sets."""

    until: datetime
    ends: float


class Leases:
    """The rows that one worker, `owner`, is at work on."""

    def __init__(
        self,
        *,
        database: Database,
        owner: str,
        lease: timedelta,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease
        self._clock = clock
        self._now = now
        self._ours: dict[UUID, Lease] = {}

    def holds(self, issuance_id: UUID) -> bool:
        """Whether this worker is at work on the row."""
        return issuance_id in self._ours

    def new(self) -> Lease:
        """A lease that begins now."""
        return Lease(self._now() + self._lease, self._clock() + self._lease.total_seconds())

    def take(self, issuance_ids: Iterable[UUID], lease: Lease) -> None:
        """Renew the leases of these rows from now on, which are on record as `lease`."""
        self._ours.update(dict.fromkeys(issuance_ids, lease))

    def take_opened(self, issuance_id: UUID, until: datetime, since: float) -> None:
        """Renew the lease of a row whose intent is on record: `until` stands there, `since` is when it began."""
        self._ours[issuance_id] = Lease(until, since + self._lease.total_seconds())

    def leave(self, issuance_id: UUID) -> None:
        """Let the lease of this row run out."""
        self._ours.pop(issuance_id, None)

    async def renew(self) -> None:
        """Renew every lease; rows that are settled, or another worker's by now, are let go."""
        asked, lease = tuple(self._ours), self.new()
        if asked:
            kept = await issuances.renew_leases(self._database, self._owner, asked, lease.until)
            for issuance_id in asked:
                if issuance_id not in kept:
                    self.leave(issuance_id)
                elif issuance_id in self._ours:
                    self._ours[issuance_id] = lease

    def still_due(self, issuance_id: UUID) -> None:
        """Return while the row is ours by both clocks; raises LeaseOver, or TemporarilyUnavailable when it is not.

        A process may stand still, and its host too, for longer than a lease; whoever has the row by then asked the CA
        what became of the request and would never hear of a certificate that is made later.
        """
        lease = self._ours.get(issuance_id)
        if lease is None:
            raise taken_over()
        if self._now() >= lease.until or self._clock() >= lease.ends:
            raise LeaseOver(
                "this server stood still for longer than its lease, and the CA was not asked", retry_after=RETRY_AFTER
            )


def taken_over() -> TemporarilyUnavailable:
    """What a device is told whose row another worker has."""
    return TemporarilyUnavailable("another worker settled this issuance meanwhile", retry_after=RETRY_AFTER)
