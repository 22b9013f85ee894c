"""How many certificates with a key made here one device has of a service in a day, whoever serves it (design 7)."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from issuers.errors import BadCertificate, Check, OutcomeUnknown, Rejected, Unavailable
from server.errors import DailyLimit
from server.issuance import ServerMade, Wish
from server.store import issuances
from server.store.issuance_operations import UNSEEN
from tests.integration.certificates import deliver
from tests.integration.field import until
from tests.integration.guarded import PERSON
from tests.integration.issuers import Gate, ScriptedCa, Worker, Workers, csr_wish, in_turn, raises, wish
from tests.integration.rows import ACCOUNT

KEY_HOLD = 120.0
REFUSED = "within 24 hours, the most that issuance.daily_bootstraps allows"


async def bootstrapped(worker: Worker, asked: Wish) -> ServerMade:
    """What a device was given that accepted its Finish."""
    made = await worker.issuance.server_made(asked)
    await deliver(worker, asked, made)
    return made


async def test_one_device_has_so_many_certificates_of_a_service_a_day_and_no_more(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=2)
    # What a CA fails to give counts for nothing.
    for _ in range(3):
        ca.on_issue = in_turn(raises(Unavailable("away")), ca.signs)
        with pytest.raises(Unavailable):
            await worker.issuance.server_made(wish("looping"))
    ca.on_issue = ca.signs
    asked = len(ca.asked)
    for _ in range(2):
        await bootstrapped(worker, wish("looping"))
    for each in (worker, await rig.worker("after-a-restart", daily_bootstraps=2)):
        with pytest.raises(DailyLimit, match=f"issued 2 certificates of LWM2M .*{REFUSED}") as refused:
            await each.issuance.server_made(wish("looping"))
        assert refused.value.retry_after == 3600
    # Nothing is kept of who asks for more: neither an intent nor a key.
    assert len(ca.asked) == asked + 2
    async with rig.database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM known_key") == len(await rig.rows("looping"))
    # Neither its other service nor another device is any the worse.
    await bootstrapped(worker, replace(wish("looping"), service="DLMS"))
    await bootstrapped(worker, wish("modest"))
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET opened_at = opened_at - interval '25 hours'")
    await bootstrapped(worker, wish("looping"))


async def test_what_others_had_counts_for_nobody_whatever_they_are_called(rig: Workers, ca: ScriptedCa) -> None:
    """The count goes through an index of names: none before and none behind, and none of another account."""
    worker = await rig.worker("worker-1", daily_bootstraps=1, daily_csrs=1)
    for endpoint in ("a-before", "z-behind"):
        await bootstrapped(worker, wish(endpoint))
        await worker.device_made.certificate(csr_wish(f"{endpoint}-2"))
    await bootstrapped(worker, wish("middle"))
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET account_id = $1 WHERE endpoint = 'middle'", uuid4())
    assert not await issuances.has_all_of_a_day(rig.database, ACCOUNT, "middle", "LWM2M", 1)
    await bootstrapped(worker, wish("middle"))
    await worker.device_made.certificate(csr_wish("middle-2"))
    assert await issuances.has_all_of_a_day(rig.database, ACCOUNT, "middle", "LWM2M", 1)


async def test_a_key_that_is_held_for_its_device_is_counted_once(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=2)
    for _ in range(5):
        asked = wish("unlucky")
        made = await worker.issuance.server_made(asked)
        worker.issuance.returned(made.issuance_id, asked)
    await bootstrapped(worker, wish("unlucky"))
    await bootstrapped(worker, wish("unlucky"))
    with pytest.raises(DailyLimit):
        await worker.issuance.server_made(wish("unlucky"))
    assert len(ca.asked) == 2


@pytest.mark.parametrize(("bound", "before"), [(3, 0), (UNSEEN + 3, UNSEEN)])
async def test_two_workers_that_are_asked_at_once_give_no_more_than_the_bound(
    rig: Workers, ca: ScriptedCa, bound: int, before: int
) -> None:
    """A small bound is counted under the lock from the first on, a large one near its end."""
    racing = [await rig.worker(f"worker-{number}", daily_bootstraps=bound) for number in (1, 2)]
    for number in range(before):
        await bootstrapped(racing[number % 2], wish("looping"))
    gate = ca.on_issue = Gate(ca.signs)
    # Names that differ, as of several entries of a profile: else those of one worker would be one certificate.
    asked = [
        asyncio.create_task(worker.issuance.server_made(wish("looping", unit=f"unit-{number}")))
        for worker in racing
        for number in range(3)
    ]

    async def three_refused() -> bool:
        return sum(task.done() for task in asked) == 3

    # The others are under way: the CA lets none of them go yet.
    await until(three_refused)
    gate.open.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, ServerMade) for each in ended) == 3
    assert sum(isinstance(each, DailyLimit) for each in ended) == 3
    assert len(ca.asked) == bound


async def test_what_the_ca_may_have_signed_counts_until_a_person_has_looked(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=2)
    ca.on_issue = ca.never_hears
    with pytest.raises(OutcomeUnknown):
        await worker.issuance.server_made(wish("looping"))
    ca.on_issue = ca.signs
    assert await rig.states("looping") == ["unknown", "unknown"]
    with pytest.raises(DailyLimit):
        await worker.issuance.server_made(wish("looping"))
    await issuances.release(rig.database, PERSON, ACCOUNT, "looping")
    await bootstrapped(worker, wish("looping"))


async def test_what_a_ca_signed_and_no_device_may_have_counts(rig: Workers, ca: ScriptedCa) -> None:
    """It charges for each all the same: one that breaks a check, and one whose device never took it."""
    worker = await rig.worker("worker-1", daily_bootstraps=2)
    ca.on_issue = in_turn(raises(BadCertificate(Check.SUBJECT, "another name")), ca.signs)
    with pytest.raises(BadCertificate):
        await worker.issuance.server_made(wish("looping"))
    asked = wish("looping")
    made = await worker.issuance.server_made(asked)
    worker.issuance.returned(made.issuance_id, asked)
    rig.clock.let_pass(KEY_HOLD + 1)
    await worker.issuance.expire_keys()
    assert sorted(await rig.states("looping")) == ["abandoned", "bad"]
    with pytest.raises(DailyLimit):
        await worker.issuance.server_made(wish("looping"))


async def test_a_request_of_ours_that_the_ca_refused_does_not_count(rig: Workers, ca: ScriptedCa) -> None:
    """It gave no certificate, and the device had no part in the CSR: no fleet is shut out by a CA's settings."""
    worker = await rig.worker("worker-1", daily_bootstraps=2)
    ca.on_issue = in_turn(*[raises(Rejected("no such profile")) for _ in range(3)], ca.signs)
    for _ in range(3):
        with pytest.raises(Rejected):
            await worker.issuance.server_made(wish("honest"))
    assert await rig.states("honest") == ["refused"] * 3
    for _ in range(2):
        await bootstrapped(worker, wish("honest"))
    with pytest.raises(DailyLimit):
        await worker.issuance.server_made(wish("honest"))


