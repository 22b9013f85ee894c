"""The record's database: connected, migrated, pooled; away for more than a second is `StoreUnavailable`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Self
from urllib.parse import quote, urlencode

import asyncpg

from server import logs
from server.store import tls_files
from server.store.errors import NoRecord, StoreError, StoreRefused, StoreUnavailable
from server.store.kept import Kept
from server.store.lookup import Lookup
from server.store.migrations import applied, load_migrations, migrate, pending
from server.store.sql import load_queries

log = logs.get("store")

# Design 3.
OLDEST_SERVER = 15
# Seconds that a caller waits for a database that is away before its device hears 5.03 (design 7).
AWAY_AFTER = 1.0
RETRY_EVERY = 0.05
# A database that is busy is not away: its callers wait their turn so many seconds, as long as the line moves. It is
# looked at this often, and stands still when so many looks found nothing given back.
BUSY_PATIENCE = 30.0
LINE_TICK = 0.1
LINE_STILL = 10
CONNECT_TIMEOUT = 5.0
# Seconds for one statement; a server that hangs longer is as good as away.
STATEMENT_TIMEOUT = 10.0
# Four writers already saturate the commit; ten only add latency (measured).
POOL_SIZE = 4
APPLICATION_NAME = "firstlight"

# What asyncpg and the system raise when the server is away, going, coming, or no longer the primary.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    # Too many connections, no memory, no disk: it may pass.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
)
# What ends a statement and not the connection: a limit of the server or an administrator, or others at work on the same
# rows. A moment later it may well pass.
GIVEN_UP = (asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# What it raises when the settings are wrong; waiting does not mend them.
WRONG_SETTINGS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectArguments:
    """How to reach a database; `host` is a name, an address, or the folder of a Unix socket."""

    host: str
    port: int = 5432
    user: str
    password: str = field(repr=False)
    database: str

    @property
    def url(self) -> str:
        """The same as a URL; holds the password."""
        where = urlencode({"host": self.host, "port": self.port})
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@/{quote(self.database, safe='')}?{where}"


async def connect(
    url: str | ConnectArguments,
    *,
    timeout: float = CONNECT_TIMEOUT,
    command_timeout: float | None = None,
    application_name: str = APPLICATION_NAME,
) -> Any:
    """One connection outside the pool, for the writer and for LISTEN.

    Raises StoreUnavailable when the server is not there within `timeout` seconds, StoreRefused when the
    settings are wrong.
    """
    address = url.url if isinstance(url, ConnectArguments) else url
    with _opening(), tls_files.checked(address):
        connection = await asyncpg.connect(
            address,
            timeout=timeout,
            command_timeout=command_timeout,
            # Statements stay prepared as long as the connection lives: there are few and they are all ours.
            statement_cache_size=500,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": application_name},
        )
        try:
            await connection.execute(_session_settings())
        except BaseException:
            # Also when the caller is cancelled here: nobody else knows the connection yet.
            connection.terminate()
            raise
    return connection


@cache
def _session_settings() -> str:
    return load_queries()["session_settings"]


def is_away(error: BaseException, connection: Any = None) -> bool:
    """Whether `error` means that the database is away, not that the statement is wrong.

    `InterfaceError` is also what asyncpg raises for a wrong call: it counts only when `connection` is closed.
    """
    if isinstance(error, AWAY):
        return True
    return isinstance(error, asyncpg.InterfaceError) and connection is not None and _is_closed(connection)


def unavailable(error: BaseException) -> StoreUnavailable:
    """`error` as the one exception that callers of the record know."""
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(f"the database is away ({_reason(error)})")


class Database:
    """A pool of connections to a migrated database, and the named queries."""

    def __init__(
        self, pool: Any, queries: Mapping[str, str], *, size: int = POOL_SIZE, kept: Kept | None = None
    ) -> None:
        """`kept` is what looks up, if it can."""
        self.pool = pool
        self.queries = queries
        self._away_since: float | None = None
        # Who waits for a connection since when, in order; how often one was given back; who looks after the line.
        self._line: dict[asyncio.Future[Any], float] = {}
        self._moves = 0
        self._watch: asyncio.TimerHandle | None = None
        self._lookups: dict[str, Lookup] = {}
        self._kept = kept
        # Who reads for long, in order; one connection is never theirs.
        self._long = asyncio.Semaphore(max(size - 1, 1))

    @classmethod
    async def open(
        cls,
        url: str | ConnectArguments,
        *,
        migrate: bool = True,
        create: bool = True,
        pool_size: int = POOL_SIZE,
        application_name: str = APPLICATION_NAME,
    ) -> Self:
        """Connect, migrate (or check that it is migrated) and fill the pool, whose connections bear the name.

        Raises StoreUnavailable when the server is not there, StoreRefused when it or its content is not fit: NoRecord
        where it holds none and is not to `create` one.
        """
        queries = load_queries()
        connection = await connect(url)
        try:
            with _opening():
                await _fit(connection, queries, migrate_it=migrate, create=create)
        finally:
            await connection.close()

        def one_more(*_dsn: object, **_settings: object) -> Awaitable[Any]:
            return connect(url, command_timeout=STATEMENT_TIMEOUT, application_name=application_name)

        with _opening():
            pool = await asyncpg.create_pool(
                min_size=1, max_size=pool_size, max_queries=1_000_000, connect=one_more, reset=_keep_session
            )
        return cls(pool, queries, size=pool_size, kept=Kept(one_more, queries))

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection of the pool; a transaction left open is rolled back when it returns.

        Raises StoreUnavailable when the database is away for a second, when no connection was given back for so long,
        and when this one is lost inside the block, or a statement in it given up by the server.
        """
        connection = await self._borrow()
        try:
            yield connection
        except GIVEN_UP as error:
            raise StoreUnavailable(f"the database gave a statement up ({_reason(error)})") from error
        except Exception as error:
            if is_away(error, connection):
                self._lost(error)
                raise unavailable(error) from error
            raise
        finally:
            await self._give_back(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection inside a transaction: committed at the end, rolled back by an exception."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """A transaction for what may take long, such as a list: its callers wait for each other, in order.

        However many they are, a connection is left for what is quick, and none of them is turned away because the
        others before it are slow.
        """
        async with self._long, self.transaction() as connection:
            yield connection

    async def fetch(self, name: str, *arguments: object) -> list[Any]:
        """All rows of the named query."""
        async with self.acquire() as connection:
            rows: list[Any] = await connection.fetch(self.queries[name], *arguments)
            return rows

    def look_up(self, name: str, *key: object) -> Awaitable[list[Any]]:
        """The rows of `key` in the named query, together with whoever asks for others now (`lookup.py`)."""
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = Lookup(partial(self._looked_up, name))
        return lookup.rows(*key)

    async def _looked_up(self, name: str, *arguments: object) -> list[Any]:
        """All rows of the named query, by the connection that is kept for it or by the pool."""
        if self._kept is None:
            return await self.fetch(name, *arguments)
        try:
            rows = await self._kept.fetch(name, *arguments)
        except TimeoutError as error:
            self._lost(error)
            raise unavailable(error) from error
        if rows is None:
            rows = await self.fetch(name, *arguments)
            self._kept.open()
        return rows

    async def fetchrow(self, name: str, *arguments: object) -> Any:
        """The first row of the named query, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(self.queries[name], *arguments)

    async def fetchval(self, name: str, *arguments: object, timeout: float | None = None) -> Any:
        """The first column of the first row of the named query, or None; `timeout` in place of `STATEMENT_TIMEOUT`."""
        async with self.acquire() as connection:
            return await connection.fetchval(self.queries[name], *arguments, timeout=timeout)

    async def execute(self, name: str, *arguments: object) -> str:
        """Run the named query; its command tag, for instance `UPDATE 1`."""
        async with self.acquire() as connection:
            return str(await connection.execute(self.queries[name], *arguments))

    async def close(self) -> None:
        """Close every connection, at once if one of them is stuck."""
        try:
            async with asyncio.timeout(AWAY_AFTER):
                if self._kept is not None:
                    await self._kept.close()
                await self.pool.close()
        except TimeoutError:
            if self._kept is not None:
                self._kept.terminate()
            self.pool.terminate()

    async def _borrow(self) -> Any:
        deadline = time.monotonic() + AWAY_AFTER
        if self._away_since is not None:
            # Whoever comes while it is away shares the one second, so that a storm is refused at once.
            deadline = min(deadline, self._away_since + AWAY_AFTER)
        while True:
            left = deadline - time.monotonic()
            try:
                if self.pool.get_size() and not self.pool.get_idle_size():
                    connection = await self._turn()
                else:
                    connection = await self.pool.acquire(timeout=max(left, RETRY_EVERY))
            except (StoreError, asyncpg.InterfaceError, *AWAY) as error:
                if isinstance(error, TimeoutError) and self._is_busy():
                    raise StoreUnavailable("every connection to the database is busy") from error
                self._lost(error)
                if left <= RETRY_EVERY or self.pool.is_closing():
                    raise unavailable(error) from error
                await asyncio.sleep(RETRY_EVERY)
            else:
                if self._away_since is not None:
                    log.info("database_back", seconds=round(time.monotonic() - self._away_since, 3))
                    self._away_since = None
                return connection

    async def _turn(self) -> Any:
        """Wait in line for a connection; TimeoutError when the line does not move, or is too long.

        Turned away, a device would come back with another Bootstrap-Request: more work, not less.
        """
        turn = asyncio.ensure_future(self.pool.acquire())
        self._line[turn] = time.monotonic()
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(LINE_TICK, self._look, 0, self._moves)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It came while its caller left.
                await self._give_back(turn.result())
            if turn not in self._line:
                raise TimeoutError from None
            raise
        finally:
            self._line.pop(turn, None)

    def _look(self, still: int, moves: int) -> None:
        """Send away whoever has no hope; counted in turns of the loop, as one that is late must not look like a
        database that is."""
        self._watch = None
        still = still + 1 if moves == self._moves else 0
        oldest = time.monotonic() - BUSY_PATIENCE
        for turn, since in list(self._line.items()):
            if still >= LINE_STILL or since <= oldest:
                del self._line[turn]
                turn.cancel()
            else:
                # In order of their coming: the others are younger.
                break
        if self._line:
            self._watch = asyncio.get_running_loop().call_later(LINE_TICK, self._look, still, self._moves)

    async def _give_back(self, connection: Any) -> None:
        self._moves += 1
        try:
            await self.pool.release(connection)
        except (asyncpg.InterfaceError, *AWAY) as error:
            # The connection is gone; the pool makes another when one is asked for.
            self._lost(error)

    def _is_busy(self) -> bool:
        pool = self.pool
        return bool(pool.get_size() == pool.get_max_size() and pool.get_idle_size() == 0)

    def _lost(self, error: BaseException) -> None:
        if self._away_since is None and not self.pool.is_closing():
            self._away_since = time.monotonic()
            log.warning("database_away", reason=_reason(error))


async def _fit(connection: Any, queries: Mapping[str, str], *, migrate_it: bool, create: bool) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise StoreRefused(f"the database is PostgreSQL {version.major}; this program needs {OLDEST_SERVER} or newer")
    migrations = load_migrations()
    ran = await applied(connection, queries)
    if not ran and not create:
        raise NoRecord("the database")
    missing = pending(migrations, ran)
    if missing and migrate_it:
        await migrate(connection, migrations, queries)
    elif missing:
        raise StoreRefused(
            f"the database lacks migration {missing[0].version:04d}_{missing[0].name}; run `firstlight db migrate`"
        )


async def _keep_session(_connection: Any) -> None:
    """In place of RESET ALL after each use, which is a round trip: nothing here changes a pooled session.

    asyncpg still rolls back a transaction that was left open.
    """


@contextlib.contextmanager
def _opening() -> Iterator[None]:
    try:
        yield
    except AWAY as error:
        coming = isinstance(error, asyncpg.CannotConnectNowError)
        remedy = "wait until it is up" if coming else "check database.url and that PostgreSQL is running"
        raise StoreUnavailable(f"the database cannot be reached ({_reason(error)}); {remedy}") from error
    except WRONG_SETTINGS as error:
        raise StoreRefused(f"the database refuses us ({_reason(error)}); check database.url") from error


def _is_closed(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        # A pooled connection that was lost has left its proxy already.
        return True


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not text and isinstance(error, TimeoutError):
        return "it does not answer in time"
    return text or type(error).__name__
