import os
from pathlib import Path

import pytest

from server.bench.processes import Processes

SECOND = os.sysconf("SC_CLK_TCK")


def process(proc: Path, pid: int, parent: int, name: str, *ticks: int, kb: int = 0) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    before = " ".join("0" for _ in range(9))
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} {before} {' '.join(map(str, ticks))} 20 0\n")
    (folder / "status").write_text(f"Name:\t{name}\nVmHWM:\t{2 * kb} kB\nVmRSS:\t{kb} kB\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    process(tmp_path, 1, 0, "init", 9, 9, 9, 9)
    process(tmp_path, 10, 1, "python", 1, 2, 3, 4, kb=100)
    process(tmp_path, 11, 10, "a (worker)", 10, 20, 0, 0, kb=200)
    process(tmp_path, 12, 10, "postgres", 100, 100, 300, 0, kb=400)
    process(tmp_path, 13, 12, "postgres", 50, 0, 0, 0, kb=400)
    process(tmp_path, 14, 1, "python", 7, 7, 7, 7)
    return tmp_path


def test_a_server_is_its_parent_process_and_what_stands_below_it(proc: Path) -> None:
    usage = Processes.below(10, proc).usage()
    assert usage.ours == (1 + 2 + 3 + 4 + 10 + 20) / SECOND


def test_postgres_is_apart_with_backends_that_ended(proc: Path) -> None:
    usage = Processes.below(10, proc).usage()
    assert usage.postgres == (100 + 100 + 300 + 50) / SECOND


def test_what_was_used_is_the_difference_of_two_looks(proc: Path) -> None:
    before = Processes.below(10, proc).usage()
    process(proc, 15, 11, "python", 5, 0, 0, 0)
    assert Processes.below(10, proc).usage().since(before).ours == pytest.approx(5 / SECOND)


def test_memory_is_that_of_our_own_processes(proc: Path) -> None:
    found = Processes.below(10, proc)
    assert (found.resident_kb(proc), found.peak_kb(proc)) == (300, 600)


def test_a_server_that_is_gone_has_no_processes(proc: Path) -> None:
    assert Processes.below(99, proc) == Processes((), ())
