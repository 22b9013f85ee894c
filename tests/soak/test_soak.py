"""The runs of `make soak`, small and side by side: the same faults, fewer devices."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.soak.cluster import CONFIGURATION
from tests.soak.runs import RUNS, Result

SMALL = {"loss": 24, "storm": 100, "kill": 60, "restart": 60, "rolling": 60, "nodes": 60}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, asyncio.Task[Result]]]:
    """All runs under way: most of their time devices wait for a timer."""
    tasks = {
        name: asyncio.create_task(RUNS[name](tmp_path_factory.mktemp(name), devices), name=name)
        for name, devices in SMALL.items()
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", list(SMALL))
async def test_every_device_is_done_whatever_happens_to_datagrams_and_servers(
    name: str, results: Mapping[str, asyncio.Task[Result]]
) -> None:
    await results[name]


def test_the_balancer_is_set_up_as_operators_are_told() -> None:
    told = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()
    lines = [line.strip() for line in CONFIGURATION.splitlines()]
    for used, written in (("127.0.0.1:FIRST", "10.0.0.1:5684"), ("127.0.0.1:SECOND", "10.0.0.2:5684")):
        lines = [line.replace(used, written).replace("127.0.0.1:FRONT", "5684") for line in lines]
    assert lines == [line.strip() for line in told[told.index("stream {") :].splitlines()[: len(lines)]]
