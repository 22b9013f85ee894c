"""The database goes away at each point of an issuance: no CA is asked in vain, nothing unrecorded reaches a device."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from issuers.base import Issued, IssueRequest, Pending
from issuers.errors import Misconfigured, Rejected
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.writer import MarkDelivered
from tests.integration.cable import Cable, cable
from tests.integration.field import until
from tests.integration.issuers import Answer, ScriptedCa, TokenCa, Workers, belongs_together, wish, workers

LEASE = 30.0
T = TypeVar("T")


@pytest.fixture
def ca() -> TokenCa:
    return TokenCa()


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[Cable]:
    """The workers' way to their database."""
    async with cable(database_url) as laid:
        yield laid


@pytest.fixture
async def rig(database: Database, way: Cable, ca: TokenCa) -> AsyncIterator[Workers]:
    """Workers behind the cable; the test looks at the record from the other side."""
    far = await Database.open(way.url, migrate=False)
    async with workers(far, way.url, ca, record=database) as opened:
        yield opened
    await far.close()


async def done_once_it_is_back(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives once the worker has found its way back to the database."""
    while True:
        try:
            return await work()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


def cutting(
    way: Cable, step: Callable[[IssueRequest], Awaitable[Answer]]
) -> Callable[[IssueRequest], Awaitable[Answer]]:
    """The CA's answer is here when the database goes."""

    async def answers(request: IssueRequest) -> Answer:
        try:
            return await step(request)
        finally:
            way.cut()

    return answers


async def settled_by_another(rig: Workers, ca: ScriptedCa) -> None:
    """Once the lease ran out, another worker abandons the one certificate; its device may be at work with it."""
    rig.clock.let_pass(LEASE + 1)
    other = await rig.worker("worker-2")
    await done_once_it_is_back(other.issuance.settlement.settle_expired)

    async def abandoned() -> bool:
        return (await rig.states())[0] == "abandoned"

    await until(abandoned)
    assert ca.signed_once


async def test_without_a_record_no_ca_is_asked(rig: Workers, way: Cable, ca: TokenCa) -> None:
    worker = await rig.worker()
    way.cut()
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    await way.mend()
    assert (ca.asked, await rig.rows()) == ([], [])
    made = await done_once_it_is_back(lambda: worker.issuance.server_made(wish()))
    assert belongs_together(made, ca)


async def test_an_intent_that_is_not_durable_is_not_sent(rig: Workers, way: Cable, ca: TokenCa) -> None:
    worker = await rig.worker()
    # The time of the intent is looked at when everything else is ready.
    rig.clock.on_look = way.cut
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    rig.clock.on_look = None
    await way.mend()
    assert ca.asked == []
    assert worker.counted("submitted") == 0
    made = await done_once_it_is_back(lambda: worker.issuance.server_made(wish()))
    assert belongs_together(made, ca)


async def test_a_certificate_that_is_not_durable_reaches_nobody_and_is_settled_later(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    ca.on_issue = cutting(way, ca.signs)
    worker = await rig.worker()
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    assert await rig.states() == ["submitted"]
    await way.mend()
    await until(lambda: _state(rig, "issued"))
    await settled_by_another(rig, ca)
    assert ca.recovered == []


async def test_a_certificate_whose_worker_died_with_it_is_recovered_without_a_second_signature(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    ca.on_issue = cutting(way, ca.signs)
    worker = await rig.worker()
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.store.writer.CLOSE_PATIENCE", 0.0)
        await worker.writer.close()
    await way.mend()
    assert await rig.states() == ["submitted"]
    await settled_by_another(rig, ca)
    assert ca.recovered == [ca.asked[0].issuance_id]


async def test_a_reference_that_is_not_durable_is_not_polled_and_not_lost(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    ca.on_issue = cutting(way, ca.takes_its_time)
    worker = await rig.worker()
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    assert ca.collected == []
    await way.mend()
    await until(lambda: _state(rig, "pending"))
    # It is no fault of ours, and nothing is unknown.
    assert (await rig.row()).error_class is None
    await settled_by_another(rig, ca)
    assert ca.collected == ["ticket-1"]


async def test_a_refusal_is_written_when_the_database_is_back(rig: Workers, way: Cable, ca: TokenCa) -> None:
    async def refuses(request: IssueRequest) -> Issued:
        raise Rejected("not this name")

    ca.on_issue = cutting(way, refuses)
    worker = await rig.worker()
    with pytest.raises((Rejected, StoreUnavailable)):
        await worker.issuance.server_made(wish())
    await way.mend()
    await until(lambda: _state(rig, "refused"))
    assert (await rig.row()).error_text == "not this name"


async def test_a_poll_goes_on_when_the_database_was_away_meanwhile(rig: Workers, way: Cable, ca: TokenCa) -> None:
    async def away_and_back(reference: str) -> Pending:
        way.cut()
        await way.mend()
        ca.on_collect = ca.hands_out
        return Pending(reference, 0.0)

    ca.on_issue, ca.on_collect = ca.takes_its_time, away_and_back
    assert belongs_together(await (await rig.worker()).issuance.server_made(wish()), ca)
    assert (len(ca.collected), ca.signed_once) == (2, True)


async def test_a_device_that_comes_back_after_the_outage_gets_a_new_key_and_the_old_certificate_is_revoked(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    ca.on_issue = cutting(way, ca.signs)
    worker = await rig.worker()
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    ca.on_issue = ca.signs
    await way.mend()
    await until(lambda: _state(rig, "issued"))
    made = await done_once_it_is_back(lambda: worker.issuance.server_made(wish()))
    assert belongs_together(made, ca)
    assert await rig.states() == ["abandoned", "issued"]
    assert ca.signed_once


async def test_after_an_outage_owners_have_a_lease_to_come_back_before_their_rows_are_taken(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    device = wish()
    made = await first.issuance.server_made(device)
    way.cut()
    # The device has it; the record cannot be told yet, nor can the lease be renewed.
    first.issuance.delivered(made.issuance_id, device)
    with pytest.raises(StoreUnavailable):
        await first.writer.write(MarkDelivered(made.issuance_id))
    rig.clock.let_pass(LEASE + 1)
    with pytest.raises(StoreUnavailable):
        await second.issuance.settlement.settle()
    await way.mend()
    # What the first wrote into its queue may come after the second's first look.
    await done_once_it_is_back(second.issuance.settlement.settle)
    await until(lambda: _state(rig, "delivered"))
    rig.clock.let_pass(LEASE + 1)
    await done_once_it_is_back(second.issuance.settlement.settle)
    assert (await rig.states(), ca.revoked) == (["delivered"], [])


async def test_the_looks_of_a_worker_survive_an_outage_and_whatever_they_find(
    rig: Workers, way: Cable, ca: TokenCa
) -> None:
    worker = await rig.worker(lease_seconds=0.3)
    running = asyncio.ensure_future(worker.issuance.run())
    with capture_logs() as lines:
        way.cut()
        await until(lambda: _postponed(lines))
        await way.mend()
    ca.on_issue = cutting(way, ca.signs)
    with pytest.raises(StoreUnavailable):
        await worker.issuance.server_made(wish())
    rig.register.cas.clear()
    await way.mend()
    await until(lambda: _state(rig, "abandoned"))
    with pytest.raises(Misconfigured):
        await worker.issuance.server_made(wish())
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def _postponed(lines: list[dict[str, object]]) -> bool:
    return any(line["event"] == "settling_postponed" for line in lines)


async def _state(rig: Workers, state: str) -> bool:
    return await rig.states() == [state]
