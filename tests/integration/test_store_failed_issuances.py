"""Retention of what came to nothing: it goes when it is old, and nothing that anything may still need goes with it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from issuers.errors import Rejected
from server.config import RetentionConfig
from server.errors import DailyLimit
from server.store import devices, est_offers, issuances
from server.store import prune as pruning
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.devices import device_lock
from server.store.errors import StoreUnavailable
from server.store.est_offers import NoteOffer
from server.store.issuance_operations import OpenIssuance
from server.store.postgres import EmbeddedPostgres
from server.store.prune import Pruned
from server.store.writer import (
    Inserted,
    KeyTaken,
    MarkAbandoned,
    MarkDelivered,
    RecordFailed,
    Writer,
)
from tests.integration.enrolments import enrolled, is_of
from tests.integration.field import Field, opened, profile, until
from tests.integration.issuers import MOST_CSRS, ScriptedCa, Workers, csr_wish, raises
from tests.integration.rows import ACCOUNT, device, intent, issued, state_of, value

DAY = timedelta(days=1)
OPERATOR = Actor(kind="cli", name="tester", request_id="")
# Wishes of a device, with a key each.
PLANT = """
WITH planted AS (
    INSERT INTO issuance (id, account_id, not_before, opened_at, updated_at, attempt, server_key, current, settled,
                          state, endpoint, service, owner, serial, csr_sha256, spki_sha256, csr, error_class,
                          error_text)
    SELECT gen_random_uuid(), $1, now(), at, at, 1, $4, false, true, $5, $2, 'LWM2M', 'gone', '\\x01',
           sha256(('csr' || $2::text || ':' || n)::bytea), sha256(('key' || $2::text || ':' || n)::bytea), '\\x30',
           CASE WHEN $5::text IN ('failed', 'refused') THEN 'Unavailable' END, 'the CA is away'
    FROM generate_series(1, $3::bigint) AS n, LATERAL (SELECT now() - $6::interval - n * interval '1 second' AS at) AS t
    RETURNING spki_sha256
)
INSERT INTO known_key (spki_sha256, account_id, endpoint) SELECT spki_sha256, $1, $2 FROM planted
"""
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


# Certificates without their key's row, and such rows without a certificate.
UNPAIRED = """
SELECT count(*)
FROM certificate c FULL JOIN known_key k
    ON k.spki_sha256 = c.spki_sha256 AND k.account_id = c.account_id AND k.endpoint = c.endpoint
WHERE c.issuance_id IS NULL OR k.spki_sha256 IS NULL
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    opened = await connect(database_url)
    yield opened
    await opened.close()


async def prune(database: Database, days: int = 730) -> Pruned:
    return await pruning.prune(
        database, sessions_days=90, audit_days=730, transcripts_days=7, failed_issuances_days=days
    )


async def plant(
    connection: Any,
    endpoint: str,
    number: int,
    *,
    account: UUID = ACCOUNT,
    server_key: bool = True,
    state: str = "failed",
    age: timedelta = 800 * DAY,
) -> None:
    """Wishes of `endpoint`, each a second older than the one before, the first of this `age`."""
    await connection.execute(PLANT, account, endpoint, number, server_key, state, age)


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


async def grow_old(connection: Any, days: int, *ids: UUID) -> None:
    """As if all that stands in these rows had come to pass so much earlier."""
    await connection.execute(
        "UPDATE issuance SET opened_at = opened_at - $2::interval, updated_at = updated_at - $2::interval,"
        " delivered_at = delivered_at - $2::interval, answers_until = answers_until - $2::interval,"
        " lease_until = lease_until - $2::interval WHERE id = ANY ($1)",
        ids,
        days * DAY,
    )


async def failed(
    writer: Writer, endpoint: str, state: str = "failed", *, error_class: str = "Unavailable", **fields: Any
) -> OpenIssuance:
    """A wish that ended with an error."""
    opened = intent(endpoint, **fields)
    assert await writer.write(opened) == Inserted()
    assert await writer.write(RecordFailed(opened.id, opened.owner, state, error_class, "it did not work"))
    return opened


async def certified(writer: Writer, endpoint: str, **fields: Any) -> OpenIssuance:
    opened = intent(endpoint, **fields)
    assert await writer.write(opened) == Inserted()
    assert await writer.write(issued(opened))
    return opened


