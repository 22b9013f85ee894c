"""An answer of the CA that was lost: looked up, asked for again, replaced, or left to people (design 7)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from issuers.errors import OutcomeUnknown, Unavailable
from server import unopened
from server.errors import NotFound, TemporarilyUnavailable
from server.issuance import ServerMade
from server.store import audit, issuances
from server.store.audit import Actor
from server.store.database import Database
from server.store.operation import Operation
from server.store.writer import OpenIssuance
from tests.integration.field import until
from tests.integration.issuers import (
    Gate,
    LookupCa,
    ScriptedCa,
    TokenCa,
    Workers,
    belongs_together,
    died_while_asking,
    in_turn,
    raises,
    wish,
    workers,
)
from tests.integration.rows import ACCOUNT

OPERATOR = Actor(kind="cli", name="kim", request_id="")


def meeting(
    write: Callable[[Operation[Any]], Awaitable[Any]], ready: asyncio.Barrier
) -> Callable[[Operation[Any]], Awaitable[Any]]:
    """`write` whose intents wait until everybody has one."""

    async def written(operation: Operation[Any]) -> Any:
        if isinstance(operation, OpenIssuance):
            await ready.wait()
        return await write(operation)

    return written


async def test_a_lost_answer_that_the_ca_can_look_up_costs_nothing(database: Database, database_url: str) -> None:
    ca = LookupCa()
    ca.on_issue = ca.loses_the_answer
    async with workers(database, database_url, ca) as rig:
        worker = await rig.worker()
        made = await worker.issuance.server_made(wish())
        assert belongs_together(made, ca)
        assert await rig.states() == ["issued"]
        assert (len(ca.asked), len(ca.recovered), ca.signed_once) == (1, 1, True)
        assert worker.counted("unknown") == 0


@pytest.mark.parametrize("on_unknown", ["reissue", "hold"])
async def test_what_the_ca_never_issued_is_asked_for_anew_with_a_new_key(
    database: Database, database_url: str, on_unknown: str
) -> None:
    ca = LookupCa()
    ca.on_issue = in_turn(ca.never_hears, ca.signs)
    async with workers(database, database_url, ca) as rig:
        worker = await rig.worker(on_unknown=on_unknown)
        made = await worker.issuance.server_made(wish())
        assert belongs_together(made, ca)
        first, second = await rig.rows()
        assert (first.state, first.error_class, second.state, second.attempt) == ("failed", "Unavailable", "issued", 2)
        assert first.csr_sha256 != second.csr_sha256
        # Nothing of it is unknown, so it is no orphan.
        assert worker.counted("unknown") == 0
        assert ca.signed_once


async def test_a_lost_answer_is_looked_up_when_the_ca_is_back_and_nothing_is_signed_twice(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()
    ca.on_issue = ca.loses_the_answer
    ca.on_recover = in_turn(raises(Unavailable("down")), raises(OutcomeUnknown("busy")), ca.finds)
    async with workers(database, database_url, ca) as rig:
        made = await (await rig.worker()).issuance.server_made(wish())
        assert belongs_together(made, ca)
        assert await rig.states() == ["issued"]
        assert (len(ca.asked), len(ca.recovered), sum(ca.signatures.values())) == (1, 3, 1)


async def test_a_lost_answer_that_cannot_be_looked_up_now_is_not_taken_for_a_failure(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()
    ca.on_issue = in_turn(ca.loses_the_answer, raises(Unavailable("down")))
    ca.on_recover = raises(Unavailable("still down"))
    async with workers(database, database_url, ca) as rig:
        with pytest.raises(Unavailable, match=r"^down"):
            await (await rig.worker(key_hold_seconds=0.0)).issuance.server_made(wish())
        first, second = await rig.rows()
        assert (first.state, first.error_class, second.state) == ("unknown", "OutcomeUnknown", "failed")
        assert first.error_text is not None
        assert first.error_text.endswith("asked what became of it: still down")


async def test_a_lost_answer_of_a_ca_that_repeats_itself_costs_nothing(database: Database, database_url: str) -> None:
    ca = TokenCa()
    ca.on_issue = ca.loses_the_answer
    async with workers(database, database_url, ca) as rig:
        made = await (await rig.worker()).issuance.server_made(wish())
        assert belongs_together(made, ca)
        assert await rig.states() == ["issued"]
        assert (len(ca.asked), ca.recovered, ca.signed_once) == (1, [made.issuance_id], True)


async def test_a_lost_answer_that_nobody_can_ask_for_is_an_orphan_and_the_device_is_served(
    rig: Workers, ca: ScriptedCa
) -> None:
    ca.on_issue = in_turn(ca.loses_the_answer, ca.signs)
    worker = await rig.worker()
    with capture_logs() as lines:
        made = await worker.issuance.server_made(wish())
    assert belongs_together(made, ca)
    first, second = await rig.rows()
    assert [first.state, second.state] == ["unknown", "issued"]
    assert (second.id, second.attempt, ca.signed_once) == (made.issuance_id, 2, True)
    orphans = [line for line in lines if line["event"] == "possible_orphan"]
    assert [(line["endpoint"], line["issuance"]) for line in orphans] == [("device-1", first.id.hex)]
    assert worker.counted("unknown") == 1
    # Nobody looks into what nobody can tell: it is neither adopted nor counted again.
    rig.clock.let_pass(3600)
    await worker.issuance.settlement.settle_expired()
    assert await rig.states() == ["unknown", "issued"]
    assert worker.counted("unknown") == 1


async def test_held_back_by_setting_a_device_that_goes_on_to_another_worker_waits_for_the_answer_to_the_first(
    rig: Workers, ca: ScriptedCa
) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = in_turn(gate, ca.signs)
    first, second = [await rig.worker(name, on_unknown="hold") for name in ("worker-1", "worker-2")]
    asking = asyncio.ensure_future(first.issuance.server_made(wish()))
    await gate.reached.wait()
    with pytest.raises(TemporarilyUnavailable, match="an earlier request for device-1 has no answer yet") as caught:
        await second.issuance.server_made(wish())
    assert caught.value.retry_after == unopened.ANSWER_RETRY_AFTER
    # Another device is served meanwhile.
    await second.issuance.server_made(wish("device-2"))
    gate.open.set()
    await asking
    assert belongs_together(await second.issuance.server_made(wish()), ca)
    assert len(ca.asked) == 3


async def test_held_back_by_setting_of_two_workers_that_serve_a_device_at_the_same_moment_one_asks(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    racing = [await rig.worker(name, on_unknown="hold") for name in ("worker-1", "worker-2")]
    devices = [f"device-{number}" for number in range(30)]
    ready = asyncio.Barrier(len(racing) * len(devices))
    for each in racing:
        monkeypatch.setattr(each.writer, "write", meeting(each.writer.write, ready))
    asked = {name: [asyncio.create_task(each.issuance.server_made(wish(name))) for each in racing] for name in devices}

    async def all_refused_or_under_way() -> bool:
        refused = sum(task.done() for tasks in asked.values() for task in tasks)
        return refused + len(ca.asked) == len(racing) * len(devices)

    # The CA lets none of them go yet.
    await until(all_refused_or_under_way)
    assert [await rig.states(name) for name in devices] == [["submitted"]] * len(devices)
    gate.open.set()
    for tasks in asked.values():
        refused, made = sorted(
            await asyncio.gather(*tasks, return_exceptions=True), key=lambda each: isinstance(each, ServerMade)
        )
        assert isinstance(refused, TemporarilyUnavailable)
        assert "has no answer yet" in refused.message
        assert refused.retry_after == unopened.ANSWER_RETRY_AFTER
        assert isinstance(made, ServerMade)
    assert sorted(request.endpoint for request in ca.asked) == sorted(devices)
    # Who is told to come back leaves nothing behind, not even a key.
    async with rig.database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM known_key") == len(devices)


async def test_held_back_by_setting_what_a_lost_worker_asked_for_is_unknown_before_anything_else_is_signed(
    rig: Workers, ca: ScriptedCa
) -> None:
    ca.on_issue = ca.signs
    await died_while_asking(rig, ca)
    second = await rig.worker("worker-2", on_unknown="hold")
    with pytest.raises(TemporarilyUnavailable, match="an earlier request for device-1 has no answer yet"):
        await second.issuance.server_made(wish())
    await second.issuance.settlement.settle_expired()
    with pytest.raises(TemporarilyUnavailable, match="firstlight device release device-1"):
        await second.issuance.server_made(wish())
    assert (await rig.states(), len(ca.asked)) == (["unknown"], 1)


async def test_held_back_by_setting_a_device_gets_nothing_more_until_a_person_acts(
    rig: Workers, ca: ScriptedCa
) -> None:
    ca.on_issue = in_turn(ca.loses_the_answer, ca.signs)
    first, second = [await rig.worker(name, on_unknown="hold") for name in ("worker-1", "worker-2")]
    for worker in (first, first, second):
        with pytest.raises(TemporarilyUnavailable, match="firstlight device release device-1") as caught:
            await worker.issuance.server_made(wish())
        assert caught.value.retry_after == unopened.HOLD_RETRY_AFTER
        # Nor does time or anybody's looking change it.
        rig.clock.let_pass(24 * 3600)
        await second.issuance.settlement.settle_expired()
    assert (await rig.states(), len(ca.asked)) == (["unknown"], 1)
    # Another device is served meanwhile.
    await first.issuance.server_made(wish("device-2"))

    released = await issuances.release(rig.database, OPERATOR, ACCOUNT, "device-1")
    assert released == [(await rig.row()).id]
    made = await second.issuance.server_made(wish())
    assert belongs_together(made, ca)
    # What may lie at the CA is still shown.
    assert await rig.states() == ["unknown", "issued"]
    (entry,) = await audit.entries(rig.database, ACCOUNT)
    assert (entry.actor.name, entry.action, entry.subject) == ("kim", "issuance.released", "device-1")
    with pytest.raises(NotFound):
        await issuances.release(rig.database, OPERATOR, ACCOUNT, "device-1")
