"""A real PostgreSQL for the tests: one for the session, from it a fresh migrated database for each test.

`TEST_DATABASE_URL` names a PostgreSQL of yours, with a role that may create databases, instead.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from server.store import cluster
from server.store.database import Database, connect
from server.store.postgres import EmbeddedPostgres
from server.store.writer import Writer
from tests.integration import sealed_record
from tests.integration.commands import Cli
from tests.integration.factory import Factory
from tests.integration.issuers import ScriptedCa, Workers, workers

# A test may kill PostgreSQL but not the machine, so nothing is lost without it.
NO_SYNC = {"fsync": "off", "full_page_writes": "off"}


def at(url: str, database: str) -> str:
    """`url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def _execute(url: str, *statements: str) -> None:
    connection = await connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _migrated(url: str) -> None:
    database = await Database.open(url)
    await database.close()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the PostgreSQL of this session; tests take `database_url` or `database`."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with asyncio.Runner() as runner:
        postgres = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=NO_SYNC)
        url = runner.run(postgres.start())
        try:
            yield url
        finally:
            runner.run(postgres.destroy())


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated, otherwise empty database that nobody is connected to."""
    name = f"firstlight_template_{uuid4().hex[:8]}"
    asyncio.run(_execute(postgres_url, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(_migrated(at(postgres_url, name)))
        yield name
    finally:
        asyncio.run(_execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a database of this test without any table."""
    name = f"firstlight_test_{uuid4().hex[:12]}"
    await _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE template0")
    yield at(postgres_url, name)
    await _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """The URL of a migrated database of this test."""
    name = f"firstlight_test_{uuid4().hex[:12]}"
    await _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield at(postgres_url, name)
    await _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of this test, opened."""
    opened = await Database.open(database_url, migrate=False)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    """A connection to the record that is nobody's else."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def writer(database: Database, database_url: str) -> AsyncIterator[Writer]:
    """A writer on this test's database."""
    async with _writing(database, database_url) as opened:
        yield opened


@pytest.fixture
async def writers(database: Database, database_url: str) -> AsyncIterator[list[Writer]]:
    """Two writers, as two workers have them."""
    async with _writing(database, database_url) as one, _writing(database, database_url) as two:
        yield [one, two]


@contextlib.asynccontextmanager
async def _writing(database: Database, url: str) -> AsyncIterator[Writer]:
    opened = Writer(url, database.queries)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def sealed_url(database_url: str) -> str:
    """The URL of a record with one of everything that is sealed."""
    async with sealed_record.opened(database_url, sealed_record.OLD) as (database, sealer):
        await sealed_record.fill(database, sealer)
    return database_url


@pytest.fixture
async def embedded_postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of this test alone, watched and restarted when it dies: for tests that kill it."""
    postgres = EmbeddedPostgres(tmp_path / "data", settings=NO_SYNC)
    await postgres.start()
    yield postgres
    await postgres.destroy()


@pytest.fixture(scope="module")
def stopped_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with a cluster, made once."""
    folder = tmp_path_factory.mktemp("stopped")

    async def make() -> EmbeddedPostgres:
        postgres = EmbeddedPostgres(folder)
        await postgres.start()
        await postgres.stop()
        return postgres

    postgres = asyncio.run(make())
    yield folder
    asyncio.run(postgres.destroy())


@pytest.fixture
async def data_dir(stopped_cluster: Path) -> AsyncIterator[Path]:
    """A data folder with a stopped cluster, shared by the tests that leave it whole."""
    yield stopped_cluster
    # Whatever the test did, the next one finds it stopped.
    postgres = EmbeddedPostgres(stopped_cluster)
    await postgres.start()
    await postgres.stop()


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Path]:
    """A data folder of this test alone, without a cluster yet; what is made in it goes."""
    folder = tmp_path / "data"
    yield folder
    if folder.exists():
        shutil.rmtree(cluster.settle(folder).folder, ignore_errors=True)


@pytest.fixture
def ca() -> ScriptedCa:
    """A CA that signs whatever it is asked; a test scripts another course, a module another CA."""
    return ScriptedCa()


@pytest.fixture
async def rig(database: Database, database_url: str, ca: ScriptedCa) -> AsyncIterator[Workers]:
    """Workers with this one CA."""
    async with workers(database, database_url, ca) as opened:
        yield opened


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    """`firstlight` on a record that had its first start."""
    started = Cli(database_url, tmp_path)
    started("db", "migrate")
    return started


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))