@pytest.mark.parametrize("counted", [False, True])
async def test_what_a_clock_that_was_set_back_had_signed_does_not_count(
    rig: Workers, ca: ScriptedCa, counted: bool
) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=2, daily_csrs=2)
    asked = replace(wish("honest"), counted=counted)
    for _ in range(2):
        await bootstrapped(worker, asked)
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET opened_at = opened_at + interval '30 days'")
    await bootstrapped(worker, asked)


async def test_a_bootstrap_and_a_request_of_the_device_have_bounds_of_their_own(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=1, daily_csrs=3)
    await worker.device_made.certificate(csr_wish("both"))
    await bootstrapped(worker, wish("both"))
    with pytest.raises(DailyLimit, match=REFUSED):
        await worker.issuance.server_made(wish("both"))
    await bootstrapped(worker, replace(wish("both"), counted=True))
    with pytest.raises(DailyLimit, match=r"the most that issuance\.daily_csrs allows"):
        await worker.device_made.certificate(csr_wish("both"))
    assert len(ca.asked) == 3


async def test_who_asks_beforehand_is_told_of_certificates_of_that_service_whose_key_is_made_here(
    rig: Workers, ca: ScriptedCa
) -> None:
    """A renewal looks so before the device is sent away."""
    worker = await rig.worker("worker-1")
    await bootstrapped(worker, wish("asked-for"))
    await bootstrapped(worker, replace(wish("asked-for"), service="DLMS"))
    await worker.device_made.certificate(csr_wish("asked-for"))
    await bootstrapped(worker, wish("another"))
    for most, has_all in ((1, True), (2, False)):
        told = await issuances.has_all_of_a_day(rig.database, ACCOUNT, "asked-for", "LWM2M", most)
        assert told is has_all
    # Nor of a clock that was set back since.
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET opened_at = opened_at + interval '2 hours'")
    assert not await issuances.has_all_of_a_day(rig.database, ACCOUNT, "asked-for", "LWM2M", 1)


async def test_no_bound_is_none(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_bootstraps=0)
    for _ in range(UNSEEN + 2):
        await bootstrapped(worker, wish("rig"))
    assert len(ca.asked) == UNSEEN + 2
