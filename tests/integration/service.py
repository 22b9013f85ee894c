"""A running `firstlight serve` for tests, used only through what a rig can rely on: its commands and its ready file."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from server.store.postgres import EmbeddedPostgres
from tests import artefacts

FIRSTLIGHT = [sys.executable, "-P", "-c", "from server.cli.commands import main; main()"]
# Only what hangs gets here: CI has two cores and other tests run beside.
PATIENCE = 180.0


def environment() -> dict[str, str]:
    """The environment of a command: ours without what would configure it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FIRSTLIGHT_")}


async def firstlight(*words: str, code: int = 0) -> str:
    """Run a command to its end; its standard output, with standard error when it was to fail."""
    process = await asyncio.create_subprocess_exec(
        *FIRSTLIGHT, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment()
    )
    output, errors = await process.communicate()
    said = output.decode() + (errors.decode() if code else "")
    assert process.returncode == code, f"{words}: {process.returncode}\n{output.decode()}\n{errors.decode()}"
    return said


async def simulate(*words: str) -> tuple[int, list[dict[str, object]], dict[str, object]]:
    """Run simulated devices; exit code, one report a device, the summary."""
    process = await asyncio.create_subprocess_exec(
        *FIRSTLIGHT, "simulate", *words, "--json", stdout=asyncio.subprocess.PIPE, env=environment()
    )
    output, _ = await process.communicate()
    lines = [json.loads(line) for line in output.decode().splitlines() if line.strip()]
    assert process.returncode is not None
    return process.returncode, lines[:-1], lines[-1] if lines else {}


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(pid: int) -> list[int]:
    """The worker processes of a server."""
    return [child for child in children(pid) if b"server.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


class Service:
    """One server on loopback with a data folder of its own; may be killed and started again."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.extra = extra
        self.coaps = "127.0.0.1:0"
        self.ready: Mapping[str, str] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def ready_file(self) -> Path:
        """Where the server says that it is up."""
        return self.folder / "ready.json"

    async def start(self, *extra: str) -> None:
        """Start it and wait for the ready file."""
        self.starts += 1
        artefacts.watch(self)
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *FIRSTLIGHT,
                *("serve", "--data-dir", str(self.data), "--ready-file", str(self.ready_file)),
                *("--coaps", self.coaps, "--http", "127.0.0.1:0", "--log-format", "json"),
                *self.extra,
                *extra,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment(),
            )
        deadline = time.monotonic() + PATIENCE
        while not self.ready_file.exists():
            assert self.process.returncode is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            await asyncio.sleep(0.02)
        self.ready = json.loads(self.ready_file.read_text())

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL to the parent process alone: nothing of it may stay."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    @property
    def record(self) -> Sequence[str]:
        """The options by which a command finds this server's record."""
        return ("--data-dir", str(self.data))

    @property
    def server_uri(self) -> str:
        """Where devices go."""
        return self.ready["coaps"]

    def command(self, *words: str, code: int = 0) -> "asyncio.Future[str]":
        """A command on this server's record."""
        return asyncio.ensure_future(firstlight(*words, *self.record, code=code))

    def events(self, name: str) -> list[dict[str, object]]:
        """The log lines of this event."""
        # The last line may be one that is still being written.
        whole, _, _ = self.log.read_text().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def journal(self) -> list[dict[str, object]]:
        """The embedded CA's own log."""
        file = self.data / "ca-journal.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    async def remove(self) -> None:
        """Delete the cluster, also where it lives outside the data folder."""
        artefacts.forget(self)
        if self.data.exists():
            postgres = EmbeddedPostgres(self.data)
            await postgres.start()
            await postgres.destroy()


@contextlib.asynccontextmanager
async def leaving(folder: Path, services: Sequence[Service]) -> AsyncIterator[None]:
    """Servers that the block may start. After it they are down; if it failed they have left what they recorded.

    They leave it once they are down: by then the attempts that were under way are on record too.
    """
    try:
        try:
            yield
        finally:
            for service in services:
                if service.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        await service.stop()
    # `pytest.fail` and a `pytest.raises` that saw nothing raise what is no Exception.
    except (Exception, pytest.fail.Exception):
        await asyncio.to_thread(artefacts.leave, folder.name, services, FIRSTLIGHT, environment())
        raise
    finally:
        for service in services:
            artefacts.forget(service)


@contextlib.asynccontextmanager
async def running(folder: Path, *extra: str) -> AsyncIterator[Service]:
    """A server that is up inside the block, stopped and removed after it."""
    service = Service(folder, *extra)
    try:
        async with leaving(folder, [service]):
            await service.start()
            yield service
    finally:
        await service.remove()


def arguments(pairs: Mapping[str, str | Path | int]) -> Sequence[str]:
    """`{"count": 3}` as `--count 3`."""
    return [word for name, value in pairs.items() for word in (f"--{name}", str(value))]
