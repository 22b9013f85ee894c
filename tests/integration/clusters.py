"""What is at work in the folder of an embedded PostgreSQL."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from server.store import cluster
from server.store.cluster import Home


def processes_naming(folder: Path) -> dict[int, str]:
    """The command lines that hold `folder`, by process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command:
            found[int(entry.parent.name)] = command.replace(b"\0", b" ").decode()
    return found


async def eventually(predicate: Callable[[], bool]) -> None:
    """Until `predicate` holds; a test that never sees it fails here."""
    deadline = time.monotonic() + 60
    while not predicate():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.01)


def as_its_owner(home: Home, command: list[str | Path]) -> "subprocess.Popen[bytes]":
    """A process of the user that `home` belongs to, supervised by nobody."""
    if home.owner is None:
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)
    owner = home.owner
    return subprocess.Popen(
        command, stderr=subprocess.DEVNULL, cwd="/", user=owner.uid, group=owner.gid, extra_groups=[]
    )


def home(data_dir: Path) -> Home:
    return cluster.settle(data_dir)
