"""What is read off the bins of a history: quantiles, the funnel, and totals of workers over a span."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from server.metrics import Merged, Metrics
from server.statistics import BOUNDS, Bin, Group, Statistics, quantile
from server.store.statistics import Count

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def place(milliseconds: float) -> int:
    """As PostgreSQL's width_bucket."""
    return sum(bound <= milliseconds for bound in BOUNDS)


def test_bounds_reach_from_a_millisecond_beyond_the_longest_session() -> None:
    assert list(BOUNDS) == sorted(BOUNDS)
    assert BOUNDS[0] == 1
    assert BOUNDS[-1] > 200_000


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_quantile_is_within_a_quarter_of_the_truth(share: float) -> None:
    durations = [1.7 * 1.03**number for number in range(300)]
    truth = sorted(durations)[int(share * len(durations)) - 1]
    found = quantile(Counter(place(each) for each in durations), share)
    assert found is not None
    assert truth / 1.25 <= found <= truth * 1.25


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({len(BOUNDS): 3}, 0.5) == BOUNDS[-1]


def test_a_bin_takes_counts_and_merges() -> None:
    issuer = uuid4()
    first, second = Bin(), Bin()
    first.add(Count("succeeded", NOW, 20, None, None, None, False, 3, None))
    first.add(Count("issued", NOW, 10, None, None, issuer, True, 3, NOW))
    second.add(Count("issued", NOW, 10, None, None, issuer, True, 1, NOW + timedelta(seconds=1)))
    second.add(Count("cause", NOW, 0, "no_answer", "meters", issuer, True, 2, NOW))
    second.add(Count("failed", NOW, 20, None, None, None, False, 2, None))
    first.merge(second)
    assert first.counts == {"succeeded": 3, "issued": 4, "failed": 2}
    assert first.issued == {issuer: NOW + timedelta(seconds=1)}
    # Failed ones end when they end: their durations say nothing of how long a bootstrap takes.
    assert first.seconds == {20: 3}
    assert first.failures == {Group("no_answer", "meters", issuer, True): 2}
    assert first.last == {Group("no_answer", "meters", issuer, True): NOW}


def test_totals_of_workers_over_a_span() -> None:
    clock, merged, metrics = [NOW], Merged(), Metrics()
    service = Statistics(None, merged, lambda: clock[0])  # type: ignore[arg-type]
    for minute in range(10):
        metrics.shed.inc(by=minute)
        metrics.commit_seconds.observe(0.004 if minute < 8 else 0.4)
        merged.take(1, metrics.snapshot())
        service.sample()
        clock[0] += timedelta(minutes=1)
    assert service.since("shed", timedelta(minutes=2)) == 9
    assert service.since("shed", timedelta(hours=1)) == sum(range(10))
    assert service.commit_p99(timedelta(hours=1)) == 0.5
    assert service.since("refused", timedelta(hours=1)) == 0


def test_refusals_over_a_span_are_counted_by_their_reason() -> None:
    clock, merged, metrics = [NOW], Merged(), Metrics()
    service = Statistics(None, merged, lambda: clock[0])  # type: ignore[arg-type]
    assert service.refusals_since(timedelta(minutes=5)) == Counter()
    metrics.refusals.inc("expired", by=100)
    for _ in range(10):
        merged.take(1, metrics.snapshot())
        service.sample()
        clock[0] += timedelta(minutes=1)
        metrics.refusals.inc("expired")
        metrics.refusals.inc("peer_alert", by=2)
    assert service.refusals_since(timedelta(minutes=3)) == {"expired": 2, "peer_alert": 4}
