"""The embedded PostgreSQL: our own child, started, watched, started again when it dies, stopped with us."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from server import logs
from server.store import cluster, programs
from server.store.cluster import SYSTEM_FOLDER, Home, Lock
from server.store.database import ConnectArguments
from server.store.errors import StoreRefused
from server.store.programs import Programs

log = logs.get("postgres")

LAUNCHER = Path(__file__).with_name("launch.py")
ROLE = "firstlight"
DATABASE = "firstlight"
PORT = 5432

# Everything beyond PostgreSQL's own defaults. No TCP: only the socket in a folder that is closed to others.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    # 64 workers with a pool and a writer each, and some commands beside them.
    "max_connections": "400",
    "max_wal_size": "512MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Starts, stops and what is fatal; statements that fail belong to their callers and may hold values.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

# Seconds that an old server of the same cluster is waited for (design 7).
OLD_SERVER_PATIENCE = 30.0
# Seconds until a server that was just started opens its socket; recovery after that has no limit.
SOCKET_PATIENCE = 30.0
# Seconds for a fast shutdown, then for an immediate one.
FAST_PATIENCE = 30.0
IMMEDIATE_PATIENCE = 5.0
RESTART_FIRST = 0.1
RESTART_LONGEST = 10.0
# A server that answered and then lived this many seconds has recovered: the next pause is the first again.
LIVED_WELL = 1.0
POLL = 0.01
# Bytes below which it may be the disk: two segments of PostgreSQL's log.
ROOM = 32 * 2**20

# How a server says that an old one still has the files.
OLD_SERVER_SIGNS = ("lock file", "shared memory block")


class EmbeddedPostgres:
    """One cluster's supervisor; `shared` for a command, which uses the server of whoever runs one already.

    A command that finds none starts one for itself and stops it after; a second server on one data folder is
    refused.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        shared: bool = False,
        settings: Mapping[str, str] | None = None,
        system_folder: Path = SYSTEM_FOLDER,
    ) -> None:
        self._data_dir = data_dir
        self._shared = shared
        self._settings = {**SETTINGS, **(settings or {})}
        self._system_folder = system_folder
        self._home: Home | None = None
        self._lock: Lock | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def arguments(self) -> ConnectArguments:
        """How to connect; after `start`."""
        home = self._settled
        return ConnectArguments(
            host=str(home.socket_folder()), port=PORT, user=ROLE, password=home.password(), database=DATABASE
        )

    @property
    def pid(self) -> int | None:
        """The server's process while it is our child."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> str:
        """Make the cluster at the first start, start the server, and return its URL when it answers.

        Raises StoreRefused, in one line, when the folder is in use or PostgreSQL does not start.
        """
        self._home = await asyncio.to_thread(cluster.settle, self._data_dir, self._system_folder)
        began = time.monotonic()
        self._lock = await self._take_lock()
        if self._lock is None:
            return self.arguments.url
        try:
            await self._launch()
        except BaseException:
            await self._end_server()
            self._release_lock()
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        log.info("postgres_started", pid=self.pid, seconds=round(time.monotonic() - began, 3))
        return self.arguments.url

    async def stop(self) -> None:
        """Stop the server, if it is ours, and let go of the cluster."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        await self._end_server()
        self._release_lock()

    async def destroy(self) -> None:
        """Stop, and delete the cluster with all it holds, also where it lives outside the data folder."""
        if self._home is None:
            return
        await self.stop()
        await asyncio.to_thread(self._home.remove)
        (self._data_dir / cluster.POINTER).unlink(missing_ok=True)

    @property
    def _settled(self) -> Home:
        if self._home is None:
            raise RuntimeError("start() comes first")
        return self._home

    # -- one supervisor at a time ---------------------------------------------------------------------------

    async def _take_lock(self) -> Lock | None:
        """The lock; None when the server of another process answers and may be shared.

        A command is waited for, as it is short; a server is not.
        """
        home = self._settled
        deadline = time.monotonic() + OLD_SERVER_PATIENCE
        holder = f"{'command' if self._shared else 'server'} {os.getpid()}"
        while True:
            lock = Lock.take(home, holder)
            if lock is not None:
                return lock
            role, _, pid = Lock.holder(home).partition(" ")
            if role == "server" and not self._shared:
                raise StoreRefused(
                    f"{self._data_dir} is in use by the server of process {pid}; "
                    "stop that one, or give another --data-dir"
                )
            if role == "server" and await self._answers():
                return None
            if time.monotonic() > deadline:
                raise StoreRefused(
                    f"{self._data_dir} is in use by process {pid or '(unknown)'}, whose PostgreSQL does not "
                    "answer; stop that process"
                )
            await asyncio.sleep(5 * POLL)

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- the server's life ----------------------------------------------------------------------------------

    async def _launch(self) -> None:
        home = self._settled
        deadline = time.monotonic() + OLD_SERVER_PATIENCE
        await self._outlive_old_server(deadline)
        found = await self._programs()
        if home.major() is None:
            await self._make_cluster(found)
        while True:
            home.forget_postmaster()
            log_size = home.log_size()
            self._process = await self._spawn(found.postgres, self._server_arguments(), by=signal.SIGINT)
            if await self._becomes_ready(self._process):
                return
            said = home.said_since(log_size)
            if not any(sign in said for sign in OLD_SERVER_SIGNS) or time.monotonic() > deadline:
                raise StoreRefused(f"PostgreSQL did not start: {_why(said, home)}")
            await self._outlive_old_server(deadline)
            await asyncio.sleep(10 * POLL)

    async def _outlive_old_server(self, deadline: float) -> None:
        """Wait until no other server of this cluster lives; one whose supervisor is gone is told to end.

        We hold the lock, so whoever listens there is left over. It is known by a connection; the number in
        `postmaster.pid` counts only while that process is this cluster's server.
        """
        home = self._settled
        path = str(home.socket_folder() / cluster.SOCKET_NAME)
        told = False
        while True:
            pid = cluster.listener(path)
            if pid is None:
                pid = home.postmaster()
            if pid is None:
                return
            if not told:
                told = True
                log.warning("old_postgres_found", pid=pid)
                # Never 0, which is our own group.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if pid > 1:
                        os.kill(pid, signal.SIGINT)
            if time.monotonic() > deadline:
                raise StoreRefused(
                    f"an old PostgreSQL (process {pid}) still runs on {home.data} after "
                    f"{OLD_SERVER_PATIENCE:.0f} seconds; stop that process"
                )
            await asyncio.sleep(POLL)

    async def _programs(self) -> Programs:
        home = self._settled
        found = await asyncio.to_thread(programs.find, home.major())
        if home.owner is None or await self._runs(found):
            return found
        return await asyncio.to_thread(programs.copy, found, self._system_folder)

    async def _runs(self, found: Programs) -> bool:
        for program in (found.postgres, found.initdb):
            process = await self._spawn(program, ["--version"], by=signal.SIGKILL, quiet=True)
            if await process.wait() != 0:
                return False
        return True

    async def _make_cluster(self, found: Programs) -> None:
        """`initdb` beside, then a rename: a cluster exists whole or not at all."""
        home = self._settled
        await asyncio.to_thread(cluster.clear, home.folder)
        scratch = cluster.scratch(home.folder)
        log_size = home.log_size()
        arguments = ["--pgdata", str(scratch), "--username", ROLE, "--pwfile", str(home.password_file)]
        # The C locale sorts the same on every system and for ever.
        arguments += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--data-checksums"]
        process = await self._spawn(found.initdb, [*arguments, "--no-instructions"], by=signal.SIGTERM)
        try:
            code = await process.wait()
        except BaseException:
            process.terminate()
            await process.wait()
            raise
        if code != 0:
            raise StoreRefused(f"PostgreSQL's files could not be made: {_why(home.said_since(log_size), home)}")
        scratch.rename(home.data)
        log.info("postgres_cluster_made", folder=str(home.folder), version=found.version)

    def _server_arguments(self) -> list[str]:
        home = self._settled
        settings = {**self._settings, "unix_socket_directories": str(home.socket_folder())}
        arguments = ["-D", str(home.data), "-p", str(PORT)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        return arguments

    async def _spawn(
        self, program: Path, arguments: list[str], *, by: signal.Signals, quiet: bool = False
    ) -> asyncio.subprocess.Process:
        """A child that gets `by` when we die; it writes to the cluster's log, or nowhere."""
        home = self._settled
        owner = f"{home.owner.uid}:{home.owner.gid}" if home.owner is not None else ""
        return await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-I",
                "-S",
                str(LAUNCHER),
                str(os.getpid()),
                str(int(by)),
                owner,
                str(home.folder),
            ),
            *("" if quiet else str(home.log), str(program), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of ours, so that no PG… variable or locale of the caller changes the server.
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Whether the server answers; False when it ended instead. Recovery takes as long as it takes."""
        deadline = time.monotonic() + SOCKET_PATIENCE
        while process.returncode is None:
            try:
                await self._ensure_database()
            except asyncpg.CannotConnectNowError:
                deadline = time.monotonic() + SOCKET_PATIENCE
            except (OSError, asyncpg.PostgresConnectionError):
                if time.monotonic() > deadline:
                    raise StoreRefused(f"PostgreSQL runs but does not answer; see {self._settled.log}") from None
            except asyncpg.InvalidAuthorizationSpecificationError:
                raise StoreRefused(
                    f"PostgreSQL refuses the password in {self._settled.password_file}; restore that file"
                ) from None
            else:
                return True
            await asyncio.sleep(POLL)
        return False

    async def _ensure_database(self) -> None:
        try:
            connection = await self._connect(DATABASE)
        except asyncpg.InvalidCatalogNameError:
            connection = await self._connect("postgres")
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        await connection.close()

    async def _answers(self) -> bool:
        try:
            connection = await self._connect(DATABASE)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _connect(self, database: str) -> "asyncpg.Connection[asyncpg.Record]":
        arguments = self.arguments
        return await asyncpg.connect(
            host=arguments.host,
            port=arguments.port,
            user=arguments.user,
            password=arguments.password,
            database=database,
            timeout=SOCKET_PATIENCE,
        )

    async def _watch(self) -> None:
        """Start the server again when it ends by itself, after a pause that doubles while it keeps ending."""
        pause = RESTART_FIRST
        while True:
            process, began = self._process, time.monotonic()
            if process is None:
                raise RuntimeError("nothing to watch")
            code = await process.wait()
            if time.monotonic() - began > LIVED_WELL:
                pause = RESTART_FIRST
            log.error("postgres_died", code=code, restart_in=pause)
            while True:
                await asyncio.sleep(pause)
                pause = min(pause * 2, RESTART_LONGEST)
                try:
                    await self._launch()
                except Exception as error:
                    # Whatever it was: without this loop nobody would start it ever again.
                    log.error("postgres_restart_failed", reason=str(error), restart_in=pause)
                else:
                    log.info("postgres_restarted", pid=self.pid)
                    break

    async def _end_server(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Fast: sessions are cut, all is written; immediate: the next start recovers.
        for number, patience in ((signal.SIGINT, FAST_PATIENCE), (signal.SIGQUIT, IMMEDIATE_PATIENCE)):
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _why(said: str, home: Home) -> str:
    """What a program of PostgreSQL said last; on a full disk its log may have no room for that either."""
    lines = [line for line in said.splitlines() if "FATAL" in line or "PANIC" in line or "error:" in line]
    why = f"{' '.join(lines[-1].split()) if lines else 'it ended without a word'} (more in {home.log})"
    left = shutil.disk_usage(home.folder).free
    if left >= ROOM and "No space left" not in why:
        return why
    return f"{why}; its disk has {left // 2**20} MB left: make room, then start again"
