"""The parent process: it owns the sockets, HTTP, PostgreSQL and the workers, and outlives each worker (design 3).

Order at start: record → first start → sockets → workers → HTTP → ready file. Order at the end: ready file away →
workers drain → HTTP → PostgreSQL.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from server import config as configuration
from server import logs, parent, record, supervisor
from server.admin import first_start
from server.api.access import Office
from server.api.app import Health, serve_http
from server.assignment import Assignment
from server.config import Config
from server.errors import ConfigurationError
from server.metrics import Merged
from server.profile import parse_profile
from server.reach import networks
from server.record import Record
from server.store import prune
from server.store.errors import StoreUnavailable
from server.transport import cookie
from server.transport.sockets import receive_buffer
from server.transport.tls import listen
from server.transport.udp import bind
from server.worker import Worker

log = logs.get("serve")

# A worker that dies is started again after this, doubling to the longest, so that a broken one does not spin.
RESTART_FIRST = 0.1
RESTART_LONGEST = 10.0
RECEIVE_BUFFER = 4 * 1024 * 1024
PRUNE_EVERY = 24 * 3600.0
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


class Service:
    """One running server, workers and all; `manager` is the address of a service manager that wants to know."""

    def __init__(self, config: Config, manager: str | None = None) -> None:
        self._config = config
        self._manager = manager
        self._merged = Merged()
        self._health = Health()
        self._children: list[Child] = []
        self._inside: Worker | None = None
        self._ending = asyncio.Event()
        self._serials = 0
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []

    def end(self) -> None:
        """Begin to drain; `run` returns when all is down."""
        self._ending.set()

    async def run(self) -> None:
        """Serve until `end` is called; every way out stops everything that was started."""
        config = self._config
        try:
            config.server.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"server.data_dir: {config.server.data_dir} cannot be made ({error.strerror}); give a folder that this "
                "user may write"
            ) from error
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(record.postgres(config))
            opened = await stack.enter_async_context(record.opened(config, url, create=True))
            sockets, listeners = self._bind(stack), self._listen(stack)
            addresses = sorted({sock.getsockname()[0] for group in (*sockets, *listeners) for sock in group})
            database, sealer, account_id = opened.database, opened.sealer, opened.account_id
            await first_start.ensure_server_certificate(database, sealer, config, addresses)
            api_key_file = await first_start.ensure_api_key(database, config, account_id)
            server_ca_file = await first_start.write_certificates(database, sealer, config, account_id)
            http = _bind_http(config)
            stack.callback(http.close)
            # From here on everybody knows the ports that were given: no CA may be found at one of them.
            config = self._config = _as_bound(config, http, listeners)
            await self._start_workers(stack, opened, sockets, listeners)
            coaps = [_uri("coaps", group[0]) for group in sockets]
            # The name of CoAP over TLS (RFC 8323 8.2); what is spoken there has no framing (transport/tls.py).
            coaps_tcp = [_uri("coaps+tcp", group[0]) for group in listeners]
            office = Office(database=database, sealer=sealer, config=config, coaps=coaps[0])
            await stack.enter_async_context(serve_http(http, health=self._health, merged=self._merged, office=office))
            self._tasks.append(asyncio.create_task(self._nightly(opened)))
            stack.push_async_callback(self._cancel_tasks)
            ready = {
                "coaps": coaps[0],
                "coaps_all": coaps,
                **({"coaps_tcp": coaps_tcp[0], "coaps_tcp_all": coaps_tcp} if coaps_tcp else {}),
                "http": _uri("http", http),
                "account_id": opened.account_id.hex,
                "api_key_file": str(api_key_file.resolve()),
                "server_ca_file": str(server_ca_file.resolve()),
                "profile": "default",
                "pid": os.getpid(),
                "version": version("firstlight"),
            }
            log.info("serving", coaps=coaps, coaps_tcp=coaps_tcp, http=ready["http"], workers=len(self._children) or 1)
            # For whoever sees it for the first time.
            log.info("console_served", open=ready["http"], sign_in_with=ready["api_key_file"])
            with _ready_file(config.server.ready_file, ready):
                supervisor.tell(self._manager, supervisor.READY)
                await self._ending.wait()
            supervisor.tell(self._manager, supervisor.STOPPING)
            log.info("draining", seconds=config.server.drain_seconds)
            self._health.draining = True
            await self._stop_workers()
        log.info("stopped")

    # -- sockets ----------------------------------------

    def _bind(self, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> list[list[socket.socket]]:
        """The UDP sockets; the kernel spreads sources over those of one address (dtls.md 25)."""

        def make(host: str, port: int, shared: bool) -> socket.socket:
            return bind(host, port, reuse_port=shared, receive_buffer=RECEIVE_BUFFER)

        groups = [self._group(stack, "server.coaps", text, make) for text in self._config.server.coaps]
        if not groups:
            raise ConfigurationError("server.coaps: no address to listen on; give at least one HOST:PORT")
        granted = min(receive_buffer(sock) for group in groups for sock in group)
        if granted < RECEIVE_BUFFER:
            # A storm would overrun it: devices repeat what was lost, later and later (coap_and_store.md 5).
            log.warning("receive_buffer_small", bytes=granted, wanted=RECEIVE_BUFFER, setting="net.core.rmem_max")
        return groups

    def _listen(self, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> list[list[socket.socket]]:
        """The listening TCP sockets; connections that a dead worker left waiting are its successor's."""

        def make(host: str, port: int, shared: bool) -> socket.socket:
            return listen(host, port, reuse_port=shared)

        return [self._group(stack, "server.coaps_tcp", text, make) for text in self._config.server.coaps_tcp]

    def _group(
        self,
        stack: contextlib.ExitStack | contextlib.AsyncExitStack,
        setting: str,
        text: str,
        make: Callable[[str, int, bool], socket.socket],
    ) -> list[socket.socket]:
        """One socket a worker on the address `text` of `setting`."""
        host, port = configuration.host_and_port(text, setting)
        count = 1 if self._config.server.single_process else self._config.server.workers
        group: list[socket.socket] = []
        for _ in range(count):
            # Port 0 is picked once; the other workers share what was picked.
            chosen = group[0].getsockname()[1] if group else port
            try:
                sock = make(host, chosen, count > 1)
            except OSError as error:
                raise ConfigurationError(
                    f"{setting}: {text} cannot be bound ({error.strerror}); "
                    "is another server running there, or is the address not this machine's?"
                ) from error
            stack.callback(sock.close)
            group.append(sock)
        return group

    # -- workers ----------------------------------------

    async def _start_workers(
        self,
        stack: contextlib.AsyncExitStack,
        opened: Record,
        sockets: list[list[socket.socket]],
        listeners: list[list[socket.socket]],
    ) -> None:
        count = len(sockets[0])
        journal = self._config.embedded_ca.journal_file or self._config.server.data_dir / "ca-journal.jsonl"
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
            )
            if self._config.server.single_process:
                self._inside = Worker(assignment, lambda message: self._heard(0, None, message))
                await self._inside.start()
                return
            child = Child(assignment)
            self._children.append(child)
            self._tasks.append(asyncio.create_task(self._keep_alive(child)))
        stack.push_async_callback(self._cancel_tasks)
        await self._all_ready()
        self._started = True

    async def _all_ready(self) -> None:
        """Wait until every worker is ready; ConfigurationError when one ends first."""
        ready = [asyncio.create_task(child.ready.wait()) for child in self._children]
        try:
            async with asyncio.timeout(START_PATIENCE):
                while not all(task.done() for task in ready):
                    await asyncio.wait([*ready, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
                    if any(task.done() for task in self._tasks):
                        raise ConfigurationError("a worker did not start; the lines above say why")
        except TimeoutError:
            raise ConfigurationError(f"the workers were not ready after {START_PATIENCE:g} s") from None
        finally:
            for task in ready:
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
        was_ready = child.ready.is_set()
        child.ready.clear()
        self._health.workers_ready = sum(other.ready.is_set() for other in self._children)
        self._merged.forget_gauges(serial)
        return was_ready

    def _heard(self, serial: int, child: Child | None, message: Mapping[str, object]) -> None:
        match message:
            case {"event": "ready"}:
                if child is not None:
                    child.ready.set()
                self._health.workers_ready = sum(other.ready.is_set() for other in self._children) or 1
                self._health.workers = len(self._children) or 1
            case {"event": "metrics", "metrics": dict() as snapshot}:
                self._merged.take(serial, snapshot)
            case {"event": "failed"}:
                if child is not None and child.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.terminate()
                elif child is None:
                    self.end()

    async def _stop_workers(self) -> None:
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

    async def _cancel_tasks(self) -> None:
        self._ending.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
                await child.process.wait()

    async def _nightly(self, opened: Record) -> None:
        """Make partitions ahead and let old rows go, at start and every day (design 7, "Retention")."""
        retention = self._config.retention
        while True:
            try:
                await prune.prune(
                    opened.database,
                    sessions_days=retention.sessions_days,
                    audit_days=retention.audit_days,
                    transcripts_days=retention.transcripts_days,
                )
            except StoreUnavailable as error:
                log.warning("prune_postponed", reason=str(error))
            await asyncio.sleep(PRUNE_EVERY)


def _as_bound(config: Config, http: socket.socket, listeners: Sequence[Sequence[socket.socket]]) -> Config:
    """The configuration with the TCP addresses as they are bound, in place of port 0 and of names."""
    tcp = tuple(_uri("", group[0]).removeprefix("://") for group in listeners)
    return replace(config, server=replace(config.server, http=_uri("", http).removeprefix("://"), coaps_tcp=tcp))


def _bind_http(config: Config) -> socket.socket:
    host, port = configuration.host_and_port(config.server.http, "server.http")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"server.http: {config.server.http} cannot be bound ({error.strerror}); "
            "is another server running there, or is the address not this machine's?"
        ) from error
    bound = sock.getsockname()[0]
    if not (bound.startswith("127.") or bound == "::1" or config.server.insecure_http):
        sock.close()
        raise ConfigurationError(
            f"server.http: {config.server.http} is not a loopback address and plain http would show keys to the "
            "network; bind 127.0.0.1, or set server.insecure_http when a TLS proxy stands in front"
        )
    return sock


def _uri(scheme: str, sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextlib.contextmanager
def _ready_file(file: Path | None, content: Mapping[str, object]) -> Iterator[None]:
    """The ready file appears by rename when all is up and goes at exit."""
    if file is None:
        yield
        return
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        scratch.rename(file)
    except OSError as error:
        raise ConfigurationError(
            f"server.ready_file: {file} cannot be written ({error.strerror}); give a file in a folder that exists and "
            "that this user may write"
        ) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def check(config: Config) -> None:
    """Everything that can be said against `config` without opening anything; ConfigurationError."""
    for text in config.server.coaps:
        configuration.host_and_port(text, "server.coaps")
    for text in config.server.coaps_tcp:
        configuration.host_and_port(text, "server.coaps_tcp")
    configuration.host_and_port(config.server.http, "server.http")
    networks(config.issuers.allow)
    if config.server.lwm2m_server_certificate_file is not None:
        parse_profile(*first_start.default_profile_text(config), name="default")
    if config.secrets.master_key is not None or config.secrets.master_key_file is not None:
        record.master_keys(config, create=False)


def main(config: Config, manager: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl+C; a service manager at the address `manager` is told."""
    parent.no_core_files()
    if config.server.single_process:
        parent.many_files()
    logs.configure(config.log.format, config.log.level)

    async def serve() -> None:
        service = Service(config, manager)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, service.end)
        await service.run()

    asyncio.run(serve())
