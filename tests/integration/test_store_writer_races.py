"""Who comes first: one CSR, one public key, one device of a CA that holds back, wanted by two at the same moment."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from server.store.database import Database
from server.store.issuance_operations import Opened, OpenIssuance
from server.store.writer import (
    HeldBack,
    Inserted,
    Joined,
    KeyTaken,
    RecordFailed,
    Writer,
)
from tests.integration.rows import (
    intent,
    issued,
    value,
    written_together,
)


async def test_two_workers_that_race_one_csr_insert_it_once(database: Database, writers: list[Writer]) -> None:
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


async def test_two_workers_that_race_one_device_for_a_ca_that_is_held_back_open_one_intent(
    database: Database, writers: list[Writer]
) -> None:
    held = HeldBack(frozenset({"submitted"}))
    rounds = [[replace(intent("device-1"), hold=True) for _ in writers] for _ in range(30)]
    for number, pair in enumerate(rounds):
        pair[:] = [replace(wish, endpoint=f"device-{number}") for wish in pair]
        answers = await asyncio.gather(*(each.write(wish) for each, wish in zip(writers, pair, strict=True)))
        assert sorted(answers, key=str) == [held, Inserted()]
    # And all of another set at once, in opposite orders, among others that nothing holds back.
    many = [[replace(intent(f"fleet-{number}"), hold=number % 2 == 0) for number in range(200)] for _ in writers]
    left, right = await asyncio.gather(
        written_together(writers[0], *many[0]), written_together(writers[1], *reversed(many[1]))
    )
    for number, pair in enumerate(zip(left, reversed(right), strict=True)):
        expected = [Inserted(), Inserted()] if number % 2 else [held, Inserted()]
        assert sorted(pair, key=str) == expected
    assert await value(database, "SELECT count(*) FROM issuance") == 30 + 100 + 200


async def test_who_is_held_back_takes_no_other_of_the_batch_along(database: Database, writer: Writer) -> None:
    def holding(endpoint: str, **more: Any) -> OpenIssuance:
        return replace(intent(endpoint), hold=True, **more)

    waiting, unknown, answered, reissued = [holding(name) for name in ("waiting", "unknown", "answered", "reissued")]
    assert await written_together(writer, waiting, unknown, answered, reissued) == [Inserted()] * 4
    await writer.write(RecordFailed(unknown.id, unknown.owner, "unknown", "OutcomeUnknown", "no answer"))
    await writer.write(issued(answered))
    first = holding("twice")
    asked: list[tuple[OpenIssuance, Opened]] = [
        (holding("waiting"), HeldBack(frozenset({"submitted"}))),
        (holding("unknown"), HeldBack(frozenset({"unknown"}))),
        (holding("unknown", session_id=unknown.session_id), HeldBack(frozenset({"unknown"}))),
        (holding("answered"), Inserted()),
        # Another entry of the profile in the same session; other certificates than server-made ones of this CA.
        (holding("waiting", session_id=waiting.session_id), Inserted()),
        (holding("waiting", issuer_id=uuid4()), Inserted()),
        (holding("waiting", service="DLMS"), Inserted()),
        (holding("waiting", account_id=uuid4()), Inserted()),
        (replace(intent("waiting"), server_key=False), Inserted()),
        (intent("reissued"), Inserted()),
        # Within one batch the first counts.
        (first, Inserted()),
        (holding("twice"), HeldBack(frozenset({"submitted"}))),
        (holding("twice", session_id=first.session_id), Inserted()),
        (holding("new"), Inserted()),
    ]
    assert await written_together(writer, *(wish for wish, _ in asked)) == [outcome for _, outcome in asked]
    # Of who was held back there is nothing on record, neither an intent nor a key.
    rows = "SELECT array_agg(id) FROM issuance WHERE id = ANY ($1)"
    keys = "SELECT array_agg(spki_sha256) FROM known_key WHERE spki_sha256 = ANY ($1)"
    opened = [wish for wish, outcome in asked if outcome == Inserted()]
    assert set(await value(database, rows, [wish.id for wish, _ in asked])) == {wish.id for wish in opened}
    assert set(await value(database, keys, [wish.spki_sha256 for wish, _ in asked])) == {
        wish.spki_sha256 for wish in opened
    }


@pytest.mark.parametrize("state", ["failed", "refused", "bad"])
async def test_what_has_its_answer_holds_nobody_back(database: Database, writer: Writer, state: str) -> None:
    opened = replace(intent("device-1"), hold=True)
    await writer.write(opened)
    await writer.write(RecordFailed(opened.id, opened.owner, state, "Unavailable", "CA down"))
    assert await writer.write(replace(intent("device-1"), hold=True)) == Inserted()


async def test_one_public_key_for_two_endpoints_goes_to_one_of_them(database: Database, writers: list[Writer]) -> None:
    for number in range(20):
        key = f"key-{number}".encode()
        a = intent(f"a-{number}", key=key, server_key=False)
        b = intent(f"b-{number}", key=key, server_key=False)
        answers = await asyncio.gather(writers[0].write(a), writers[1].write(b))
        winner = a if answers[0] == Inserted() else b
        assert set(answers) == {Inserted(), KeyTaken(winner.endpoint)}
    in_one_batch = [intent(name, key=b"one batch", server_key=False) for name in ("a", "b")]
    assert await written_together(writers[0], *in_one_batch) == [Inserted(), KeyTaken("a")]


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
