"""The group-commit writer on a real PostgreSQL: what callers hear is what is there, whatever breaks on the way."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from server.store import certificates, devices, issuances, listings, sessions
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.devices import device_id
from server.store.errors import StoreUnavailable
from server.store.operations import Opened, OpenIssuance, Operation
from server.store.postgres import EmbeddedPostgres
from server.store.writer import (
    AppendStep,
    AuditRow,
    Inserted,
    Joined,
    KeyTaken,
    MarkAbandoned,
    MarkDelivered,
    MarkSubmitted,
    RecordEnrollment,
    RecordFailed,
    RecordIssued,
    RecordPending,
    RowRefused,
    Writer,
)
from tests.integration.rows import ACCOUNT, ISSUING_CERTIFICATE, NOW, device, intent, issued, session


@pytest.fixture
async def writer(database: Database, database_url: str) -> AsyncIterator[Writer]:
    """A writer on this test's database."""
    opened = Writer(database_url, database.queries)
    await opened.start()
    yield opened
    await opened.close()


async def value(database: Database, sql: str, *arguments: object) -> Any:
    async with database.acquire() as connection:
        return await connection.fetchval(sql, *arguments)


async def state_of(database: Database, row: UUID) -> str | None:
    found = await issuances.find(database, row)
    return found.state if found is not None else None


async def written_together(writer: Writer, *operations: Operation[Any]) -> list[Any]:
    """The answers to operations that were queued in one go, exceptions included."""
    waiting = [asyncio.ensure_future(writer.write(operation)) for operation in operations]
    return await asyncio.gather(*waiting, return_exceptions=True)


# -- a bootstrap --


async def test_a_bootstrap_is_on_record_after_three_commits(database: Database, database_url: str) -> None:
    commits: list[float] = []
    writer = Writer(database_url, database.queries, observe=commits.append)
    await writer.start()
    opened = intent("device-1")
    certificate = issued(opened)

    assert await writer.write(opened) == Inserted()
    assert await state_of(database, opened.id) == "submitted"

    assert await written_together(writer, certificate, session(opened, ended=False)) == [True, None]
    row = await certificates.find(database, opened.id)
    assert row is not None
    assert (row.chain, row.serial, row.state) == (certificate.chain, opened.serial, "issued")
    running = await sessions.find(database, opened.session_id or uuid4())
    assert running is not None
    assert (running.outcome, running.ended_at) == ("running", None)

    end = [MarkDelivered(opened.id), session(opened), device(opened)]
    assert await written_together(writer, *end) == [True, None, None]
    assert await state_of(database, opened.id) == "delivered"
    ended = await sessions.find(database, opened.session_id or uuid4())
    assert ended is not None
    assert (ended.outcome, ended.issuance_id, ended.steps[0][0]) == ("succeeded", opened.id, "delete")
    found = await devices.find(database, ACCOUNT, "device-1")
    assert found is not None
    assert (found.state, found.learned, found.last_session_id) == (
        "bootstrapped",
        '{"leaf_only": true}',
        opened.session_id,
    )
    assert await value(database, "SELECT count(*) FROM audit WHERE action = 'bootstrap.succeeded'") == 1
    assert len(commits) == 3
    await writer.close()


async def test_steps_of_one_issuance_that_were_queued_in_one_go_keep_their_order(
    database: Database, writer: Writer
) -> None:
    opened = intent("device-1", state="requested")
    retry_at = NOW + timedelta(seconds=5)
    answers = await written_together(
        writer,
        opened,
        MarkSubmitted(opened.id, opened.owner),
        RecordFailed(opened.id, opened.owner, "unknown", "OutcomeUnknown", "no answer"),
        RecordPending(opened.id, opened.owner, "ca-17", retry_at),
        issued(opened),
        MarkDelivered(opened.id),
    )
    assert answers == [Inserted(), True, True, True, True, True]
    row = await issuances.find(database, opened.id)
    assert row is not None
    assert (row.state, row.reference, row.retry_at) == ("delivered", "ca-17", retry_at)


