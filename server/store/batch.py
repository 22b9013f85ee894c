"""One transaction of the group-commit writer: many operations, one statement a kind."""

from collections.abc import Container, Hashable, Mapping, Sequence
from typing import Any
from uuid import UUID

from server.store.issuance_operations import (
    HeldBack,
    Inserted,
    Joined,
    KeyTaken,
    MarkAbandoned,
    Opened,
    OpenIssuance,
    RecordIssued,
    Step,
    TooMany,
)
from server.store.issuances import issuance_row
from server.store.operation import Operation
from server.store.operations import grouped
from server.store.prepared import Prepared
from server.store.session_operations import EndSession

# Rounds in which a row may be found in nobody's way and still not go in: each needs another writer's commit between
# two of our statements.
ROUNDS = 5

# What a bootstrap writes, in the order of its life.
TOGETHER = (OpenIssuance, RecordIssued, EndSession)


class Undecided(Exception):
    """A row was beaten to it again and again and nobody's row was ever seen: other writers are too busy with it."""


class Batches:
    """Writes batches over one connection, whose statements it prepares once."""

    def __init__(self, connection: Any, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._prepared = Prepared(connection, queries)
        self._fetch, self._execute = self._prepared.fetch, self._prepared.execute

    @property
    def answers(self) -> int:
        """How often the database answered."""
        return self._prepared.answers

    async def write(self, operations: Sequence[Operation[object]]) -> list[object]:
        """Write `operations` in one transaction; their outcomes, which are durable when this returns.

        Raises what asyncpg raises; then nothing was written, unless the connection was lost during the commit.
        """
        await self._prepared.begin()
        fit = _fit_together(operations)
        groups = fit or grouped(operations)
        outcomes: list[object] = [None] * len(operations)
        # One statement is a transaction by itself and saves two round trips.
        alone = bool(fit or len(groups) == 1) and not any(_takes_more(operation) for operation in operations)
        if not alone:
            await self._execute("BEGIN")
        try:
            for run in [groups] if alone else [[positions] for positions in groups]:
                kinds = [[operations[position] for position in positions] for positions in run]
                for positions, answers in zip(run, await self._write_kinds(kinds), strict=True):
                    for position, outcome in zip(positions, answers, strict=True):
                        outcomes[position] = outcome
        except Exception:
            if not alone and not self._connection.is_closed():
                await self._execute("ROLLBACK")
            raise
        if not alone:
            await self._execute("COMMIT")
        return outcomes

    async def _write_kinds(self, groups: Sequence[list[Any]]) -> list[Sequence[object]]:
        """Write `groups`, each of one kind, by one statement; their answers."""
        held: dict[UUID, Opened] = {}
        for group in groups:
            if isinstance(group[0], OpenIssuance):
                held = await self._make_room(group)
            elif isinstance(group[0], MarkAbandoned):
                await self._fetch(("write_abandoned_locks",), [operation.id for operation in group])
        arguments: list[object] = []
        for group in groups:
            arguments += _arguments(group, held)
        rows = await self._fetch(tuple(group[0].statement for group in groups), *arguments)
        written = {row[0] for row in rows}
        return [await self._answers(group, written, held) for group in groups]

    async def _answers(self, group: list[Any], written: set[UUID], held: Mapping[UUID, Opened]) -> Sequence[object]:
        first = group[0]
        if isinstance(first, OpenIssuance):
            return await self._opened(group, written, held)
        if isinstance(first, RecordIssued):
            return await self._issued(group, written)
        if isinstance(first, Step):
            return [operation.id in written for operation in group]
        return [None] * len(group)

    async def _make_room(self, group: list[OpenIssuance]) -> dict[UUID, Opened]:
        """Retire and lock what must be before `group` is written; the outcomes of those that are not."""
        replaced = [wish.replaces for wish in group if wish.replaces is not None]
        if replaced:
            await self._fetch(("write_retired",), replaced)
        # In one order, so that two writers wait for each other in one direction only.
        locks = sorted({wish.lock for wish in group if wish.looks_back})
        if locks:
            await self._fetch(("write_opened_locks",), locks)
        holding = [
            (wish.id, wish.account_id, wish.endpoint, wish.service, wish.issuer_id, wish.session_id)
            for wish in group
            if wish.hold
        ]
        if not holding:
            return {}
        # A statement of its own, so that it sees what whoever had the locks before committed.
        rows = await self._fetch(("write_opened_held",), *zip(*holding, strict=True))
        return {row["id"]: HeldBack(frozenset(row["states"])) for row in rows}

    async def _opened(self, group: list[OpenIssuance], written: set[UUID], held: Mapping[UUID, Opened]) -> list[Opened]:
        """What became of intents, of which `written` were inserted at the first try and `held` were not tried."""
        outcomes = dict(held)
        left = group
        for _ in range(ROUNDS):
            for wish in left:
                if wish.id in written:
                    outcomes[wish.id] = Inserted()
            left = [wish for wish in left if wish.id not in outcomes]
            if left:
                left = await self._look(left, outcomes)
            if not left:
                return [outcomes[wish.id] for wish in group]
            rows = await self._fetch((OpenIssuance.statement,), *_arguments(left))
            written = {row[0] for row in rows}
        raise Undecided(f"{len(left)} intents")

    async def _look(self, wishes: list[OpenIssuance], outcomes: dict[UUID, Opened]) -> list[OpenIssuance]:
        """Find out why `wishes` were not inserted; those to try again."""
        over: list[UUID] = []
        again: list[OpenIssuance] = []
        rows = await self._fetch(
            ("write_opened_look",),
            [wish.id for wish in wishes],
            [wish.account_id for wish in wishes],
            [wish.service for wish in wishes],
            [wish.csr_sha256 for wish in wishes],
            [wish.spki_sha256 for wish in wishes],
        )
        found = {row["wish_id"]: row for row in rows}
        for wish in wishes:
            row = found[wish.id]
            if row["id"] == wish.id:
                outcomes[wish.id] = Inserted()
            elif row["key_endpoint"] is not None and (row["key_account_id"], row["key_endpoint"]) != (
                wish.account_id,
                wish.endpoint,
            ):
                own = row["key_account_id"] == wish.account_id
                outcomes[wish.id] = KeyTaken(row["key_endpoint"] if own else None)
            elif row["id"] is not None and not row["is_over"]:
                outcomes[wish.id] = Joined(issuance_row(row))
            else:
                if row["id"] is not None:
                    over.append(row["id"])
                again.append(wish)
        if over:
            await self._fetch(("write_retired",), over)
        counted = [
            (wish.id, wish.account_id, wish.endpoint, wish.service, *wish.bounds)
            for wish in again
            if wish.bounds != (None, None)
        ]
        if counted:
            rows = await self._fetch(("write_opened_lately",), *zip(*counted, strict=True))
            outcomes.update((row["id"], TooMany()) for row in rows)
        return [wish for wish in again if wish.id not in outcomes]

    async def _issued(self, group: list[RecordIssued], written: set[UUID]) -> list[bool]:
        missing = [operation for operation in group if operation.id not in written]
        if missing:
            # It may be there from a try whose commit was answered by a lost connection.
            rows = await self._fetch(
                ("write_issued_look",),
                [operation.id for operation in missing],
                [operation.owner for operation in missing],
                [operation.chain[0] for operation in missing],
            )
            written = written | {row[0] for row in rows}
        return [operation.id in written for operation in group]


def _arguments(group: Sequence[Any], held: Container[UUID] = ()) -> list[object]:
    """The arguments of the statement of `group`: its rows or their columns, and what is no column of them.

    Intents that are `held` back are not among them.
    """
    rows = [operation.row() for operation in group if not held or operation.id not in held]
    arguments: list[object] = [rows] if group[0].whole else [*zip(*rows, strict=True)]
    if isinstance(group[0], RecordIssued):
        # A set of a few: all leaves of one CA share what stands above them.
        chains = dict(operation.above for operation in group)
        arguments += [list(chains), list(chains.values())]
    return arguments


def _fit_together(operations: Sequence[Operation[object]]) -> list[list[int]]:
    """As `grouped`, if one statement can write them all: it sees the record as it was before, so none may touch
    another's rows. Empty if not.

    Only the kinds that every bootstrap writes: each mixture of kinds is a statement to prepare and to keep.
    """
    groups: dict[type, list[int]] = {kind: [] for kind in TOGETHER}
    seen: set[Hashable] = set()
    count = 0
    for position, operation in enumerate(operations):
        positions = groups.get(type(operation))
        if positions is None:
            return []
        positions.append(position)
        keys = operation.keys()
        count += len(keys)
        seen.update(keys)
    return [positions for positions in groups.values() if positions] if len(seen) == count else []


def _takes_more(operation: Operation[object]) -> bool:
    """Whether one statement does not do: a row to retire, a count, a look or a doubt that holds only under a lock."""
    if isinstance(operation, OpenIssuance):
        return operation.replaces is not None or operation.looks_back
    return isinstance(operation, MarkAbandoned)
