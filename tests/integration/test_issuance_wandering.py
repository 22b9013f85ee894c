"""A device that goes from worker to worker: of its certificates it keeps the one of the session that it began last."""

import asyncio
from dataclasses import replace

import pytest

from issuers.errors import Unavailable
from server.errors import TemporarilyUnavailable
from server.issuance import Wish
from server.store import issuances
from server.store.errors import StoreUnavailable
from server.store.operation import Operation
from server.store.writer import MarkAbandoned, OpenIssuance
from tests.integration.certificates import due
from tests.integration.issuers import Gate, ScriptedCa, Workers, in_turn, raises, wish


def entries() -> tuple[Wish, Wish]:
    """What one session wants: two names for one service."""
    first = wish()
    return first, replace(wish(unit="fleet"), session_id=first.session_id)


async def test_a_doubt_that_is_written_in_the_moment_its_device_is_back_is_ended(
    rig: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = [await rig.worker(name) for name in ("worker-1", "worker-2", "worker-3")]
    lost = await first.issuance.server_made(wish())
    write = second.writer.write

    async def doubted_before(operation: Operation[object]) -> object:
        if isinstance(operation, OpenIssuance):
            assert await third.writer.write(MarkAbandoned(lost.issuance_id, "its worker is gone", doubtful=True))
        return await write(operation)

    monkeypatch.setattr(second.writer, "write", doubted_before)
    await second.issuance.server_made(wish())
    assert await due(rig, lost.issuance_id) == "soon"


async def test_a_session_that_lags_behind_takes_nothing_from_the_one_its_device_went_on_to(
    rig: Workers, ca: ScriptedCa
) -> None:
    slow = Gate(ca.signs)
    ca.on_issue = in_turn(slow, ca.signs)
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    entry, other_entry = entries()
    lagging = asyncio.create_task(first.issuance.server_made(entry))
    await slow.reached.wait()
    made = await second.issuance.server_made(wish())
    slow.open.set()
    await lagging
    await first.issuance.server_made(other_entry)
    row = await issuances.find(rig.database, made.issuance_id)
    assert row is not None
    assert row.state == "issued"


async def test_a_further_attempt_of_a_session_that_lags_behind_does_not_mean_that_its_device_is_back(
    rig: Workers, ca: ScriptedCa
) -> None:
    slow = Gate(ca.loses_the_answer)
    ca.on_issue = in_turn(slow, ca.signs)
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    lagging = asyncio.create_task(first.issuance.server_made(wish()))
    await slow.reached.wait()
    at_work = await second.issuance.server_made(wish())
    slow.open.set()
    late = await lagging
    assert [row.id for row in await rig.rows()][1:] == [at_work.issuance_id, late.issuance_id]
    # Their workers die before they can tell how far they came.
    for made in (at_work, late):
        assert await second.writer.write(MarkAbandoned(made.issuance_id, "its worker is gone", doubtful=True))
    assert (await due(rig, at_work.issuance_id), await due(rig, late.issuance_id)) == ("never", "soon")


async def test_a_further_attempt_means_that_nobody_has_the_key_of_the_one_before(rig: Workers, ca: ScriptedCa) -> None:
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    device = wish()
    lost = await first.issuance.server_made(device)
    async with rig.database.acquire() as connection:
        # As if its answer had been lost, and found out by a worker that died at once.
        await connection.execute("UPDATE issuance SET owner = 'the dead'")
        await second.issuance.server_made(replace(device))
        await connection.execute("UPDATE issuance SET attempt = 2 WHERE id <> $1", lost.issuance_id)
    assert await second.writer.write(MarkAbandoned(lost.issuance_id, "its worker is gone", doubtful=True))
    assert await due(rig, lost.issuance_id) == "soon"


async def test_a_held_key_is_of_no_use_to_a_device_that_asked_elsewhere_meanwhile(rig: Workers, ca: ScriptedCa) -> None:
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    device = wish()
    made = await first.issuance.server_made(device)
    first.issuance.returned(made.issuance_id, device)
    ca.on_issue = in_turn(raises(Unavailable("down")), ca.signs)
    with pytest.raises(Unavailable):
        await second.issuance.server_made(wish())
    # Were it delivered now, the intent at the second would speak against it should this worker die.
    again = await first.issuance.server_made(wish())
    assert again.issuance_id != made.issuance_id
    assert await rig.states() == ["abandoned", "failed", "issued"]


async def test_a_certificate_in_the_making_is_of_no_use_to_a_device_that_asked_elsewhere_meanwhile(
    rig: Workers, ca: ScriptedCa
) -> None:
    slow = Gate(ca.signs)
    ca.on_issue = in_turn(slow, raises(Unavailable("down")), ca.signs)
    first, second = await rig.worker("worker-1", answer_seconds=0.05), await rig.worker("worker-2")
    with pytest.raises(TemporarilyUnavailable):
        await first.issuance.server_made(wish())
    with pytest.raises(Unavailable):
        await second.issuance.server_made(wish())
    back = asyncio.create_task(first.issuance.server_made(replace(wish(), hold_seconds=20.0)))
    await asyncio.sleep(0)
    slow.open.set()
    with pytest.raises(TemporarilyUnavailable, match="let go"):
        await back
    await first.issuance.server_made(wish())
    assert await rig.states() == ["abandoned", "failed", "issued"]


async def test_a_certificate_whose_predecessors_cannot_be_looked_for_is_left_to_whoever_settles(
    rig: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await rig.worker()

    async def is_away(*_: object) -> list[issuances.IssuanceRow]:
        raise StoreUnavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(issuances, "undelivered", is_away)
        with pytest.raises(StoreUnavailable):
            await worker.issuance.server_made(wish())
    assert not worker.issuance.attempts.leases.holds((await rig.row()).id)
    await worker.issuance.server_made(wish())
    assert await rig.states() == ["abandoned", "issued"]
