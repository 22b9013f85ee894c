"""Wishes that failed stay on record: what is asked of others does not read them, however many they are."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from server.store import issuer_chains, listings, statistics
from server.store.conditions import Condition
from server.store.listings import Window
from tests.api.conftest import Api
from tests.console.seed import seed

DEVICES = 310
FAILED = 3000
NOW = datetime.now(UTC)

# As many as a CA leaves that was away for long; one request beside them waits for a person.
FAIL = """
INSERT INTO issuance (id, account_id, not_before, opened_at, updated_at, attempt, server_key, current, settled, state,
                      endpoint, service, owner, serial, csr_sha256, spki_sha256, csr, error_class, error_text)
SELECT md5('f' || n)::uuid, $1, $3, $3, $3, 1, true, n = 1, true, CASE WHEN n = 1 THEN 'unknown' ELSE 'failed' END,
       'urn:imei:' || n, 'LWM2M', 'seed', decode(md5('f' || n), 'hex'), sha256(('c' || n)::bytea),
       sha256(('k' || n)::bytea), '\\x30', 'Unavailable', 'the CA is away'
FROM generate_series(1, $2::bigint) AS n
"""


@pytest.fixture
async def failed(api: Api) -> Api:
    """A small fleet, and many wishes that came to nothing."""
    database = api.office.database
    await seed(database, api.account_id, devices=DEVICES, now=NOW)
    async with database.acquire() as connection:
        await connection.execute(FAIL, api.account_id, FAILED, NOW)
        # A certificate answers for its CSR as long as no other one does.
        await connection.execute("UPDATE issuance SET current = true WHERE state = 'delivered'")
        await connection.execute("VACUUM ANALYZE issuance")
    return api


def read(plan: Mapping[str, Any]) -> Iterator[int]:
    """How many rows of `issuance` each step of an executed plan looked at."""
    if plan.get("Relation Name") == "issuance":
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        yield round(looked_at * plan["Actual Loops"])
    for step in plan.get("Plans", ()):
        yield from read(step)


async def looked_at(connection: Any, text: str, *arguments: object) -> int:
    found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
    return sum(read(json.loads(found)[0]["Plan"]))


async def test_what_waits_for_a_person_is_found_among_what_failed(failed: Api) -> None:
    database, account_id = failed.office.database, failed.account_id
    soon, overdue = timedelta(days=30), timedelta(hours=1)
    facts = await statistics.facts(database, account_id, now=NOW, soon=soon, overdue=overdue)
    assert (facts.unknown, facts.unknown_since) == (1, NOW)
    async with database.transaction() as connection:
        await connection.execute(database.queries["listing_session"])
        text = database.queries["attention_facts"]
        assert await looked_at(connection, text, account_id, NOW, statistics.MOST, NOW + soon, NOW - overdue) < 100


@pytest.mark.parametrize("sort", ["created_at", "not_after"])
async def test_certificates_that_were_not_delivered_are_found_among_what_failed(failed: Api, sort: str) -> None:
    database, account_id = failed.office.database, failed.account_id
    await _abandon_one(failed)
    window = Window(conditions=[Condition("state", "eq", ("abandoned",))], sort=sort, limit=51)
    assert len(await listings.page(database, account_id, "certificate", window)) == 1
    async with database.transaction() as connection:
        await connection.execute(database.queries["listing_session"])
        ((text, arguments),) = await listings._statements(database, connection, account_id, "certificate", window)
        assert await looked_at(connection, text, *arguments) < 100


async def test_who_holds_a_certificate_of_a_service_is_counted(failed: Api) -> None:
    """By what stands in the devices' rows for LWM2M; by the certificates for the others, delivered and at work."""
    database, account_id = failed.office.database, failed.account_id
    async with database.acquire() as connection:
        held = await connection.fetchval(
            "SELECT count(*) FROM device d JOIN certificate c ON c.issuance_id = d.certificate_id"
            " WHERE c.issuer_id IS NULL AND c.revoked_at IS NULL"
        )
        assert held > 100
        assert await issuer_chains.holders(database, account_id, NOW) == {"LWM2M": held}
        revoked = await connection.fetchval(
            "UPDATE certificate SET revoked_at = $1 WHERE issuance_id ="
            " (SELECT certificate_id FROM device WHERE certificate_id IS NOT NULL AND issuer_id IS NULL LIMIT 1)"
            " RETURNING issuance_id",
            NOW,
        )
        assert revoked is not None
        assert await issuer_chains.holders(database, account_id, NOW) == {"LWM2M": held - 1}
        await connection.execute(
            "INSERT INTO certificate_issuer_configuration (id, account_id, reference) VALUES ($1, $2, 'meters')",
            uuid4(),
            account_id,
        )
        # Two certificates of one device, one of another that never fetched it.
        ids = await connection.fetch(
            "SELECT c.issuance_id, c.endpoint FROM certificate c JOIN issuance i ON i.id = c.issuance_id"
            " WHERE c.issuer_id IS NULL AND c.revoked_at IS NULL AND i.state = 'delivered'"
            " ORDER BY c.endpoint, c.issued_at"
        )
        twice = next((a, b) for a, b in pairwise(ids) if a["endpoint"] == b["endpoint"])
        other = next(row for row in ids if row["endpoint"] != twice[0]["endpoint"])
        chosen = [row["issuance_id"] for row in (*twice, other)]
        await connection.execute("UPDATE certificate SET service = 'meters' WHERE issuance_id = ANY ($1)", chosen)
        await connection.execute("UPDATE issuance SET delivered_at = NULL WHERE id = $1", other["issuance_id"])
    assert (await issuer_chains.holders(database, account_id, NOW))["meters"] == 1


async def _abandon_one(failed: Api) -> None:
    """As the writer does; those of the fleet are made delivered."""
    async with failed.office.database.acquire() as connection:
        await connection.execute(
            "UPDATE issuance SET state = 'delivered', delivered_at = $1 WHERE state = 'abandoned'", NOW
        )
        await connection.execute(
            "UPDATE issuance SET state = 'abandoned', current = false, delivered_at = NULL, error_class = 'Abandoned'"
            " WHERE id = (SELECT issuance_id FROM certificate LIMIT 1)"
        )