async def test_certificates_of_one_ca_share_the_chain_above_them(database: Database, writer: Writer) -> None:
    wishes = [intent(f"device-{number}") for number in range(5)]
    await written_together(writer, *wishes)
    await written_together(writer, *map(issued, wishes))
    assert await value(database, "SELECT count(*) FROM issuing_chain") == 1
    assert await value(database, "SELECT certificates FROM issuing_chain") == ISSUING_CERTIFICATE


async def test_a_device_keeps_what_was_learned_when_a_session_learned_nothing(
    database: Database, writer: Writer
) -> None:
    opened = intent("device-1")
    await writer.write(device(opened))
    later = replace(device(opened), learned=None, state="failed", at=NOW + timedelta(hours=1))
    await writer.write(later)
    found = await devices.find(database, ACCOUNT, "device-1")
    assert found is not None
    assert (found.learned, found.state) == ('{"leaf_only": true}', "failed")
    assert (found.first_seen, found.last_seen) == (NOW, NOW + timedelta(hours=1))


async def test_a_failure_is_listed_with_the_ca_that_it_asked(database: Database, writer: Writer) -> None:
    asked, unasked = intent("device-1"), intent("device-2")
    await writer.write(asked)

    async def blamed(endpoint: str) -> object:
        row = await listings.find(database, ACCOUNT, "device", device_id(ACCOUNT, endpoint))
        return None if row is None else row["last_failed_ca"]

    for opened, name in ((asked, "own"), (unasked, "none")):
        await writer.write(replace(device(opened), state="failed", cause="no_answer"))
        assert await blamed(opened.endpoint) == name
    await writer.write(replace(device(asked), at=NOW + timedelta(hours=1)))
    assert await blamed("device-1") is None


async def test_a_device_is_listed_with_the_newest_certificate_that_was_delivered_to_it(
    database: Database, writer: Writer
) -> None:
    first, second, third = (intent("device-1") for _ in range(3))

    async def held() -> Any:
        row = await listings.find(database, ACCOUNT, "device", device_id(ACCOUNT, "device-1"))
        return None if row is None else (row["state"], row["device_key"], row["last_cause"])

    for opened in (first, second, third):
        await writer.write(opened)
        await writer.write(issued(opened))
    # New here: its row comes after the delivery.
    await written_together(writer, MarkDelivered(first.id), session(first), device(first))
    assert await held() == ("bootstrapped", sha256(issued(first).chain[0]).digest(), None)
    # Issued and not delivered: it has not got it.
    failed = replace(device(second), state="failed", cause="no_answer", at=NOW + timedelta(hours=1))
    await writer.write(failed)
    assert await held() == ("bootstrapped", sha256(issued(first).chain[0]).digest(), "no_answer")
    await writer.write(MarkDelivered(third.id))
    assert await held() == ("bootstrapped", sha256(issued(third).chain[0]).digest(), "no_answer")
    # Delivered late, issued early: the newer one stays.
    await writer.write(MarkDelivered(second.id))
    assert await held() == ("bootstrapped", sha256(issued(third).chain[0]).digest(), "no_answer")
    await devices.remove(database, Actor(kind="cli", name="test", request_id=""), ACCOUNT, "device-1")
    assert await held() is None
    await writer.write(replace(device(first), at=NOW + timedelta(hours=2)))
    assert await held() == ("bootstrapped", sha256(issued(third).chain[0]).digest(), None)


async def test_an_audit_row_is_written_once(database: Database, writer: Writer) -> None:
    row = AuditRow(
        at=NOW,
        account_id=ACCOUNT,
        actor=Actor(kind="system", name="issuance", request_id=""),
        action="certificate.possible_orphan",
        subject_kind="device",
        subject="device-1",
    )
    assert await written_together(writer, row, row) == [None, None]
    assert await value(database, "SELECT count(*) FROM audit") == 1


