"""Retention: sessions 90 days, audit 2 years, certificates for ever; months made ahead and dropped (design 7)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from server.config import RetentionConfig
from server.store import enrollment_tasks, verifications
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.prune import MONTHS_AHEAD, Pruned, prune
from server.store.writer import Writer
from tests.integration import rows

DAY = timedelta(days=1)
SOMEBODY = Actor(kind="cli", name="tester", request_id="")


async def add_session(connection: Any, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO session (id, account_id, endpoint, started_at, profile, credential, address, outcome, sentence,"
        " steps) VALUES ($1, $2, 'dev', $3, 'default', 'x509', 'a', 'succeeded', '', '[]')",
        uuid4(),
        rows.ACCOUNT,
        at,
    )


async def add_audit(connection: Any, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO audit (id, at, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)"
        " VALUES ($1, $2, 'cli', 'a', '', 'x', 'x', 'x', '{}')",
        uuid4(),
        at,
    )


async def ages(connection: Any, table: str, column: str) -> list[int]:
    found = await connection.fetch(f"SELECT (now() - {column}) AS age FROM {table} ORDER BY {column} DESC")  # noqa: S608
    return [round(row["age"] / DAY) for row in found]


async def partitions(connection: Any, table: str) -> list[str]:
    found = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = $1::regclass ORDER BY c.relname",
        table,
    )
    return [row["relname"] for row in found]


async def run(database: Database, *, sessions_days: int = 90, audit_days: int = 730) -> Pruned:
    return await prune(
        database, sessions_days=sessions_days, audit_days=audit_days, transcripts_days=7, failed_issuances_days=730
    )


def month(offset: int) -> str:
    now = datetime.now(UTC)
    number = now.year * 12 + now.month - 1 + offset
    return f"{number // 12:04d}_{number % 12 + 1:02d}"


def test_the_settings_keep_sessions_90_days_and_the_audit_two_years() -> None:
    assert (RetentionConfig().sessions_days, RetentionConfig().audit_days) == (90, 730)


async def test_sessions_older_than_90_days_go(database: Database, connection: Any) -> None:
    now = datetime.now(UTC)
    for days in (0, 1, 89, 91, 400):
        await add_session(connection, now - days * DAY)
    pruned = await run(database)
    assert pruned.sessions_deleted == 2
    assert await ages(connection, "session", "started_at") == [0, 1, 89]


async def test_audit_rows_older_than_two_years_go(database: Database, connection: Any) -> None:
    now = datetime.now(UTC)
    for days in (0, 91, 729, 731, 4000):
        await add_audit(connection, now - days * DAY)
    pruned = await run(database)
    assert pruned.audit_deleted == 2
    assert await ages(connection, "audit", "at") == [0, 91, 729]


async def test_what_is_kept_is_a_setting(database: Database, connection: Any) -> None:
    now = datetime.now(UTC)
    for days in (0, 2, 5):
        await add_session(connection, now - days * DAY)
        await add_audit(connection, now - days * DAY)
    pruned = await run(database, sessions_days=1, audit_days=3)
    assert (pruned.sessions_deleted, pruned.audit_deleted) == (2, 1)
    assert await ages(connection, "session", "started_at") == [0]
    assert await ages(connection, "audit", "at") == [0, 2]


async def test_certificates_and_their_wishes_stay_for_ever(database: Database, writer: Writer, connection: Any) -> None:
    opened = rows.intent("dev")
    await writer.write(opened)
    await writer.write(rows.issued(opened))
    await writer.write(rows.session(opened, at=datetime.now(UTC) - 5000 * DAY))
    await connection.execute(
        "UPDATE certificate"
        " SET issued_at = issued_at - interval '50 years', not_after = not_after - interval '50 years'"
    )
    await connection.execute("UPDATE issuance SET opened_at = opened_at - interval '50 years'")
    pruned = await run(database, sessions_days=1, audit_days=1)
    assert pruned.sessions_deleted == 1
    for table in ("certificate", "issuance", "known_key", "issuing_chain"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 1, table  # noqa: S608


@pytest.fixture
async def account(connection: Any) -> UUID:
    await connection.execute("INSERT INTO account (id, name) VALUES ($1, 'one')", rows.ACCOUNT)
    return rows.ACCOUNT


async def test_reports_of_lists_of_devices_go_with_the_audit(
    database: Database, connection: Any, account: UUID
) -> None:
    for days in (0, 729, 731):
        task = await enrollment_tasks.run(database, SOMEBODY, account, "upload", {}, [], datetime.now(UTC))
        await connection.execute(
            "UPDATE device_enrollment_task SET completed_at = completed_at - $2::interval WHERE id = $1",
            task.id,
            days * DAY,
        )
    assert (await run(database)).enrollment_tasks_deleted == 1
    assert await ages(connection, "device_enrollment_task", "completed_at") == [0, 729]


async def test_verifications_go_with_the_audit_but_what_a_ca_may_have_signed_and_how_it_is_now(
    database: Database, connection: Any, account: UUID
) -> None:
    busy, left_alone = uuid4(), uuid4()
    for issuer in (busy, left_alone):
        await connection.execute(
            "INSERT INTO certificate_issuer (id, account_id, type, name, attributes) VALUES ($1, $2, 'X', $3, '{}')",
            issuer,
            account,
            issuer.hex,
        )

    async def verified(issuer: UUID, days: int, *, tested: bool = False, ended: bool = True) -> UUID:
        csr = b"c" * 32 if tested else None
        row = await verifications.begin(database, SOMEBODY, account, issuer, csr_sha256=csr)
        if ended:
            told = {"issuer_name": "x", "successful": True, "message": "", "steps": (), "serial": None, "works": True}
            await verifications.end(database, SOMEBODY, account, row, **told)  # type: ignore[arg-type]
        await connection.execute(
            "UPDATE verification SET started_at = started_at - $2::interval WHERE id = $1", row, days * DAY
        )
        return row

    gone = {
        await verified(busy, 731),
        await verified(busy, 4000),
        await verified(left_alone, 4000),
        # Its server stopped, and there was nothing to sign.
        await verified(left_alone, 800, ended=False),
    }
    stay = {
        await verified(busy, 729),
        await verified(busy, 4000, tested=True),
        await verified(busy, 4000, tested=True, ended=False),
        await verified(left_alone, 3000),
    }
    assert (await run(database)).verifications_deleted == len(gone)
    assert {row["id"] for row in await connection.fetch("SELECT id FROM verification")} == stay
    assert set(await verifications.latest(database, account)) == {busy, left_alone}


async def test_months_are_made_ahead_from_the_first_migration(connection: Any) -> None:
    for table in ("session", "audit"):
        assert await partitions(connection, table) == [
            *(f"{table}_{month(offset)}" for offset in range(MONTHS_AHEAD)),
            f"{table}_default",
        ]


async def test_a_second_run_makes_nothing(database: Database) -> None:
    assert await run(database) == Pruned(
        months_made=0,
        months_dropped=0,
        sessions_deleted=0,
        audit_deleted=0,
        failed_issuances_deleted=0,
        keys_freed=0,
        enrollment_tasks_deleted=0,
        verifications_deleted=0,
        postponed=False,
    )


async def test_as_time_goes_by_the_next_months_are_made(database: Database, connection: Any) -> None:
    for offset in (1, 2):
        await connection.execute(f"DROP TABLE session_{month(offset)}")
    assert (await run(database)).months_made == 2
    assert f"session_{month(2)}" in await partitions(connection, "session")


async def test_rows_that_came_before_their_month_was_made_move_into_it(database: Database, connection: Any) -> None:
    """A server that nobody pruned still records: rows wait in the default partition."""
    this = f"session_{month(0)}"
    await connection.execute(f"DROP TABLE {this}")
    await add_session(connection, datetime.now(UTC))
    assert await connection.fetchval("SELECT count(*) FROM session_default") == 1
    assert (await run(database)).months_made == 1
    assert await connection.fetchval("SELECT count(*) FROM session_default") == 0
    assert await connection.fetchval(f"SELECT count(*) FROM {this}") == 1  # noqa: S608


async def test_a_month_that_is_wholly_too_old_is_dropped_at_once(database: Database, connection: Any) -> None:
    now = datetime.now(UTC)
    await connection.execute("SELECT make_partitions('session', 'started_at', now() - interval '200 days', 3)")
    await add_session(connection, now - 199 * DAY)
    await add_session(connection, now - 1 * DAY)
    before = await partitions(connection, "session")
    pruned = await run(database)
    assert pruned.months_dropped >= 2
    assert pruned.sessions_deleted == 0
    assert await ages(connection, "session", "started_at") == [1]
    after = await partitions(connection, "session")
    assert len(before) - len(after) == pruned.months_dropped
    assert "session_default" in after


async def test_a_month_with_a_day_that_must_stay_is_kept(database: Database, connection: Any) -> None:
    now = datetime.now(UTC)
    await connection.execute("SELECT make_partitions('session', 'started_at', now() - interval '90 days', 1)")
    before = await partitions(connection, "session")
    await add_session(connection, now - 89 * DAY)
    assert (await run(database)).months_dropped == 0
    assert await partitions(connection, "session") == before
    assert await ages(connection, "session", "started_at") == [89]


async def test_a_busy_table_is_left_for_the_next_night(database: Database, connection: Any, database_url: str) -> None:
    """A night's work must not make devices wait behind it."""
    await connection.execute(f"DROP TABLE session_{month(2)}")
    holder = await connect(database_url)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE session IN ROW EXCLUSIVE MODE")
        await add_audit(connection, datetime.now(UTC) - 800 * DAY)
        pruned = await run(database)
        assert pruned.postponed
        assert (pruned.months_made, pruned.audit_deleted) == (0, 1)
        await transaction.rollback()
    finally:
        await holder.close()
    assert (await run(database)).months_made == 1


