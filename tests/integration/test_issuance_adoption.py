"""Rows whose worker is gone: adopted by exactly one other and settled, whatever state they were left in (design 7)."""

import asyncio

import pytest
from structlog.testing import capture_logs

from issuers.base import Issued, IssueRequest, Pending
from issuers.errors import IssuerError, NotSupported, Throttled, Unavailable
from server import issuance
from server.errors import TemporarilyUnavailable
from server.store import issuances
from server.store.database import Database
from server.store.writer import Inserted
from tests.integration.field import until
from tests.integration.issuers import (
    LEASE,
    Gate,
    LookupCa,
    TokenCa,
    Workers,
    died_while_asking,
    in_turn,
    raises,
    wish,
    workers,
)
from tests.integration.leftovers import abandoned_and_revoked, left_behind
from tests.integration.rows import intent

# Seconds.
DAY = 24 * 3600.0


@pytest.fixture
def ca() -> TokenCa:
    return TokenCa()


# -- one of many --


async def test_of_two_workers_that_race_exactly_one_settles_a_row(rig: Workers, ca: TokenCa) -> None:
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    for number in range(20):
        await left_behind(rig, first, endpoint=f"device-{number}")
    await asyncio.gather(first.issuance.settlement.settle_expired(), second.issuance.settlement.settle_expired())
    assert len(ca.recovered) == len(set(ca.recovered)) == 20
    assert first.counted("abandoned") + second.counted("abandoned") == 20
    assert ca.signed_once


async def test_more_rows_than_one_look_takes_are_all_settled_in_one_go(
    rig: Workers, ca: TokenCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuances, "ADOPT_LIMIT", 3)
    monkeypatch.setattr("server.settlement.ADOPT_LIMIT", 3)
    worker = await rig.worker()
    for number in range(7):
        await left_behind(rig, worker, endpoint=f"device-{number}")
    await worker.issuance.settlement.settle_expired()
    assert worker.counted("abandoned") == 7


async def test_a_lease_of_a_clock_that_was_set_back_ends_when_its_worker_is_gone(rig: Workers, ca: TokenCa) -> None:
    rig.clock.set_on(DAY)
    await died_while_asking(rig, ca)
    rig.clock.set_on(-DAY)
    other = await rig.worker("worker-2")
    # Whoever lives has a whole lease to say so by the present clock.
    for passed, state in ((0.0, "submitted"), (LEASE - 1, "submitted"), (2.0, "abandoned")):
        rig.clock.let_pass(passed)
        await other.issuance.settlement.settle()
        assert await rig.states() == [state]
    assert len(ca.recovered) == 1


