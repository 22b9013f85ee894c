"""Who came and was not admitted, by source and reason: what an operator looks at when a device does not appear.

Bounded here and in the record: what an unauthenticated peer can make us keep has a fixed size.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from server import logs
from server.metrics import Metrics
from server.store import refusals
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.refusals import SeenRow
from server.transport.engine import Refusal, printable
from server.transport.udp import Association

log = logs.get("seen")

# Distinct (source, reason, identity) kept between two flushes; more are only counted.
MOST = 256
FLUSH_EVERY = 1.0
# Lines a second in the log; a scan must not become a flood of ours.
LOGGED_PER_FLUSH = 20
# What a connected device asked for in vain: the word that is counted, and the one that is listed.
NOT_SERVED = {"path": "not_served", "method": "not_served", "option": "bad_option"}


class Seen:
    """The refusals of one worker since the last flush."""

    def __init__(self, *, database: Database, now: Callable[[], datetime], metrics: Metrics) -> None:
        self._database = database
        self._now = now
        self._metrics = metrics
        self._rows: dict[tuple[str, str, str], SeenRow] = {}
        self._logged = 0
        # Refusals that are in no row, and not on record yet.
        self.overflowed = 0

    def not_served(self, association: Association, reason: str, words: str) -> None:
        """Take a request of a connected device that reached no resource: its bootstrap may never begin.

        What may happen to any device in the middle of its bootstrap is only counted.
        """
        if reason in NOT_SERVED:
            peer = association.peer
            what = printable(f"{peer.label}: {words}".encode())
            self.note(association.address_text, NOT_SERVED[reason], peer.kind, what)

    def refused(self, refusal: Refusal) -> None:
        """Take a peer that a handshake or the policy refused; only after its cookie proved its address."""
        self.note(refusal.address, refusal.reason.value, refusal.credential, refusal.identity, refusal.detail)

    def note(self, address: str, reason: str, credential: str, identity: str, detail: str = "") -> None:
        """Count one refusal of `identity` (printable, at most 200 characters kept) at `address`.

        `reason` is a word of a closed list (RefusalReason, FailureCause); `detail` goes to the log alone.
        """
        source = address.rsplit(":", 1)[0] if address.count(":") == 1 or "]" in address else address
        key = (source, reason, identity[:200])
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MOST:
                self._overflow(1)
                return
            row = self._rows[key] = SeenRow(source, reason, credential, identity[:200], 0, self._now())
        row.count += 1
        row.last_seen = self._now()
        if self._logged < LOGGED_PER_FLUSH:
            self._logged += 1
            log.warning(
                "device_not_admitted",
                address=address,
                reason=reason,
                credential=credential,
                identity=key[2],
                **({"detail": detail} if detail else {}),
            )

    def _overflow(self, count: int) -> None:
        self.overflowed += count
        self._metrics.refusals_unlisted.inc(by=count)

    async def run(self) -> None:
        """Write what was seen into the record, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self._logged = 0
            if not self._rows:
                continue
            rows, self._rows = list(self._rows.values()), {}
            unlisted, self.overflowed = self.overflowed, 0
            try:
                await refusals.record(self._database, rows, unlisted=unlisted, now=self._now())
            except StoreUnavailable:
                log.warning("refusals_not_recorded", count=len(rows))
                self.overflowed += unlisted
                self._overflow(sum(row.count for row in rows))
