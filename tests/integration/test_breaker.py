"""A CA that fails: nobody asks it for a while, whichever worker met it, and one worker looks if it is back."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

import pytest

from issuers.base import (
    Capability,
    CheckReport,
    CheckStep,
    Issued,
    Issuer,
    IssueRequest,
    Pending,
    Recovery,
    StepOutcome,
    Unsettled,
)
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
from server.breaker import OPEN_SECONDS, OPENS_AT, Breaker, Guarded
from server.knowledge import ActiveIssuer
from server.pace import Pace
from server.store import accounts, issuers, readiness
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from server.terms import Terms
from tests.integration.issuers import ScriptedCa
from tests.issuers.rigs import make_request

PERSON = Actor(kind="cli", name="test", request_id="")
DOWN = Unavailable("the CA is away")


class Scripted(Issuer):
    """A CA that does what the test says, and counts."""

    type: ClassVar[str] = "SCRIPTED"
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    recovery: ClassVar[Recovery] = Recovery.NONE

    def __init__(self) -> None:
        self.error: IssuerError | None = None
        # What collecting fails with.
        self.lost: IssuerError | None = None
        self.begins: list[datetime] = []
        self.asked = self.looked = self.inside = self.most = self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def issue(self, request: IssueRequest) -> Issued | Pending:
        self.asked += 1
        self.begins.append(request.not_before)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return Pending("reference", 1.0)
        finally:
            self.inside -= 1

    async def collect(self, reference: str) -> Issued | Pending:
        if self.lost is not None:
            raise self.lost
        return Pending(reference, 1.0)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued | Pending | Unsettled | None:
        return None

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        assert issue_test is None
        self.looked += 1
        outcome = StepOutcome.OK if self.error is None else StepOutcome.FAIL
        return CheckReport((CheckStep("reach", outcome, "the CA is away"),))

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class Rig:
    """One CA on record, and workers that each have their own breaker."""

    database: Database
    issuer_id: UUID
    ca: Scripted = field(default_factory=Scripted)
    now: datetime = datetime(2026, 6, 1, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)
    breakers: list[Breaker] = field(default_factory=list)

    def worker(self, concurrency: int = 4, rate: float = 0.0) -> Guarded:
        breaker = Breaker(
            database=self.database,
            now=lambda: self.now,
            clock=lambda: self.now.timestamp(),
            jitter=lambda: 0.5,
        )
        self.breakers.append(breaker)
        return Guarded(
            self.ca,
            issuer_id=self.issuer_id,
            name="plant",
            breaker=breaker,
            pace=Pace(database=self.database, now=lambda: self.now, sleep=self.sleep),
            terms=Terms(concurrency=concurrency, rate=rate, on_unknown="reissue"),
        )

    async def sleep(self, seconds: float) -> None:
        """Nobody waits here; what was waited is noted."""
        self.slept.append(seconds)

    async def recorded(self) -> None:
        """What was reported is on record."""
        for breaker in self.breakers:
            await breaker.close()

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def fail(self, worker: Guarded, times: int) -> None:
        for _ in range(times):
            with pytest.raises(IssuerError):
                await worker.issue(make_request())


@pytest.fixture
async def rig(database: Database) -> Rig:
    account = await accounts.ensure_default(database)
    row = await issuers.add(
        database,
        Sealer((bytes(32),)),
        PERSON,
        account.id,
        type="CFSSL_AUTH",
        name="plant",
        attributes={},
        credentials=None,
    )
    return Rig(database, row.id)


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


async def test_a_certificate_that_is_as_it_should_be_ends_the_row_of_bad_ones(rig: Rig) -> None:
    worker, signer, wish = rig.worker(), ScriptedCa(), make_request()
    active = ActiveIssuer(
        id=rig.issuer_id,
        name="plant",
        issuer=worker,
        anchors=(signer.root.certificate,),
        minimum_validity=timedelta(days=1),
    )
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


async def test_a_ca_that_was_never_wrong_costs_the_record_nothing(rig: Rig) -> None:
    worker = rig.worker()
    await worker.admit()
    await worker.issue(make_request())
    assert await readiness.find(rig.database, rig.issuer_id) is None
