"""What the start page says, and when it looks again."""

import tomllib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from server.api.console.devices import _moment
from server.api.console.profiles import for_endpoint
from server.api.console.start import CHECKED_EVERY, Drawn, due
from server.errors import BadRequest
from server.profile import default_profile

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
HERE = UUID(int=1)


def test_a_clock_that_is_set_back_leaves_no_old_picture_standing() -> None:
    drawn = Drawn({(HERE, "1h"): (NOON, "the picture")})
    assert drawn.newest(HERE, "1h", NOON + timedelta(seconds=1)) == "the picture"
    assert drawn.newest(HERE, "1h", NOON + timedelta(seconds=2)) is None
    assert drawn.newest(HERE, "1h", NOON - timedelta(hours=1)) is None
    assert drawn.newest(HERE, "24h", NOON) is None


def test_a_clock_that_is_set_back_lets_nobody_look_on_who_is_signed_out() -> None:
    assert not due(NOON, NOON + CHECKED_EVERY)
    assert due(NOON, NOON + CHECKED_EVERY * 2)
    assert due(NOON, NOON - timedelta(hours=1))


@pytest.mark.parametrize("text", ["2026-11-30T12:00:00", "2026-11-30", "0001-01-01T00:00:00+14:00", "noon"])
def test_older_bootstraps_are_asked_for_by_a_time_that_everybody_understands_alike(text: str) -> None:
    with pytest.raises(BadRequest, match="must be a time"):
        _moment(text)


def test_a_time_with_its_zone_is_one() -> None:
    assert _moment("2026-11-30T12:00:00+00:00") == NOON
    assert _moment("") is None


@pytest.mark.parametrize(
    "endpoint", ["meter-*", 'say "hello"', "back\\slash", 'x"\n[[security]]\nuri = "coaps://elsewhere', "\U0001f916"]
)
def test_a_profile_for_a_device_is_for_that_device_whatever_it_is_called(endpoint: str) -> None:
    """Who was turned away for want of a profile gets one at a click, under the name that it gave itself."""
    before = tomllib.loads(default_profile("coaps://lwm2m.example.com:5684"))
    made = tomllib.loads(for_endpoint(default_profile("coaps://lwm2m.example.com:5684"), endpoint))
    assert made == {**before, "match": {**before["match"], "endpoint": endpoint}}
