"""The group-commit writer over a connection that is played: what goes into one batch, and who learns what."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.store import writer as writer_module
from server.store.errors import StoreUnavailable
from server.store.issuance_operations import MarkAbandoned, MarkDelivered
from server.store.operations import ORDER
from server.store.session_operations import EndSession
from server.store.writer import RowRefused, Writer
from tests.unit.store.operations import IDS, record_session, touch_device

STATEMENTS = {kind.statement: kind.statement for kind in ORDER}
BESIDES = ("writer_session", "write_issued_look", "write_abandoned_locks")
QUERIES = {**STATEMENTS, **{name: name for name in BESIDES}}


class PlayedConnection:
    """Answers every statement with the ids it was given; may stand still, refuse a row, or go away."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, int]] = []
        self.said: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.refused: set[UUID] = set()
        self.errors: list[Exception] = []
        self.closed = False

    async def execute(self, sql: str) -> str:
        self.said.append(sql)
        return sql

    async def prepare(self, sql: str) -> "PlayedStatement":
        return PlayedStatement(self, sql)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    async def close(self, timeout: float) -> None:
        self.closed = True


class PlayedStatement:
    def __init__(self, connection: PlayedConnection, sql: str) -> None:
        self.connection = connection
        self.sql = sql

    async def fetch(self, first: Sequence[Any], *_columns: object) -> list[tuple[UUID]]:
        # Whole rows begin with their id; of columns the ids are the first.
        ids: list[UUID] = [row[0] if isinstance(row, tuple) else row for row in first]
        connection = self.connection
        connection.statements.append((self.sql, len(ids)))
        await connection.go.wait()
        if connection.errors:
            raise connection.errors.pop()
        if connection.refused & set(ids):
            raise asyncpg.CheckViolationError("the row is bad")
        return [(row,) for row in ids]


class Played:
    """A writer and the connections it opened."""

    def __init__(self, **options: Any) -> None:
        self.connections: list[PlayedConnection] = []
        self.reachable = True
        self.writer = Writer("postgresql://played", QUERIES, connect=self._connect, **options)

    async def _connect(self, _url: object) -> PlayedConnection:
        if not self.reachable:
            raise StoreUnavailable("played away")
        self.connections.append(PlayedConnection())
        return self.connections[-1]

    @property
    def connection(self) -> PlayedConnection:
        return self.connections[-1]


@pytest.fixture
async def played() -> Any:
    played = Played()
    await played.writer.start()
    yield played
    for connection in played.connections:
        connection.go.set()
    await played.writer.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_queued_during_a_commit_goes_into_the_next_one_together(played: Played) -> None:
    played.connection.go.clear()
    first = asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4())))
    await _until(lambda: bool(played.connection.statements))
    others = [played.writer.write(MarkDelivered(uuid4())) for _ in range(50)]
    played.connection.go.set()
    assert await first is True
    assert [await other for other in others] == [True] * 50
    assert played.connection.statements == [("write_delivered", 1), ("write_delivered", 50)]


async def test_one_statement_needs_no_transaction_around_it(played: Played) -> None:
    await played.writer.write(MarkDelivered(uuid4()))
    assert played.connection.said == ["writer_session"]


async def test_several_statements_are_one_transaction(played: Played) -> None:
    writes = [played.writer.write(MarkDelivered(IDS[0])), played.writer.write(touch_device(IDS[1]))]
    for write in writes:
        await write
    assert played.connection.said == ["writer_session", "BEGIN", "COMMIT"]
    assert [name for name, _ in played.connection.statements] == ["write_delivered", "write_devices"]


async def test_plans_are_made_anew_as_the_tables_grow(played: Played) -> None:
    discarded: list[int] = []
    for number in range(5000):
        await played.writer.write(MarkDelivered(uuid4()))
        if len(played.connection.said) - 1 > len(discarded):
            assert played.connection.said[-1] == "DISCARD PLANS"
            discarded.append(number)
    assert discarded == [16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 4096]


async def test_an_end_that_is_refused_is_written_in_its_parts_and_only_the_bad_one_is_missing(played: Played) -> None:
    end = EndSession(record_session(IDS[0]), touch_device(IDS[1]), (IDS[2],))
    played.connection.refused = {IDS[0]}
    with pytest.raises(RowRefused, match="RecordSession cannot be written"):
        await played.writer.write(end)
    written = [name for name, _ in played.connection.statements]
    assert written[0] == "write_ended"
    assert sorted(set(written)) == ["write_delivered", "write_devices", "write_ended", "write_sessions"]
    assert written.count("write_delivered") == written.count("write_devices") + 1 == 2


@given(bad=st.sets(st.integers(0, 199), max_size=5))
@settings(deadline=None, max_examples=25)
def test_of_200_rows_only_the_callers_of_the_bad_ones_fail(bad: set[int]) -> None:
    async def scenario() -> None:
        played = Played()
        await played.writer.start()
        ids = [uuid4() for _ in range(200)]
        played.connection.refused = {ids[position] for position in bad}
        answers = await asyncio.gather(
            *(played.writer.write(MarkDelivered(row)) for row in ids), return_exceptions=True
        )
        await played.writer.close()
        for position, answer in enumerate(answers):
            assert isinstance(answer, RowRefused) if position in bad else answer is True

    asyncio.run(scenario())


async def test_a_full_queue_refuses_at_once_and_the_queued_are_written() -> None:
    played = Played(queue_limit=3)
    await played.writer.start()
    played.connection.go.clear()
    writes = [asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4()))) for _ in range(3)]
    with pytest.raises(StoreUnavailable, match="3 writes are waiting"):
        await played.writer.write(MarkDelivered(uuid4()))
    played.connection.go.set()
    assert await asyncio.gather(*writes) == [True] * 3
    await played.writer.close()


