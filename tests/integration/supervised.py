"""A process of its own that supervises an embedded PostgreSQL, for tests that end it or run it as somebody else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# A process that supervises a PostgreSQL: says its process and URL, stops when its input ends.
SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
from server.store.postgres import EmbeddedPostgres

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    url = await postgres.start()
    print(json.dumps({"pid": postgres.pid, "url": url}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await postgres.stop()

asyncio.run(main())
"""


def gone(pid: int) -> bool:
    """Whether the process ended; one that nobody has reaped yet has."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


def supervise(data_dir: Path, *, python: tuple[str, ...] = (sys.executable,)) -> "subprocess.Popen[str]":
    """Such a process for the cluster of `data_dir`; its standard input keeps it running."""
    return subprocess.Popen(
        [*python, "-P", "-c", SUPERVISOR, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> dict[str, object]:
    """The supervisor's line; its last words when it gave none."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    pytest.fail(f"the supervisor ended: {process.stderr.read()[-600:]}")
