"""What a run of `make soak` leaves that missed what it must reach."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from server import transcripts
from tests import artefacts
from tests.integration.field import SHORT, Field, opened
from tests.soak import __main__ as soak
from tests.soak.cluster import pair
from tests.soak.runs import Result, judged


@asynccontextmanager
async def one_of_two_nodes(folder: Path) -> AsyncIterator[Field]:
    async with pair(folder) as (field, _):
        yield field


@pytest.mark.parametrize(("rig", "logs"), [(opened, 1), (one_of_two_nodes, 2)], ids=["one server", "two nodes"])
def test_a_missed_run_leaves_the_transcript_of_the_device_that_failed_and_says_where(
    rig: Callable[[Path], AbstractAsyncContextManager[Field]],
    logs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def misses(folder: Path, devices: int) -> Result:
        async with rig(folder) as field:
            await field.bootstrap("refuses", refuses={"PUT /0/1": "4.05"}, patience=SHORT)
            return judged("misses", {"devices": devices, "completed": 0, "most_attempts": 1})

    monkeypatch.setattr(artefacts, "FOLDER", tmp_path)
    monkeypatch.setattr(soak, "RUNS", {"misses": misses})
    monkeypatch.setattr(sys, "argv", ["soak", "--devices", "1"])
    assert soak.main() == 1
    said = capfd.readouterr()
    assert "misses: MISSED 1 devices failed" in said.out
    (left,) = tmp_path.iterdir()
    assert str(left) in said.err
    found = [json.loads(file.read_text()) for file in left.glob("*/refuses-*.json")]
    assert [transcripts.read(json.dumps(each)).about["cause"] for each in found] == ["write_refused"] * logs
    assert len(list(left.glob("*/server.log"))) == logs
    assert not list(left.glob("*/no-transcripts.txt"))
