"""The group-commit writer when connections are lost and PostgreSQL dies: nothing is lost, doubled or made up."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from server.store import devices, sessions
from server.store.database import Database, connect
from server.store.errors import StoreUnavailable
from server.store.issuance_operations import OpenIssuance
from server.store.operation import Operation
from server.store.postgres import EmbeddedPostgres
from server.store.writer import (
    HeldBack,
    Inserted,
    Joined,
    MarkAbandoned,
    MarkDelivered,
    RecordFailed,
    RecordIssued,
    Writer,
)
from tests.integration.rows import ACCOUNT, device, intent, issued, session, state_of, value, written_together

# -- lost connections --


class Saboteur:
    """A real connection that is lost at its n-th call: before it runs, or after it ran and before it answers."""

    def __init__(self, real: Any, plan: "Plan") -> None:
        self._real = real
        self._plan = plan

    async def execute(self, sql: str) -> Any:
        return await self._call(sql, lambda: self._real.execute(sql))

    async def prepare(self, sql: str) -> Any:
        statement = await self._real.prepare(sql)

        async def fetch(*arguments: object) -> Any:
            return await self._call(sql, lambda: statement.fetch(*arguments))

        class Statement:
            pass

        prepared = Statement()
        prepared.fetch = fetch  # type: ignore[attr-defined]
        return prepared

    async def _call(self, sql: str, call: Callable[[], Any]) -> Any:
        plan = self._plan
        plan.calls += 1
        if plan.calls != plan.at:
            return await call()
        plan.hit = sql
        if plan.after:
            await call()
        await plan.terminate(self._real.get_server_pid())
        # asyncpg tells this of every call on a connection that PostgreSQL ended.
        return await call() if not plan.after else _gone()

    def is_closed(self) -> bool:
        return bool(self._real.is_closed())

    def terminate(self) -> None:
        self._real.terminate()

    async def close(self, timeout: float) -> None:
        await self._real.close(timeout=timeout)


def _gone() -> None:
    raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


class Plan:
    """At which call the connection is lost, and what that call was."""

    def __init__(self, terminate: Callable[[int], Any]) -> None:
        self.terminate = terminate
        self.calls = 0
        self.at = 0
        self.after = False
        self.hit = ""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_connection_lost_at_any_point_of_a_batch_changes_no_answer(
    database: Database, database_url: str, after: bool
) -> None:
    async def terminate(pid: int) -> None:
        assert await value(database, "SELECT pg_terminate_backend($1, 5000)", pid)

    plan = Plan(terminate)

    async def sabotaged(url: Any) -> Saboteur:
        return Saboteur(await connect(url), plan)

    hits: list[str] = []
    for at in range(1, 100):
        writer = Writer(database_url, database.queries, connect=sabotaged)
        await writer.start()
        # What is there before: one of each that a batch may move on, and one whose CSR is taken.
        taken, moved, delivered, gone, failing = (intent(f"{name}-{at}") for name in "abcde")
        earlier = [taken, moved, delivered, gone, failing, issued(delivered), issued(gone)]
        assert all(answer in (Inserted(), True) for answer in await written_together(writer, *earlier))
        batch: list[Operation[Any]] = [
            intent(f"new-{at}"),
            intent(taken.endpoint, csr=taken.csr),
            issued(moved),
            RecordFailed(failing.id, failing.owner, "failed", "Unavailable", "down"),
            MarkDelivered(delivered.id),
            MarkAbandoned(gone.id, "gone"),
            session(moved),
            device(moved),
            replace(intent(f"holding-{at}"), hold=True),
            replace(intent(taken.endpoint), hold=True),
        ]
        plan.calls, plan.at, plan.after, plan.hit = 0, at, after, ""
        answers = await written_together(writer, *batch)
        plan.at = 0
        assert answers[0] == Inserted()
        assert isinstance(answers[1], Joined)
        assert answers[1].row.id == taken.id
        assert answers[2:-2] == [True, True, True, True, None, None], f"lost at call {at}: {plan.hit}"
        assert answers[-2:] == [Inserted(), HeldBack(frozenset({"submitted"}))]
        states = [await state_of(database, row.id) for row in (moved, failing, delivered, gone)]
        assert states == ["issued", "failed", "delivered", "abandoned"]
        assert await value(database, "SELECT count(*) FROM audit WHERE subject = $1", moved.endpoint) == 1
        await writer.close()
        if not plan.hit:
            break
        hits.append(plan.hit.split()[0])
    assert hits[0] == "BEGIN"
    # The batch, and what follows the loss on the new connection, were each lost once at every call.
    assert "COMMIT" in hits
    assert len(hits) >= 10


async def test_a_single_statement_whose_answer_is_lost_is_read_back(database: Database, database_url: str) -> None:
    async def terminate(pid: int) -> None:
        await value(database, "SELECT pg_terminate_backend($1, 5000)", pid)

    plan = Plan(terminate)

    async def sabotaged(url: Any) -> Saboteur:
        return Saboteur(await connect(url), plan)

    writer = Writer(database_url, database.queries, connect=sabotaged)
    await writer.start()
    opened = intent("device-1")
    life: list[tuple[Operation[Any], Any]] = [
        (opened, Inserted()),
        (issued(opened), True),
        (MarkDelivered(opened.id), True),
        (session(opened), None),
        (device(opened), None),
    ]
    for operation, answer in life:
        plan.calls, plan.at, plan.after, plan.hit = 0, 1, True, ""
        assert await writer.write(operation) == answer
        assert plan.hit
    assert await state_of(database, opened.id) == "delivered"
    assert await value(database, "SELECT count(*) FROM certificate") == 1
    await writer.close()


async def test_backends_killed_at_random_under_load_lose_and_double_nothing(
    database: Database, database_url: str
) -> None:
    writers = [Writer(database_url, database.queries) for _ in range(2)]
    for each in writers:
        await each.start()
    done: list[OpenIssuance] = []

    async def bootstraps(worker: int, lane: int) -> None:
        writer = writers[worker]
        for number in range(15):
            opened = intent(f"device-{worker}-{lane}-{number}", owner=f"worker-{worker}")
            assert await writer.write(opened) == Inserted()
            assert await writer.write(issued(opened)) is True
            ended = await written_together(writer, MarkDelivered(opened.id), session(opened), device(opened))
            assert ended == [True, None, None]
            done.append(opened)

    killing = asyncio.ensure_future(_kill_backends(database, random.Random(7)))
    try:
        await asyncio.gather(*(bootstraps(worker, lane) for worker in range(2) for lane in range(10)))
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
    assert killing.cancelled()
    assert await value(database, "SELECT count(*) FROM issuance WHERE state = 'delivered'") == len(done) == 300
    for table in ("issuance", "certificate", "session", "audit", "device"):
        assert await value(database, f"SELECT count(*) FROM {table}") == 300  # noqa: S608
    for each in writers:
        await each.close()


async def _kill_backends(database: Database, chance: random.Random) -> None:
    while True:
        # Everybody's connection to this database but the killer's own.
        await value(
            database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        await asyncio.sleep(0.03 + chance.random() * 0.05)


# -- PostgreSQL away --


async def test_postgres_killed_under_load_and_back_leaves_a_true_record(
    embedded_postgres: EmbeddedPostgres,
) -> None:
    url = embedded_postgres.arguments
    database = await Database.open(url)
    writer = Writer(url, database.queries)
    await writer.start()
    inserted: list[OpenIssuance] = []
    recorded: list[RecordIssued] = []
    delivered: list[UUID] = []
    unavailable = 0
    stop = asyncio.Event()

    async def bootstraps(lane: int) -> None:
        nonlocal unavailable
        number = 0
        while not stop.is_set():
            number += 1
            opened = intent(f"device-{lane}-{number}")
            try:
                await writer.write(opened)
                inserted.append(opened)
                certificate = issued(opened)
                if await writer.write(certificate):
                    recorded.append(certificate)
                if await writer.write(MarkDelivered(opened.id)):
                    delivered.append(opened.id)
            except StoreUnavailable:
                unavailable += 1
                await asyncio.sleep(0.01)

    lanes = [asyncio.ensure_future(bootstraps(lane)) for lane in range(20)]
    for _ in range(2):
        enough = len(delivered) + 100
        await _until(lambda enough=enough: len(delivered) >= enough)  # type: ignore[misc]
        pid = embedded_postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        refused = unavailable
        enough = len(delivered) + 100
        await _until(lambda enough=enough: len(delivered) >= enough)  # type: ignore[misc]
        assert unavailable >= refused
    stop.set()
    await asyncio.gather(*lanes)
    await _until(lambda: writer.queued == 0)

    async with database.acquire() as connection:
        states = dict(await connection.fetch("SELECT id, state FROM issuance"))
        held = dict(await connection.fetch("SELECT issuance_id, certificate FROM certificate"))
    assert {wish.id for wish in inserted} <= states.keys()
    assert all(held[certificate.id] == certificate.chain[0] for certificate in recorded)
    assert all(states[row] == "delivered" for row in delivered)
    # A certificate is there if and only if its issuance says so.
    assert {row for row, state in states.items() if state in ("issued", "delivered")} == held.keys()
    await writer.close()
    await database.close()


async def test_what_a_device_did_while_the_database_was_away_is_written_when_it_is_back(
    embedded_postgres: EmbeddedPostgres,
) -> None:
    url = embedded_postgres.arguments
    database = await Database.open(url)
    writer = Writer(url, database.queries)
    await writer.start()
    opened = intent("device-1")
    await writer.write(opened)
    await writer.write(issued(opened))
    pid = embedded_postgres.pid
    assert pid is not None
    with _stopped(pid):
        backend = _writer_backends(pid)
        for each in backend:
            os.kill(each, signal.SIGSTOP)
        try:
            facts = await written_together(writer, MarkDelivered(opened.id), session(opened), device(opened))
            wish = await written_together(writer, intent("device-2"))
        finally:
            for each in backend:
                os.kill(each, signal.SIGCONT)
    assert [type(answer) for answer in [*facts, *wish]] == [StoreUnavailable] * 4
    await _until(lambda: writer.queued == 0)
    assert await state_of(database, opened.id) == "delivered"
    assert await sessions.find(database, opened.session_id or uuid4()) is not None
    assert await devices.find(database, ACCOUNT, "device-1") is not None
    assert await writer.write(intent("device-3")) == Inserted()
    await writer.close()
    await database.close()


@contextlib.contextmanager
def _stopped(pid: int) -> Any:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _writer_backends(postmaster: int) -> list[int]:
    """Processes of this PostgreSQL: its children, as the kernel lists them."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    return [int(word) for word in children.split()]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
