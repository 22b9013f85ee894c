"""Retention: months made ahead, old sessions and audit rows let go; certificates stay for ever (design 7)."""

from dataclasses import dataclass

import asyncpg

from server import logs
from server.store.database import Database

log = logs.get("store")

# Months with a partition of their own: this one and the two that follow, for a server that nobody touches in December.
MONTHS_AHEAD = 3
# Seconds for one statement: what a fleet of a million leaves in a day takes longer than any other may. One that is cut
# short is undone, and the next would find yet more to do.
PATIENCE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a run did; `postponed`: a table was too busy, the next run takes it."""

    months_made: int
    months_dropped: int
    sessions_deleted: int
    audit_deleted: int
    postponed: bool


async def prune(database: Database, *, sessions_days: int, audit_days: int, transcripts_days: int) -> Pruned:
    """Make partitions ahead, drop months that are wholly too old, delete the rest of what is too old."""
    made = dropped = 0
    deleted = {"session": 0, "audit": 0}
    postponed = False

    async def run(query: str, *arguments: object) -> int:
        return int(await database.fetchval(query, *arguments, timeout=PATIENCE))

    for table, column, days in (("session", "started_at", sessions_days), ("audit", "at", audit_days)):
        try:
            made += await run("partitions_make", table, column, MONTHS_AHEAD)
            dropped += await run("partitions_drop", table, days)
        except asyncpg.LockNotAvailableError:
            log.warning("prune_postponed", table=table)
            postponed = True
        deleted[table] = await run(f"{table}_delete_old", days)
    await run("transcript_delete_old", transcripts_days)
    # A renewal is a final outcome, as an audit row is.
    await run("certificate_enrollment_delete_old", audit_days)
    pruned = Pruned(
        months_made=made,
        months_dropped=dropped,
        sessions_deleted=deleted["session"],
        audit_deleted=deleted["audit"],
        postponed=postponed,
    )
    log.info(
        "pruned",
        months_made=made,
        months_dropped=dropped,
        sessions=pruned.sessions_deleted,
        audit=pruned.audit_deleted,
    )
    return pruned
