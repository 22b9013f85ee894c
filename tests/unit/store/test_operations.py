"""What is written at once: in which order, and what one statement can take."""

import itertools
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from server.store.batch import TOGETHER, _fit_together
from server.store.issuance_operations import MarkDelivered
from server.store.operation import Operation
from server.store.operations import grouped
from tests.unit.store.operations import IDS, MAKERS, end_session, open_issuance, record_issued, touch_device

operations = st.lists(st.builds(lambda make, row: make(row), st.sampled_from(MAKERS), st.sampled_from(IDS)))


@given(operations)
@settings(deadline=None)
def test_every_operation_is_written_once(batch: list[Operation[object]]) -> None:
    written = [position for group in grouped(batch) for position in group]
    assert sorted(written) == list(range(len(batch)))


@given(operations)
@settings(deadline=None)
def test_operations_with_a_common_key_keep_their_order(batch: list[Operation[object]]) -> None:
    statement = {position: number for number, group in enumerate(grouped(batch)) for position in group}
    for later in range(len(batch)):
        for earlier in range(later):
            if set(batch[earlier].keys()) & set(batch[later].keys()):
                assert statement[earlier] < statement[later]


@given(operations)
@settings(deadline=None)
def test_a_statement_holds_one_kind_and_no_key_twice(batch: list[Operation[object]]) -> None:
    for group in grouped(batch):
        assert len({type(batch[position]) for position in group}) == 1
        keys = list(itertools.chain.from_iterable(batch[position].keys() for position in group))
        assert len(keys) == len(set(keys))


def _apart(batch: Sequence[Operation[Any]]) -> bool:
    keys = list(itertools.chain.from_iterable(operation.keys() for operation in batch))
    return len(keys) == len(set(keys))


@given(operations | st.lists(st.sampled_from([make(row) for make in MAKERS for row in IDS]), max_size=2))
@settings(deadline=None)
def test_what_one_statement_can_write_is_grouped_alike_at_once(batch: list[Operation[object]]) -> None:
    if all(isinstance(operation, TOGETHER) for operation in batch) and _apart(batch):
        assert _fit_together(batch) == grouped(batch)
    else:
        assert _fit_together(batch) == []


@given(
    st.permutations([make(UUID(int=n)) for n, make in enumerate([open_issuance, record_issued, end_session] * 3, 10)])
)
@settings(deadline=None)
def test_what_a_crowd_writes_fits_into_one_statement(batch: list[Operation[object]]) -> None:
    assert len(_fit_together(batch)) == len(TOGETHER)
    assert _fit_together(batch) == grouped(batch)


def test_what_stands_above_leaves_is_named_by_its_bytes() -> None:
    one, other = record_issued(IDS[0]), record_issued(IDS[1])
    other.chain = (b"leaf", b"above", b"and above")
    assert one.above == (sha256(b"above").digest(), b"above")
    assert other.above == (sha256(b"aboveand above").digest(), b"aboveand above")
    assert (one.row()[6], other.row()[6]) == (one.above[0], other.above[0])


def test_the_life_of_many_issuances_needs_one_statement_a_kind() -> None:
    batch: list[Operation[Any]] = []
    for number in range(10, 40):
        row = UUID(int=number)
        batch += [open_issuance(row), record_issued(row), MarkDelivered(row), touch_device(row)]
    assert len(grouped(batch)) == 4


def test_two_intents_for_one_public_key_are_not_in_one_statement() -> None:
    batch = [open_issuance(IDS[0], b"key"), open_issuance(IDS[1], b"key"), open_issuance(IDS[2], b"other")]
    assert grouped(batch) == [[0, 2], [1]]