# -- states --


@pytest.mark.parametrize("state", ["refused", "bad"])
async def test_a_final_answer_stands_for_its_csr(database: Database, writer: Writer, state: str) -> None:
    opened = intent("device-1")
    await writer.write(opened)
    assert await writer.write(RecordFailed(opened.id, opened.owner, state, "Rejected", "not this one"))
    outcome = await writer.write(replace(intent("device-1", csr=opened.csr), owner="worker-2"))
    assert isinstance(outcome, Joined)
    assert (outcome.row.id, outcome.row.state, outcome.row.error_text) == (opened.id, state, "not this one")


async def test_a_failed_issuance_frees_its_csr_for_a_new_attempt(database: Database, writer: Writer) -> None:
    opened = intent("device-1")
    await writer.write(opened)
    await writer.write(RecordFailed(opened.id, opened.owner, "failed", "Unavailable", "CA down"))
    assert await writer.write(intent("device-1", csr=opened.csr)) == Inserted()


async def test_an_unknown_outcome_stands_until_a_new_attempt_replaces_it(database: Database, writer: Writer) -> None:
    opened = intent("device-1", server_key=False)
    await writer.write(opened)
    await writer.write(RecordFailed(opened.id, opened.owner, "unknown", "OutcomeUnknown", "no answer"))
    assert isinstance(await writer.write(intent("device-1", csr=opened.csr)), Joined)
    again = intent("device-1", csr=opened.csr, replaces=opened.id)
    assert await writer.write(again) == Inserted()
    assert await state_of(database, opened.id) == "unknown"
    assert not await value(database, "SELECT current FROM issuance WHERE id = $1", opened.id)


async def test_the_recorded_answer_is_given_until_a_day_after_delivery(database: Database, writer: Writer) -> None:
    opened = intent("device-1", server_key=False)
    await writer.write(opened)
    await writer.write(issued(opened))
    await writer.write(MarkDelivered(opened.id))
    outcome = await writer.write(intent("device-1", csr=opened.csr))
    assert isinstance(outcome, Joined)
    assert (outcome.row.id, outcome.row.state) == (opened.id, "delivered")

    await value(database, "UPDATE issuance SET answers_until = now() - interval '1 second'")
    assert await writer.write(intent("device-1", csr=opened.csr)) == Inserted()


async def test_a_step_of_another_owner_or_in_the_wrong_state_is_false(database: Database, writer: Writer) -> None:
    opened = intent("device-1")
    await writer.write(opened)
    assert await writer.write(issued(opened, owner="somebody-else")) is False
    assert await writer.write(MarkDelivered(opened.id)) is False
    assert await writer.write(MarkAbandoned(opened.id, "gone")) is False
    assert await writer.write(issued(opened)) is True
    assert await writer.write(RecordFailed(opened.id, opened.owner, "failed", "X", "late")) is False
    assert await writer.write(MarkAbandoned(opened.id, "gone")) is True
    assert await writer.write(MarkDelivered(opened.id)) is False
    assert await state_of(database, opened.id) == "abandoned"


async def test_an_abandoned_certificate_is_due_to_be_revoked_until_it_is(database: Database, writer: Writer) -> None:
    opened, kept = intent("device-1"), intent("device-2")
    for wish in (opened, kept):
        await writer.write(wish)
        await writer.write(issued(wish))
        await writer.write(MarkAbandoned(wish.id, "gone"))
    later = datetime.now(UTC) + timedelta(minutes=2)
    due = await certificates.take_due_revocations(database, later)
    assert {(one.issuance_id, one.serial) for one in due} == {
        (opened.id, opened.serial),
        (kept.id, kept.serial),
    }
    assert await certificates.take_due_revocations(database, later) == []
    await certificates.revoke_abandoned(database, opened.id, NOW)
    await certificates.keep_abandoned(database, kept.id)
    assert await certificates.take_due_revocations(database, later + timedelta(hours=1)) == []
    row = await certificates.find(database, opened.id)
    assert row is not None
    assert (row.revoked_at, row.revocation_reason) == (NOW, "cessationOfOperation")


