import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from server.metrics import Merged, Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def exposed(merged: Merged) -> str:
    registry = CollectorRegistry()
    registry.register(merged)
    return generate_latest(registry).decode()


def value(text: str, series: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series + " "))


def test_every_series_is_there_before_anything_happened() -> None:
    text = exposed(Merged())
    assert value(text, 'firstlight_bootstraps_total{outcome="failed"}') == 0
    assert value(text, 'firstlight_bootstrap_seconds_bucket{le="+Inf"}') == 0
    assert value(text, "firstlight_sessions") == 0


def test_workers_add_up_and_a_dead_one_keeps_its_counters_but_not_its_gauges() -> None:
    merged = Merged()
    for number in (1, 2):
        metrics = Metrics()
        metrics.bootstraps.inc("succeeded", 3)
        metrics.bootstrap_seconds.observe(0.02)
        metrics.sessions.value = 5
        merged.take(number, metrics.snapshot())
    merged.ended(1)
    text = exposed(merged)
    assert value(text, 'firstlight_bootstraps_total{outcome="succeeded"}') == 6
    assert value(text, "firstlight_bootstrap_seconds_count") == 2
    assert value(text, "firstlight_sessions") == 5


def test_a_worker_that_dies_again_and_again_leaves_its_counts_alone() -> None:
    merged = Merged()
    for number in range(100):
        metrics = Metrics()
        metrics.bootstraps.inc("succeeded", 3)
        metrics.bootstrap_seconds.observe(0.02)
        metrics.sessions.value = 5
        merged.take(number, metrics.snapshot())
        merged.ended(number)
    # One that ended before its first snapshot.
    merged.ended(100)
    text = exposed(merged)
    assert value(text, 'firstlight_bootstraps_total{outcome="succeeded"}') == 300
    assert merged.counter("bootstraps")["succeeded"] == 300
    assert value(text, "firstlight_bootstrap_seconds_count") == 100
    assert sum(merged.histogram("bootstrap_seconds")[:-1]) == 100
    assert (value(text, "firstlight_sessions"), merged.gauge("sessions")) == (0, 0)
    assert merged._snapshots == {}


def test_a_duration_falls_in_the_bucket_whose_bound_it_does_not_pass() -> None:
    merged, metrics = Merged(), Metrics()
    for seconds in (0.005, 0.006, 500):
        metrics.bootstrap_seconds.observe(seconds)
    merged.take(1, metrics.snapshot())
    text = exposed(merged)
    assert value(text, 'firstlight_bootstrap_seconds_bucket{le="0.005"}') == 1
    assert value(text, 'firstlight_bootstrap_seconds_bucket{le="0.01"}') == 2
    assert value(text, 'firstlight_bootstrap_seconds_bucket{le="120.0"}') == 2
    assert value(text, 'firstlight_bootstrap_seconds_bucket{le="+Inf"}') == 3


def test_the_catalogue_names_every_metric_and_no_other() -> None:
    shown = set(re.findall(r"^# HELP (\S+)", exposed(Merged()), re.MULTILINE))
    documented = set(re.findall(r"^\| `(\S+)`", PAGE.read_text(), re.MULTILINE))
    assert shown == documented
