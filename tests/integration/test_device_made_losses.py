"""CSRs of devices when answers are lost and workers die: what a CA may have signed is found or waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from issuers.base import Issued, IssueRequest, Unsettled
from issuers.embedded import EmbeddedIssuer
from issuers.errors import OutcomeUnknown, Unavailable
from issuers.journal import JournalEntry, Signed
from server import device_made
from server.config import IssuanceConfig
from server.device_made import StillAsking
from server.errors import TemporarilyUnavailable
from server.store import issuances
from server.store.audit import Actor
from server.store.database import Database
from tests import pki
from tests.integration.issuers import (
    Gate,
    LookupCa,
    ScriptedCa,
    TokenCa,
    Workers,
    csr_wish,
    in_turn,
    is_for,
    raises,
    workers,
)
from tests.integration.rows import ACCOUNT
from tests.issuers.rigs import make_bundle

OPERATOR = Actor(kind="cli", name="kim", request_id="")


# -- lost answers ----------------------------------------


async def test_a_lost_answer_is_made_good_by_a_new_attempt_where_nobody_can_tell(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = in_turn(ca.loses_the_answer, ca.signs)
    wished = csr_wish()
    assert is_for(await (await rig.worker()).device_made.certificate(wished), wished.csr)
    assert await rig.states() == ["unknown", "issued"]


async def test_with_hold_a_csr_nobody_knows_about_waits_for_a_person(rig: Workers, ca: ScriptedCa) -> None:
    rig.register.on_unknown = "hold"
    ca.on_issue = in_turn(ca.loses_the_answer, ca.signs)
    worker, wished = await rig.worker(), csr_wish()
    for _ in range(2):
        with pytest.raises(TemporarilyUnavailable, match="device release"):
            await worker.device_made.certificate(wished)
    assert len(ca.asked) == 1
    await issuances.release(rig.database, OPERATOR, ACCOUNT, "device-1")
    assert is_for(await worker.device_made.certificate(wished), wished.csr)
    assert await rig.states() == ["unknown", "issued"]


@pytest.mark.parametrize("kind", [LookupCa, TokenCa])
async def test_a_ca_that_can_tell_never_signs_twice(
    database: Database, database_url: str, kind: type[ScriptedCa]
) -> None:
    ca = kind()
    ca.on_issue = ca.loses_the_answer
    async with workers(database, database_url, ca) as rig:
        wished = csr_wish()
        assert is_for(await (await rig.worker()).device_made.certificate(wished), wished.csr)
        assert await rig.states() == ["issued"]
    assert ca.signed_once


async def test_while_it_is_looked_into_a_csr_is_answered_later_and_never_signed_anew(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()
    ca.on_issue = ca.loses_the_answer
    ca.on_recover = raises(Unavailable("the CA is away"))
    async with workers(database, database_url, ca) as rig:
        # How long the CA is asked about a lost answer before the row is `unknown`.
        worker, wished = await rig.worker(key_hold_seconds=0.05), csr_wish()
        with pytest.raises(OutcomeUnknown):
            await worker.device_made.certificate(wished)
        with pytest.raises(StillAsking):
            await worker.device_made.certificate(csr_wish(csr=wished.csr, hold_seconds=0.2))
        ca.on_recover = ca.finds
        rig.clock.let_pass(120)
        await worker.issuance.settlement.settle()
        assert (await worker.device_made.certificate(wished)).again
        assert len(ca.asked) == 1
    assert ca.signed_once


async def test_a_csr_is_not_signed_anew_before_no_slow_ca_can_still_sign_it(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()

    async def may_still_sign(request: IssueRequest) -> Issued | Unsettled | None:
        if request.issuance_id in ca.certificates or ca.quiet[-1] >= timedelta(minutes=5):
            return ca.certificates.get(request.issuance_id)
        return Unsettled("it may still be at work on it")

    ca.on_issue, ca.on_recover = ca.never_hears, may_still_sign
    async with workers(database, database_url, ca) as rig:
        worker, wished = await rig.worker(key_hold_seconds=0.05), csr_wish()
        with pytest.raises(OutcomeUnknown, match="it may still be at work on it"):
            await worker.device_made.certificate(wished)
        lost_at = (await rig.row()).lost_at
        assert lost_at is not None
        # Whoever looks, after whatever restart, knows since when nobody asks.
        for number, wait in enumerate((60, 60, 120)):
            rig.clock.let_pass(wait)
            await (await rig.worker(f"worker-{number + 2}")).issuance.settlement.settle()
            row = await rig.row()
            assert (row.state, row.settled, row.lost_at) == ("unknown", False, lost_at)
            with pytest.raises(StillAsking) as later:
                await worker.device_made.certificate(csr_wish(csr=wished.csr, hold_seconds=0.1))
            assert later.value.retry_after > 0
        assert ca.quiet[-1] >= timedelta(minutes=4)
        rig.clock.let_pass(240)
        await worker.issuance.settlement.settle()
        row = await rig.row()
        assert (row.state, row.error_class) == ("failed", "Unavailable")
        ca.on_issue = ca.signs
        assert is_for(await worker.device_made.certificate(wished), wished.csr)
    assert len(ca.asked) == 2
    assert ca.signed_once


async def test_what_a_dead_worker_asked_is_not_asked_anew_before_no_slow_ca_can_still_sign_it(
    database: Database, database_url: str
) -> None:
    ca = LookupCa()

    async def cannot_say(_: IssueRequest) -> Unsettled:
        return Unsettled("it may still be at work on it")

    ca.on_recover = cannot_say
    async with workers(database, database_url, ca) as rig:
        wished = csr_wish()
        await dies_while_asked(rig, ca, wished)
        survivor = await rig.worker("worker-2")
        rig.clock.let_pass(24 * 3600)
        await survivor.issuance.settlement.settle()
        assert (await rig.row()).state == "unknown"
        rig.clock.let_pass(60)
        await survivor.issuance.settlement.settle()
        # From when it was adopted: until then the other one may have been asking.
        assert ca.quiet[0] < timedelta(hours=1)
        assert ca.quiet[1] - ca.quiet[0] >= timedelta(seconds=60)
        # It came late, and is the device's.
        await ca.signs(ca.asked[0])
        ca.on_recover = ca.finds
        rig.clock.let_pass(120)
        await survivor.issuance.settlement.settle()
        assert is_for(await survivor.device_made.certificate(wished), wished.csr)
    assert (len(ca.asked), ca.signed_once) == (1, True)


# -- a worker that died ----------------------------------------


async def dies_while_asked(rig: Workers, ca: ScriptedCa, wished: device_made.CsrWish) -> None:
    """A worker asks for `wished` and is never heard of again."""
    gate, step = Gate(ca.signs), ca.on_issue
    ca.on_issue = gate
    worker = await rig.worker("worker-that-died")
    asking = asyncio.create_task(worker.device_made.certificate(wished))
    await gate.reached.wait()
    asking.cancel()
    worker.issuance.attempts.leases.leave((await rig.row()).id)
    ca.on_issue = step


async def test_what_a_dead_worker_asked_for_is_settled_and_the_device_gets_it(
    database: Database, database_url: str
) -> None:
    ca = TokenCa()
    async with workers(database, database_url, ca) as rig:
        wished = csr_wish()
        await dies_while_asked(rig, ca, wished)
        survivor = await rig.worker("worker-2")
        waiting = asyncio.create_task(survivor.device_made.certificate(wished))
        await asyncio.sleep(0.2)
        rig.clock.let_pass(IssuanceConfig().lease_seconds + 1)
        await survivor.issuance.settlement.settle()
        assert is_for(await waiting, wished.csr)
        # Adopted by a worker, it is not abandoned: the device has the key.
        assert await rig.states() == ["issued"]
        assert ca.revoked == []
    assert ca.signed_once


async def test_what_a_dead_worker_asked_of_a_ca_that_cannot_tell_is_tried_once_more(
    rig: Workers, ca: ScriptedCa
) -> None:
    wished = csr_wish()
    await dies_while_asked(rig, ca, wished)
    survivor = await rig.worker("worker-2")
    waiting = asyncio.create_task(survivor.device_made.certificate(wished))
    await asyncio.sleep(0.2)
    rig.clock.let_pass(IssuanceConfig().lease_seconds + 1)
    await survivor.issuance.settlement.settle()
    assert is_for(await waiting, wished.csr)
    assert await rig.states() == ["unknown", "issued"]


# -- a worker that died between two durable steps ----------------------------------------


class OwnCa(TokenCa):
    """The embedded CA itself, with its journal."""

    def __init__(self) -> None:
        super().__init__()
        bundle = make_bundle(datetime.now(UTC))
        self.root = pki.Holder(bundle.keys.device_root, bundle.device_root)
        self.journal: list[Signed] = []
        own = EmbeddedIssuer(
            key=bundle.keys.issuing, chain=(bundle.issuing,), root=bundle.device_root, journal=self._wrote
        )
        self.on_issue = own.issue
        self.on_recover = partial(own.recover, quiet=timedelta())

    def _wrote(self, entry: JournalEntry) -> None:
        assert isinstance(entry, Signed)
        self.journal.append(entry)


class Mortal:
    """Ends a worker at one of its effects on the world: before it, or after it and before anybody hears."""

    def __init__(self, effect: int, *, performed: bool) -> None:
        self.gone = asyncio.Event()
        self._left = effect
        self._performed = performed

    def __call__(self, perform: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def step(asked: Any) -> Any:
            self._left -= 1
            if self._left >= 0 or self.gone.is_set():
                return await perform(asked)
            if self._performed:
                await perform(asked)
            self.gone.set()
            return await asyncio.Event().wait()

        return step


# The intent, the signature, the certificate, and that the device has it.
EFFECTS = ("intent", "signature", "certificate", "delivery")


@pytest.mark.parametrize("performed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", range(len(EFFECTS)), ids=EFFECTS)
async def test_an_enrolment_by_our_own_ca_ends_with_one_certificate_wherever_its_worker_died(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, effect: int, performed: bool
) -> None:
    monkeypatch.setattr(device_made, "CLOSE_PATIENCE", 0.0)
    ca, dies = OwnCa(), Mortal(effect, performed=performed)
    async with workers(database, database_url, ca) as rig:
        wished, signs = csr_wish(), ca.on_issue
        lost = await rig.worker("worker-that-died")
        with monkeypatch.context() as patch:
            ca.on_issue = dies(signs)
            patch.setattr(lost.writer, "write", dies(lost.writer.write))

            async def enrols() -> None:
                await lost.device_made.delivered((await lost.device_made.certificate(wished)).issuance_id)

            enrolling = asyncio.create_task(enrols())
            await dies.gone.wait()
            ca.on_issue = signs
            survivor = await rig.worker("worker-2")
            for row in await rig.rows():
                # Nobody renews its lease any more.
                lost.issuance.attempts.leases.leave(row.id)
            back = asyncio.create_task(survivor.device_made.certificate(wished))
            await asyncio.sleep(0.2)
            rig.clock.let_pass(IssuanceConfig().lease_seconds + 1)
            await survivor.issuance.settlement.settle()
            certified = await back
            await survivor.device_made.delivered(certified.issuance_id)
            enrolling.cancel()
        assert is_for(certified, wished.csr)
        # One certificate, on record and delivered; signed again it is the very same, and no line is without a row.
        row = await rig.row()
        assert (row.state, row.serial) == ("delivered", certified.serial)
        assert {line.serial for line in ca.journal} == {row.serial}
        assert {line.certificate_sha256 for line in ca.journal} == {sha256(certified.chain[0]).digest()}
        assert len(ca.journal) == (2 if (effect, performed) in ((1, True), (2, False)) else 1)
        assert certified.again is (effect > 0 or performed)
        assert (await survivor.device_made.certificate(wished)).chain == certified.chain
        assert ca.revoked == []