# -- races --


async def test_two_workers_that_race_one_csr_insert_it_once(database: Database, database_url: str) -> None:
    writers = [Writer(database_url, database.queries) for _ in range(2)]
    for each in writers:
        await each.start()
    rounds = 30
    first = [intent(f"device-{number}", server_key=False) for number in range(rounds)]
    second = [
        intent(f"device-{number}", csr=first[number].csr, owner="worker-2", server_key=False)
        for number in range(rounds)
    ]
    answers: list[list[Opened]] = []
    for one, two in zip(first, second, strict=True):
        answers.append(list(await asyncio.gather(writers[0].write(one), writers[1].write(two))))
    # And all of another set at once, in opposite orders.
    many = [intent(f"fleet-{number}", server_key=False) for number in range(200)]
    same = [intent(wish.endpoint, csr=wish.csr, owner="worker-2", server_key=False) for wish in many]
    left, right = await asyncio.gather(
        written_together(writers[0], *many), written_together(writers[1], *reversed(same))
    )
    answers += [list(pair) for pair in zip(left, reversed(right), strict=True)]

    pairs = list(zip([*first, *many], [*second, *same], strict=True))
    for (one, two), answer in zip(pairs, answers, strict=True):
        assert sorted(type(each).__name__ for each in answer) == ["Inserted", "Joined"]
        winner = one if answer[0] == Inserted() else two
        joined = next(each for each in answer if isinstance(each, Joined))
        assert joined.row.id == winner.id
    assert await value(database, "SELECT count(*) FROM issuance") == rounds + 200
    for each in writers:
        await each.close()


async def test_one_public_key_for_two_endpoints_goes_to_one_of_them(database: Database, database_url: str) -> None:
    writers = [Writer(database_url, database.queries) for _ in range(2)]
    for each in writers:
        await each.start()
    for number in range(20):
        key = f"key-{number}".encode()
        a = intent(f"a-{number}", key=key, server_key=False)
        b = intent(f"b-{number}", key=key, server_key=False)
        answers = await asyncio.gather(writers[0].write(a), writers[1].write(b))
        winner = a if answers[0] == Inserted() else b
        assert set(answers) == {Inserted(), KeyTaken(winner.endpoint)}
    in_one_batch = [intent(name, key=b"one batch", server_key=False) for name in ("a", "b")]
    assert await written_together(writers[0], *in_one_batch) == [Inserted(), KeyTaken("a")]
    for each in writers:
        await each.close()


async def test_a_known_public_key_is_accepted_only_for_its_endpoint_in_its_account(
    database: Database, writer: Writer
) -> None:
    opened = intent("device-1", key=b"key", server_key=False)
    await writer.write(opened)
    other_csr = intent("device-1", key=b"key", server_key=False)
    joined = await writer.write(other_csr)
    assert isinstance(joined, Joined)
    assert joined.row.id == opened.id
    assert joined.row.csr_sha256 != other_csr.csr_sha256

    await writer.write(issued(opened))
    assert await writer.write(other_csr) == Inserted()
    assert await writer.write(intent("device-2", key=b"key")) == KeyTaken("device-1")
    foreign = intent("device-1", key=b"key", account_id=uuid4())
    assert await writer.write(foreign) == KeyTaken(None)


# -- bad rows --


def poisoned(number: int) -> Operation[Any]:
    """Rows that only PostgreSQL finds out about."""
    opened = intent(f"poison-{number}")
    match number % 4:
        case 0:
            return replace(opened, state="no such state")
        case 1:
            return replace(session(opened), steps="no json")
        case 2:
            return replace(device(opened), endpoint="a NUL \0 in a name")
        case _:
            return replace(opened, serial=1 << 200)


