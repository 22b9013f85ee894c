"""The group-commit writer: everything a bootstrap makes durable goes through one connection (design 7).

No timer: it writes whatever queued while the previous commit ran. What it can be asked is in `operations.py`, how a
batch becomes statements in `batch.py`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from server import logs
from server.store.batch import Batches
from server.store.database import AWAY_AFTER, STATEMENT_TIMEOUT, ConnectArguments, connect, is_away, unavailable
from server.store.errors import StoreError, StoreUnavailable
from server.store.est_offers import NoteOffer as NoteOffer
from server.store.issuance_operations import HeldBack as HeldBack
from server.store.issuance_operations import Inserted as Inserted
from server.store.issuance_operations import Joined as Joined
from server.store.issuance_operations import KeyTaken as KeyTaken
from server.store.issuance_operations import MarkAbandoned as MarkAbandoned
from server.store.issuance_operations import MarkDelivered as MarkDelivered
from server.store.issuance_operations import Opened as Opened
from server.store.issuance_operations import OpenIssuance as OpenIssuance
from server.store.issuance_operations import RecordFailed as RecordFailed
from server.store.issuance_operations import RecordIssued as RecordIssued
from server.store.issuance_operations import RecordPending as RecordPending
from server.store.issuance_operations import TooMany as TooMany
from server.store.operation import Operation as Operation
from server.store.prepared import opened
from server.store.session_operations import AppendStep as AppendStep
from server.store.session_operations import EndSession as EndSession
from server.store.session_operations import RecordEnrollment as RecordEnrollment
from server.store.session_operations import RecordSession as RecordSession
from server.store.session_operations import RecordTranscript as RecordTranscript
from server.store.session_operations import TouchDevice as TouchDevice

log = logs.get("store")

T = TypeVar("T")

# Operations waiting: about three of each of 5,000 sessions. More means that devices come faster than commits.
QUEUE_LIMIT = 16_384
# Operations a transaction: the gain of larger ones is small, and a bad row among them costs more (measured).
BATCH_LIMIT = 500
# Seconds between two attempts to reach a database that is away, doubling to the longest.
RETRY_FIRST = 0.05
RETRY_LONGEST = 0.5
# Seconds that `close` waits for what is queued.
CLOSE_PATIENCE = 5.0
# Looks in `AWAY_AFTER` seconds at whether the database answers. Each is a turn of our own event loop: one that is late
# finds all answers late, and must not look like a database that is away.
LOOKS = 10

# SQLSTATE classes of a whole database in trouble: disk or memory full, I/O error. No row is to blame.
_TROUBLE = frozenset({"53", "58"})
# Deadlock, serialisation failure, lock or statement timeout: the same batch may well pass a moment later.
_PASSING = frozenset({"40001", "40P01", "55P03", "57014"})


class RowRefused(StoreError):
    """The database refuses this one row, whatever it is written with: a fault of ours, with the cause in the text."""


@dataclass(slots=True, eq=False)
class _Entry:
    operation: Operation[Any]
    future: "asyncio.Future[Any]"


class Writer:
    """Writes operations in batches; one for a process."""

    def __init__(
        self,
        url: str | ConnectArguments,
        queries: Mapping[str, str],
        *,
        queue_limit: int = QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
        connect: Callable[[str | ConnectArguments], Awaitable[Any]] = connect,
        observe: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`observe` is told the seconds that each batch took to become durable, by `clock`."""
        self._url = url
        self._queries = queries
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._connect = connect
        self._observe = observe
        self._queue: deque[_Entry] = deque()
        self._written: list[_Entry] = []
        self._wake = asyncio.Event()
        self._clock = clock
        self._connection: Any = None
        self._batches: Batches | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._away = False
        # Why the last attempt came to nothing; None = it did not.
        self._trouble: Exception | None = None
        self._closing = False

    @property
    def queued(self) -> int:
        """Operations not yet durable."""
        return len(self._queue) + len(self._written)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written now; None = it can, as far as was tried."""
        return str(self._unavailable()) if self._away else None

    async def start(self) -> None:
        """Connect and begin to write; raises StoreUnavailable or StoreRefused."""
        await self._open()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def write(self, operation: Operation[T]) -> Awaitable[T]:
        """Queue `operation`, in the order of the calls; the answer comes once it is durable.

        The answer raises StoreUnavailable when the queue is full or the database is away for more than a second (an
        operation that is `kept` is written later all the same), RowRefused when this row cannot be written.
        """
        # A plain function and a bare future: no task for each of the operations of a bootstrap.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("the server is stopping"))
        elif self.queued >= self._queue_limit:
            future.set_exception(StoreUnavailable(f"{self._queue_limit} writes are waiting for the database"))
        elif self._away:
            future.set_exception(self._unavailable())
            if operation.kept:
                self._queue.append(_Entry(operation, future))
        else:
            self._queue.append(_Entry(operation, future))
            self._wake.set()
        return future

    async def close(self) -> None:
        """Write what is queued, for at most `CLOSE_PATIENCE` seconds, and disconnect."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_PATIENCE)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = [*self._written, *self._queue]
        if left:
            log.error("writes_lost", count=len(left))
        for entry in left:
            _fail(entry, StoreUnavailable("the server stopped before this was written"))
        self._queue.clear()
        self._unwatch()
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close(timeout=AWAY_AFTER)

    # -- batches ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            take = min(len(self._queue), self._batch_limit)
            self._written = [self._queue.popleft() for _ in range(take)]
            try:
                await self._settle(self._written)
            finally:
                self._unwatch()
            self._written = []

    async def _settle(self, entries: Sequence[_Entry], again: int = 2) -> None:
        """Write `entries`; returns when each has its answer, or nobody waits for it and it may be dropped.

        A batch that the database refuses is halved until the bad rows stand alone: only their callers fail, and 200
        rows with one bad row cost 16 small transactions instead of 200.
        """
        pause = RETRY_FIRST
        while True:
            batches = await self._connected()
            entries = [entry for entry in entries if not entry.future.done() or entry.operation.kept]
            if not entries:
                # Whether it is still away shows when the next one comes.
                self._progress()
                return
            self._watch_out()
            try:
                started = self._clock()
                async with asyncio.timeout(STATEMENT_TIMEOUT):
                    outcomes = await batches.write([entry.operation for entry in entries])
            except Exception as error:
                trouble = _state(error)[:2] in _TROUBLE
                if trouble or self._lost(error):
                    self._trouble = error
                    log.warning("commit_interrupted", operations=len(entries), reason=str(error))
                    if not trouble:
                        self._disconnect()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_LONGEST)
                elif _state(error) in _PASSING and again:
                    log.warning("commit_repeated", operations=len(entries), reason=str(error))
                    self._progress()
                    again -= 1
                elif len(entries) > 1:
                    self._progress()
                    half = len(entries) // 2
                    await self._settle(entries[:half], 0)
                    await self._settle(entries[half:], 0)
                    return
                elif (parts := entries[0].operation.parts()) and _state(error) not in _PASSING:
                    self._progress()
                    await self._write_parts(entries[0], parts)
                    return
                else:
                    self._progress()
                    await self._give_up(entries[0], error)
                    return
            else:
                self._progress()
                if self._observe is not None:
                    self._observe(self._clock() - started)
                for entry, outcome in zip(entries, outcomes, strict=True):
                    if not entry.future.done():
                        entry.future.set_result(outcome)
                return

    async def _write_parts(self, entry: _Entry, parts: Sequence[Operation[Any]]) -> None:
        """Write what can be written of an operation that is refused as a whole."""
        loop = asyncio.get_running_loop()
        apart = [_Entry(part, loop.create_future()) for part in parts]
        await self._settle(apart, 0)
        for error in [part.future.exception() for part in apart]:
            if isinstance(error, StoreError):
                _fail(entry, error)
        if not entry.future.done():
            entry.future.set_result(None)

    async def _give_up(self, entry: _Entry, error: Exception) -> None:
        kind = type(entry.operation).__name__
        if _state(error) in _PASSING:
            log.warning("write_postponed", kind=kind, kept=entry.operation.kept, reason=str(error))
            _fail(entry, unavailable(error))
            if entry.operation.kept:
                # Behind the others, which need not wait for whoever holds this row.
                self._queue.append(entry)
                await asyncio.sleep(RETRY_FIRST)
            return
        log.error("row_refused", kind=kind, reason=str(error))
        refused = RowRefused(f"{kind} cannot be written: {error}")
        refused.__cause__ = error
        _fail(entry, refused)

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _connected(self) -> Batches:
        """The connection's batches; as long as it takes, while the watch answers those who wait."""
        pause = RETRY_FIRST
        while self._batches is None or self._connection.is_closed():
            self._watch_out()
            try:
                await self._open()
            except Exception as error:
                # Whatever it is, those who wait have their second, and the writer goes on.
                self._trouble = error
                log.debug("database_unreachable", reason=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_LONGEST)
            else:
                self._progress()
        return self._batches

    async def _open(self) -> None:
        connection = await opened(self._connect(self._url), self._queries["writer_session"])
        self._connection, self._batches = connection, Batches(connection, self._queries)

    def _disconnect(self) -> None:
        connection, self._connection, self._batches = self._connection, None, None
        connection.terminate()

    def _lost(self, error: Exception) -> bool:
        """Whether the connection is of no use any more; what was written is then found out by writing it again."""
        # A statement that outlives its time, or is prepared for a schema that changed, wants a new connection too.
        stale = asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError | asyncpg.InternalClientError
        return is_away(error, self._connection) or isinstance(error, stale) or self._connection.is_closed()

    # -- the watch ----------------------------------------------------------------------------------------------------

    def _watch_out(self) -> None:
        """From now on the database has `AWAY_AFTER` seconds to show that it is there."""
        if self._watch is None and not self._away:
            self._look_again(LOOKS)

    def _look_again(self, left: int) -> None:
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(AWAY_AFTER / LOOKS, self._look, left - 1, self._answers)

    def _look(self, left: int, answers: int) -> None:
        self._watch = None
        if self._answers != answers:
            left = LOOKS
        if left:
            self._look_again(left)
            return
        self._away = True
        waiting = [*self._written, *self._queue]
        log.warning("database_away", waiting=len(waiting), reason=str(self._unavailable()))
        for entry in waiting:
            _fail(entry, self._unavailable())
        self._queue = deque(entry for entry in self._queue if entry.operation.kept)

    def _unavailable(self) -> StoreUnavailable:
        """Why, for whoever is to mend it: a full disk looks like a database that is away, to a device."""
        if self._trouble is None:
            return StoreUnavailable("the database is away (it does not answer)")
        # One for each caller: an exception that many raise has the tracebacks of all.
        return StoreUnavailable(str(unavailable(self._trouble)))

    def _progress(self) -> None:
        self._unwatch()
        self._trouble = None
        if self._away:
            self._away = False
            log.info("database_back", kept=self.queued)

    @property
    def _answers(self) -> int:
        return 0 if self._batches is None else self._batches.answers

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _fail(entry: _Entry, error: StoreError) -> None:
    if not entry.future.done():
        entry.future.set_exception(error)


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""
