from pathlib import Path

import pytest

from server.bench import floor, load, run
from server.bench.load import Loaded
from server.bench.processes import Usage
from server.bench.run import Bench, median_ratio
from server.bench.server import Subject
from server.rig import RigFailed

SLOW = floor.Speeds(generate=30e-6, exchange=80e-6, sign=40e-6, verify=100e-6, echo=6e-6)
FAST = floor.Speeds(generate=20e-6, exchange=60e-6, sign=30e-6, verify=80e-6, echo=4e-6)
SUBJECT = Subject(folder=Path(), uri="", http="", pid=1, workers=1, files=())


def test_a_ratio_is_taken_round_by_round_whatever_the_machine_did_between_them() -> None:
    assert median_ratio([0.5, 1.0, 0.6], [2.0, 4.0, 2.0]) == 0.25


async def test_a_round_in_which_nothing_was_done_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cost nothing, and would be the cheapest of all."""
    done = iter([400, 0, 400])

    async def loaded(*_: object, **__: object) -> Loaded:
        summary = {"failures": {"no answer": 7}}
        return Loaded(usage=Usage(0.8, 0.1), bootstraps=next(done), summary=summary, held_kb=None)

    monkeypatch.setattr(load, "load", loaded)
    monkeypatch.setattr(floor, "measure", lambda: FAST)
    with pytest.raises(RigFailed, match=r"no device completed its bootstrap in a round; .*'no answer': 7"):
        await run._rounds(Bench(seconds=10), (SUBJECT, SUBJECT), lambda _: None)


def test_the_floor_of_a_round_is_what_was_measured_at_its_ends() -> None:
    between = SLOW.between(FAST)
    assert between == FAST.between(SLOW)
    assert between.milliseconds(floor.X509) == (SLOW.milliseconds(floor.X509) + FAST.milliseconds(floor.X509)) / 2
    assert FAST.milliseconds(floor.PSK) == 1000 * (20e-6 + 2 * 30e-6 + 80e-6 + 10 * 4e-6)
