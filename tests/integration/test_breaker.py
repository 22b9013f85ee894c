"""A CA that fails: nobody asks it for a while, whichever worker met it, and one worker looks if it is back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    Misconfigured,
    OutcomeUnknown,
    QuotaExhausted,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from issuers.returned import DeviceLimits
from server.breaker import OPEN_SECONDS, OPENS_AT, Guarded
from server.knowledge import ActiveIssuer
from server.store import readiness
from server.store.database import Database
from tests.integration.guarded import Rig, on_record
from tests.integration.issuers import ScriptedCa
from tests.issuers.rigs import make_request

DOWN = Unavailable("the CA is away")


@pytest.fixture
async def rig(database: Database) -> Rig:
    return await on_record(database)


async def test_after_five_failures_in_a_row_every_worker_refuses_before_asking(rig: Rig) -> None:
    first, second = rig.worker(), rig.worker()
    rig.ca.error = DOWN
    await rig.fail(first, OPENS_AT - 2)
    await first.admit()
    await rig.fail(second, 2)
    assert rig.ca.asked == OPENS_AT
    rig.later(1.5)
    for worker in (first, second):
        with pytest.raises(Unavailable) as refused:
            await worker.admit()
        assert "failed 5 times in a row: the CA is away" in refused.value.message
        assert 0 < (refused.value.retry_after or 0) <= OPEN_SECONDS
    assert (rig.ca.asked, rig.ca.looked) == (OPENS_AT, 0)


async def test_a_success_in_between_begins_the_count_anew(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = DOWN
    await rig.fail(worker, OPENS_AT - 1)
    rig.ca.error = None
    await worker.issue(make_request())
    rig.ca.error = DOWN
    await rig.fail(worker, OPENS_AT - 1)
    rig.later(2)
    await worker.admit()


@pytest.mark.parametrize("error", [Rejected("this CSR"), Throttled("slower", 0.001)])
async def test_what_is_no_fault_of_the_ca_never_opens_it(rig: Rig, error: IssuerError) -> None:
    worker = rig.worker()
    rig.ca.error = error
    await rig.fail(worker, 2 * OPENS_AT)
    rig.later(2)
    await worker.admit()


@pytest.mark.parametrize(
    "error", [Unauthorized("the key is wrong"), BadCertificate(Check.KEY, "another key"), OutcomeUnknown("no answer")]
)
async def test_every_fault_of_the_ca_counts(rig: Rig, error: IssuerError) -> None:
    worker = rig.worker()
    rig.ca.error = error
    await rig.fail(worker, OPENS_AT)
    rig.later(2)
    with pytest.raises(Unavailable):
        await worker.admit()


async def test_a_ca_that_takes_requests_and_never_answers_opens_although_it_tells_what_it_issued(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = OutcomeUnknown("no answer within 10 s")
    for _ in range(OPENS_AT):
        await rig.fail(worker, 1)
        assert await worker.recover(make_request(), timedelta()) is None
    rig.later(2)
    with pytest.raises(Unavailable, match="failed 5 times in a row: no answer within 10 s"):
        await worker.admit()


@pytest.mark.parametrize("error", [QuotaExhausted("none are left"), Misconfigured("the policy has changed")])
async def test_what_it_took_before_shows_nothing_about_new_requests(rig: Rig, error: IssuerError) -> None:
    worker = rig.worker()
    rig.ca.error = error
    for _ in range(OPENS_AT):
        await rig.fail(worker, 1)
        await worker.collect("reference")
    rig.later(2)
    for asked in (worker, rig.worker()):
        with pytest.raises(Unavailable, match="failed 5 times in a row"):
            await asked.admit()


async def test_what_it_took_before_shows_that_it_is_back(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.lost = DOWN
    for _ in range(OPENS_AT):
        with pytest.raises(Unavailable):
            await worker.collect("reference")
    rig.ca.lost = None
    await worker.collect("reference")
    await worker.admit()
    assert rig.ca.looked == 0


async def test_a_ca_that_takes_every_request_and_signs_what_nobody_can_use_opens(rig: Rig) -> None:
    worker = rig.worker()
    for _ in range(OPENS_AT):
        await worker.issue(make_request())
        await worker.collect("reference")
        worker.broke_a_check(BadCertificate(Check.KEY, "another key"))
        await rig.recorded()
    rig.later(2)
    with pytest.raises(Unavailable, match="failed 5 times in a row: another key"):
        await worker.admit()


def behind(rig: Rig, worker: Guarded, signer: ScriptedCa) -> ActiveIssuer:
    """The CA that `worker` asks, whose certificates `signer` makes."""
    return ActiveIssuer(
        id=rig.issuer_id,
        name="plant",
        issuer=worker,
        anchors=(signer.root.certificate,),
        minimum_validity=timedelta(days=1),
    )


async def test_what_a_device_cannot_store_and_others_can_says_nothing_of_the_ca(rig: Rig) -> None:
    worker, signer, wish = rig.worker(), ScriptedCa(), make_request()
    active = behind(rig, worker, signer)
    issued, now, narrow = await signer.signs(wish), datetime.now(UTC), DeviceLimits(certificate_bytes=100)
    for _ in range(OPENS_AT):
        with pytest.raises(BadCertificate) as caught:
            active.check(issued, wish.csr, wish.endpoint, now, limits=narrow)
        assert caught.value.check is Check.SIZE
    await rig.recorded()
    rig.later(2)
    await worker.admit()
    other = await signer.signs(make_request(endpoint=wish.endpoint))
    for _ in range(OPENS_AT):
        with pytest.raises(BadCertificate):
            active.check(other, wish.csr, wish.endpoint, now, limits=narrow)
    await rig.recorded()
    rig.later(2)
    with pytest.raises(Unavailable, match="failed 5 times in a row"):
        await worker.admit()


async def test_a_certificate_that_is_as_it_should_be_ends_the_row_of_bad_ones(rig: Rig) -> None:
    worker, signer, wish = rig.worker(), ScriptedCa(), make_request()
    active = behind(rig, worker, signer)
    good, bad = await signer.signs(wish), await signer.signs(make_request(endpoint=wish.endpoint))
    now = datetime.now(UTC)
    for _ in range(2):
        for _ in range(OPENS_AT - 1):
            with pytest.raises(BadCertificate):
                active.check(bad, wish.csr, wish.endpoint, now)
            await rig.recorded()
        active.check(good, wish.csr, wish.endpoint, now)
        await rig.recorded()
    with pytest.raises(BadCertificate):
        active.check(bad, wish.csr, wish.endpoint, now)
    await rig.recorded()
    rig.later(2)
    await worker.admit()
    known = await readiness.find(rig.database, rig.issuer_id)
    assert known is not None
    assert known.failures == 1


async def signed_badly(rig: Rig, worker: Guarded) -> None:
    """Five certificates that nobody can use, and the time until somebody looks."""
    for _ in range(OPENS_AT):
        worker.broke_a_check(BadCertificate(Check.KEY, "another key"))
    await rig.recorded()
    rig.later(OPEN_SECONDS + 1)


async def asks(worker: Guarded) -> bool:
    """Whether a device that comes to this worker has its request taken by the CA."""
    try:
        await worker.admit()
        await worker.issue(make_request())
    except Unavailable:
        return False
    return True


async def test_a_ca_that_signed_badly_is_tried_with_one_device_each_time(rig: Rig) -> None:
    workers = [rig.worker() for _ in range(3)]
    await signed_badly(rig, workers[0])
    for round_ in range(1, 4):
        # Two devices at each worker, all at once.
        taken = await asyncio.gather(*(asks(worker) for worker in workers * 2))
        assert (sum(taken), rig.ca.asked, rig.ca.looked) == (1, round_, round_)
        workers[taken.index(True) % 3].broke_a_check(BadCertificate(Check.KEY, "another key"))
        await rig.recorded()
        rig.later(2)
        assert not any([await asks(worker) for worker in workers])
        rig.later(OPEN_SECONDS)


async def test_the_one_good_certificate_of_a_ca_that_signed_badly_lets_all_go_on(rig: Rig) -> None:
    workers = [rig.worker() for _ in range(3)]
    await signed_badly(rig, workers[0])
    assert await asks(workers[1])
    workers[1].kept_its_word()
    await rig.recorded()
    rig.later(2)
    assert [await asks(worker) for worker in workers] == [True, True, True]
    assert rig.ca.looked == 1


async def test_a_ca_that_signed_badly_and_is_now_away_is_not_tried(rig: Rig) -> None:
    worker = rig.worker()
    await signed_badly(rig, worker)
    rig.ca.error = DOWN
    assert not await asks(worker)
    assert (rig.ca.looked, rig.ca.asked) == (1, 0)


async def test_a_good_certificate_shows_nothing_about_new_requests(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = QuotaExhausted("none are left")
    for _ in range(OPENS_AT):
        await rig.fail(worker, 1)
        worker.kept_its_word()
        await rig.recorded()
    rig.later(2)
    with pytest.raises(Unavailable, match="failed 5 times in a row"):
        await worker.admit()


async def test_one_worker_looks_and_all_go_on_when_the_ca_is_back(rig: Rig) -> None:
    workers = [rig.worker() for _ in range(5)]
    rig.ca.error = DOWN
    await rig.fail(workers[0], OPENS_AT)
    rig.ca.error = None
    rig.later(OPEN_SECONDS + 1)
    outcomes = await asyncio.gather(*(worker.admit() for worker in workers), return_exceptions=True)
    assert rig.ca.looked == 1
    assert outcomes.count(None) >= 1
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
    rig.later(2)
    for worker in workers:
        await worker.admit()
    assert rig.ca.looked == 1


async def test_a_ca_that_is_still_away_stays_open_for_as_long_again(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = DOWN
    await rig.fail(worker, OPENS_AT)
    rig.later(OPEN_SECONDS + 1)
    with pytest.raises(Unavailable):
        await worker.admit()
    rig.later(2)
    with pytest.raises(Unavailable):
        await worker.admit()
    assert (rig.ca.looked, rig.ca.asked) == (1, OPENS_AT)


async def test_state_error_and_since_when_are_on_record(rig: Rig) -> None:
    worker = rig.worker()
    rig.ca.error = DOWN
    await rig.fail(worker, OPENS_AT)
    known = await readiness.find(rig.database, rig.issuer_id)
    assert known is not None
    assert (known.failures, known.error_class, known.error_text) == (OPENS_AT, "Unavailable", "the CA is away")
    assert known.since is not None
    assert known.open_until == rig.now + timedelta(seconds=OPEN_SECONDS)


async def test_a_ca_that_dies_is_not_asked_by_those_who_wait_for_their_turn(rig: Rig) -> None:
    worker = rig.worker(concurrency=OPENS_AT)
    rig.ca.gate.clear()
    rig.ca.error = DOWN
    asking = [asyncio.create_task(worker.issue(make_request())) for _ in range(60)]
    while rig.ca.inside < OPENS_AT:
        await asyncio.sleep(0)
    rig.ca.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert rig.ca.asked < OPENS_AT * 3
    known = await readiness.find(rig.database, rig.issuer_id)
    assert known is not None
    assert known.failures == rig.ca.asked


async def test_a_ca_that_was_never_wrong_costs_the_record_nothing(rig: Rig) -> None:
    worker = rig.worker()
    await worker.admit()
    await worker.issue(make_request())
    assert await readiness.find(rig.database, rig.issuer_id) is None
