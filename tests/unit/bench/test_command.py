"""`firstlight bench` around the run: what it shows, and how it ends."""

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.bench import run
from server.bench.figures import Figures
from server.bench.run import Result
from server.cli.commands import app
from tests.unit.bench.test_figures import GOOD
from tests.unit.bench.test_report import PAGE


def bench(
    monkeypatch: pytest.MonkeyPatch, figures: Figures, *words: str, ratio: float | None = None
) -> tuple[int, str]:
    """The command over a run that found this: exit code, what it said."""

    async def found(*_: object) -> Result:
        return Result(figures=figures, rounds=(1.5,), workers_ratio=ratio)

    monkeypatch.setattr(run, "run", found)
    ended = CliRunner().invoke(app, ["bench", *words])
    return ended.exit_code, ended.output


def test_a_missed_must_is_the_exit_code_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = dataclasses.replace(GOOD, cpu_ms_per_bootstrap=2.9)
    assert bench(monkeypatch, slow)[0] == 0
    assert bench(monkeypatch, GOOD, "--check")[0] == 0
    code, said = bench(monkeypatch, slow, "--check")
    assert (code, "firstlight: 2.9 ms of CPU for a bootstrap; must: 2.8 ms" in said) == (1, True)
    assert bench(monkeypatch, GOOD, "--check", "--workers", "2", ratio=1.2)[0] == 1


@pytest.mark.parametrize("name", ["queue_p99_ms", "worst_device_s"])
def test_a_storm_is_judged_as_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    late = dataclasses.replace(GOOD, **{name: 1e6})
    assert [bench(monkeypatch, late, "--check", *words)[0] for words in ((), ("--storm", "5000"))] == [0, 1]


def test_figures_without_their_checks_or_rows_fail_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = bench(monkeypatch, dataclasses.replace(GOOD, rows_committed=399))
    assert (code, "400 rows in the record, 399 were found" in said) == (1, True)


def test_figures_that_do_not_fit_together_get_no_row_of_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE)
    short = dataclasses.replace(GOOD, rows_committed=399)
    assert bench(monkeypatch, short, "--report", str(page))[0] == 1
    assert page.read_text() == PAGE
    assert bench(monkeypatch, GOOD, "--report", str(page))[0] == 0
    assert "| x509, 1 worker, 100 at a time |" in page.read_text()


def test_what_the_floor_counts_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "2 generate, 1 exchange, 3 sign, 3 verify, 11 received, 11 sent" in bench(monkeypatch, GOOD)[1]
