"""Rows of which nobody knows what became: looked into again and again, and then left to people (design 7)."""

import asyncio

import pytest

from issuers.errors import BadCertificate, Check, IssuerError, Misconfigured, Rejected, Unavailable
from server.store.database import Database
from tests.integration.issuers import (
    ScriptedCa,
    TokenCa,
    Workers,
    died_while_asking,
    in_turn,
    raises,
    wish,
    workers,
)
from tests.integration.leftovers import abandoned_and_revoked, left_behind


@pytest.fixture
def ca() -> TokenCa:
    return TokenCa()


async def test_a_request_that_nobody_can_ask_for_stays_unknown_and_is_counted_once(
    database: Database, database_url: str
) -> None:
    ca = ScriptedCa()
    async with workers(database, database_url, ca) as rig:
        await died_while_asking(rig, ca)
        worker = await rig.worker("worker-2")
        for _ in range(3):
            await worker.issuance.settlement.settle_expired()
            rig.clock.let_pass(24 * 3600)
        row = await rig.row()
        assert (row.state, row.error_class, worker.counted("unknown")) == ("unknown", "OutcomeUnknown", 1)
        # The device is served all the same.
        await worker.issuance.server_made(wish())
        assert await rig.states() == ["unknown", "issued"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unavailable("down"), "unknown"),
        (Misconfigured("no such profile"), "unknown"),
        (ZeroDivisionError("a fault of ours"), "unknown"),
        (Rejected("not this name"), "refused"),
        (BadCertificate(Check.PARSE, "nonsense"), "bad"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_ca_that_does_not_tell_leaves_a_row_that_says_why_and_hurts_no_other(
    rig: Workers, ca: TokenCa, error: Exception, state: str
) -> None:
    ca.on_recover = in_turn(raises(error), ca.does_it_again)
    worker = await rig.worker()
    await left_behind(rig, worker, endpoint="device-1")
    await left_behind(rig, worker, endpoint="device-2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.issuance.settlement, "_few", asyncio.Semaphore(1))
        await worker.issuance.settlement.settle_expired()
    states = sorted(await rig.states("device-1") + await rig.states("device-2"))
    assert states == sorted([state, "abandoned"])
    assert worker.metrics.internal_errors.values[""] == (not isinstance(error, IssuerError))


async def test_an_unknown_outcome_is_looked_into_again_less_and_less_and_then_left_to_people(
    rig: Workers, ca: TokenCa
) -> None:
    ca.on_recover = raises(Unavailable("down"))
    worker = await rig.worker()
    await left_behind(rig, worker)
    for _ in range(10):
        await worker.issuance.settlement.settle_expired()
        rig.clock.let_pass(24 * 3600)
    assert await rig.states() == ["unknown"]
    # At first, and after 30 s, 1, 2, 4, 8 and 16 minutes.
    assert len(ca.recovered) == 7
    assert worker.counted("unknown") == 1


async def test_an_unknown_outcome_that_the_ca_can_tell_later_is_settled(rig: Workers, ca: TokenCa) -> None:
    ca.on_recover = in_turn(raises(Unavailable("down")), ca.does_it_again)
    worker = await rig.worker()
    await left_behind(rig, worker)
    await worker.issuance.settlement.settle_expired()
    assert await rig.states() == ["unknown"]
    rig.clock.let_pass(60)
    await worker.issuance.settlement.settle_expired()
    await abandoned_and_revoked(rig, ca)
    assert ca.signed_once


async def test_an_unknown_outcome_with_a_reference_is_collected(rig: Workers, ca: TokenCa) -> None:
    ca.on_issue = in_turn(ca.takes_its_time, raises(Unavailable("down")))
    ca.on_collect = in_turn(raises(Misconfigured("expired credentials")), ca.hands_out)
    worker = await rig.worker()
    with pytest.raises(Unavailable):
        await worker.issuance.server_made(wish())
    assert await rig.states() == ["unknown", "failed"]
    rig.clock.let_pass(60)
    await worker.issuance.settlement.settle_expired()
    await abandoned_and_revoked(rig, ca)
    assert (ca.collected, ca.recovered) == (["ticket-1", "ticket-1"], [])


async def test_a_row_whose_ca_was_removed_is_left_to_people(rig: Workers, ca: TokenCa) -> None:
    worker = await rig.worker()
    await left_behind(rig, worker)
    rig.register.cas.clear()
    await worker.issuance.settlement.settle_expired()
    row = await rig.row()
    assert row.state == "unknown"
    assert row.error_text is not None
    assert "the certificate issuer was removed" in row.error_text
