"""Every target for a fixed number of inputs, and the runner's own word: what is a finding is told as one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.__main__ import SEED
from tests.fuzz.run import TARGETS, run_all

# The same inputs at every run; nights take more and other ones (`make fuzz-night`).
INPUTS = int(os.environ.get("FUZZ_INPUTS", "30000"))
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(TARGETS))
def test_no_input_does_harm(name: str) -> None:
    share = str(INPUTS * TARGETS[name][2] // 1000)
    seed = os.environ.get("FUZZ_SEED", str(SEED))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--inputs", share, "--seed", seed, "--target", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # A target that takes no input would pass too.
    assert int(re.findall(rf"{name}: (\d+) inputs", ran.stdout)[0]) >= int(share)


def test_the_shares_make_a_whole() -> None:
    assert sum(share for _, _, share in TARGETS.values()) == 1000


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Raises", "Finding: a promise is broken"),
        ("Crashes", "the process ended by signal 11"),
        ("Hangs", "an input takes longer than"),
        ("Writes", "something was written to standard error"),
        ("LeavesATaskBehind", "a task failed unseen"),
    ],
)
def test_what_went_wrong_is_told_with_seed_case_and_input(
    monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    monkeypatch.setattr(run, "TARGETS", {"broken": ("tests.fuzz.broken", kind, 1)})
    monkeypatch.setattr(run, "STUCK", 1.0)
    monkeypatch.setattr(run, "ASLEEP", 1.0)
    said: list[str] = []
    assert not run_all(["broken"], 1000, 7, None, said.append)
    told = "\n".join(said)
    assert words in told
    assert "deadbeef03" in told
    assert "--seed 7 --target broken --case 3" in told


def test_a_case_can_be_run_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TARGETS", {"broken": ("tests.fuzz.broken", "Raises", 1)})
    said: list[str] = []
    assert run_all(["broken"], 1000, 7, 2, said.append)
    assert said[0].startswith("broken: 1 inputs")
    assert not run_all(["broken"], 1000, 7, 3, said.append)
