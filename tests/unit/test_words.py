"""How far away a time is, in words."""

from datetime import timedelta

import pytest

from server.api.console.words import distance


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=30), "in 30 s"),
        (timedelta(minutes=-90), "1 hour ago"),
        (timedelta(days=89), "in 89 days"),
        (timedelta(days=90), "in 3 months"),
        # A year that is nearly two would be half of what is left of a new certificate.
        (timedelta(days=365), "in 12 months"),
        (timedelta(days=729, hours=23), "in 24 months"),
        (timedelta(days=-400), "13 months ago"),
        (timedelta(days=730), "in 2 years"),
        (timedelta(days=10 * 365 + 2), "in 10 years"),
    ],
)
def test_a_span_is_told_in_a_unit_that_does_not_halve_it(span: timedelta, said: str) -> None:
    assert distance(span) == said
