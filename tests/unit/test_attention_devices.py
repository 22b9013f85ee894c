"""What the last quarter of an hour says of the devices, from its counts alone, and handshakes that came to nothing."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from server.attention_devices import FAILING_LEAST, failing, turned_away
from server.statistics import Bin, Picture
from server.store.statistics import Count

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def picture(succeeded: int, **causes: int) -> Picture:
    """A quarter of an hour with so many successes, and failures by cause."""
    whole = Bin()
    whole.add(Count("succeeded", NOW, 0, None, None, None, False, succeeded, None))
    for cause, number in causes.items():
        whole.add(Count("failed", NOW, 0, None, None, None, False, number, None))
        whole.add(Count("cause", NOW, 0, cause, "meters", None, False, number, NOW))
    return Picture(
        at=NOW,
        window="15m",
        whole=whole,
        steps=[(NOW, whole)],
        step=timedelta(seconds=15),
        per_minute=0,
        refused=0,
        sessions=0,
        handshaking=0,
    )


def test_the_most_frequent_cause_is_one_that_counts() -> None:
    (finding,) = failing(picture(FAILING_LEAST, superseded=40, no_answer=8, reset=4))
    assert finding.title == "12 of 22 bootstraps failed in the last quarter of an hour"
    assert finding.cause == "most often: no answer"


def test_devices_that_began_anew_are_no_finding() -> None:
    assert failing(picture(FAILING_LEAST, superseded=40)) == []


def test_devices_at_their_limit_are_a_finding_and_no_failure() -> None:
    (finding,) = failing(picture(FAILING_LEAST, too_many_certificates=30))
    assert finding.kind == "devices_at_limit"


@pytest.mark.parametrize(
    ("refusals", "succeeded", "severity", "words"),
    [
        # The server's certificate is not trusted, or its clock is wrong: nobody comes in.
        ({"peer_alert": 12}, 0, "fault", "give it the server's CA"),
        ({"expired": 40, "no_common_suite": 500}, 0, "fault", "look at this server's clock"),
        # Some do.
        ({"peer_alert": 12}, 40, "warning", "give it the server's CA"),
        ({"unknown_ca": 12}, 0, "warning", "trust the CA of its factory"),
    ],
)
def test_devices_that_no_handshake_admits_are_told_of(
    refusals: dict[str, int], succeeded: int, severity: str, words: str
) -> None:
    (finding,) = turned_away(Counter(refusals), succeeded, still=Counter(refusals), started=0)
    assert (finding.kind, finding.severity) == ("devices_turned_away", severity)
    assert words in finding.next_step


@pytest.mark.parametrize(
    ("refusals", "succeeded"),
    [
        ({}, 0),
        ({"peer_alert": 9}, 0),
        # A few among many.
        ({"peer_alert": 20}, 80),
        # A scan.
        ({"no_common_suite": 500, "protocol_version": 500, "deadline": 500, "handshake_failed": 500}, 0),
    ],
)
def test_a_scan_and_the_odd_device_need_nobody(refusals: dict[str, int], succeeded: int) -> None:
    assert turned_away(Counter(refusals), succeeded, still=Counter(refusals), started=0) == []


def test_handshakes_that_came_to_nothing_and_no_longer_do_are_over() -> None:
    before = Counter(peer_alert=12)
    assert turned_away(before, 0, still=Counter(), started=1) == []
    # Nobody came since, so nobody knows.
    assert turned_away(before, 0, still=Counter(), started=0)
    assert turned_away(before, 0, still=Counter(peer_alert=1), started=1)


def test_failures_for_want_of_the_record_are_over_when_a_bootstrap_is_written_into_it() -> None:
    away = picture(0, store_unavailable=12)
    (finding,) = failing(away)
    assert finding.next_step.startswith("bring the database back")
    away.whole.add(Count("succeeded", NOW, 0, None, None, None, False, 1, NOW + timedelta(seconds=1)))
    assert failing(away) == []
    # Of devices that do not answer another's success says nothing.
    silent = picture(0, no_answer=12)
    silent.whole.add(Count("succeeded", NOW, 0, None, None, None, False, 1, NOW + timedelta(seconds=1)))
    assert failing(silent)
