"""The life of a server-made key: held for the device that comes back, and given up for good (design 2.1)."""

import asyncio

import pytest

from issuers.base import Capability, Recovery
from issuers.errors import NotSupported, Unavailable
from server import issuance
from server.errors import TemporarilyUnavailable
from server.store import certificates
from server.store.database import Database
from server.store.writer import MarkDelivered
from tests.integration.certificates import certificate, deliver, revoked
from tests.integration.field import until
from tests.integration.issuers import (
    Gate,
    ScriptedCa,
    Workers,
    belongs_together,
    raises,
    wish,
    workers,
)

KEY_HOLD = 120.0


# -- the device comes back --


async def test_the_same_endpoint_gets_the_held_key_within_its_time(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    first, second = wish(), wish()
    made = await worker.issuance.server_made(first)
    worker.issuance.returned(made.issuance_id, first)
    rig.clock.let_pass(KEY_HOLD - 1)
    await worker.issuance.expire_keys()
    assert await worker.issuance.server_made(second) is made
    assert (await rig.states(), len(ca.asked)) == (["issued"], 1)
    await deliver(worker, second, made)
    assert await rig.states() == ["delivered"]
    assert worker.counted("delivered") == 1


async def test_a_delivered_key_is_forgotten(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    await deliver(worker, device, made)
    again = await worker.issuance.server_made(wish())
    assert again.credential.private_key_pkcs8 != made.credential.private_key_pkcs8
    assert await rig.states() == ["delivered", "issued"]
    assert ca.revoked == []


async def test_a_certificate_whose_delivery_is_not_yet_on_record_is_not_taken_back(
    rig: Workers, ca: ScriptedCa
) -> None:
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    worker.issuance.delivered(made.issuance_id, device)
    # The device is back before the commit: it may have restarted.
    await worker.issuance.server_made(wish())
    assert await worker.writer.write(MarkDelivered(made.issuance_id))
    assert await rig.states() == ["delivered", "issued"]
    assert ca.revoked == []


async def test_a_key_does_not_run_out_while_a_session_delivers_it(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    rig.clock.let_pass(2 * KEY_HOLD)
    await worker.issuance.expire_keys()
    assert await rig.states() == ["issued"]
    await deliver(worker, device, made)
    assert (await rig.states(), ca.revoked) == (["delivered"], [])


async def test_a_session_that_was_replaced_does_not_end_the_time_of_the_newer_one(rig: Workers) -> None:
    worker = await rig.worker()
    older, newer = wish(), wish()
    made = await worker.issuance.server_made(older)
    assert await worker.issuance.server_made(newer) is made
    worker.issuance.returned(made.issuance_id, older)
    rig.clock.let_pass(2 * KEY_HOLD)
    await worker.issuance.expire_keys()
    assert await rig.states() == ["issued"]


async def test_another_name_for_the_same_service_is_another_certificate(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    plain, other = wish(), wish(unit="fleet")
    made = [await worker.issuance.server_made(each) for each in (plain, other)]
    assert made[0].issuance_id != made[1].issuance_id
    # The second took nothing away from the first.
    for device, each in zip((plain, other), made, strict=True):
        await deliver(worker, device, each)
    assert await rig.states() == ["delivered", "delivered"]
    assert ca.revoked == []


# -- the device does not come back --


async def test_a_key_past_its_time_is_abandoned_and_its_certificate_revoked(rig: Workers, ca: ScriptedCa) -> None:
    # A CA that chooses its own serial numbers: the one that was wished for means nothing to it.
    ca.serial = lambda request: request.serial ^ 1
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    worker.issuance.returned(made.issuance_id, device)
    rig.clock.let_pass(KEY_HOLD + 1)
    await worker.issuance.expire_keys()
    row = await rig.row()
    assert (row.state, row.error_class, row.error_text) == ("abandoned", "Abandoned", "not delivered within 120 s")
    gone = await revoked(rig)
    assert ca.revoked == [gone.serial] == [made.serial]
    assert gone.revocation_reason == "cessationOfOperation"
    assert (await worker.issuance.server_made(wish())).issuance_id != made.issuance_id


async def test_a_key_past_its_time_is_not_used_even_if_nobody_looked_yet(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    worker.issuance.returned(made.issuance_id, device)
    rig.clock.let_pass(KEY_HOLD + 1)
    again = await worker.issuance.server_made(wish())
    assert again.issuance_id != made.issuance_id
    assert await rig.states() == ["abandoned", "issued"]


async def test_a_certificate_that_nobody_came_for_is_abandoned(rig: Workers, ca: ScriptedCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker(answer_seconds=0.05)
    with pytest.raises(TemporarilyUnavailable):
        await worker.issuance.server_made(wish())
    gate.open.set()
    await until(lambda: _issued(rig))
    rig.clock.let_pass(KEY_HOLD + 1)

    async def abandoned() -> bool:
        await worker.issuance.expire_keys()
        return await rig.states() == ["abandoned"]

    await until(abandoned)
    await revoked(rig)


async def _issued(rig: Workers) -> bool:
    return await rig.states() == ["issued"]


async def test_a_device_that_comes_back_to_another_worker_gets_a_new_key_at_once(rig: Workers, ca: ScriptedCa) -> None:
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    device = wish()
    made = await first.issuance.server_made(device)
    first.issuance.returned(made.issuance_id, device)
    hanging = asyncio.Event()

    async def hangs(serial: int) -> None:
        await hanging.wait()
        await ca.notes(serial)

    ca.on_revoke = hangs
    # It does not wait for the old certificate to be revoked.
    again = await second.issuance.server_made(wish())
    assert belongs_together(again, ca)
    assert await rig.states() == ["abandoned", "issued"]
    hanging.set()
    await revoked(rig)
    assert ca.revoked == [made.serial]
    # And back at the first: its key is worth nothing any more, and the second worker's is not there.
    last = await first.issuance.server_made(wish())
    assert last.issuance_id not in (made.issuance_id, again.issuance_id)
    assert await rig.states() == ["abandoned", "abandoned", "issued"]


# -- revoking --


async def abandoned(rig: Workers) -> None:
    """A certificate that was abandoned a moment ago."""
    worker = await rig.worker(key_hold_seconds=0.0)
    device = wish()
    made = await worker.issuance.server_made(device)
    worker.issuance.returned(made.issuance_id, device)
    await worker.issuance.expire_keys()
    assert await rig.states() == ["abandoned"]


@pytest.mark.parametrize("error", [Unavailable("down"), ZeroDivisionError("a fault")], ids=["CA", "ours"])
async def test_what_could_not_be_revoked_is_tried_again_later(rig: Workers, ca: ScriptedCa, error: Exception) -> None:
    tries: list[int] = []

    async def fails(serial: int) -> None:
        tries.append(serial)
        raise error

    ca.on_revoke = fails
    await abandoned(rig)

    async def tried() -> bool:
        return len(tries) == 1

    await until(tried)
    other = await rig.worker("worker-2")
    await other.issuance.settlement.revoke_due()
    assert len(tries) == 1
    rig.clock.let_pass(61)
    await other.issuance.settlement.revoke_due()
    assert len(tries) == 2
    assert (await certificate(rig)).revoked_at is None
    ca.on_revoke = ca.notes
    # It is not tried at every look.
    await other.issuance.settlement.revoke_due()
    assert ca.revoked == []
    rig.clock.let_pass(certificates.REVOCATION_PAUSE.total_seconds() + 1)
    await other.issuance.settlement.revoke_due()
    assert ca.revoked == [(await certificate(rig)).serial] == [tries[0]]
    assert (await certificate(rig)).revoked_at is not None


class Keeper(ScriptedCa):
    """Cannot revoke."""

    capabilities = frozenset({Capability.COLLECT})
    recovery = Recovery.NONE


@pytest.mark.parametrize("says_so", [True, False], ids=["declared", "found out"])
async def test_where_a_ca_cannot_revoke_nobody_tries_for_ever(
    database: Database, database_url: str, says_so: bool
) -> None:
    ca = Keeper() if says_so else ScriptedCa()
    ca.on_revoke = raises(NotSupported("this CA has no such call"))
    async with workers(database, database_url, ca) as rig:
        await abandoned(rig)

        async def nothing_is_due() -> bool:
            async with database.acquire() as connection:
                due = await connection.fetchval("SELECT count(*) FROM certificate WHERE revocation_due IS NOT NULL")
                return bool(due == 0)

        await until(nothing_is_due)
        assert (await certificate(rig)).revoked_at is None


# -- the worker stops --


async def test_a_worker_that_stops_takes_an_answer_that_is_on_its_way(rig: Workers, ca: ScriptedCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker(answer_seconds=0.05)
    with pytest.raises(TemporarilyUnavailable):
        await worker.issuance.server_made(wish())
    stopping = asyncio.ensure_future(worker.issuance.close())
    await asyncio.sleep(0)
    gate.open.set()
    await stopping
    assert await rig.states() == ["issued"]


async def test_a_worker_that_stops_leaves_a_ca_that_does_not_answer_to_the_next(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuance, "CLOSE_PATIENCE", 0.05)
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker()
    waiting = asyncio.ensure_future(worker.issuance.server_made(wish()))
    await gate.reached.wait()
    await worker.issuance.close()
    with pytest.raises(TemporarilyUnavailable, match="stopping"):
        await waiting
    row = await rig.row()
    assert (row.state, row.error_class) == ("submitted", None)
