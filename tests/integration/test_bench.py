"""`firstlight bench` at a tiny size: every figure is there and they fit together. Nothing here looks at a time."""

import json
from dataclasses import fields

import pytest

from server.bench import floor
from server.bench.figures import CHECKS_EACH, ROWS_EACH, Figures, Mode
from tests.integration.service import firstlight

SMALL = ("--devices", "3", "--seconds", "1", "--json")


async def measured(*words: str) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    lines = [json.loads(line) for line in (await firstlight("bench", *words)).splitlines()]
    return {line["event"]: line for line in lines[:-1]}, lines[-1]


@pytest.mark.parametrize("mode", ["x509", "psk"])
async def test_a_run_ends_with_every_figure_and_each_bootstrap_was_checked_and_recorded(mode: Mode) -> None:
    events, figures = await measured("--mode", mode, *SMALL)
    assert list(figures) == [field.name for field in fields(Figures)]
    assert figures["failed"] == 0 < figures["completed"]
    assert figures["checks_performed"] >= figures["completed"] * CHECKS_EACH[mode]
    assert figures["rows_committed"] == figures["completed"] * ROWS_EACH
    assert [name for name, value in figures.items() if not value > 0] == ["failed"]
    assert events["floor"]["verify"] == floor.counts_of(mode).verify


async def test_a_storm_behind_a_lossy_path_on_two_workers_leaves_nobody_out() -> None:
    events, figures = await measured("--storm", "12", "--workers", "2", "--loss", "0.05", "--json")
    assert (figures["completed"], figures["failed"]) == (12, 0)
    assert events["loaded"]["devices"] == 12


async def test_two_workers_are_measured_against_one_by_turns() -> None:
    events, _ = await measured("--mode", "psk", "--workers", "2", *SMALL)
    assert events["workers"]["cpu_against_one_worker"] > 0
    assert len(events["round"]["cpu_ms"]) == 2  # type: ignore[arg-type]
