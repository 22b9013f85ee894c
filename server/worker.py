"""One CoAP worker: its sockets, its associations and everything a bootstrap needs, in one event loop.

The parent (`workers.py`) starts it as a child with an `Assignment` on standard input and listens to its reports, or
runs it in its own loop (`--single-process`).
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import uvloop

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import Parameters
from lwm2m.est import CORE, paths
from server import ca_journal, logs, parent
from server.assignment import Assignment
from server.breaker import Breaker
from server.coap.bootstrap import BootstrapResource
from server.coap.endpoint import ANY, CoapEndpoint, Resource
from server.coap.est import EstResource
from server.coap.registration import PATH, RegistrationResource
from server.credentials import Credentials
from server.device_made import DeviceMade
from server.endpoints import Endpoints
from server.enrollments import Enrollments
from server.farewells import Farewells
from server.issuance import Issuance
from server.knowledge import Knowledge
from server.metrics import Metrics
from server.outcomes import Outcomes
from server.pace import Pace
from server.renewals import Renewals
from server.seen import Seen
from server.sessions import Sessions
from server.store import embedded_ca, sealed
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.revision import Revisions, current
from server.store.secrets import Sealer
from server.store.writer import Writer
from server.transport.openssl import self_test

log = logs.get("worker")

Report = Callable[[Mapping[str, object]], None]

# New objects, rounds of the young, rounds of the middle-aged; Python's own 700 are passed twice in a bootstrap.
COLLECT_AT = (20_000, 10, 10)
# Seconds between two snapshots for the parent.
REPORT_EVERY = 1.0
# While draining: how long handshakes under way are waited for, how often they are looked at, and how soon after its
# handshake a device sends its request; in seconds.
HANDSHAKE_PATIENCE = 3.0
# And how long devices are waited for that had their Finish and are about to ask for their certificate.
ENROLMENT_PATIENCE = 5.0
DRAIN_TICK = 0.05
REQUEST_FOLLOWS = 0.5
# How long the outcomes of sessions that a stop cut short may take to reach the record, in seconds.
RECORD_PATIENCE = 5.0


def utc_now() -> datetime:
    """The wall clock; everything below gets it as an argument."""
    return datetime.now(UTC)


class Worker:
    """Everything one CoAP worker owns; `start`, then `drain`, then `stop`."""

    def __init__(self, assignment: Assignment, report: Report) -> None:
        self._assignment = assignment
        self._report = report
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self.metrics = Metrics()

    async def start(self) -> None:
        """Open the record, load what a bootstrap needs and listen; returns when datagrams are taken."""
        assignment, config = self._assignment, self._assignment.config
        self_test()
        owner = f"{socket.gethostname()}/{os.getpid()}/{assignment.number}/{os.urandom(4).hex()}"
        sealer = Sealer(assignment.master_keys)
        database = await Database.open(
            assignment.database_url, migrate=False, application_name=sealed.announcement(sealer)
        )
        self._stack.push_async_callback(database.close)
        writer = Writer(assignment.database_url, database.queries, observe=self.metrics.commit_seconds.observe)
        await writer.start()
        self._stack.push_async_callback(writer.close)
        self._writer = writer
        breaker = Breaker(database=database, now=utc_now, clock=time.monotonic, jitter=random.random)
        pace = Pace(database=database, now=utc_now)
        self._stack.push_async_callback(breaker.close)
        knowledge = Knowledge(
            database=database,
            sealer=sealer,
            config=config,
            journal=ca_journal.appending(assignment.journal_file),
            now=utc_now,
            breaker=breaker,
            pace=pace,
        )
        revision = await current(database)
        await knowledge.load()
        self._stack.push_async_callback(knowledge.aclose)
        issuance = Issuance(
            database=database,
            writer=writer,
            knowledge=knowledge,
            config=config.issuance,
            owner=owner,
            clock=time.monotonic,
            now=utc_now,
            metrics=self.metrics,
        )
        self._stack.push_async_callback(issuance.close)
        seen = Seen(database=database, now=utc_now, metrics=self.metrics)
        outcomes = Outcomes(writer=writer, now=utc_now, metrics=self.metrics, recorder=config.recorder)
        device_made = self._device_made = DeviceMade(
            database=database,
            writer=writer,
            issuers=knowledge,
            attempts=issuance.attempts,
            config=config.issuance,
            most=config.limits.max_sessions,
            clock=time.monotonic,
            now=utc_now,
            metrics=self.metrics,
        )
        self._stack.push_async_callback(device_made.close)
        farewells = self._farewells = Farewells(
            soon=config.limits.after_finish_seconds,
            late=config.limits.after_finish_est_seconds,
            most=config.limits.max_awaiting_est,
            clock=time.monotonic,
        )
        self.sessions = Sessions(
            credentials=Credentials(
                database=database, issuance=issuance, sealer=sealer, ca_of=knowledge.ca_of, now=utc_now
            ),
            outcomes=outcomes,
            limits=config.limits,
            clock=time.monotonic,
            now=utc_now,
            jitter=random.random,
            metrics=self.metrics,
            farewells=farewells,
        )
        est = EstResource(
            database=database,
            knowledge=knowledge,
            issuance=issuance,
            device_made=device_made,
            enrollments=Enrollments(writer=writer, seen=seen, clock=time.monotonic, now=utc_now, metrics=self.metrics),
            farewells=farewells,
            clock=time.monotonic,
            now=utc_now,
        )
        bootstrap = BootstrapResource(
            database=database,
            knowledge=knowledge,
            sessions=self.sessions,
            seen=seen,
            outcomes=outcomes,
            now=utc_now,
            metrics=self.metrics,
        )
        routes = _routes(bootstrap, est)
        if config.registration.enabled:
            routes |= self._registration(database, knowledge, owner, seen)
        self._coap = CoapEndpoint(
            routes=routes,
            parameters=Parameters(block_size=config.limits.block_size),
            clock=time.monotonic,
            random_bytes=os.urandom,
            jitter=random.random,
            metrics=self.metrics,
            on_refused=seen.not_served,
            tape_bytes=config.recorder.kilobytes * 1024 if config.recorder.attempts else 0,
        )
        server = await embedded_ca.server_credential(database, sealer)
        asyncio.get_running_loop().set_exception_handler(self._fault)
        self._endpoints = Endpoints(
            assignment,
            server,
            knowledge=knowledge,
            coap=self._coap,
            seen=seen,
            farewells=farewells,
            now=utc_now,
            metrics=self.metrics,
        )
        self._endpoints.start()
        self._spawn(self._coap.run())
        self._spawn(issuance.run())
        self._spawn(seen.run())
        self._spawn(self._follow(Revisions(database, assignment.database_url), knowledge, database, sealer, revision))
        self._spawn(self._report_metrics())
        self._report({"event": "ready", "number": assignment.number})

    async def drain(self) -> None:
        """Take no new device; give those under way, from their handshake on, `drain_seconds` to finish."""
        self._endpoints.stop_accepting()
        self._device_made.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._assignment.config.server.drain_seconds):
                await self._handshakes_over()
                await self.sessions.drained()
                await self._enrolments_over()
                await self._coap.drained()

    async def _handshakes_over(self) -> None:
        """Wait for handshakes under way and for the request that follows one; a stuck one is not waited for long."""
        until = time.monotonic() + HANDSHAKE_PATIENCE
        waited = False
        while self._endpoints.handshaking and time.monotonic() < until:
            waited = True
            await asyncio.sleep(DRAIN_TICK)
        if waited:
            await asyncio.sleep(REQUEST_FOLLOWS)

    async def _enrolments_over(self) -> None:
        """Wait for the EST requests that follow a Finish; a device that sends none is not waited for long."""
        until = time.monotonic() + ENROLMENT_PATIENCE
        while self._farewells.due and time.monotonic() < until:
            await asyncio.sleep(DRAIN_TICK)

    async def stop(self) -> None:
        """Close every association, the record and the sockets."""
        await self.sessions.end_all()
        self._endpoints.close()
        # What ended just now still goes on record.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECORD_PATIENCE):
                await self._coap.drained()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._snapshot()
        await self._stack.aclose()

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of ours that reached the loop: counted and logged in full, it ends nothing else."""
        self.metrics.internal_errors.inc()
        log.error("internal_fault", reason=context.get("message"), exc_info=context.get("exception"))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # A worker without its timers or its trust is worse than none: the parent starts another.
            log.error("worker_task_failed", exc_info=task.exception())
            self._report({"event": "failed"})

    def _registration(
        self, database: Database, knowledge: Knowledge, owner: str, seen: Seen
    ) -> Mapping[tuple[str, ...], Mapping[int, Resource]]:
        """The registration interface, and the renewals that people ask for on it."""
        settings = self._assignment.config.registration
        resource = RegistrationResource(
            database=database,
            knowledge=knowledge,
            worker=owner,
            most=settings.max_registrations,
            seen=seen,
            clock=time.monotonic,
            random_bytes=os.urandom,
            metrics=self.metrics,
        )
        renewals = Renewals(
            database=database,
            database_url=self._assignment.database_url,
            worker=owner,
            connected=resource.connected,
            seconds=settings.renewal_seconds,
            daily_bootstraps=self._assignment.config.issuance.daily_bootstraps,
            metrics=self.metrics,
        )
        self._stack.push_async_callback(resource.close)
        self._stack.push_async_callback(renewals.close)
        self._spawn(resource.run())
        self._spawn(renewals.run())
        return {
            (PATH,): {coap.POST: resource.register},
            (PATH, ANY): {coap.POST: resource.update, coap.DELETE: resource.deregister},
        }

    async def _follow(
        self, revisions: Revisions, knowledge: Knowledge, database: Database, sealer: Sealer, since: int
    ) -> None:
        """Take every change an operator makes; while the record is away the last known state serves."""
        async for _revision in revisions.follow(since):
            while True:
                try:
                    await knowledge.load()
                    server = await embedded_ca.server_credential(database, sealer)
                    break
                except StoreUnavailable as error:
                    log.warning("change_postponed", reason=str(error))
                    await asyncio.sleep(REPORT_EVERY)
            self._endpoints.show(server)

    async def _report_metrics(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._snapshot()

    def _snapshot(self) -> None:
        metrics = self.metrics
        self._endpoints.count()
        metrics.sessions.value = self.sessions.count
        metrics.awaiting_est.value = len(self._farewells)
        self._report({"event": "metrics", "metrics": metrics.snapshot(), "trouble": self._writer.trouble})


def _routes(bootstrap: BootstrapResource, est: EstResource) -> dict[tuple[str, ...], Mapping[int, Resource]]:
    """Which resource serves what a device of any kind asks for."""
    routes: dict[tuple[str, ...], Mapping[int, Resource]] = {
        ("bs",): {coap.POST: bootstrap.post},
        # GET by the standard; clients were seen to POST as they do to /bs.
        ("bspack",): {coap.GET: bootstrap.pack, coap.POST: bootstrap.pack},
        CORE: {coap.GET: est.discover},
    }
    for path, function in paths(ANY):
        routes[path] = {coap.GET: est.read} if function.is_read else {coap.POST: est.enroll}
    return routes


def _settle_collector() -> None:
    """Nothing that exists once all is up is garbage, and what a bootstrap makes goes by its reference counts.

    So the collector looks at new objects alone, and at a crowd of them at a time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)


async def _child(assignment: Assignment) -> None:
    def report(message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")

    worker = Worker(assignment, report)
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    # Ctrl+C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await worker.start()
    _settle_collector()
    await ending.wait()
    await worker.drain()
    await worker.stop()


def main() -> None:
    """The child process: read the assignment, work until SIGTERM."""
    assignment = Assignment.from_json(sys.stdin.readline())
    parent.die_with(int(sys.argv[1]))
    parent.no_core_files()
    parent.many_files()
    log_of = assignment.config.log
    logs.configure(log_of.format, log_of.level, journal_stream=assignment.journal_stream)
    # uvloop's loop costs a bootstrap a tenth less than asyncio's (docs/performance.md).
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_child(assignment))


if __name__ == "__main__":
    main()
