"""The group-commit writer on a real PostgreSQL: what callers hear is what is there, whatever breaks on the way."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest

from server.store import certificates, devices, issuances, listings, sessions
from server.store.audit import Actor
from server.store.database import Database
from server.store.devices import device_id
from server.store.issuance_operations import OpenIssuance
from server.store.operation import Operation
from server.store.writer import (
    AppendStep,
    Inserted,
    Joined,
    MarkAbandoned,
    MarkDelivered,
    RecordEnrollment,
    RecordFailed,
    RecordPending,
    RowRefused,
    Writer,
)
from tests.integration.rows import (
    ACCOUNT,
    ISSUING_CERTIFICATE,
    NOW,
    device,
    intent,
    issued,
    session,
    state_of,
    value,
    written_together,
)

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
    opened = intent("device-1")
    retry_at = NOW + timedelta(seconds=5)
    answers = await written_together(
        writer,
        opened,
        RecordFailed(opened.id, opened.owner, "unknown", "OutcomeUnknown", "no answer"),
        RecordPending(opened.id, opened.owner, "ca-17", retry_at),
        issued(opened),
        MarkDelivered(opened.id),
    )
    assert answers == [Inserted(), True, True, True, True]
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
    # It was away, so that nobody asked it.
    known = replace(device(unasked), state="failed", cause="issuer_unavailable", failed_ca=ACCOUNT.hex)
    await writer.write(replace(known, at=NOW + timedelta(minutes=1)))
    assert await blamed("device-2") == ACCOUNT.hex
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
