"""The workers as the parent has them, where no process is to be had and while they start."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from server import workers
from server.api.app import Health
from server.assignment import Assignment
from server.config import Config
from server.errors import ConfigurationError
from server.metrics import Merged, Metrics
from server.workers import Child, Workers


def child() -> Child:
    return Child(
        Assignment(
            config=Config(),
            database_url="postgresql://nowhere.invalid/firstlight",
            master_keys=(bytes(32),),
            cookie_secret=bytes(32),
            account_id=UUID(int=1),
            journal_file=Path("ca-journal.jsonl"),
            sockets=(),
            listeners=(),
            number=0,
        )
    )


@pytest.fixture
def parent() -> Workers:
    return Workers(Config(), ending=asyncio.Event(), merged=Merged(), health=Health(), journal_stream=None)


async def lines_of(parent: Workers, one: Child, count: int) -> list[Any]:
    """What the log says of a worker that is kept alive, until `count` lines are there or it is kept no longer."""
    with capture_logs() as lines:
        keeping = asyncio.create_task(parent._keep_alive(one))
        while len(lines) < count and not keeping.done():
            await asyncio.sleep(0)
        ended = keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return [*(line["event"] for line in lines), *(["kept no longer"] if ended else [])]


async def test_a_worker_for_which_no_process_is_to_be_had_is_tried_again(
    parent: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory or processes, which passes: a server of four must not go on with three for ever."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(workers, "RESTART_FIRST", 0.0)
    parent._started = True
    assert await lines_of(parent, child(), 4) == ["worker_lost", "worker_died"] * 2


async def test_what_a_worker_says_and_nobody_can_read_ends_it_and_another_is_started(
    parent: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line longer than a pipe's reader takes; nobody would empty the pipe again, and the worker would stand still."""
    speaks = tmp_path / "python"
    speaks.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    speaks.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(speaks))
    monkeypatch.setattr(workers, "RESTART_FIRST", 0.0)
    parent._started = True
    one = child()
    assert (await lines_of(parent, one, 2))[:2] == ["worker_lost", "worker_died"]
    if one.process is not None and one.process.returncode is None:
        one.process.kill()
        await one.process.communicate()


async def test_one_that_died_leaves_what_it_counted_and_nothing_that_it_had(
    parent: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = Metrics()
    counted.bootstraps.inc("succeeded", 3)
    counted.sessions.value = 5
    said = json.dumps({"event": "metrics", "metrics": counted.snapshot(), "trouble": "the database is away"})
    speaks = tmp_path / "python"
    speaks.write_text(f"""#!/bin/sh
echo '{{"event": "ready", "number": 0}}'
echo '{said}'
""")
    speaks.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(speaks))
    one = child()
    parent._children = [one]
    for _ in range(2):
        assert await parent._run_child(one)
    assert (parent._merged.counter("bootstraps")["succeeded"], parent._merged.gauge("sessions")) == (6, 0)
    assert (parent._health.workers_ready, parent._health.troubles) == (0, {})


async def test_one_that_is_ready_keeps_the_parent_from_no_work_until_the_others_are(
    parent: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, waits = asyncio.wait, []

    async def counted(*words: Any, **named: Any) -> Any:
        waits.append(words)
        return await real(*words, **named)

    monkeypatch.setattr(asyncio, "wait", counted)
    parent._children = [child(), child()]
    parent._children[0].ready.set()
    waiting = asyncio.create_task(parent._all_ready())
    for _ in range(200):
        await asyncio.sleep(0)
    parent._children[1].ready.set()
    await waiting
    assert len(waits) <= 3


async def test_a_first_worker_for_which_there_is_no_process_is_told(
    parent: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    one = child()
    parent._children = [one]
    parent._tasks = [asyncio.create_task(parent._keep_alive(one))]
    with capture_logs() as lines, pytest.raises(ConfigurationError, match="the lines above say why"):
        await parent._all_ready()
    assert [line["event"] for line in lines] == ["worker_lost"]
