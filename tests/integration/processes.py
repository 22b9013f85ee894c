"""Workers of one record and their CAs, whose effects take turns (`turns.py`)."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from issuers.base import Issued, IssueRequest, Recovery
from issuers.errors import Unavailable
from server.config import IssuanceConfig
from server.issuance import Issuance
from server.knowledge import ActiveIssuer
from server.metrics import Metrics
from server.store.database import Database
from server.store.writer import Writer
from tests.integration.issuers import Clock, LookupCa, Register, ScriptedCa
from tests.integration.turns import TakesTurns

KEY_HOLD = 120.0


class CasInTurns(Register):
    """The CAs of a register, asked in turns, and the name of all devices that ask there."""

    def __init__(self, *cas: ScriptedCa) -> None:
        super().__init__(*cas)
        self.name = uuid4().hex[:8]

    async def issuer_by_id(self, account_id: UUID, issuer_id: UUID | None, service: str = "LWM2M") -> ActiveIssuer:
        active = await super().issuer_by_id(account_id, issuer_id, service)
        in_turns: Any = TakesTurns(active.issuer, issue=lambda _: "CA issue", recover=lambda *_: "CA recover")
        return replace(active, issuer=in_turns)


class ForgetfulCa(LookupCa):
    """Loses its first answer to each device, and the first time cannot tell what became of it either."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[object] = set()
        self.on_issue, self.on_recover = self.forgets, self.remembers

    async def forgets(self, request: IssueRequest) -> Issued:
        return await (self.signs(request) if self._is_known(request.endpoint) else self.loses_the_answer(request))

    async def remembers(self, request: IssueRequest) -> Issued | None:
        if not self._is_known(request.issuance_id):
            raise Unavailable("down")
        return await self.finds(request)

    def _is_known(self, what: object) -> bool:
        if what in self._known:
            return True
        self._known.add(what)
        return False


class SilentCa(ForgetfulCa):
    """Loses its first answer to each device and can never tell what became of it."""

    recovery = Recovery.NONE


@dataclass(frozen=True, slots=True)
class Process:
    """One worker, its writer and its clock."""

    issuance: Issuance
    writer: Any
    clock: Clock


class Processes:
    """Workers of one record, their effects in turns; of each there may be many, one after the other."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self._url = url
        self._writers: dict[str, Writer] = {}

    async def started(self, owner: str, register: Register, patience: float = KEY_HOLD) -> Process:
        """A new one."""
        if owner not in self._writers:
            self._writers[owner] = Writer(self._url, self.database.queries)
            await self._writers[owner].start()
        clock = Clock()
        database: Any = TakesTurns(self.database, **dict.fromkeys(("fetch", "fetchrow", "execute", "look_up"), _query))
        writer: Any = TakesTurns(self._writers[owner], write=lambda operation: type(operation).__name__)
        started = Issuance(
            database=database,
            writer=writer,
            knowledge=register,
            config=IssuanceConfig(answer_seconds=20.0, key_hold_seconds=patience),
            owner=owner,
            clock=clock.monotonic,
            now=clock.now,
            metrics=Metrics(),
        )
        return Process(started, writer, clock)

    async def close(self) -> None:
        for writer in self._writers.values():
            await writer.close()

    async def leases(self, until: str, endpoint: str, owner: str = "%") -> None:
        """Leases of what is under way."""
        async with self.database.acquire() as connection:
            await connection.execute(
                "UPDATE issuance SET lease_until = $1::text::timestamptz "
                "WHERE endpoint LIKE $2 AND owner LIKE $3 AND NOT settled",
                until,
                endpoint,
                owner,
            )


def _query(name: str, *_: object) -> str:
    return name
