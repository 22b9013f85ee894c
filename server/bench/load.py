"""One run of the swarm against a server under measurement: the swarm is a child, so that its CPU time is its own."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from server.bench.processes import Usage
from server.bench.server import Subject
from server.rig import RigFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a run did to the server: CPU time and bootstraps of the window measured, and the swarm's own summary.

    `held_kb` is the server's memory while all devices waited in the middle of their session.
    """

    usage: Usage
    bootstraps: int
    summary: Mapping[str, object]
    held_kb: int | None


async def load(subject: Subject, *options: str, uri: str | None = None) -> Loaded:
    """Run the swarm with `options` and read the server's CPU time at both ends of what it measures. Raises RigFailed.

    `uri` when something stands between the two.
    """
    command = _simulators("swarm", "--server", uri or subject.uri, *subject.files, *options)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    started: tuple[Usage, int] | None = None
    ended: tuple[Usage, int] | None = None
    held_kb: int | None = None
    summary: Mapping[str, object] | None = None
    try:
        async for line in process.stdout:
            match json.loads(line):
                case {"event": "ready"}:
                    started = subject.processes().usage(), 0
                case {"event": "held"}:
                    held_kb = subject.processes().resident_kb()
                case {"event": "measuring", "completed": int() as completed}:
                    started = subject.processes().usage(), completed
                case {"event": "measured", "completed": int() as completed}:
                    ended = subject.processes().usage(), completed
                case {"completed": int() as completed, "failed": int()} as summary:
                    ended = ended or (subject.processes().usage(), completed)
                case _:
                    pass
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if summary is None or started is None or ended is None:
        raise RigFailed("the swarm gave no summary; its words stand above")
    return Loaded(usage=ended[0].since(started[0]), bootstraps=ended[1] - started[1], summary=summary, held_kb=held_kb)


@contextlib.asynccontextmanager
async def faults(subject: Subject, loss: float) -> AsyncIterator[str]:
    """A path to the server that loses this share of the datagrams each way, doubles two thirds as many and reorders as
    many (design 9: 15, 10 and 15 %), the same in every run. Yields the URI of its near end.
    """
    shares = ("--loss", f"{loss:g}", "--duplicate", f"{loss * 2 / 3:.4f}", "--reorder", f"{loss:g}", "--seed", "1")
    process = await asyncio.create_subprocess_exec(
        *_simulators("faults", "--to", subject.uri.removeprefix("coaps://"), *shares),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        if process.stdout is None:
            raise AssertionError("it is a pipe")
        line = await process.stdout.readline()
        if not line:
            raise RigFailed("the lossy path did not start; its words stand above")
        yield f"coaps://{json.loads(line)['listening']}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _simulators(*words: str) -> Sequence[str]:
    return [sys.executable, "-P", "-m", "simulators", *words]