async def test_a_clock_that_is_set_back_takes_no_row_from_a_worker_that_lives(rig: Workers, ca: TokenCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    rig.clock.set_on(DAY)
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    waiting = asyncio.ensure_future(first.issuance.server_made(wish()))
    await gate.reached.wait()
    rig.clock.set_on(-DAY)
    for _ in range(4):
        await second.issuance.settlement.settle()
        await first.issuance.attempts.leases.renew()
        rig.clock.let_pass(LEASE / 3)
    gate.open.set()
    await waiting
    assert ((await rig.row()).owner, await rig.states(), ca.recovered) == ("worker-1", ["issued"], [])


async def test_a_ca_that_wants_to_be_left_alone_for_long_is(rig: Workers, ca: TokenCa) -> None:
    """The lease of such a row ends when it may be asked, however far that is."""
    worker = await rig.worker()
    await left_behind(rig, worker)
    ca.on_recover = says_tomorrow
    for _ in range(3):
        await worker.issuance.settlement.settle()
        rig.clock.let_pass(LEASE + 1)
    assert (await rig.states(), len(ca.recovered), ca.collected) == (["pending"], 1, [])


async def says_tomorrow(_: IssueRequest) -> Pending:
    return Pending("ticket", DAY)


async def test_a_lease_that_is_renewed_is_not_taken(rig: Workers, ca: TokenCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    first, second = await rig.worker("worker-1", lease_seconds=2.0), await rig.worker("worker-2")
    running = asyncio.ensure_future(first.issuance.run())
    waiting = asyncio.ensure_future(first.issuance.server_made(wish()))
    await gate.reached.wait()
    before = (await rig.row()).lease_until

    async def renewed() -> bool:
        now = (await rig.row()).lease_until
        return before is not None and now is not None and now > before

    await until(renewed)
    await second.issuance.settlement.settle_expired()
    assert (await rig.row()).owner == "worker-1"
    gate.open.set()
    await waiting
    assert await rig.states() == ["issued"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ca.recovered == []


async def test_a_worker_whose_renewal_came_too_late_goes_on_with_its_own(rig: Workers, ca: TokenCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker()
    waiting = asyncio.ensure_future(worker.issuance.server_made(wish()))
    await gate.reached.wait()
    rig.clock.let_pass(LEASE + 1)
    await worker.issuance.settlement.settle_expired()
    gate.open.set()
    made = await waiting
    # Held by now, late again.
    rig.clock.let_pass(LEASE + 1)
    await worker.issuance.settlement.settle_expired()
    assert await worker.issuance.server_made(wish()) is made
    assert (await rig.states(), ca.recovered, ca.revoked) == (["issued"], [], [])


async def test_an_answer_for_a_row_that_another_worker_settled_reaches_nobody(rig: Workers, ca: TokenCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    waiting = asyncio.ensure_future(first.issuance.server_made(wish()))
    await gate.reached.wait()
    rig.clock.let_pass(LEASE + 1)
    ca.on_recover = raises(Unavailable("down"))
    await second.issuance.settlement.settle_expired()
    gate.open.set()
    with pytest.raises(TemporarilyUnavailable, match="another worker"):
        await waiting
    row = await rig.row()
    assert (row.state, row.owner) == ("unknown", "worker-2")


async def test_a_certificate_that_another_worker_found_out_and_gave_up_reaches_nobody(
    rig: Workers, ca: TokenCa
) -> None:
    answered, late = asyncio.Event(), asyncio.Event()

    async def slowly(request: IssueRequest) -> Issued:
        issued = await ca.signs(request)
        answered.set()
        await late.wait()
        return issued

    ca.on_issue = slowly
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    waiting = asyncio.ensure_future(first.issuance.server_made(wish()))
    await answered.wait()
    rig.clock.let_pass(LEASE + 1)
    await second.issuance.settlement.settle_expired()
    await abandoned_and_revoked(rig, ca)
    late.set()
    with pytest.raises(TemporarilyUnavailable, match="another worker"):
        await waiting


# -- every state a row may be left in --


async def test_a_request_that_was_never_sent_failed(rig: Workers, ca: TokenCa) -> None:
    worker = await rig.worker()
    await left_behind(rig, worker, state="requested")
    await worker.issuance.settlement.settle_expired()
    row = await rig.row()
    assert (row.state, row.error_class) == ("failed", "Unavailable")
    assert (ca.asked, ca.recovered) == ([], [])


async def test_a_request_without_an_answer_is_recovered_and_its_certificate_revoked(rig: Workers, ca: TokenCa) -> None:
    await died_while_asking(rig, ca)
    await (await rig.worker("worker-2")).issuance.settlement.settle_expired()
    await abandoned_and_revoked(rig, ca)
    assert ca.recovered == [ca.asked[0].issuance_id]
    assert ca.signed_once


async def test_a_request_that_the_ca_never_saw_failed(database: Database, database_url: str) -> None:
    ca = LookupCa()
    async with workers(database, database_url, ca) as rig:
        await died_while_asking(rig, ca)
        await (await rig.worker("worker-2")).issuance.settlement.settle_expired()
        row = await rig.row()
        assert (row.state, row.error_class) == ("failed", "Unavailable")
        assert ca.signatures == {}


async def test_a_pending_certificate_is_collected_and_revoked(rig: Workers, ca: TokenCa) -> None:
    ca.on_issue, ca.on_collect = ca.takes_its_time, Gate(ca.hands_out)
    worker = await rig.worker()
    waiting = asyncio.ensure_future(worker.issuance.server_made(wish()))
    await ca.on_collect.reached.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(issuance, "CLOSE_PATIENCE", 0.0)
        await worker.issuance.close()
    with pytest.raises(TemporarilyUnavailable):
        await waiting
    assert await rig.states() == ["pending"]
    rig.clock.let_pass(LEASE + 1)

    # The CA needs longer still: nobody waits for it, everybody may look again.
    ca.on_collect = in_turn(_still_working, raises(Throttled("slower", 600)), ca.hands_out)
    other = await rig.worker("worker-2")
    await other.issuance.settlement.settle_expired()
    assert await rig.states() == ["pending"]
    await other.issuance.settlement.settle_expired()
    assert len(ca.collected) == 2
    rig.clock.let_pass(LEASE + 1)
    await other.issuance.settlement.settle_expired()
    # It is left alone for as long as the CA asked.
    rig.clock.let_pass(LEASE + 1)
    await other.issuance.settlement.settle_expired()
    assert len(ca.collected) == 3
    rig.clock.let_pass(600)
    await other.issuance.settlement.settle_expired()
    await abandoned_and_revoked(rig, ca)
    assert (set(ca.collected), ca.recovered, ca.signed_once) == ({"ticket-1"}, [], True)


@pytest.mark.parametrize(
    "without",
    [Unavailable("away"), NotSupported("nobody can be asked"), None],
    ids=["nobody knows more", "nobody looks any more", "its new worker found it itself"],
)
async def test_a_reference_that_comes_when_the_row_is_another_workers_is_what_that_one_asks_by(
    rig: Workers, ca: TokenCa, without: IssuerError | None
) -> None:
    known, kept = without is None, isinstance(without, Unavailable)
    if without is not None:
        ca.on_recover = raises(without)
    slow = Gate(ca.takes_its_time)
    ca.on_issue = slow
    first, second = await rig.worker("worker-1"), await rig.worker("worker-2")
    asking = asyncio.create_task(first.issuance.server_made(wish()))
    await slow.reached.wait()
    rig.clock.let_pass(LEASE + 1)
    await second.issuance.settlement.settle_expired()
    before = await rig.states()
    with capture_logs() as lines:
        slow.open.set()
        with pytest.raises(TemporarilyUnavailable, match="another worker"):
            await asking
    [row] = await rig.rows()
    told = [(each["issuance"], each["reference"], each["kept"]) for each in lines if "came_late" in each["event"]]
    assert told == [(row.id.hex, "ticket-1", kept)]
    assert await rig.states() == before == (["abandoned"] if known else ["unknown"])
    if kept:
        ca.on_collect = ca.hands_out
        rig.clock.let_pass(LEASE + 1)
        await second.issuance.settlement.settle_expired()
        await abandoned_and_revoked(rig, ca)
        assert (set(ca.collected), ca.signed_once) == ({"ticket-1"}, True)


async def _still_working(reference: str) -> Pending:
    return Pending(reference, 0.0)


async def test_an_issued_certificate_whose_key_died_with_its_worker_is_revoked_when_its_device_comes_back(
    rig: Workers, ca: TokenCa
) -> None:
    await (await rig.worker("worker-1")).issuance.server_made(wish())
    rig.clock.let_pass(LEASE + 1)
    worker = await rig.worker("worker-2")
    await worker.issuance.settlement.settle_expired()
    row = await rig.row()
    assert (row.state, row.error_text) == ("abandoned", "the server that held its key is gone")
    # The device may have had it a moment before: one that is at work keeps what it has.
    rig.clock.let_pass(365 * 24 * 3600)
    await worker.issuance.settlement.settle()
    assert (ca.recovered, ca.revoked) == ([], [])
    await worker.issuance.server_made(wish())
    await worker.issuance.settlement.settle()
    await abandoned_and_revoked(rig, ca)
    assert await rig.states() == ["abandoned", "issued"]


async def test_a_row_is_settled_by_the_ca_it_names_and_not_by_the_active_one(
    database: Database, database_url: str
) -> None:
    old, new = TokenCa(), TokenCa()
    async with workers(database, database_url, old, new) as rig:
        await died_while_asking(rig, old)
        rig.register.active = list(rig.register.cas)[1]
        await (await rig.worker("worker-2")).issuance.settlement.settle_expired()
        await abandoned_and_revoked(rig, old)
        assert (new.asked, new.recovered, new.revoked) == ([], [], [])


async def test_a_row_that_cannot_be_read_keeps_nobody_from_the_others(rig: Workers, ca: TokenCa) -> None:
    worker = await rig.worker()
    nonsense = intent("device-1", csr=b"no CSR at all", owner="the dead")
    assert await worker.writer.write(nonsense) == Inserted()
    await left_behind(rig, worker, endpoint="device-2")
    await worker.issuance.settlement.settle_expired()
    assert (await rig.states("device-1"), await rig.states("device-2")) == (["unknown"], ["abandoned"])


async def test_a_row_of_a_device_made_key_that_is_recovered_stays_issued(rig: Workers, ca: TokenCa) -> None:
    worker = await rig.worker()
    await left_behind(rig, worker, server_key=False)
    await worker.issuance.settlement.settle_expired()
    assert (await rig.states(), ca.revoked) == (["issued"], [])
