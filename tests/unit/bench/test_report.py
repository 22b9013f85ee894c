import dataclasses

import pytest

from server.bench.report import BEGIN, END, Machine, kind_of, renewed
from server.bench.run import Bench, Result
from tests.unit.bench.test_figures import GOOD

PAGE = f"# Performance\n\nWords.\n\n{BEGIN}\n{END}\n\nMore words.\n"
MACHINE = Machine(cpu="A CPU", cores=2, python="3.11.2", load=(7.5, 6.0, 5.0), commit="abc1234", day="2026-11-28")
RESULT = Result(figures=GOOD, rounds=(1.5, 1.9, 1.7))


def test_a_run_writes_its_row_and_leaves_the_words_alone() -> None:
    page = renewed(PAGE, Bench(), RESULT, MACHINE)
    assert page.startswith("# Performance\n\nWords.\n\n")
    assert page.endswith("\n\nMore words.\n")
    assert "### A CPU, 2 cores; Python 3.11.2\n\n| run |" in page
    assert "| x509, 1 worker, 100 at a time | 1.50, 1.70 | 0.40 | 0.50 | 0.33 | 400 |" in page
    assert "| 0 of 100 | 100.0% | 2026-11-28, abc1234, 7.5 |" in page


def test_the_same_kind_of_run_renews_its_row_and_another_has_its_own() -> None:
    once = renewed(PAGE, Bench(), RESULT, MACHINE)
    twice = renewed(once, Bench(), Result(figures=GOOD, rounds=(1.2,), workers_ratio=1.05), MACHINE)
    thrice = renewed(twice, Bench(mode="psk", storm=5000, workers=2, loss=0.15), RESULT, MACHINE)
    rows = [line for line in thrice.splitlines() if line.startswith("| ") and "worker" in line.split("|")[1]]
    assert [row.split("|")[1].strip() for row in rows] == [
        "psk, 2 workers, storm of 5000, loss 15%",
        "x509, 1 worker, 100 at a time",
    ]
    assert "1.20, 1.20 (1.05 × one worker)" in rows[1]


def test_what_another_machine_measured_stays_in_a_table_of_its_own() -> None:
    other = dataclasses.replace(MACHINE, cpu="B CPU", day="2026-11-29")
    both = renewed(renewed(PAGE, Bench(), RESULT, MACHINE), Bench(), Result(figures=GOOD, rounds=(1.2,)), other)
    again = renewed(both, Bench(), Result(figures=GOOD, rounds=(1.4,)), MACHINE)
    first, second = again.split("### ")[1:]
    assert first.startswith("A CPU, 2 cores; Python 3.11.2\n")
    assert second.startswith("B CPU, 2 cores; Python 3.11.2\n")
    assert ["| 1.40, 1.40 |" in first, "| 1.20, 1.20 |" in first] == [True, False]
    assert ["| 1.40, 1.40 |" in second, "| 1.20, 1.20 |" in second] == [False, True]


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for figures"):
        renewed("# Performance\n", Bench(), RESULT, MACHINE)


def test_the_kind_of_a_run_is_what_it_measured() -> None:
    assert kind_of(Bench(devices=60)) == "x509, 1 worker, 60 at a time"
