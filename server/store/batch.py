"""One transaction of the group-commit writer: many operations, one statement a kind."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from server.store.issuances import issuance_row
from server.store.operations import (
    Inserted,
    Joined,
    KeyTaken,
    Opened,
    OpenIssuance,
    Operation,
    RecordIssued,
    Step,
    TooMany,
    grouped,
)

# Rounds in which a row may be found in nobody's way and still not go in: each needs another writer's commit between
# two of our statements.
ROUNDS = 5


class Undecided(Exception):
    """A row was beaten to it again and again and nobody's row was ever seen: other writers are too busy with it."""


class Batches:
    """Writes batches over one connection, whose statements it prepares once."""

    def __init__(self, connection: Any, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries
        self._prepared: dict[str, Any] = {}
        # How often the database answered: as long as it grows the database is there, however long a batch takes.
        self.answers = 0

    async def write(self, operations: Sequence[Operation[object]]) -> list[object]:
        """Write `operations` in one transaction; their outcomes, which are durable when this returns.

        Raises what asyncpg raises; then nothing was written, unless the connection was lost during the commit.
        """
        groups = grouped(operations)
        outcomes: list[object] = [None] * len(operations)
        # One statement is a transaction by itself and saves two round trips.
        alone = len(groups) == 1 and not any(_takes_more(operation) for operation in operations)
        if not alone:
            await self._execute("BEGIN")
        try:
            for positions in groups:
                group = [operations[position] for position in positions]
                for position, outcome in zip(positions, await self._write_group(group), strict=True):
                    outcomes[position] = outcome
        except Exception:
            if not alone and not self._connection.is_closed():
                await self._execute("ROLLBACK")
            raise
        if not alone:
            await self._execute("COMMIT")
        return outcomes

    async def _write_group(self, group: list[Any]) -> Sequence[object]:
        first = group[0]
        if isinstance(first, OpenIssuance):
            return await self._open(group)
        if isinstance(first, RecordIssued):
            return await self._issue(group)
        rows = await self._fetch(first.statement, *_columns(group))
        if not isinstance(first, Step):
            return [None] * len(group)
        written = {row[0] for row in rows}
        return [operation.id in written for operation in group]

    async def _open(self, group: list[OpenIssuance]) -> list[Opened]:
        replaced = [wish.replaces for wish in group if wish.replaces is not None]
        if replaced:
            await self._fetch("write_retired", replaced)
        # In one order, so that two writers wait for each other in one direction only.
        locks = sorted({wish.lock for wish in group if wish.most is not None})
        if locks:
            await self._fetch("write_opened_locks", locks)
        outcomes: dict[UUID, Opened] = {}
        left = group
        for _ in range(ROUNDS):
            rows = await self._fetch(OpenIssuance.statement, *_columns(left))
            for row in rows:
                outcomes[row[0]] = Inserted()
            left = [wish for wish in left if wish.id not in outcomes]
            if left:
                left = await self._look(left, outcomes)
            if not left:
                return [outcomes[wish.id] for wish in group]
        raise Undecided(f"{len(left)} intents")

    async def _look(self, wishes: list[OpenIssuance], outcomes: dict[UUID, Opened]) -> list[OpenIssuance]:
        """Find out why `wishes` were not inserted; those to try again."""
        over: list[UUID] = []
        again: list[OpenIssuance] = []
        rows = await self._fetch(
            "write_opened_look",
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
            await self._fetch("write_retired", over)
        counted = [(wish.id, wish.account_id, wish.endpoint, wish.most) for wish in again if wish.most is not None]
        if counted:
            rows = await self._fetch("write_opened_lately", *zip(*counted, strict=True))
            outcomes.update((row["id"], TooMany()) for row in rows)
        return [wish for wish in again if wish.id not in outcomes]

    async def _issue(self, group: list[RecordIssued]) -> list[bool]:
        columns = _columns(group)
        # A set of a few: all leaves of one CA share what stands above them.
        chains = dict(zip(columns[6], [operation.above() for operation in group], strict=True))
        rows = await self._fetch(RecordIssued.statement, *columns, list(chains), list(chains.values()))
        written = {row[0] for row in rows}
        missing = [operation for operation in group if operation.id not in written]
        if missing:
            # It may be there from a try whose commit was answered by a lost connection.
            rows = await self._fetch(
                "write_issued_look",
                [operation.id for operation in missing],
                [operation.chain[0] for operation in missing],
            )
            written.update(row[0] for row in rows)
        return [operation.id in written for operation in group]

    async def _fetch(self, name: str, *arguments: object) -> list[Any]:
        statement = self._prepared.get(name)
        if statement is None:
            statement = self._prepared[name] = await self._connection.prepare(self._queries[name])
            self.answers += 1
        rows: list[Any] = await statement.fetch(*arguments)
        self.answers += 1
        return rows

    async def _execute(self, statement: str) -> None:
        await self._connection.execute(statement)
        self.answers += 1


def _columns(group: Sequence[Operation[object]]) -> list[tuple[Any, ...]]:
    return list(zip(*[operation.row() for operation in group], strict=True))


def _takes_more(operation: Operation[object]) -> bool:
    """Whether one statement does not do: a row to retire, or a count that holds only under a lock."""
    return isinstance(operation, OpenIssuance) and (operation.replaces is not None or operation.most is not None)
