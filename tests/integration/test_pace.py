"""How fast and how many at once ask a CA: what it says itself, its rate over all workers, its turns."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from issuers.base import Pending
from issuers.errors import Throttled
from server.errors import TemporarilyUnavailable
from server.store import readiness
from server.store.database import Database
from tests.integration.guarded import Rig, on_record
from tests.issuers.rigs import make_request


def raises_at_once(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


@pytest.fixture
async def rig(database: Database) -> Rig:
    return await on_record(database)


async def test_a_ca_that_asks_for_less_is_left_alone_for_as_long_as_it_says(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = Throttled("slower", 7.0)
    await rig.fail(worker, 1)
    with pytest.raises(Throttled) as refused:
        await worker.admit()
    assert refused.value.retry_after == pytest.approx(7.0)
    rig.later(7.1)
    await worker.admit()


async def test_what_one_worker_is_told_to_wait_all_wait(rig: Rig) -> None:
    rig.ca.error = Throttled("slower", 7.0)
    await rig.fail(rig.worker(), 1)
    other = rig.worker()
    with pytest.raises(Throttled, match="slower"):
        await other.admit()
    known = await readiness.find(rig.database, rig.issuer_id)
    assert known is not None
    assert (known.failures, known.since, known.is_throttled(rig.now)) == (0, None, True)
    rig.later(7.1)
    await other.admit()


async def test_the_rate_of_a_ca_is_one_bucket_for_all_workers(rig: Rig) -> None:
    """Four a second: the four that were saved up go at once, the rest a quarter of a second apart."""
    workers = [rig.worker(rate=4) for _ in range(3)]
    for number in range(9):
        await workers[number % 3].admit()
    assert rig.slept == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25])
    rig.later(60)
    rig.slept.clear()
    for number in range(4):
        await workers[number % 3].admit()
    assert rig.slept == []


async def test_who_would_wait_too_long_for_the_rate_is_sent_away_and_takes_nothing(rig: Rig) -> None:
    worker = rig.worker(rate=0.5)
    for _ in range(3):
        await worker.admit()
    assert rig.slept == pytest.approx([2.0, 4.0])
    for _ in range(5):
        with pytest.raises(Throttled) as refused:
            await worker.admit()
        assert refused.value.retry_after
    rig.later(2)
    await worker.admit()
    assert rig.slept[2:] == pytest.approx([4.0])


async def test_no_more_than_allowed_ask_at_once(rig: Rig) -> None:
    worker = rig.worker(concurrency=3)
    rig.ca.gate.clear()
    asking = [asyncio.create_task(worker.issue(make_request())) for _ in range(10)]
    while rig.ca.inside < 3:
        await asyncio.sleep(0)
    rig.ca.gate.set()
    await asyncio.gather(*asking)
    assert (rig.ca.most, rig.ca.asked) == (3, 10)


async def test_who_waited_for_a_turn_asks_for_a_certificate_from_now_on(rig: Rig) -> None:
    """Ten minutes in the queue would put notBefore outside what an HVCA policy takes."""
    worker = rig.worker(concurrency=1)
    rig.ca.gate.clear()
    request = make_request()
    asking = [asyncio.create_task(worker.issue(request)) for _ in range(2)]
    while rig.ca.inside < 1:
        await asyncio.sleep(0)
    rig.later(600)
    rig.ca.gate.set()
    await asyncio.gather(*asking)
    assert rig.ca.begins == [request.not_before, request.not_before + timedelta(seconds=600)]


async def test_who_waited_for_a_turn_does_not_ask_once_the_request_is_not_due_any_more(rig: Rig) -> None:
    worker = rig.worker(concurrency=1)
    rig.ca.gate.clear()
    late = make_request()
    asking = asyncio.create_task(worker.issue(make_request()))
    while rig.ca.inside < 1:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(worker.issue(late))
    await asyncio.sleep(0)
    late.still_due = raises_at_once(TemporarilyUnavailable("too late", retry_after=5))
    rig.ca.gate.set()
    await asking
    with pytest.raises(TemporarilyUnavailable, match="too late"):
        await waiting
    await worker.issue(make_request())
    assert rig.ca.asked == 2


async def test_a_changed_setting_closes_the_old_connections_after_the_last_answer(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.gate.clear()
    asking = asyncio.create_task(worker.issue(make_request()))
    while rig.ca.inside < 1:
        await asyncio.sleep(0)
    await worker.aclose()
    assert rig.ca.closed == 0
    rig.ca.gate.set()
    assert isinstance(await asking, Pending)
    assert rig.ca.closed == 1
