"""Retention of what came to nothing, while devices come, on a large record, and cut short."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from issuers.errors import Rejected
from server.errors import DailyLimit
from server.store import prune as pruning
from server.store.database import Database
from server.store.devices import device_lock
from server.store.errors import StoreUnavailable
from server.store.postgres import EmbeddedPostgres
from server.store.writer import (
    Inserted,
    KeyTaken,
    MarkDelivered,
    Writer,
)
from tests.integration.enrolments import enrolled, is_of
from tests.integration.failed_issuances import DAY, UNPAIRED, certified, failed, grow_old, known, plant, prune
from tests.integration.field import Field, opened, profile, until
from tests.integration.issuers import MOST_CSRS, ScriptedCa, Workers, csr_wish, raises
from tests.integration.rows import ACCOUNT, intent, value

# Whoever deletes waits until the row is gone. A sequence tells at once, and the statements of a trigger see what was
# committed meanwhile.
GATE = """
CREATE SEQUENCE reached;
CREATE TABLE gate AS SELECT 'shut' AS is;
CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('reached');
    WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN OLD;
END $$;
CREATE TRIGGER gate BEFORE DELETE ON issuance FOR EACH ROW EXECUTE FUNCTION wait_at_the_gate();
"""


@contextlib.asynccontextmanager
async def _record_of(field: Field) -> AsyncIterator[Database]:
    """The record of a running server, as a command opens it."""
    postgres = EmbeddedPostgres(field.service.data, shared=True)
    database = await Database.open(await postgres.start(), migrate=False)
    try:
        yield database
    finally:
        await database.close()
        await postgres.stop()


# -- beside devices ----------------------------------------


async def test_a_device_that_is_at_work_is_left_for_the_next_night(
    database: Database, writer: Writer, connection: Any
) -> None:
    """Its intent may be about to lean on the row of a key: whose it is, it sees before we could tell it otherwise."""
    for endpoint in ("busy", "idle"):
        old = await failed(writer, endpoint, server_key=False)
        await failed(writer, endpoint, server_key=False)
        await grow_old(connection, 800, old.id)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", device_lock(ACCOUNT, "busy"))
        assert (await prune(database)).failed_issuances_deleted == 1
        assert await value(database, "SELECT count(*) FROM issuance WHERE endpoint = 'busy'") == 2
    assert (await prune(database)).failed_issuances_deleted == 1


async def test_an_intent_that_comes_meanwhile_has_its_key_in_the_end(
    database: Database, database_url: str, connection: Any
) -> None:
    """It waits for the device's lock, and claims the key anew."""
    session = database.queries["writer_session"]
    # However long this test takes to see that it waits.
    patient = {**database.queries, "writer_session": session.replace("'300ms'", "'8s'")}
    assert patient["writer_session"] != session
    writer = Writer(database_url, patient)
    await writer.start()
    old = await failed(writer, "dev", key=b"key", server_key=False)
    await failed(writer, "dev", server_key=False)
    await grow_old(connection, 800, old.id)
    async with _gate(connection) as reached:
        work = asyncio.create_task(prune(database))
        await until(reached)
        # As every CSR of a device's own is written: counted.
        again = replace(intent("dev", key=b"key", server_key=False), most=500)
        coming = asyncio.ensure_future(writer.write(again))
        await until(lambda: _waits(connection))
    assert (await work).failed_issuances_deleted == 1
    assert await coming == Inserted()
    assert await known(database, again)
    assert await writer.write(intent("other", key=b"key", server_key=False)) == KeyTaken("dev")
    await writer.close()


async def test_a_device_whose_keys_are_made_here_does_not_wait(
    database: Database, writer: Writer, connection: Any
) -> None:
    old = await failed(writer, "dev")
    await grow_old(connection, 800, old.id)
    async with _gate(connection) as reached:
        work = asyncio.create_task(prune(database))
        await until(reached)
        made = await certified(writer, "dev")
        assert await writer.write(MarkDelivered(made.id))
    assert (await work).failed_issuances_deleted == 1
    assert await known(database, made)