async def test_two_nodes_that_prune_at_once_do_not_disturb_each_other(
    database: Database, connection: Any, database_url: str
) -> None:
    for offset in (1, 2):
        await connection.execute(f"DROP TABLE session_{month(offset)}")
    await add_session(connection, datetime.now(UTC) - 100 * DAY)
    other = await Database.open(database_url, migrate=False)
    try:
        first, second = await asyncio.gather(run(database), run(other))
    finally:
        await other.close()
    assert first.months_made + second.months_made == 2
    assert first.sessions_deleted + second.sessions_deleted == 1


async def test_devices_are_recorded_while_it_runs(database: Database, writer: Writer, connection: Any) -> None:
    await connection.execute("SELECT make_partitions('session', 'started_at', now() - interval '400 days', 9)")
    done = asyncio.Event()

    async def devices() -> int:
        count = 0
        while not done.is_set():
            opened = rows.intent(f"dev-{count}")
            await writer.write(opened)
            await writer.write(rows.session(opened, at=datetime.now(UTC)))
            count += 1
        return count

    recording = asyncio.create_task(devices())
    try:
        for _ in range(5):
            await run(database)
    finally:
        done.set()
    count = await recording
    assert count > 0
    assert await connection.fetchval("SELECT count(*) FROM session") == count
