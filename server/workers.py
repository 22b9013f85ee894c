"""The workers as the parent has them: started on its sockets, started again when they die, ended before it ends."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server import ca_journal, logs
from server.api.app import Health
from server.assignment import Assignment
from server.config import Config
from server.errors import ConfigurationError
from server.metrics import Merged
from server.record import Record
from server.transport import cookie
from server.worker import Worker

log = logs.get("serve")

# A worker that dies is started again after this, doubling to the longest, so that a broken one does not spin.
RESTART_FIRST = 0.1
RESTART_LONGEST = 10.0
START_PATIENCE = 60.0
# Beyond the drain: a worker that is not down by then is killed.
STOP_PATIENCE = 10.0


@dataclass(slots=True)
class Child:
    """One worker process and what it last said."""

    assignment: Assignment = field(repr=False)
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    serial: int = 0


class Workers:
    """All workers of one server; none is started again once `ending` is set."""

    def __init__(
        self, config: Config, *, ending: asyncio.Event, merged: Merged, health: Health, journal_stream: str | None
    ) -> None:
        self._config = config
        self._journal_stream = journal_stream
        self._ending = ending
        self._merged = merged
        self._health = health
        self._children: list[Child] = []
        self._inside: Worker | None = None
        self._serials = 0
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._children) or 1

    async def start(
        self,
        stack: contextlib.AsyncExitStack,
        opened: Record,
        sockets: Sequence[Sequence[socket.socket]],
        listeners: Sequence[Sequence[socket.socket]],
    ) -> None:
        """One for each socket of an address, and return when all are ready or the end begins; `stack` ends them if
        nothing else did.

        ConfigurationError when one does not start.
        """
        count = len(sockets[0])
        journal = self._config.embedded_ca.journal_file or self._config.server.data_dir / "ca-journal.jsonl"
        try:
            os.close(ca_journal.opened(journal))
        except OSError as error:
            raise ConfigurationError(
                f"embedded_ca.journal_file: {journal} cannot be written ({error.strerror}); give a file in a folder "
                "that exists and that this user may write"
            ) from error
        secret = cookie.shared_secret(opened.master_keys[0])
        for number in range(count):
            assignment = Assignment(
                config=self._config,
                database_url=opened.database_url,
                master_keys=opened.master_keys,
                cookie_secret=secret,
                account_id=opened.account_id,
                journal_file=journal,
                sockets=tuple(group[number].fileno() for group in sockets),
                listeners=tuple(group[number].fileno() for group in listeners),
                number=number,
                journal_stream=self._journal_stream,
            )
            if self._config.server.single_process:
                self._inside = Worker(assignment, lambda message: self._heard(0, None, message))
                await self._inside.start()
                return
            child = Child(assignment)
            self._children.append(child)
            self._tasks.append(asyncio.create_task(self._keep_alive(child)))
        stack.push_async_callback(self.kill)
        await self._all_ready()
        self._started = True

    async def stop(self) -> None:
        """Let them drain, for as long as the configuration gives them."""
        if self._inside is not None:
            await self._inside.drain()
            await self._inside.stop()
        alive = [child.process for child in self._children if child.process and child.process.returncode is None]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._config.server.drain_seconds + STOP_PATIENCE):
                await asyncio.gather(*(process.wait() for process in alive))
        except TimeoutError:
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async def kill(self) -> None:
        """Leave none, drained or not."""
        self._ending.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
                await child.process.wait()

    async def _all_ready(self) -> None:
        """Wait until every worker is ready or the end begins; ConfigurationError when one ends first."""
        ready = [asyncio.create_task(child.ready.wait()) for child in self._children]
        ending = asyncio.create_task(self._ending.wait())
        try:
            async with asyncio.timeout(START_PATIENCE):
                # Only for those that are not: one that is ready would end each wait at once.
                while waited_for := [task for task in ready if not task.done()]:
                    await asyncio.wait([*waited_for, *self._tasks, ending], return_when=asyncio.FIRST_COMPLETED)
                    if self._ending.is_set():
                        return
                    if any(task.done() for task in self._tasks):
                        raise ConfigurationError("a worker did not start; the lines above say why")
        except TimeoutError:
            raise ConfigurationError(f"the workers were not ready after {START_PATIENCE:g} s") from None
        finally:
            for task in (*ready, ending):
                task.cancel()

    async def _keep_alive(self, child: Child) -> None:
        """Start the worker; when it dies, start another on the same sockets."""
        pause = RESTART_FIRST
        while not self._ending.is_set():
            was_ready = await self._run_child(child)
            if self._ending.is_set():
                return
            if not was_ready and not self._started:
                return
            pause = RESTART_FIRST if was_ready else min(pause * 2, RESTART_LONGEST)
            log.error("worker_died", number=child.assignment.number, restart_in=pause)
            await asyncio.sleep(pause)

    async def _run_child(self, child: Child) -> bool:
        """One life of a worker process; whether it became ready."""
        child.ready.clear()
        self._serials += 1
        child.serial = serial = self._serials
        try:
            await self._live(child, serial)
        except Exception:
            # Whatever it was, no process to be had or words that cannot be read: who calls us starts another.
            log.exception("worker_lost", number=child.assignment.number)
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
                # Read to its end: a pipe that is full keeps the end of its process from being heard.
                await child.process.communicate()
        was_ready = child.ready.is_set()
        child.ready.clear()
        self._health.workers_ready = sum(other.ready.is_set() for other in self._children)
        self._merged.ended(serial)
        self._health.troubles.pop(serial, None)
        return was_ready

    async def _live(self, child: Child, serial: int) -> None:
        """Start a worker process, tell it its assignment, and hear it until it ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "server.worker",
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(*child.assignment.sockets, *child.assignment.listeners),
        )
        child.process = process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        process.stdin.write(child.assignment.as_json().encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                self._heard(serial, child, json.loads(line))
        await process.wait()

    def _heard(self, serial: int, child: Child | None, message: Mapping[str, object]) -> None:
        match message:
            case {"event": "ready"}:
                if child is not None:
                    child.ready.set()
                self._health.workers_ready = sum(other.ready.is_set() for other in self._children) or 1
                self._health.workers = self.count
            case {"event": "metrics", "metrics": dict() as snapshot, "trouble": trouble}:
                self._merged.take(serial, snapshot)
                self._health.troubles[serial] = str(trouble) if trouble else ""
            case {"event": "failed"}:
                if child is not None and child.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.terminate()
                elif child is None:
                    self._ending.set()
