"""Retention: months made ahead, what is too old let go; what may stand for a certificate stays (design 7)."""

import asyncio
import time
from dataclasses import dataclass

import asyncpg

from server import logs
from server.store.database import Database
from server.store.devices import device_lock

log = logs.get("store")

# Months with a partition of their own: this one and the two that follow, for a server that nobody touches in December.
MONTHS_AHEAD = 3
# Seconds for one statement: what a fleet of a million leaves in a day takes longer than any other may. One that is cut
# short is undone, and the next would find yet more to do.
PATIENCE = 3600.0
# Failed issuances of one transaction: a few milliseconds, for which devices whose CSRs are among them may have to wait.
BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a run did; `keys_freed`: public keys that nothing but failed issuances named, and that are nobody's now.

    `postponed`: a table was too busy, the next run takes it.
    """

    months_made: int
    months_dropped: int
    sessions_deleted: int
    audit_deleted: int
    failed_issuances_deleted: int
    keys_freed: int
    enrollment_tasks_deleted: int
    verifications_deleted: int
    postponed: bool


async def prune(
    database: Database, *, sessions_days: int, audit_days: int, transcripts_days: int, failed_issuances_days: int
) -> Pruned:
    """Make partitions ahead, drop months that are wholly too old, delete the rest of what is too old.

    What is done is done, wherever it is stopped: the next run goes on. Raises StoreUnavailable.
    """
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
    # The end of a renewal, of a list of devices and of a verification is a final outcome, as an audit row is.
    await run("certificate_enrollment_delete_old", audit_days)
    tasks = await run("enrollment_task_delete_old", audit_days)
    verifications = await run("verification_delete_old", audit_days)
    failed = _FailedIssuances(database, failed_issuances_days)
    try:
        await failed.delete()
    except asyncpg.LockNotAvailableError:
        log.warning("prune_postponed", table="issuance")
        postponed = True
    pruned = Pruned(
        months_made=made,
        months_dropped=dropped,
        sessions_deleted=deleted["session"],
        audit_deleted=deleted["audit"],
        failed_issuances_deleted=failed.deleted,
        keys_freed=failed.keys_freed,
        enrollment_tasks_deleted=tasks,
        verifications_deleted=verifications,
        postponed=postponed,
    )
    log.info(
        "pruned",
        months_made=made,
        months_dropped=dropped,
        sessions=pruned.sessions_deleted,
        audit=pruned.audit_deleted,
        failed_issuances=pruned.failed_issuances_deleted,
        enrollment_tasks=tasks,
        verifications=verifications,
    )
    return pruned


class _FailedIssuances:
    """Issuances for which no CA signed anything, and their public keys, a batch a transaction."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days
        # The last one that was looked at: what stays is not looked at again.
        self._behind: tuple[object, object] = (None, None)
        self.deleted = 0
        self.keys_freed = 0

    async def delete(self) -> None:
        """All that are old enough; LockNotAvailableError where others hold what it needs, StoreUnavailable."""
        found = BATCH
        while found == BATCH:
            began = time.monotonic()
            found = await self._delete_batch()
            # Devices come first, and a server that was down for long has both many of them and much to delete.
            await asyncio.sleep(time.monotonic() - began)

    async def _delete_batch(self) -> int:
        """Delete what may go of the next `BATCH` that are old enough; how many these were."""
        queries = self._database.queries
        async with self._database.transaction() as connection:
            await connection.execute(queries["failed_issuances_session"])
            query = queries["failed_issuances_old"]
            rows = await connection.fetch(query, self._days, *self._behind, BATCH, timeout=PATIENCE)
            # An intent with a key of the device's own is written under this lock. So none that leans on a key's row
            # comes between our look and the row's end; and a device that is at work is left for the next run.
            own = [row for row in rows if not row["server_key"]]
            locks = {row["id"]: device_lock(row["account_id"], row["endpoint"]) for row in own}
            ours = await connection.fetch(queries["failed_issuances_locks"], sorted(set(locks.values())))
            free = {row["device"] for row in ours}
            chosen = [row["id"] for row in rows if row["server_key"] or locks[row["id"]] in free]
            # A statement of its own, so that it sees what whoever had the locks before committed.
            gone = await connection.fetchrow(queries["failed_issuances_delete"], chosen, timeout=PATIENCE)
        self.deleted += gone["issuances"]
        self.keys_freed += gone["keys"]
        if rows:
            self._behind = rows[-1]["opened_at"], rows[-1]["id"]
        return len(rows)
