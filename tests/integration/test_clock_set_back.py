"""A clock that was a day ahead and is set back keeps nobody from a CA for that day."""

from datetime import timedelta

import pytest

from issuers.errors import Throttled, Unavailable
from server.breaker import OPEN_SECONDS, OPENS_AT
from server.store.database import Database
from tests.integration.guarded import Rig, on_record

DAY = timedelta(days=1)


@pytest.fixture
async def rig(database: Database) -> Rig:
    return await on_record(database)


async def test_a_ca_that_failed_is_looked_at_again(rig: Rig) -> None:
    rig.ca.error = Unavailable("the CA is away")
    await rig.fail(rig.worker(), OPENS_AT)
    rig.ca.error = None
    rig.now -= DAY
    rig.later(2)
    for worker in (rig.worker(), rig.worker()):
        await worker.admit()
    assert rig.ca.looked == 1


async def test_a_worker_that_another_was_faster_than_sends_no_device_away_for_the_day(rig: Rig) -> None:
    rig.ca.error = Unavailable("the CA is away")
    slower, faster = rig.worker(), rig.worker()
    await rig.fail(slower, OPENS_AT)
    rig.ca.error = None
    rig.now -= DAY
    await faster.admit()
    # What it knows is of the clock before, and nobody needs to look any more.
    with pytest.raises(Unavailable) as told:
        await slower.admit()
    assert told.value.retry_after == OPEN_SECONDS


async def test_a_ca_that_asked_for_less_is_asked_again_and_may_say_so_again(rig: Rig) -> None:
    rig.ca.error = Throttled("slower", 7.0)
    await rig.fail(rig.worker(), 1)
    rig.now -= DAY
    worker = rig.worker()
    await worker.admit()
    await rig.fail(worker, 1)
    with pytest.raises(Throttled, match="slower"):
        await rig.worker().admit()
    rig.later(7.1)
    await rig.worker().admit()


async def test_the_bucket_of_a_ca_begins_anew(rig: Rig) -> None:
    for _ in range(6):
        await rig.worker(rate=4).admit()
    rig.now -= DAY
    rig.slept.clear()
    for _ in range(6):
        await rig.worker(rate=4).admit()
    assert rig.slept == pytest.approx([0.25, 0.5])