async def known(database: Database, opened: OpenIssuance) -> bool:
    """Whether the public key of a wish belongs to somebody."""
    return bool(await value(database, "SELECT count(*) FROM known_key WHERE spki_sha256 = $1", opened.spki_sha256))


def test_it_is_kept_as_long_as_the_audit_unless_the_settings_say_otherwise() -> None:
    assert RetentionConfig().failed_issuances_days == RetentionConfig().audit_days


# -- what goes ----------------------------------------


@pytest.mark.parametrize("state", ["failed", "refused"])
@pytest.mark.parametrize("days", [30, 730])
async def test_what_came_to_nothing_goes_with_its_key_when_it_is_old(
    database: Database, writer: Writer, connection: Any, state: str, days: int
) -> None:
    young, old = await failed(writer, "dev", state), await failed(writer, "dev", state)
    await grow_old(connection, days - 1, young.id)
    await grow_old(connection, days + 1, old.id)
    pruned = await prune(database, days)
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (1, 1)
    assert [await state_of(database, each.id) for each in (young, old)] == [state, None]
    assert [await known(database, each) for each in (young, old)] == [True, False]


async def test_its_age_is_that_of_its_end(database: Database, writer: Writer, connection: Any) -> None:
    """A request that a slow CA refused at last, or whose outcome was found out late."""
    late = await failed(writer, "dev")
    await grow_old(connection, 800, late.id)
    await connection.execute("UPDATE issuance SET updated_at = now()")
    assert (await prune(database)).failed_issuances_deleted == 0


async def test_a_key_of_a_device_that_came_to_nothing_is_any_devices_then(
    database: Database, writer: Writer, connection: Any
) -> None:
    before = await failed(writer, "dev", key=b"key", server_key=False)
    await failed(writer, "dev", server_key=False)
    assert await writer.write(intent("other", key=b"key", server_key=False)) == KeyTaken("dev")
    await grow_old(connection, 800, before.id)
    assert (await prune(database)).keys_freed == 1
    assert await writer.write(intent("other", key=b"key", server_key=False)) == Inserted()


async def test_all_goes_however_much_it_is(
    database: Database, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 10)
    # Ten whole batches, of which the last does not know that it is.
    await plant(connection, "loops", 71)
    await plant(connection, "asks", 30, server_key=False)
    await plant(connection, "young", 7, age=DAY)
    pruned = await prune(database)
    # The last CSR of a device's own stays.
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (71 + 29, 71 + 29)
    assert await value(database, "SELECT count(*) FROM issuance") == 1 + 7
    assert await value(database, "SELECT count(*) FROM known_key") == 1 + 7
    assert (await prune(database)).failed_issuances_deleted == 0


# -- what stays ----------------------------------------


async def _delivered(writer: Writer) -> OpenIssuance:
    made = await certified(writer, "delivered")
    assert await writer.write(MarkDelivered(made.id))
    return made


async def _abandoned(writer: Writer) -> OpenIssuance:
    made = await certified(writer, "abandoned")
    assert await writer.write(MarkAbandoned(made.id, "gone", True))
    return made


async def _under_way(writer: Writer) -> OpenIssuance:
    made = intent("submitted")
    assert await writer.write(made) == Inserted()
    return made


async def _looked_into(writer: Writer) -> OpenIssuance:
    return await failed(writer, "looked-into", "unknown", error_class="OutcomeUnknown")


async def test_what_a_ca_signed_or_may_have_signed_stays_for_ever(
    database: Database, writer: Writer, connection: Any
) -> None:
    """Delivered or not, found bad or never heard of again: each may be a certificate that somebody shows one day."""
    waits, released = [await _looked_into(writer), await failed(writer, "released", "unknown")]
    for each in (waits, released):
        await issuances.leave_unknown(database, each.owner, each.id)
    await issuances.release(database, OPERATOR, ACCOUNT, "released")
    stay = [
        waits,
        released,
        await failed(writer, "bad", "bad", error_class="BadCertificate"),
        await certified(writer, "issued", server_key=False),
        await _delivered(writer),
        await _abandoned(writer),
        await _under_way(writer),
        await failed(writer, "not-given-up", "unknown", error_class="OutcomeUnknown"),
    ]
    before = [await state_of(database, each.id) for each in stay]
    await grow_old(connection, 18000, *(each.id for each in stay))
    pruned = await prune(database, 2)
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (0, 0)
    assert [await state_of(database, each.id) for each in stay] == before
    assert all([await known(database, each) for each in stay])
    # What waits for a person does so still.
    assert await issuances.waiting(database, ACCOUNT, waits.endpoint) == 1