async def test_two_nodes_that_prune_at_once_share_the_work(
    database: Database, database_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 20)
    await plant(connection, "loops", 200)
    await plant(connection, "asks", 101, server_key=False)
    other = await Database.open(database_url, migrate=False)
    try:
        both = await asyncio.gather(prune(database), prune(other))
    finally:
        await other.close()
    # What one had locked when the other came by, and that may be a device's all, is left for the next night.
    again = await prune(database)
    assert sum(each.failed_issuances_deleted for each in (*both, again)) == 300
    assert await value(database, "SELECT count(*) FROM issuance") == 1
    assert await value(database, "SELECT count(*) FROM known_key") == 1


async def test_a_busy_table_is_left_for_the_next_night(database: Database, connection: Any) -> None:
    """As by a migration of the next version."""
    await plant(connection, "loops", 3)
    async with connection.transaction():
        await connection.execute("LOCK TABLE issuance IN SHARE MODE")
        pruned = await prune(database)
    assert (pruned.postponed, pruned.failed_issuances_deleted) == (True, 0)
    pruned = await prune(database)
    assert (pruned.postponed, pruned.failed_issuances_deleted) == (False, 3)


async def test_devices_bootstrap_while_what_came_of_their_earlier_tries_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole server, and devices of both kinds that it failed hundreds of times."""
    monkeypatch.setattr(pruning, "BATCH", 5)
    names = [f"live-{number}" for number in range(4)]
    async with opened(tmp_path, profiles={"est": profile("est-*", mode="est")}) as field, _record_of(field) as database:
        async with database.acquire() as connection:
            for name in (*names, "est-live"):
                # The server prunes by itself what is older than two years.
                age, account = 100 * DAY, UUID(field.account)
                await plant(connection, name, 400, server_key=name != "est-live", age=age, account=account)
        done = asyncio.Event()

        async def nights() -> int:
            gone = 0
            while not done.is_set() or gone == 0:
                gone += (await prune(database, 30)).failed_issuances_deleted
            return gone

        working = asyncio.create_task(nights())
        try:
            await field.bootstrapped(*names)
            async with field.device("est-live") as one:
                pair, chain = await enrolled(await one.connect(), "est-live")
                assert is_of(chain, pair, "est-live")
                await until(lambda: asyncio.sleep(0, bool(field.service.events("certificate_delivered"))))
        finally:
            done.set()
            gone = await working
        await prune(database, 30)
        assert gone > 0
        assert await value(database, "SELECT count(*) FROM issuance WHERE state <> 'delivered'") == 0
        assert await value(database, "SELECT count(*) FROM certificate") == len(names) + 1
        # Each certificate has its key, and nothing else has one.
        assert await value(database, UNPAIRED) == 0


async def test_a_csr_that_was_refused_long_ago_is_signed_while_its_refusal_goes(
    rig: Workers, ca: ScriptedCa, database: Database, connection: Any
) -> None:
    worker = await rig.worker()
    wishes = [csr_wish(f"dev-{number}") for number in range(MOST_CSRS)]
    for each in wishes:
        ca.on_issue = raises(Rejected("not on the list"))
        with pytest.raises(Rejected):
            await worker.device_made.certificate(each)
        # Another CSR since, or the refusal would be the last that is known of the device.
        ca.on_issue = ca.signs
        await worker.device_made.certificate(csr_wish(each.endpoint))
    await connection.execute(
        "UPDATE issuance SET opened_at = opened_at - interval '9 days', updated_at = updated_at - interval '9 days',"
        " answers_until = answers_until - interval '9 days' WHERE state = 'refused'"
    )
    again, *_ = await asyncio.gather(
        asyncio.gather(*(worker.device_made.certificate(each) for each in wishes)),
        *(prune(database, 2) for _ in range(3)),
    )
    assert len(again) == len(wishes)
    # Those that were told to answer no more before they went are as young as that.
    await connection.execute("UPDATE issuance SET updated_at = opened_at WHERE state = 'refused'")
    await prune(database, 2)
    assert await value(database, "SELECT count(*) FROM issuance WHERE state = 'issued'") == 2 * len(wishes)
    assert await value(database, "SELECT count(*) FROM issuance WHERE state <> 'issued'") == 0
    assert await value(database, UNPAIRED) == 0


async def test_the_bound_of_a_day_counts_as_before(rig: Workers, database: Database, connection: Any) -> None:
    worker = await rig.worker("worker-1", daily_csrs=1)
    await worker.device_made.certificate(csr_wish("dev"))
    await plant(connection, "dev", 5, server_key=False)
    assert (await prune(database, 2)).failed_issuances_deleted == 5
    with pytest.raises(DailyLimit, match="within 24 hours"):
        await worker.device_made.certificate(csr_wish("dev"))


# -- cut short ----------------------------------------


async def test_a_run_that_is_cut_short_loses_nothing_and_the_next_one_goes_on(
    database: Database, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 10)
    await plant(connection, "loops", 50)
    # The last of the third batch: the oldest goes first.
    await connection.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN OLD; END $$;"
        "CREATE TRIGGER dying BEFORE DELETE ON issuance FOR EACH ROW"
        " WHEN (OLD.csr_sha256 = sha256('csrloops:21'::bytea)) EXECUTE FUNCTION die()"
    )
    with pytest.raises(StoreUnavailable):
        await prune(database)
    # Two batches are done, the third is whole.
    assert await value(database, "SELECT count(*) FROM issuance") == 30
    assert await value(database, "SELECT count(*) FROM known_key") == 30
    await connection.execute("DROP TRIGGER dying ON issuance")
    pruned = await prune(database)
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (30, 30)
    assert await value(database, "SELECT count(*) FROM known_key") == 0


# -- many rows ----------------------------------------


def steps(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for step in plan.get("Plans", ()):
        yield from steps(step)


async def looked_at(connection: Any, text: str, *arguments: object) -> tuple[int, set[str]]:
    """How many rows of `issuance` and `known_key` a statement looks at, and by which indexes."""
    found = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments))
    number, indexes = 0, set()
    for step in steps(found[0]["Plan"]):
        if step.get("Relation Name") in ("issuance", "known_key") and "Scan" in step["Node Type"]:
            number += round((step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"])
        if step["Node Type"].endswith("Index Scan") or step["Node Type"] in ("Index Only Scan", "Seq Scan"):
            indexes.add(step.get("Index Name", "none"))
    return number, indexes


@pytest.mark.parametrize("counted", [False, True])
async def test_what_may_go_is_found_among_certificates_and_what_stays_by_indexes_alone(
    database: Database, connection: Any, counted: bool
) -> None:
    """Also when the tables were last counted while they were small."""
    await plant(connection, "young", 500, age=DAY)
    for number in range(3):
        await plant(connection, f"asks-{number}", 5, server_key=False)
    await connection.execute("ANALYZE issuance, known_key")
    await connection.execute("ALTER TABLE issuance SET (autovacuum_enabled = false)")
    await connection.execute("ALTER TABLE known_key SET (autovacuum_enabled = false)")
    for number in range(40):
        await plant(connection, f"certified-{number}", 100, state="delivered")
    if counted:
        await connection.execute("VACUUM ANALYZE issuance, known_key")
    queries = database.queries
    async with database.transaction() as inside:
        await inside.execute(queries["failed_issuances_session"])
        query, arguments = queries["failed_issuances_old"], (730, None, None, pruning.BATCH)
        number, indexes = await looked_at(inside, query, *arguments)
        assert (number < 100, indexes) == (True, {"issuance_failed", "issuance_endpoint"})
        chosen = [row["id"] for row in await inside.fetch(query, *arguments)]
        assert len(chosen) == 3 * 4
        number, indexes = await looked_at(inside, queries["failed_issuances_delete"], chosen)
        assert (number < 200, indexes) == (True, {"issuance_pkey", "issuance_endpoint", "known_key_pkey"})


# -- courses ----------------------------------------


@contextlib.asynccontextmanager
async def _gate(connection: Any) -> AsyncIterator[Any]:
    """What deletes a row of `issuance` waits inside; yields whether it does."""
    await connection.execute(GATE)

    async def reached() -> bool:
        return bool(await connection.fetchval("SELECT is_called FROM reached"))

    try:
        yield reached
    finally:
        await connection.execute("DELETE FROM gate")


async def _waits(connection: Any) -> bool:
    """Whether somebody waits for the lock of a device."""
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
