"""The end of a session in one statement, and the statements of many bootstraps in one: the same rows as one by one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from server.store.database import Database, connect
from server.store.issuance_operations import OpenIssuance
from server.store.operation import Operation
from server.store.session_operations import EndSession
from server.store.writer import Inserted, Joined, MarkAbandoned, RowRefused, Writer
from tests.integration.rows import NOW, device, end, intent, issued, session, state_of, value, written_together

# What differs from one device to another although it was done alike.
OWN = ("id", "endpoint", "session_id", "last_session_id", "issuance_id", "certificate_id", "device_key")
TIMES = ("certified_at", "delivered_at", "answers_until", "updated_at")


async def _written(writer: Writer, *operations: Operation[Any]) -> None:
    for operation in operations:
        await writer.write(operation)


async def _rows(database: Database, endpoint: str, intents: Sequence[OpenIssuance]) -> list[dict[str, object]]:
    """All that the record has of an endpoint; ids as places among `intents`, times as whether they are there."""
    places: dict[object, object] = {None: None}
    for place, opened in enumerate(intents):
        places.update({opened.id: f"issuance {place}", opened.session_id: f"session {place}"})
    found: list[dict[str, object]] = []
    async with database.acquire() as connection:
        for query in (
            "SELECT * FROM device WHERE endpoint = $1",
            "SELECT * FROM session WHERE endpoint = $1 ORDER BY started_at",
            "SELECT state, settled, current, session_id, delivered_at, answers_until - delivered_at AS answers_for "
            "FROM issuance WHERE endpoint = $1 ORDER BY opened_at",
            "SELECT at, account_id, actor_kind, action, subject_kind, detail::jsonb - 'session' - 'issuance' AS detail "
            "FROM audit WHERE subject = $1 ORDER BY at",
        ):
            for row in await connection.fetch(query, endpoint):
                told = dict(row)
                told["device_key"] = told.get("device_key") is not None
                for name in OWN:
                    if isinstance(told.get(name), UUID | None):
                        told[name] = places.get(told.get(name), "its own")
                for name in TIMES:
                    told[name] = told.get(name) is not None
                found.append({**told, "endpoint": ""})
    return found


def _failed(whole: EndSession) -> EndSession:
    """The same session, failed: nothing was delivered in it."""
    return EndSession(
        replace(whole.session, outcome="failed", cause="peer_reset", sentence="it left", issuance_id=None),
        replace(whole.device, state="failed", cause="peer_reset", learned=None, profile=None),
    )


LATER = NOW + timedelta(minutes=5)
FACTORY = {"verified_by": b"v" * 32, "factory_until": NOW, "factory_key": b"k" * 32}

# Ends of sessions of one device, in the order in which they are written; each made of one intent.
COURSES: dict[str, list[Any]] = {
    "a new device": [end],
    "a new device by its factory certificate": [
        lambda opened: EndSession(session(opened), replace(device(opened), **FACTORY), (opened.id,))
    ],
    "a device that comes again": [end, lambda opened: end(opened, at=LATER)],
    "an old session that ends late": [lambda opened: end(opened, at=LATER), end],
    "a failure after a success": [
        lambda opened: EndSession(session(opened), replace(device(opened), **FACTORY), (opened.id,)),
        lambda opened: _failed(end(opened, at=LATER)),
    ],
    "a failure before a success": [lambda opened: _failed(end(opened)), lambda opened: end(opened, at=LATER)],
    "an old failure that ends late": [lambda opened: end(opened, at=LATER), lambda opened: _failed(end(opened))],
    "nothing to deliver": [lambda opened: EndSession(session(opened), device(opened))],
    "written twice": [end, None],
}


@pytest.mark.parametrize("course", COURSES)
async def test_an_end_in_one_statement_leaves_the_rows_of_its_parts(
    course: str, database: Database, writer: Writer
) -> None:
    found = []
    for endpoint in ("whole", "in-parts"):
        intents: list[OpenIssuance] = []
        ends: list[EndSession] = []
        for make in COURSES[course]:
            if make is not None:
                intents.append(intent(endpoint))
                await _written(writer, intents[-1], issued(intents[-1]))
                ends.append(make(intents[-1]))
            else:
                ends.append(ends[-1])
        for each in ends:
            await _written(writer, *([each] if endpoint == "whole" else each.parts()))
        found.append(await _rows(database, endpoint, intents))
    whole, in_parts = found
    assert whole == in_parts


async def test_what_was_delivered_for_another_service_is_not_what_the_device_holds(
    database: Database, writer: Writer
) -> None:
    first, other = intent("device-1"), intent("device-1", service="METERING")
    await _written(writer, first, other, issued(first), issued(other))
    await writer.write(EndSession(session(first), device(first), (other.id, first.id)))
    assert [await state_of(database, row.id) for row in (first, other)] == ["delivered", "delivered"]
    assert await value(database, "SELECT certificate_id FROM device WHERE endpoint = 'device-1'") == first.id


async def test_a_certificate_that_was_abandoned_meanwhile_is_not_delivered(database: Database, writer: Writer) -> None:
    opened = intent("device-1")
    await _written(writer, opened, issued(opened), MarkAbandoned(opened.id, "gone"), end(opened))
    assert await state_of(database, opened.id) == "abandoned"
    assert await value(database, "SELECT certificate_id FROM device WHERE endpoint = 'device-1'") is None
    assert await value(database, "SELECT outcome FROM session WHERE endpoint = 'device-1'") == "succeeded"


async def test_steps_that_are_no_json_cost_the_session_and_nothing_else(database: Database, writer: Writer) -> None:
    opened = intent("device-1")
    await _written(writer, opened, issued(opened))
    whole = end(opened)
    with pytest.raises(RowRefused, match="RecordSession cannot be written"):
        await writer.write(EndSession(replace(whole.session, steps="[["), whole.device, whole.delivered))
    assert await state_of(database, opened.id) == "delivered"
    assert await value(database, "SELECT certificate_id FROM device WHERE endpoint = 'device-1'") == opened.id
    assert await value(database, "SELECT count(*) FROM session WHERE endpoint = 'device-1'") == 0


class _Watched:
    """A real connection that tells which statements it ran."""

    def __init__(self, real: Any, said: list[str]) -> None:
        self._real = real
        self._said = said

    async def execute(self, sql: str) -> Any:
        self._said.append(sql)
        return await self._real.execute(sql)

    async def prepare(self, sql: str) -> Any:
        self._said.append(sql)
        return await self._real.prepare(sql)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def test_what_many_bootstraps_write_at_once_is_one_statement(database: Database, database_url: str) -> None:
    said: list[str] = []

    async def watched(url: Any) -> _Watched:
        return _Watched(await connect(url), said)

    writer = Writer(database_url, database.queries, connect=watched)
    await writer.start()
    taken, *signed = (intent(f"signed-{number}") for number in range(4))
    done = [intent(f"done-{number}") for number in range(3)]
    await written_together(writer, taken, *signed, *done)
    await written_together(writer, *map(issued, done))
    said.clear()
    new = [intent(f"new-{number}") for number in range(3)]
    again = intent(taken.endpoint, csr=taken.csr)
    batch = [*new, again, *map(issued, signed), *map(end, done)]
    answers = await written_together(writer, *batch)
    assert answers[:3] == [Inserted()] * 3
    assert isinstance(answers[3], Joined)
    assert answers[3].row.id == taken.id
    assert answers[4:] == [True] * 3 + [None] * 3
    # And the look for what stands in the way of one.
    assert [text.split()[0] for text in said] == ["WITH", "--"]
    states = [await state_of(database, row.id) for row in (*new, *signed, *done)]
    assert states == ["submitted"] * 3 + ["issued"] * 3 + ["delivered"] * 3
    held = "SELECT count(*) FROM device d WHERE certificate_id = ANY ($1::uuid[])"
    assert await value(database, held, [row.id for row in done]) == 3
    await writer.close()


async def test_steps_of_one_issuance_are_never_one_statement(database: Database, writer: Writer) -> None:
    opened = intent("device-1")
    answers = await written_together(writer, opened, issued(opened), end(opened))
    assert answers == [Inserted(), True, None]
    assert await state_of(database, opened.id) == "delivered"
    assert await value(database, "SELECT certificate_id FROM device WHERE endpoint = 'device-1'") == opened.id


@pytest.mark.parametrize("poison", ["intent", "issued", "end"])
async def test_a_bad_row_among_what_is_written_at_once_fails_its_own_caller_only(
    database: Database, writer: Writer, poison: str
) -> None:
    signed, done = intent("signed"), intent("done")
    assert await written_together(writer, signed, done, issued(done)) == [Inserted(), Inserted(), True]
    new = intent("new")
    batch: dict[str, Operation[Any]] = {"intent": new, "issued": issued(signed), "end": end(done)}
    bad: dict[str, Operation[Any]] = {
        "intent": replace(new, csr_sha256=b"short"),
        "issued": replace(issued(signed), serial=done.serial),
        "end": EndSession(replace(end(done).session, outcome="unheard of"), end(done).device, (done.id,)),
    }
    batch[poison] = bad[poison]
    answers = dict(zip(batch, await written_together(writer, *batch.values()), strict=True))
    assert isinstance(answers.pop(poison), RowRefused)
    assert not any(isinstance(answer, Exception) for answer in answers.values())
    assert await state_of(database, done.id) == "delivered"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_connection_lost_while_all_is_written_at_once_changes_no_answer(
    database: Database, database_url: str, after: bool
) -> None:
    class Lost(_Watched):
        lose = False

        async def prepare(self, sql: str) -> Any:
            statement = await self._real.prepare(sql)
            connection = self

            class Statement:
                async def fetch(self, *arguments: object) -> Any:
                    if not connection.lose or "UNION ALL" not in sql.rsplit(")\n", 1)[-1]:
                        return await statement.fetch(*arguments)
                    connection.lose = False
                    if after:
                        await statement.fetch(*arguments)
                    connection.terminate()
                    raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

            return Statement()

    connections: list[Lost] = []

    async def lossy(url: Any) -> Lost:
        connections.append(Lost(await connect(url), []))
        return connections[-1]

    writer = Writer(database_url, database.queries, connect=lossy)
    await writer.start()
    signed, done, new = intent("signed"), intent("done"), intent("new")
    await written_together(writer, signed, done, issued(done))
    connections[-1].lose = True
    assert await written_together(writer, new, issued(signed), end(done)) == [Inserted(), True, None]
    assert len(connections) == 2
    states = [await state_of(database, row.id) for row in (new, signed, done)]
    assert states == ["submitted", "issued", "delivered"]
    assert await value(database, "SELECT count(*) FROM audit WHERE subject = 'done'") == 1
    assert await value(database, "SELECT count(*) FROM certificate") == 2
    await writer.close()
