"""The folder of an embedded PostgreSQL: what an earlier life left there, and two that want it."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.store import cluster, postgres, programs
from server.store.cluster import SOCKET_NAME
from server.store.database import connect
from server.store.errors import StoreRefused
from server.store.postgres import EmbeddedPostgres
from tests.integration.clusters import as_its_owner, eventually, home
from tests.integration.supervised import gone, said, supervise

# -- what an earlier life left --


def orphaned(data_dir: Path) -> int:
    """Have a PostgreSQL there lose its supervisor while it stands still; its process."""
    with supervise(data_dir) as process:
        pid = said(process)["pid"]
        assert isinstance(pid, int)
        # Stopped, it does not get to its shutdown.
        os.kill(pid, signal.SIGSTOP)
        process.kill()
    return pid


async def test_an_old_server_that_is_still_shutting_down_is_waited_for(data_dir: Path) -> None:
    pid = orphaned(data_dir)
    embedded = EmbeddedPostgres(data_dir)
    with capture_logs() as lines:
        starting = asyncio.create_task(embedded.start())
        await eventually(lambda: any(line["event"] == "old_postgres_found" for line in lines))
    assert not starting.done()
    os.kill(pid, signal.SIGCONT)
    await starting
    assert gone(pid)
    await embedded.stop()


async def test_an_old_server_that_never_ends_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = orphaned(data_dir)
    monkeypatch.setattr(postgres, "OLD_SERVER_PATIENCE", 0.1)
    try:
        with pytest.raises(StoreRefused, match=f"process {pid}.*stop that process"):
            await EmbeddedPostgres(data_dir).start()
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: gone(pid))


async def test_a_server_that_nobody_supervises_is_ended_and_replaced(data_dir: Path) -> None:
    found = home(data_dir)
    program = programs.find(found.major()).postgres
    orphan = as_its_owner(
        found,
        [
            program,
            "-D",
            found.data,
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={found.folder}",
        ],
    )
    await eventually(lambda: (found.folder / SOCKET_NAME).exists())
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    assert orphan.wait() == 0
    assert embedded.pid != orphan.pid
    await embedded.stop()


async def test_lock_files_with_the_number_of_a_foreign_process_do_not_hinder(data_dir: Path) -> None:
    found = home(data_dir)
    # Of PostgreSQL's own user: to PostgreSQL itself it looks like a server of this cluster.
    foreign = as_its_owner(found, ["sleep", "600"])
    for file in (found.data / "postmaster.pid", found.folder / f"{SOCKET_NAME}.lock"):
        file.write_text(f"{foreign.pid}\n{found.data}\n1700000000\n5432\n{found.folder}\n\n\nready   \n")
        if found.owner is not None:
            os.chown(file, found.owner.uid, found.owner.gid)
    try:
        embedded = EmbeddedPostgres(data_dir)
        await embedded.start()
        assert foreign.poll() is None
        await embedded.stop()
    finally:
        foreign.kill()
        foreign.wait()


async def test_without_proc_a_refused_lock_file_is_tried_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's own interlock is the last guard: what it says about an old server is waited out."""
    pid = orphaned(data_dir)
    # As if neither the socket nor the process table told anything.
    monkeypatch.setattr(cluster, "listener", lambda path: None)
    monkeypatch.setattr(cluster, "_serves", lambda pid, data: False)
    embedded = EmbeddedPostgres(data_dir)
    before = home(data_dir).log_size()
    starting = asyncio.create_task(embedded.start())
    await eventually(lambda: "shared memory block" in home(data_dir).said_since(before))
    os.kill(pid, signal.SIGKILL)
    await starting
    await embedded.stop()


# -- two on one folder --


async def test_a_second_server_on_the_folder_is_refused_in_one_line(data_dir: Path) -> None:
    first = EmbeddedPostgres(data_dir)
    url = await first.start()
    with pytest.raises(StoreRefused, match=f"is in use by the server of process {os.getpid()}") as caught:
        await EmbeddedPostgres(data_dir).start()
    assert "\n" not in str(caught.value)
    # And the first did not notice.
    connection = await connect(url)
    await connection.close()
    await first.stop()


async def test_a_command_uses_the_running_server_and_leaves_it_running(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = await server.start()
    command = EmbeddedPostgres(data_dir, shared=True)
    assert await command.start() == url
    assert command.pid is None
    await command.stop()
    connection = await connect(url)
    await connection.close()
    await server.stop()


async def test_a_command_without_a_server_runs_its_own_and_the_next_waits_for_its_end(data_dir: Path) -> None:
    first = EmbeddedPostgres(data_dir, shared=True)
    await first.start()
    pid = first.pid
    assert pid is not None
    waiting = [EmbeddedPostgres(data_dir, shared=True), EmbeddedPostgres(data_dir)]
    tasks = [asyncio.create_task(each.start()) for each in waiting]
    await first.stop()
    # Whichever is first: the command's own ends, then the server's begins; or the command joins the server.
    finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, each in zip(tasks, waiting, strict=True):
        if task in finished:
            await task
            if each is waiting[0]:
                await each.stop()
    await tasks[1]
    await tasks[0]
    assert gone(pid)
    for each in waiting:
        await each.stop()


async def test_of_concurrent_first_starts_one_home_results(fresh: Path) -> None:
    fresh.mkdir()
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(home(fresh).folder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 8
    assert len(set(folders)) == 1
    assert len(home(fresh).password()) >= 43