@pytest.mark.parametrize("poison", [{0}, {199}, {77}, {1, 2, 3, 120}])
async def test_a_poison_row_among_200_fails_only_its_own_caller(
    database: Database, writer: Writer, poison: set[int]
) -> None:
    rows: list[Operation[Any]] = []
    for number in range(200):
        good = intent(f"device-{number}")
        rows.append(poisoned(number) if number in poison else (good, session(good), device(good))[number % 3])
    answers = await written_together(writer, *rows)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if number in poison:
            assert isinstance(answer, RowRefused)
        else:
            assert answer == (Inserted() if isinstance(row, OpenIssuance) else None)
    good_intents = sum(isinstance(row, OpenIssuance) for row in rows) - sum(
        isinstance(rows[number], OpenIssuance) for number in poison
    )
    assert await value(database, "SELECT count(*) FROM issuance") == good_intents


async def test_a_serial_number_that_was_used_is_refused_and_its_issuance_stays_open(
    database: Database, writer: Writer
) -> None:
    first, second = intent("device-1"), intent("device-2")
    await written_together(writer, first, second)
    answers = await written_together(writer, issued(first), replace(issued(second), serial=issued(first).serial))
    assert answers[0] is True
    assert isinstance(answers[1], RowRefused)
    assert await state_of(database, second.id) == "submitted"


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
        ]
        plan.calls, plan.at, plan.after, plan.hit = 0, at, after, ""
        answers = await written_together(writer, *batch)
        plan.at = 0
        assert answers[0] == Inserted()
        assert isinstance(answers[1], Joined)
        assert answers[1].row.id == taken.id
        assert answers[2:] == [True, True, True, True, None, None], f"lost at call {at}: {plan.hit}"
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


# -- what devices with keys of their own ask for ----------------------------------------


async def test_an_enrolment_outside_any_bootstrap_has_a_row_of_its_own_and_one_in_the_audit(
    writer: Writer, database: Database
) -> None:
    opened = intent("device-1", server_key=False)
    await writer.write(opened)
    whole = {field.name: getattr(session(opened), field.name) for field in fields(session(opened))}
    enrolment = RecordEnrollment(**whole)
    for _ in range(2):
        await written_together(writer, issued(opened), MarkDelivered(opened.id), enrolment, device(opened))
    [row] = await sessions.of_endpoint(database, ACCOUNT, "device-1")
    assert (row.kind, row.outcome, row.issuance_id) == ("enrollment", "succeeded", opened.id)
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit WHERE action = 'enrollment.succeeded'") == 1


async def test_a_step_after_the_end_of_its_session_stands_behind_the_others_once(
    writer: Writer, database: Database
) -> None:
    opened = intent("device-1")
    ended = session(opened)
    late = AppendStep(session_id=ended.id, started_at=ended.started_at, step='{"op": "est"}', issuance_id=uuid4())
    later = replace(late, step='{"op": "est", "at": 7}')
    await written_together(writer, opened, ended, late)
    await written_together(writer, late, later)
    row = await sessions.find(database, ended.id)
    assert row is not None
    assert [step[0] for step in row.steps[:3]] == ["delete", "write", "finish"]
    assert row.steps[3:] == [{"op": "est"}, {"op": "est", "at": 7}]
    # What the session itself issued stays its certificate.
    assert (row.kind, row.outcome, row.issuance_id) == ("bootstrap", "succeeded", opened.id)


async def test_the_first_step_of_a_session_without_any_may_come_late(writer: Writer, database: Database) -> None:
    ended = replace(session(intent("device-1")), steps="[]", issuance_id=None)
    certificate = uuid4()
    late = AppendStep(session_id=ended.id, started_at=ended.started_at, step='{"op": "est"}', issuance_id=certificate)
    await written_together(writer, ended, late)
    row = await sessions.find(database, ended.id)
    assert row is not None
    assert (row.steps, row.issuance_id) == ([{"op": "est"}], certificate)
