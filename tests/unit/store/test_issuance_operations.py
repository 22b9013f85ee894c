"""What an intent is counted up to, and when it waits for the others of its device."""

from dataclasses import replace

import pytest

from server.store.issuance_operations import UNSEEN
from tests.unit.store.operations import IDS, open_issuance

PLAIN = open_issuance(IDS[0])


def test_an_intent_without_a_bound_is_not_counted() -> None:
    assert (PLAIN.bounds, PLAIN.looks_back) == ((None, None), False)


def test_requests_of_the_device_are_counted_under_the_lock() -> None:
    intent = replace(PLAIN, most=500)
    assert (intent.bounds, intent.looks_back) == ((500, None), True)


@pytest.mark.parametrize(("most", "up_to"), [(100, 100 - UNSEEN), (UNSEEN + 1, 1), (UNSEEN, 1), (1, 1)])
def test_without_the_lock_room_is_left_for_what_is_not_seen(most: int, up_to: int) -> None:
    intent = replace(PLAIN, most_made_here=most)
    assert (intent.bounds, intent.looks_back) == ((None, up_to), False)
    exact = replace(intent, exact=True)
    assert (exact.bounds, exact.looks_back) == ((None, most), True)


def test_a_row_ends_with_its_bounds() -> None:
    intent = replace(PLAIN, most=500, most_made_here=100, exact=True)
    assert intent.row()[-2:] == intent.bounds == (500, 100)
