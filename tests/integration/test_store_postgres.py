"""The embedded PostgreSQL's supervisor: an ordinary life, and every way it can end, caused on purpose."""

import asyncio
import contextlib
import os
import signal
import stat
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from server.store import postgres
from server.store.cluster import SOCKET_NAME
from server.store.database import Database, connect
from server.store.errors import StoreRefused
from server.store.postgres import EmbeddedPostgres
from tests.integration.clusters import eventually, home, processes_naming
from tests.integration.supervised import gone, said, supervise

# -- an ordinary life --


async def test_the_record_is_there_after_a_restart(fresh: Path) -> None:
    first = EmbeddedPostgres(fresh)
    connection = await connect(await first.start())
    await connection.execute("CREATE TABLE thing AS SELECT 7 AS n")
    await connection.close()
    await first.stop()

    second = EmbeddedPostgres(fresh)
    connection = await connect(await second.start())
    assert await connection.fetchval("SELECT n FROM thing") == 7
    await connection.close()
    await second.stop()


async def test_only_the_socket_and_only_with_the_password(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    connection = await connect(await embedded.start())
    assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    rules = await connection.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert [rule[0] for rule in rules] == ["scram-sha-256"]
    await connection.close()
    arguments = embedded.arguments
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host=arguments.host, user=arguments.user, password="", database="postgres")
    found = home(data_dir)
    assert stat.S_IMODE(found.password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    assert len(found.password()) >= 43
    await embedded.stop()


async def test_the_callers_environment_does_not_reach_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "-c fsync=off"}.items():
        monkeypatch.setenv(name, value)
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    assert embedded.pid is not None
    environment = Path(f"/proc/{embedded.pid}/environ").read_bytes()
    assert b"/nowhere" not in environment
    await embedded.stop()


async def test_stop_leaves_no_process_and_may_be_called_again(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    pid = embedded.pid
    assert pid is not None
    await embedded.stop()
    assert gone(pid)
    assert embedded.pid is None
    await embedded.stop()


async def test_an_interrupt_at_the_terminal_does_not_reach_it(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    assert embedded.pid is not None
    assert os.getsid(embedded.pid) == embedded.pid
    assert os.getpgid(embedded.pid) != os.getpgid(0)
    await embedded.stop()


async def test_destroy_leaves_nothing(tmp_path: Path) -> None:
    embedded = EmbeddedPostgres(tmp_path / "data")
    await embedded.start()
    folder = home(tmp_path / "data").folder
    await embedded.destroy()
    assert not folder.exists()
    assert list((tmp_path / "data").iterdir()) == []


# -- our process ends --


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_when_our_process_is_killed_postgres_ends_and_the_next_start_works(
    data_dir: Path, number: signal.Signals
) -> None:
    with supervise(data_dir) as process:
        pid = said(process)["pid"]
        assert isinstance(pid, int)
        assert not gone(pid)
        process.send_signal(number)
    await eventually(lambda: gone(pid))
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    await embedded.stop()


async def test_a_start_right_after_the_kill_waits_for_the_old_server(data_dir: Path) -> None:
    with supervise(data_dir) as process:
        pid = said(process)["pid"]
        assert isinstance(pid, int)
        process.kill()
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    assert gone(pid)
    assert embedded.pid != pid
    await embedded.stop()


async def test_a_kill_while_the_cluster_is_made_leaves_nothing_half(fresh: Path) -> None:
    folder = home(fresh).folder
    with supervise(fresh) as process:
        await eventually(lambda: any(folder.glob("data.new*/base")) or (folder / "data").exists())
        process.kill()
    embedded = EmbeddedPostgres(fresh)
    database = await Database.open(await embedded.start())
    await database.close()
    assert not any(folder.glob("data.new*"))
    await embedded.stop()


def folders_made(folder: Path) -> set[int]:
    """The inodes of what `initdb` has made so far."""
    found = set()
    for made in folder.glob("data.new*/base"):
        with contextlib.suppress(FileNotFoundError):
            found.add(made.stat().st_ino)
    return found


async def test_an_initdb_that_outlives_its_server_takes_nothing_from_the_next(fresh: Path) -> None:
    """It removes its folder as it ends, while the next start makes one."""
    folder = home(fresh).folder
    with supervise(fresh) as process:
        await eventually(lambda: any(folder.glob("data.new*/base")) or (folder / "data").exists())
        # Stopped, it does not get to its end.
        late = processes_naming(folder)
        for pid in late:
            os.kill(pid, signal.SIGSTOP)
        begun = folders_made(folder)
        process.kill()
    embedded = EmbeddedPostgres(fresh)
    starting = asyncio.create_task(embedded.start())
    await eventually(lambda: bool(folders_made(folder) - begun) or starting.done())
    for pid in late:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    database = await Database.open(await starting)
    await database.close()
    await embedded.stop()
    assert not any(folder.glob("data.new*"))


@pytest.mark.parametrize("moment", ["data.new*/base", "data/postmaster.pid", SOCKET_NAME])
async def test_a_start_that_is_cancelled_leaves_no_process_and_the_folder_free(fresh: Path, moment: str) -> None:
    folder = home(fresh).folder
    cancelled = EmbeddedPostgres(fresh)
    starting = asyncio.create_task(cancelled.start())
    await eventually(lambda: any(folder.glob(moment)) or starting.done())
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    if not starting.cancelled():
        # It was faster than the look at the file.
        await cancelled.stop()
    await eventually(lambda: not processes_naming(folder))
    embedded = EmbeddedPostgres(fresh)
    await embedded.start()
    await embedded.stop()


# -- it dies while we run --


async def test_when_it_is_killed_it_is_started_again(embedded_postgres: EmbeddedPostgres) -> None:
    database = await Database.open(embedded_postgres.arguments)
    for _ in range(2):
        pid = embedded_postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: embedded_postgres.pid not in (None, pid))  # type: ignore[misc]
    connection = None
    while connection is None:
        try:
            connection = await asyncpg.connect(embedded_postgres.arguments.url)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.01)
    await connection.close()
    await database.close()


async def test_the_pause_grows_while_it_does_not_come_up_and_ends_when_it_does(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RESTART_LONGEST", 0.2)
    launch = embedded_postgres._launch
    failures = iter(range(4))

    async def fails_four_times() -> None:
        if next(failures, None) is not None:
            raise StoreRefused("not now")
        await launch()

    monkeypatch.setattr(embedded_postgres, "_launch", fails_four_times)
    with capture_logs() as lines:
        assert embedded_postgres.pid is not None
        os.kill(embedded_postgres.pid, signal.SIGKILL)
        await eventually(lambda: any(line["event"] == "postgres_restarted" for line in lines))
    pauses = [(line["event"], line["restart_in"]) for line in lines if "restart_in" in line]
    assert pauses == [("postgres_died", 0.1), *[("postgres_restart_failed", 0.2)] * 4]


async def test_a_stop_during_the_pause_is_a_stop(embedded_postgres: EmbeddedPostgres) -> None:
    with capture_logs() as lines:
        assert embedded_postgres.pid is not None
        os.kill(embedded_postgres.pid, signal.SIGKILL)
        await eventually(lambda: any(line["event"] == "postgres_died" for line in lines))
        await embedded_postgres.stop()
    assert embedded_postgres.pid is None


async def test_one_that_ignores_the_polite_signals_is_killed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    pid = embedded.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(postgres, "FAST_PATIENCE", 0.1)
    monkeypatch.setattr(postgres, "IMMEDIATE_PATIENCE", 0.1)
    await embedded.stop()
    assert gone(pid)
