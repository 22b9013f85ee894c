"""A worker that stands still between its intent and the call of the CA, for longer than its lease (design 7).

Whoever has its row by then settled it, and would never hear of a certificate that the CA made later.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from issuers.base import Issued, IssueRequest
from server.errors import TemporarilyUnavailable
from server.store.database import Database
from server.store.operation import Operation
from server.store.writer import OpenIssuance
from tests.integration.field import until
from tests.integration.issuers import LEASE, LookupCa, ScriptedCa, Worker, Workers, csr_wish, wish, workers
from tests.integration.standing_worker import ENDPOINT
from tests.integration.standing_worker import LEASE as REAL_LEASE

ROOT = Path(__file__).parents[2]

STOOD_STILL = "stood still for longer than its lease"


def after_the_intent(worker: Worker, happens: Callable[[], Awaitable[None]], patch: pytest.MonkeyPatch) -> None:
    """What `happens` when the worker's intent is durable and nobody was asked."""
    write = worker.writer.write

    async def written(operation: Operation[object]) -> object:
        outcome = await write(operation)
        if isinstance(operation, OpenIssuance):
            await happens()
        return outcome

    patch.setattr(worker.writer, "write", written)


def stand_still(rig: Workers, by: str) -> None:
    """More than a lease passes, and one clock or both tell."""
    match by:
        case "both clocks":
            rig.clock.let_pass(LEASE + 1)
        case "the clock on the wall":
            rig.clock.set_on(LEASE + 1)
        case "the clock that nobody sets":
            rig.clock.let_pass(LEASE + 1)
            rig.clock.set_on(-LEASE - 1)
        case _:
            raise AssertionError(by)


@pytest.mark.parametrize("by", ["both clocks", "the clock on the wall", "the clock that nobody sets"])
async def test_who_stood_still_longer_than_its_lease_asks_no_ca_and_says_that_it_did_not(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    worker = await rig.worker(on_unknown="hold")

    async def stands_still() -> None:
        stand_still(rig, by)

    with monkeypatch.context() as patch, capture_logs() as lines:
        after_the_intent(worker, stands_still, patch)
        with pytest.raises(TemporarilyUnavailable, match=STOOD_STILL) as caught:
            await worker.issuance.server_made(wish())
    assert (ca.asked, caught.value.retry_after) == ([], 5)
    row = await rig.row()
    # Nobody else had it: what is known for sure is on record, and no person has to look for it at the CA.
    assert (row.state, row.error_class, row.settled) == ("failed", "Unavailable", True)
    assert (worker.counted("failed"), worker.issuance.attempts.leases.holds(row.id)) == (1, False)
    assert [line["issuance"] for line in lines if line["event"] == "ca_not_asked"] == [row.id.hex]
    await worker.issuance.server_made(wish())
    assert await rig.states() == ["failed", "issued"]


async def test_who_stood_still_while_another_settled_its_row_asks_no_ca_and_leaves_the_row_alone(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = ScriptedCa()
    async with workers(database, database_url, ca) as rig:
        first, second = await rig.worker("worker-1"), await rig.worker("worker-2")

        async def is_overtaken() -> None:
            rig.clock.let_pass(LEASE + 1)
            await second.issuance.settlement.settle_expired()
            await second.issuance.server_made(wish())

        after_the_intent(first, is_overtaken, monkeypatch)
        with pytest.raises(TemporarilyUnavailable, match=STOOD_STILL):
            await first.issuance.server_made(wish())
        assert await rig.states() == ["unknown", "issued"]
        rows = await rig.rows()
        assert [request.issuance_id for request in ca.asked] == [rows[1].id]
        assert (rows[0].owner, first.counted("failed")) == ("worker-2", 0)


async def test_a_csr_whose_worker_stood_still_is_not_sent_and_may_be_tried_again(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await rig.worker()

    async def stands_still() -> None:
        stand_still(rig, "both clocks")

    device = csr_wish(hold_seconds=LEASE * 3)
    with monkeypatch.context() as patch:
        after_the_intent(worker, stands_still, patch)
        with pytest.raises(TemporarilyUnavailable, match=STOOD_STILL):
            await worker.device_made.certificate(device)
    assert (ca.asked, await rig.states()) == ([], ["failed"])
    await worker.device_made.certificate(device)
    assert (len(ca.asked), await rig.states()) == (1, ["failed", "issued"])


async def test_who_waits_for_its_turn_at_a_ca_has_the_time_of_its_renewed_lease(rig: Workers, ca: ScriptedCa) -> None:
    worker, other = await rig.worker(), await rig.worker("worker-2")
    renewed = 0

    async def has_its_turn(request: IssueRequest) -> Issued:
        nonlocal renewed
        for _ in range(3):
            rig.clock.let_pass(LEASE * 0.7)
            await worker.issuance.attempts.leases.renew()
            renewed += 1
        request.still_due()
        return await ca.signs(request)

    ca.on_issue = has_its_turn
    made = await worker.issuance.server_made(wish())
    await other.issuance.settlement.settle_expired()
    row = await rig.row()
    assert (row.id, row.state, row.owner, renewed) == (made.issuance_id, "issued", "worker-1", 3)


async def test_who_stood_still_while_it_waited_for_its_turn_does_not_take_it(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()
    async with workers(database, database_url, ca) as rig:
        first, second = await rig.worker("worker-1"), await rig.worker("worker-2")

        async def has_its_turn(request: IssueRequest) -> Issued:
            ca.on_issue = ca.signs
            rig.clock.let_pass(LEASE + 1)
            await second.issuance.settlement.settle_expired()
            # It learns that the row is another's before its turn comes.
            await first.issuance.attempts.leases.renew()
            request.still_due()
            return await ca.signs(request)

        ca.on_issue = has_its_turn
        with pytest.raises(TemporarilyUnavailable, match="another worker"):
            await first.issuance.server_made(wish())
        row = await rig.row()
        assert (row.state, row.owner, ca.certificates) == ("failed", "worker-2", {})


async def test_a_process_that_was_stopped_longer_than_its_lease_asks_no_ca(
    database: Database, database_url: str
) -> None:
    ca = ScriptedCa()
    async with workers(database, database_url, ca) as rig:
        other = await rig.worker("worker-2", lease_seconds=REAL_LEASE)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.standing_worker", database_url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        try:

            async def is_stopped() -> bool:
                return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

            await until(is_stopped)
            assert await rig.states(ENDPOINT) == ["submitted"]

            async def is_taken_over() -> bool:
                await other.issuance.settlement.settle_expired()
                return await rig.states(ENDPOINT) == ["unknown"]

            await until(is_taken_over)
            os.kill(process.pid, signal.SIGCONT)
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert json.loads(output.splitlines()[-1]) == {"asked": 0, "error": "LeaseOver"}
        row = await rig.row(ENDPOINT)
        assert (row.state, row.owner) == ("unknown", "worker-2")
