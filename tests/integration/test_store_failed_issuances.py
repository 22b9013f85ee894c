"""Retention of what came to nothing: it goes when it is old, and nothing that anything may still need goes with it."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from server.config import RetentionConfig
from server.store import devices, est_offers, issuances
from server.store import prune as pruning
from server.store.audit import Actor
from server.store.database import Database
from server.store.est_offers import NoteOffer
from server.store.issuance_operations import OpenIssuance
from server.store.writer import (
    Inserted,
    KeyTaken,
    MarkAbandoned,
    MarkDelivered,
    Writer,
)
from tests.integration.failed_issuances import DAY, certified, failed, grow_old, known, plant, prune
from tests.integration.rows import ACCOUNT, device, intent, state_of, value

OPERATOR = Actor(kind="cli", name="tester", request_id="")


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
