import dataclasses

import pytest

from server.bench.figures import Figures, contradictions, missed

GOOD = Figures(
    cpu_ms_per_bootstrap=1.5,
    postgres_cpu_ms_per_bootstrap=0.4,
    bootstraps_per_second=400,
    p50_ms=100,
    p99_ms=200,
    completed=100,
    failed=0,
    first_attempt_ratio=1.0,
    worst_device_s=1,
    queue_p99_ms=10,
    peak_rss_mb=100,
    session_kb=80,
    floor_ms=0.5,
    floor_ratio=0.33,
    checks_performed=200,
    rows_committed=400,
)


def told(figures: Figures, **kind: object) -> list[str]:
    return list(missed(figures, "x509", **{"storm": False, "lossy": False, **kind}))  # type: ignore[arg-type]


def test_good_figures_miss_nothing_and_fit_together() -> None:
    assert told(GOOD) == told(GOOD, storm=True) == told(GOOD, lossy=True) == []
    assert list(contradictions(GOOD, "x509", lossy=False)) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cpu_ms_per_bootstrap", 2.9, "2.9 ms of CPU for a bootstrap; must: 2.8 ms"),
        ("session_kb", 111.0, "111 KB for a live session; must: 110 KB"),
        (
            "session_kb",
            0.0,
            "the memory of a live session was not measured: so few devices needed no more of it; raise --devices; "
            "must: 110 KB",
        ),
        ("floor_ratio", 0.29, "the floor is 0.29 of our CPU time; must: 0.30"),
        ("failed", 1, "1 devices failed, none may"),
    ],
)
def test_a_must_that_is_missed_is_named(name: str, value: float, words: str) -> None:
    assert told(dataclasses.replace(GOOD, **{name: value})) == [words]


def test_a_storm_is_held_to_its_own_rows() -> None:
    slow = dataclasses.replace(GOOD, cpu_ms_per_bootstrap=9, worst_device_s=121, queue_p99_ms=1001)
    assert told(slow, storm=True) == [
        "the last device took 121 s; must: 120 s",
        "datagrams waited 1001 ms in the kernel (p99); must: 1000 ms",
    ]


def test_a_lossy_path_is_held_to_its_own_rows() -> None:
    slow = dataclasses.replace(GOOD, first_attempt_ratio=0.979, worst_device_s=301)
    assert told(slow, lossy=True) == [
        "97.9% of the devices did it at the first attempt; must: 98 %",
        "the last device took 301 s; must: 300 s",
    ]


def test_workers_must_not_cost_a_tenth_more() -> None:
    assert told(GOOD, workers_ratio=1.1) == []
    assert told(GOOD, workers_ratio=1.11) == ["the workers cost 1.11 times the CPU of one for a bootstrap; must: 1.1"]


def test_a_missing_row_or_check_is_a_contradiction() -> None:
    assert list(contradictions(dataclasses.replace(GOOD, rows_committed=399), "x509", lossy=False))
    assert list(contradictions(dataclasses.replace(GOOD, checks_performed=199), "x509", lossy=True))
    assert list(contradictions(dataclasses.replace(GOOD, checks_performed=201), "x509", lossy=False))
    assert list(contradictions(GOOD, "psk", lossy=False))


def test_a_device_that_gave_up_may_have_been_served_all_the_same() -> None:
    late = dataclasses.replace(GOOD, rows_committed=404, failed=1)
    assert list(contradictions(late, "x509", lossy=False)) == []
    assert list(contradictions(dataclasses.replace(late, rows_committed=396), "x509", lossy=False))


def test_a_device_that_came_again_was_checked_again() -> None:
    again = dataclasses.replace(GOOD, checks_performed=201, first_attempt_ratio=0.99)
    assert list(contradictions(again, "x509", lossy=False)) == []