async def test_a_refusal_that_answers_for_its_csr_stays(database: Database, writer: Writer, connection: Any) -> None:
    refused = await failed(writer, "dev", "refused", error_class="Rejected")
    await grow_old(connection, 800, refused.id)
    await connection.execute("UPDATE issuance SET answers_until = now() + interval '1 minute'")
    assert (await prune(database)).failed_issuances_deleted == 0
    await connection.execute("UPDATE issuance SET answers_until = now()")
    assert (await prune(database)).failed_issuances_deleted == 1


async def test_the_last_csr_of_a_device_for_a_service_stays_so_that_it_is_known_to_have_asked(
    database: Database, writer: Writer, connection: Any
) -> None:
    """`est_offers` reads it when the device's profile becomes one that may fall back (docs/est.md)."""
    rows = [await failed(writer, "dev", server_key=False, service=name) for name in ("LWM2M", "LWM2M", "meters")]
    made_here = await failed(writer, "dev")
    # The last is the last however the others lie.
    await grow_old(connection, 900, rows[0].id)
    await grow_old(connection, 800, *(each.id for each in rows[1:]), made_here.id)
    await writer.write(device(rows[0], at=datetime.now(UTC) - 1000 * DAY))
    assert (await prune(database)).failed_issuances_deleted == 2
    assert await state_of(database, rows[0].id) is None
    assert await state_of(database, made_here.id) is None
    now = datetime.now(UTC)
    for service, row in (("meters", rows[2]), ("LWM2M", rows[1])):
        await devices.forget(database, OPERATOR, ACCOUNT, "dev")
        await connection.execute("DELETE FROM est_offer")
        offered = {"offered_at": now, "waited_until": now + timedelta(minutes=2)}
        await writer.write(NoteOffer(account_id=ACCOUNT, endpoint="dev", services=frozenset({service}), **offered))
        offer = await est_offers.find(database, ACCOUNT, "dev")
        assert offer is not None
        assert offer.asked_at == await value(database, "SELECT opened_at FROM issuance WHERE id = $1", row.id)


@pytest.mark.parametrize("ends", ["certified", "unknown", "young"])
async def test_a_key_that_another_wish_of_the_device_names_stays(
    database: Database, writer: Writer, connection: Any, ends: str
) -> None:
    old = await failed(writer, "dev", key=b"key", server_key=False)
    match ends:
        case "certified":
            await certified(writer, "dev", key=b"key", server_key=False)
        case "unknown":
            await failed(writer, "dev", "unknown", key=b"key", server_key=False)
        case "young":
            await failed(writer, "dev", key=b"key", server_key=False)
    await grow_old(connection, 800, old.id)
    pruned = await prune(database)
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (1, 0)
    assert await writer.write(intent("other", key=b"key", server_key=False)) == KeyTaken("dev")


async def test_a_key_that_is_another_devices_since_stays(database: Database, writer: Writer, connection: Any) -> None:
    """Who removes a device lets its keys go: it comes back under another name."""
    old = await failed(writer, "dev", key=b"key", server_key=False)
    last = await failed(writer, "dev", key=b"key", server_key=False)
    await writer.write(device(old))
    await devices.remove(database, OPERATOR, ACCOUNT, "dev")
    await certified(writer, "renamed", key=b"key", server_key=False)
    await grow_old(connection, 800, old.id)
    await connection.execute("UPDATE issuance SET spki_sha256 = $2 WHERE id = $1", last.id, sha256(b"another").digest())
    pruned = await prune(database)
    assert (pruned.failed_issuances_deleted, pruned.keys_freed) == (1, 0)
    assert await writer.write(intent("other", key=b"key", server_key=False)) == KeyTaken("renamed")


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
