"""A CA behind its breaker as several workers have it: scripted, counted, on a real record, under a test's clock."""

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
from issuers.errors import IssuerError
from server.breaker import Breaker, Guarded
from server.pace import Pace
from server.store import accounts, issuers
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from server.terms import Terms
from tests.issuers.rigs import make_request

PERSON = Actor(kind="cli", name="test", request_id="")


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


async def on_record(database: Database) -> Rig:
    """A rig whose CA is on record."""
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
