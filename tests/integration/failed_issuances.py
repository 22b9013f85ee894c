"""Wishes that came to nothing, old and young ones, and a night that takes them from the record."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from server.store import prune as pruning
from server.store.database import Database
from server.store.issuance_operations import OpenIssuance
from server.store.prune import Pruned
from server.store.writer import (
    Inserted,
    RecordFailed,
    Writer,
)
from tests.integration.rows import ACCOUNT, intent, issued, value

DAY = timedelta(days=1)
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
# Certificates without their key's row, and such rows without a certificate.
UNPAIRED = """
SELECT count(*)
FROM certificate c FULL JOIN known_key k
    ON k.spki_sha256 = c.spki_sha256 AND k.account_id = c.account_id AND k.endpoint = c.endpoint
WHERE c.issuance_id IS NULL OR k.spki_sha256 IS NULL
"""


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
