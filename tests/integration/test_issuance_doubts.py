"""Certificates that a device may be at work with although nobody knows it, and what ends that doubt (design 7)."""

import asyncio
from typing import Any

import pytest

from server.store import issuances
from server.store.issuances import IssuanceRow
from server.store.sql import load_queries
from server.store.writer import MarkAbandoned
from tests.integration.certificates import deliver, due, revoked
from tests.integration.field import until
from tests.integration.issuers import ScriptedCa, Workers, wish

KEY_HOLD = 120.0


async def test_a_certificate_that_the_device_may_hold_is_revoked_only_when_the_device_comes_back(
    rig: Workers, ca: ScriptedCa
) -> None:
    worker = await rig.worker()
    device = wish()
    made = await worker.issuance.server_made(device)
    # Its answer to the Finish was lost.
    worker.issuance.returned(made.issuance_id, device, doubtful=True)
    rig.clock.let_pass(KEY_HOLD + 1)
    await worker.issuance.expire_keys()
    assert await rig.states() == ["abandoned"]
    rig.clock.let_pass(365 * 24 * 3600)
    await worker.issuance.settlement.settle()
    assert ca.revoked == []
    await worker.issuance.server_made(wish())
    await worker.issuance.settlement.settle()
    assert ca.revoked == [made.serial]
    await revoked(rig)


async def test_a_device_that_is_back_while_its_lost_key_is_settled_ends_the_doubt(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await (await rig.worker()).issuance.server_made(wish())
    rig.clock.let_pass(365 * 24 * 3600)
    worker = await rig.worker("worker-2")
    abandon, reached, go_on = worker.issuance.settlement.abandon, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any, doubtful: bool = False) -> None:
        if doubtful:
            reached.set()
            await go_on.wait()
        await abandon(*args, doubtful=doubtful)

    monkeypatch.setattr(worker.issuance.settlement, "abandon", slowly)
    settling = asyncio.create_task(worker.issuance.settlement.settle_expired())
    await reached.wait()
    await worker.issuance.server_made(wish())
    go_on.set()
    await settling
    await revoked(rig)
    assert ca.revoked == [lost.serial]


async def test_a_device_that_is_back_in_the_moment_its_lost_key_is_adopted_ends_the_doubt(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await (await rig.worker()).issuance.server_made(wish())
    rig.clock.let_pass(365 * 24 * 3600)
    worker = await rig.worker("worker-2")
    undelivered, adopt = issuances.undelivered, issuances.adopt_expired
    seen, adopted = asyncio.Event(), asyncio.Event()

    async def seen_before(*args: Any) -> list[IssuanceRow]:
        rows = await undelivered(*args)
        seen.set()
        await adopted.wait()
        return rows

    async def adopted_after(*args: Any) -> list[IssuanceRow]:
        await seen.wait()
        rows = await adopt(*args)
        # Whoever waits for it goes on as soon as this task waits for anything.
        adopted.set()
        return rows

    monkeypatch.setattr(issuances, "undelivered", seen_before)
    monkeypatch.setattr(issuances, "adopt_expired", adopted_after)
    device = asyncio.create_task(worker.issuance.server_made(wish()))
    await worker.issuance.settlement.settle_expired()
    await device
    await revoked(rig)
    assert lost.serial in ca.revoked


async def test_a_later_wish_of_the_device_ends_the_doubt_of_whoever_comes_late(rig: Workers) -> None:
    first, second = await rig.worker(), await rig.worker("worker-2")
    # As if the row of the first had not been recovered yet when its device came back, and its settling had died.
    lost = await first.issuance.server_made(wish())
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET state = 'submitted'")
        await second.issuance.server_made(wish())
        await connection.execute("UPDATE issuance SET state = 'issued' WHERE id = $1", lost.issuance_id)
    assert await second.writer.write(MarkAbandoned(lost.issuance_id, "its worker is gone", doubtful=True))
    assert await due(rig, lost.issuance_id) == "soon"


async def test_an_earlier_wish_and_one_for_another_name_leave_the_doubt(rig: Workers) -> None:
    first, second = await rig.worker(), await rig.worker("worker-2")
    earlier = await first.issuance.server_made(wish())
    await deliver(first, wish(), earlier)
    kept = await second.issuance.server_made(wish())
    await second.issuance.server_made(wish(unit="another"))
    assert await second.writer.write(MarkAbandoned(kept.issuance_id, "its worker is gone", doubtful=True))
    assert await due(rig, kept.issuance_id) == "never"


async def test_whoever_is_sure_waits_for_the_doubt_of_another_that_is_being_written(rig: Workers) -> None:
    worker = await rig.worker()
    made = await worker.issuance.server_made(wish())
    queries = load_queries()
    async with rig.database.acquire() as connection:
        doubt = connection.transaction()
        await doubt.start()
        await connection.fetch(queries["write_abandoned"], [made.issuance_id], ["its worker is gone"], [True])
        sure = asyncio.ensure_future(worker.writer.write(MarkAbandoned(made.issuance_id, "the device came back")))

        async def waiting() -> bool:
            async with rig.database.acquire() as other:
                return bool(await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waiting)
        await doubt.commit()
    assert not await sure
    assert await due(rig, made.issuance_id) == "soon"


@pytest.mark.parametrize("sure_first", [True, False])
async def test_of_two_workers_who_give_up_a_certificate_the_one_who_is_sure_counts(
    rig: Workers, sure_first: bool
) -> None:
    first, second = await rig.worker(), await rig.worker("worker-2")
    made = await first.issuance.server_made(wish())
    sure = MarkAbandoned(made.issuance_id, "the device came back", doubtful=False)
    unsure = MarkAbandoned(made.issuance_id, "its worker is gone", doubtful=True)
    written = [
        await worker.writer.write(each)
        for worker, each in zip((first, second), (sure, unsure) if sure_first else (unsure, sure), strict=True)
    ]
    assert written == [True, False]
    assert await due(rig, made.issuance_id) == "soon"


async def test_who_comes_back_for_the_held_key_did_not_have_it(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    first, second = wish(), wish()
    made = await worker.issuance.server_made(first)
    worker.issuance.returned(made.issuance_id, first, doubtful=True)
    assert await worker.issuance.server_made(second) is made
    worker.issuance.returned(made.issuance_id, second)
    rig.clock.let_pass(KEY_HOLD + 1)
    await worker.issuance.expire_keys()
    await revoked(rig)
    assert ca.revoked == [made.serial]
