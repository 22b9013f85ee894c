"""How many CSRs of devices are under way, and how many certificates one device has a day (design 7)."""

import asyncio
from dataclasses import replace

import pytest

from issuers.errors import BadCertificate, Rejected, Unavailable
from issuers.returned import DeviceLimits
from server import device_made
from server.device_made import Certified
from server.errors import ComeAgain, TemporarilyUnavailable
from tests.integration.field import until
from tests.integration.issuers import MOST_CSRS, Gate, ScriptedCa, Workers, csr_wish, in_turn, raises, wish


async def test_no_more_than_so_many_csrs_are_under_way(rig: Workers, ca: ScriptedCa) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    worker = await rig.worker()
    asked = [
        asyncio.create_task(worker.device_made.certificate(csr_wish(f"device-{number}"))) for number in range(MOST_CSRS)
    ]
    await gate.reached.wait()
    with pytest.raises(TemporarilyUnavailable, match="as many CSRs"):
        await worker.device_made.certificate(csr_wish("one-too-many"))
    gate.open.set()
    await asyncio.gather(*asked)


async def test_one_device_does_not_take_the_places_of_the_others(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = MOST_CSRS - 1
    monkeypatch.setattr(device_made, "MOST_OF_ONE_DEVICE", most)
    gate = ca.on_issue = Gate(ca.signs)
    worker = await rig.worker()
    greedy = [asyncio.create_task(worker.device_made.certificate(csr_wish("greedy"))) for _ in range(most)]
    await gate.reached.wait()
    with pytest.raises(TemporarilyUnavailable, match="of this device"):
        await worker.device_made.certificate(csr_wish("greedy"))
    other = asyncio.create_task(worker.device_made.certificate(csr_wish("modest")))
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(*greedy, other)
    # What is done counts no more.
    await worker.device_made.certificate(csr_wish("greedy"))


async def test_one_device_has_so_many_certificates_a_day_and_no_more(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_csrs=2)
    first = csr_wish("greedy")
    # What fails counts for nothing.
    for _ in range(3):
        ca.on_issue = in_turn(raises(Unavailable("away")), ca.signs)
        with pytest.raises(Unavailable):
            await worker.device_made.certificate(csr_wish("greedy"))
    ca.on_issue = ca.signs
    asked = len(ca.asked)
    serial = (await worker.device_made.certificate(first)).serial
    await worker.device_made.certificate(csr_wish("greedy", service="DLMS"))
    with pytest.raises(TemporarilyUnavailable, match="within 24 hours"):
        await worker.device_made.certificate(csr_wish("greedy"))
    assert len(ca.asked) == asked + 2
    # What it was given it still gets, and others are none the worse.
    assert (await worker.device_made.certificate(first)).serial == serial
    await worker.device_made.certificate(csr_wish("modest"))
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET opened_at = opened_at - interval '25 hours'")
    await worker.device_made.certificate(csr_wish("greedy"))


async def test_the_certificates_of_a_day_are_counted_over_all_workers_while_they_are_under_way(
    rig: Workers, ca: ScriptedCa
) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    racing = [await rig.worker(f"worker-{number}", daily_csrs=3) for number in (1, 2)]
    asked = [asyncio.create_task(each.device_made.certificate(csr_wish("greedy"))) for each in racing for _ in range(3)]

    async def three_refused() -> bool:
        return sum(task.done() for task in asked) == 3

    # The others are under way: the CA lets none of them go yet.
    await until(three_refused)
    gate.open.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, Certified) for each in ended) == 3
    assert sum(isinstance(each, ComeAgain) and "within 24 hours" in str(each) for each in ended) == 3
    assert len(ca.asked) == 3
    # Nothing is kept of who asks for more than that: neither an intent nor a key.
    async with rig.database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM known_key") == 3
    assert await rig.states("greedy") == ["issued"] * 3


async def test_keys_made_here_for_a_device_that_asks_for_them_count_too(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_csrs=2)
    by_skg = replace(wish("greedy"), counted=True)
    made = await worker.issuance.server_made(by_skg)
    worker.issuance.delivered(made.issuance_id, by_skg)
    await worker.device_made.certificate(csr_wish("greedy"))
    for refused in (worker.issuance.server_made(by_skg), worker.device_made.certificate(csr_wish("greedy"))):
        with pytest.raises(ComeAgain, match="within 24 hours"):
            await refused
    assert len(ca.asked) == 2
    # A bootstrap has a bound of its own (test_bootstrap_limits.py).
    await worker.issuance.server_made(wish("greedy"))


async def test_what_the_ca_signed_in_vain_or_refused_to_sign_counts_too(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker("worker-1", daily_csrs=2)
    with pytest.raises(BadCertificate):
        await worker.device_made.certificate(csr_wish("greedy", limits=DeviceLimits(certificate_bytes=100)))
    ca.on_issue = in_turn(raises(Rejected("not on the list")), ca.signs)
    with pytest.raises(Rejected):
        await worker.device_made.certificate(csr_wish("greedy"))
    with pytest.raises(ComeAgain, match="within 24 hours"):
        await worker.device_made.certificate(csr_wish("greedy"))
    assert len(ca.asked) == 2