async def test_a_lost_connection_is_made_anew_and_the_batch_written_again(played: Played) -> None:
    played.connection.errors = [asyncpg.ConnectionDoesNotExistError("connection was closed")]
    assert await played.writer.write(MarkDelivered(uuid4())) is True
    assert [len(connection.statements) for connection in played.connections] == [1, 1]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_deadlock_is_tried_again_without_splitting_the_batch(played: Played, times: int) -> None:
    played.connection.errors = [asyncpg.DeadlockDetectedError("deadlock detected")] * times
    writes = [asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4()))) for _ in range(3)]
    assert await asyncio.gather(*writes) == [True] * 3
    assert played.connection.statements == [("write_delivered", 3)] * (times + 1)


async def test_a_row_that_stays_locked_is_unavailable_and_a_fact_is_written_later(played: Played) -> None:
    played.connection.errors = [asyncpg.LockNotAvailableError("lock timeout")] * 3
    with pytest.raises(StoreUnavailable):
        await played.writer.write(MarkDelivered(uuid4()))
    await _until(lambda: played.writer.queued == 0)
    assert played.connection.statements == [("write_delivered", 1)] * 4


async def test_a_full_disk_is_waited_for(played: Played) -> None:
    played.connection.errors = [asyncpg.DiskFullError("no space left on device")] * 2
    writes = [asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4()))) for _ in range(3)]
    assert await asyncio.gather(*writes) == [True] * 3
    assert played.connection.statements == [("write_delivered", 3)] * 3


async def test_who_is_sent_away_by_a_full_disk_is_told_of_the_disk(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "AWAY_AFTER", 0.05)
    errors = played.connection.errors = [asyncpg.DiskFullError("no space left\nHINT: check the disk")] * 10_000
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"the database is away \(no space left HINT: check the disk\)"):
            await played.writer.write(MarkDelivered(uuid4()))
    errors.clear()
    await _until(lambda: played.writer.queued == 0)
    played.connection.go.clear()
    with pytest.raises(StoreUnavailable, match=r"the database is away \(it does not answer\)"):
        await played.writer.write(MarkDelivered(uuid4()))


async def test_a_database_that_is_away_fails_those_who_wait_but_keeps_facts(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "AWAY_AFTER", 0.05)
    played.reachable = False
    played.connection.closed = True
    fact, wish = MarkDelivered(uuid4()), MarkAbandoned(uuid4(), "gone")
    writes = [asyncio.ensure_future(played.writer.write(operation)) for operation in (fact, wish)]
    for write in writes:
        with pytest.raises(StoreUnavailable, match=r"^played away$"):
            await write
    late = touch_device(IDS[0])
    with pytest.raises(StoreUnavailable, match=r"^played away$"):
        await played.writer.write(late)
    played.reachable = True
    await _until(lambda: played.writer.queued == 0)
    assert played.connection.statements == [("write_delivered", 1), ("write_devices", 1)]
    assert await played.writer.write(MarkAbandoned(uuid4(), "gone")) is True


async def test_a_database_that_stands_still_is_away_too(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "AWAY_AFTER", 0.05)
    played.connection.go.clear()
    with pytest.raises(StoreUnavailable, match="away"):
        await played.writer.write(MarkDelivered(uuid4()))
    played.connection.go.set()
    await _until(lambda: played.writer.queued == 0)
    assert await played.writer.write(MarkDelivered(uuid4())) is True


async def test_a_loop_that_is_late_does_not_take_the_database_for_absent(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "AWAY_AFTER", 0.05)
    played.connection.go.clear()
    write = asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4())))
    await _until(lambda: bool(played.connection.statements))
    # The answer is there, and nobody reads it: the loop is at something else for longer than a database may be away.
    asyncio.get_running_loop().call_soon(played.connection.go.set)
    time.sleep(0.2)  # noqa: ASYNC251
    assert await write is True


async def test_a_statement_that_never_ends_gives_way_to_a_new_connection(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "STATEMENT_TIMEOUT", 0.05)
    played.connection.go.clear()
    assert await played.writer.write(MarkDelivered(uuid4())) is True
    assert len(played.connections) == 2


async def test_a_caller_that_gives_up_disturbs_nobody(played: Played) -> None:
    played.connection.go.clear()
    impatient = asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4())))
    patient = asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4())))
    await _until(lambda: bool(played.connection.statements))
    impatient.cancel()
    played.connection.go.set()
    assert await patient is True


async def test_closing_writes_what_is_queued_and_takes_no_more() -> None:
    played = Played()
    await played.writer.start()
    writes = [asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4()))) for _ in range(10)]
    await played.writer.close()
    assert await asyncio.gather(*writes) == [True] * 10
    with pytest.raises(StoreUnavailable, match="stopping"):
        await played.writer.write(MarkDelivered(uuid4()))


async def test_closing_does_not_wait_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CLOSE_PATIENCE", 0.05)
    played = Played()
    await played.writer.start()
    played.reachable = False
    played.connection.closed = True
    write = asyncio.ensure_future(played.writer.write(MarkDelivered(uuid4())))
    await asyncio.sleep(0)
    await played.writer.close()
    with pytest.raises(StoreUnavailable):
        await write


async def test_seconds_of_each_commit_are_told() -> None:
    told: list[float] = []
    # A clock that goes on by a second each time that it is asked.
    played = Played(observe=told.append, clock=partial(next, itertools.count(0.0)))
    await played.writer.start()
    await played.writer.write(MarkDelivered(uuid4()))
    await played.writer.close()
    assert told == [1.0]
