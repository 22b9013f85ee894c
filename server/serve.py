"""The parent process: it owns the sockets, HTTP, PostgreSQL and the workers, and outlives each worker (design 3).

Order at start: addresses tried → record → first start → sockets → workers → HTTP → ready file. Order at the end: ready
file away → workers drain → HTTP → PostgreSQL.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from server import logs, parent, record, supervisor
from server.addresses import address_and_port, host_and_port
from server.admin import first_start
from server.api.access import Office
from server.api.app import Health, serve_http
from server.config import Config
from server.config_check import not_in_the_clear
from server.errors import ConfigurationError
from server.metrics import Merged
from server.record import Record
from server.store import prune
from server.store.errors import StoreUnavailable
from server.transport.sockets import receive_buffer
from server.transport.tls import listen
from server.transport.udp import bind
from server.workers import Workers

log = logs.get("serve")

RECEIVE_BUFFER = 4 * 1024 * 1024
PRUNE_EVERY = 24 * 3600.0


class Service:
    """One running server, workers and all.

    `manager` is the address of a service manager that wants to know, `journal_stream` where it says that its journal is
    (NOTIFY_SOCKET and JOURNAL_STREAM of systemd).
    """

    def __init__(self, config: Config, manager: str | None = None, journal_stream: str | None = None) -> None:
        self._config = config
        self._manager = manager
        self._journal_stream = journal_stream
        self._merged = Merged()
        self._health = Health()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Begin to drain; `run` returns when all is down."""
        self._ending.set()

    async def run(self) -> None:
        """Serve until `end` is called; every way out stops everything that was started."""
        config = self._config
        self._try_addresses()
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
            _warn_of_small_buffers(sockets)
            addresses = sorted({sock.getsockname()[0] for group in (*sockets, *listeners) for sock in group})
            database, sealer, account_id = opened.database, opened.sealer, opened.account_id
            await first_start.ensure_server_certificate(database, sealer, config, addresses)
            api_key_file = await first_start.ensure_api_key(database, config, account_id)
            server_ca_file = await first_start.write_certificates(database, sealer, config, account_id)
            http = _bind_http(config)
            stack.callback(http.close)
            # From here on everybody knows the ports that were given: no CA may be found at one of them.
            config = self._config = _as_bound(config, http, listeners)
            workers = Workers(
                config,
                ending=self._ending,
                merged=self._merged,
                health=self._health,
                journal_stream=self._journal_stream,
            )
            await workers.start(stack, opened, sockets, listeners)
            if self._ending.is_set():
                # Told to stop before anybody was served.
                await workers.stop()
                log.info("stopped")
                return
            coaps = [_uri("coaps", group[0]) for group in sockets]
            # The name of CoAP over TLS (RFC 8323 8.2); what is spoken there has no framing (transport/tls.py).
            coaps_tcp = [_uri("coaps+tcp", group[0]) for group in listeners]
            office = Office(database=database, sealer=sealer, config=config, coaps=coaps[0])
            await stack.enter_async_context(serve_http(http, health=self._health, merged=self._merged, office=office))
            nightly = asyncio.create_task(self._nightly(opened))
            stack.push_async_callback(workers.kill)
            stack.push_async_callback(_ended, nightly)
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
            log.info("serving", coaps=coaps, coaps_tcp=coaps_tcp, http=ready["http"], workers=workers.count)
            # For whoever sees it for the first time.
            log.info("console_served", open=ready["http"], sign_in_with=ready["api_key_file"])
            with _ready_file(config.server.ready_file, ready):
                supervisor.tell(self._manager, supervisor.READY)
                await self._ending.wait()
            supervisor.tell(self._manager, supervisor.STOPPING)
            log.info("draining", seconds=config.server.drain_seconds)
            self._health.draining = True
            await workers.stop()
        log.info("stopped")

    # -- sockets ----------------------------------------

    def _try_addresses(self) -> None:
        """Bind and let go: PostgreSQL takes seconds, and its first start makes a record that nobody may have wanted.

        They are not kept, as nothing would answer devices until it is up.
        """
        with contextlib.ExitStack() as stack:
            self._bind(stack)
            self._listen(stack)
            _bind_http(self._config).close()

    def _bind(self, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> list[list[socket.socket]]:
        """The UDP sockets; the kernel spreads sources over those of one address (docs/transport.md 25)."""

        def make(host: str, port: int, shared: bool) -> socket.socket:
            return bind(host, port, reuse_port=shared, receive_buffer=RECEIVE_BUFFER)

        return [self._group(stack, "server.coaps", text, make) for text in self._config.server.coaps]

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
        host, port = address_and_port(text, setting)
        count = 1 if self._config.server.single_process else self._config.server.workers
        group: list[socket.socket] = []
        for _ in range(count):
            # Port 0 is picked once; the other workers share what was picked.
            chosen = group[0].getsockname()[1] if group else port
            try:
                sock = make(host, chosen, count > 1)
            except OSError as error:
                raise ConfigurationError(_not_bound(setting, text, error)) from error
            stack.callback(sock.close)
            group.append(sock)
        return group

    # -- the record ----------------------------------------

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
                    failed_issuances_days=retention.failed_issuances_days,
                )
            except StoreUnavailable as error:
                log.warning("prune_postponed", reason=str(error))
            except Exception:
                # Nobody looks at this task: without its loop no month would be made, and nothing go, until a restart.
                log.exception("prune_failed")
            await asyncio.sleep(PRUNE_EVERY)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _warn_of_small_buffers(sockets: Sequence[Sequence[socket.socket]]) -> None:
    granted = min(receive_buffer(sock) for group in sockets for sock in group)
    if granted < RECEIVE_BUFFER:
        # A storm would overrun it: devices repeat what was lost, later and later.
        log.warning("receive_buffer_small", bytes=granted, wanted=RECEIVE_BUFFER, setting="net.core.rmem_max")


def _as_bound(config: Config, http: socket.socket, listeners: Sequence[Sequence[socket.socket]]) -> Config:
    """The configuration with the TCP addresses as they are bound, in place of port 0 and of names."""
    tcp = tuple(_uri("", group[0]).removeprefix("://") for group in listeners)
    return replace(config, server=replace(config.server, http=_uri("", http).removeprefix("://"), coaps_tcp=tcp))


def _not_bound(setting: str, text: str, error: OSError) -> str:
    remedy = "is another server running there, or is the address not this machine's?"
    if isinstance(error, socket.gaierror):
        remedy = "write a name that this machine can look up, or an address"
    if isinstance(error, PermissionError):
        remedy = "take a port above 1023, or give this user the capability CAP_NET_BIND_SERVICE"
    return f"{setting}: {text} cannot be bound ({error.strerror}); {remedy}"


def _bind_http(config: Config) -> socket.socket:
    host, port = host_and_port(config.server.http, "server.http")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(_not_bound("server.http", config.server.http, error)) from error
    try:
        not_in_the_clear(config, sock.getsockname()[0])
    except ConfigurationError:
        sock.close()
        raise
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


def main(config: Config, manager: str | None = None, journal_stream: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl+C; the rest as `Service` takes it."""
    parent.no_core_files()
    if config.server.single_process:
        parent.many_files()
    logs.configure(config.log.format, config.log.level, journal_stream=journal_stream)

    async def serve() -> None:
        service = Service(config, manager, journal_stream)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, service.end)
        await service.run()

    asyncio.run(serve())
