"""Where the embedded PostgreSQL keeps its files and as whom it runs: an ordinary user, root, mistakes of both."""

import asyncio
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store import cluster, programs
from server.store.cluster import SOCKET_NAME, Home
from server.store.database import connect
from server.store.errors import StoreRefused
from server.store.postgres import EmbeddedPostgres
from server.store.programs import Programs
from tests.integration.supervised import gone, said, supervise

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


def ordinary(tmp: Path) -> tuple[str, ...]:
    """How an ordinary user who owns `tmp` runs Python; ourselves when we are one."""
    if not IS_ROOT:
        return (sys.executable,)
    os.chown(tmp, NOBODY, NOBODY)
    paths = os.pathsep.join(path for path in sys.path if path)
    user = (
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "env",
        f"PYTHONPATH={paths}",
    )
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Root's own Python may live in a closed folder; the system's of the same release then does as well.
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        probe = [*user, python, "-P", "-c", "import asyncpg, cryptography, structlog, server.store"]
        reached = subprocess.run(probe, capture_output=True, check=False, cwd="/")
        if reached.returncode == 0:
            return (*user, python)
    pytest.skip("an ordinary user can run no Python of this release here")


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A folder whose parents everybody may pass, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="fl-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["data", "long-" + "x" * 100 + "/data"], ids=["short path", "long path"])
def test_an_ordinary_user_keeps_all_in_the_data_folder(open_tmp: Path, name: str) -> None:
    python = ordinary(open_tmp)
    data_dir = open_tmp / name
    for _ in range(2):
        with supervise(data_dir, python=python) as process:
            answer = said(process)
            pid = answer["pid"]
            assert isinstance(pid, int)
            assert Path(f"/proc/{pid}").stat().st_uid == (NOBODY if IS_ROOT else os.geteuid())
            url = str(answer["url"])

            async def speaks(url: str = url) -> None:
                await (await connect(url)).close()

            asyncio.run(speaks())
            process.communicate("")
        assert process.returncode == 0
        assert gone(pid)
    folder = data_dir / cluster.OWN_FOLDER
    assert (folder / "data" / "PG_VERSION").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    record = folder / "socket.location"
    if record.exists():
        shutil.rmtree(record.read_text())


def test_a_long_path_gets_its_socket_in_a_private_folder_that_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    far = Home(folder, None)
    socket_folder = far.socket_folder()
    assert len(str(socket_folder / SOCKET_NAME)) <= cluster.SOCKET_PATH_LIMIT
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    assert far.socket_folder() == socket_folder
    # One that somebody else could have made is not taken again.
    socket_folder.chmod(0o755)
    other = far.socket_folder()
    assert other != socket_folder
    socket_folder.rmdir()
    far.remove()
    assert not other.exists()
    assert not folder.exists()


def test_a_user_is_told_that_root_made_the_folder(open_tmp: Path) -> None:
    python = ordinary(open_tmp)
    data_dir = open_tmp / "data"
    data_dir.mkdir()
    (data_dir / cluster.POINTER).write_text("/var/lib/firstlight/12345678\n")
    with supervise(data_dir, python=python) as process:
        _, errors = process.communicate("")
    assert "was made by root (its PostgreSQL lives in /var/lib/firstlight/12345678); run as root" in errors


def test_a_folder_that_may_not_be_written_is_named(open_tmp: Path) -> None:
    python = ordinary(open_tmp)
    with supervise(Path("/proc/firstlight"), python=python) as process:
        _, errors = process.communicate("")
    assert "/proc/firstlight cannot be used for the embedded PostgreSQL" in errors


needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root lives apart from the data folder")


@needs_root
async def test_as_root_in_a_closed_folder_it_lives_apart_and_no_mode_is_changed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "data"
    before = [(parent, parent.stat().st_mode) for parent in (closed, *closed.parents)]
    embedded = EmbeddedPostgres(data_dir)
    await embedded.start()
    found = cluster.settle(data_dir)
    assert found.owner is not None
    assert found.owner.uid != 0
    assert found.folder.parent == cluster.SYSTEM_FOLDER
    assert found.folder.stat().st_uid == found.owner.uid
    assert Path(f"/proc/{embedded.pid}").stat().st_uid == found.owner.uid
    assert [file.name for file in data_dir.iterdir()] == [cluster.POINTER]
    assert (found.folder / "data-folder").read_text().strip() == str(data_dir)
    assert [(parent, parent.stat().st_mode) for parent in (closed, *closed.parents)] == before
    await embedded.destroy()


@needs_root
async def test_as_root_programs_that_the_user_cannot_reach_are_copied_once(
    tmp_path: Path, open_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after `pip install` below a closed home folder.
    wheel = programs.find(None)
    site = tmp_path / "closed"
    site.mkdir(mode=0o700)
    install = wheel.folder.parent
    shutil.copytree(install, site / programs.WHEEL / install.name)
    shutil.copytree(install.parent.parent / programs.WHEEL_LIBRARIES, site / programs.WHEEL_LIBRARIES)
    unreachable = Programs(site / programs.WHEEL / install.name / "bin", wheel.version, wheel.major)
    monkeypatch.setattr(programs, "find", lambda major: unreachable)
    open_tmp.chmod(0o755)
    system_folder = open_tmp / "system"
    for _ in range(2):
        embedded = EmbeddedPostgres(tmp_path / "data", system_folder=system_folder)
        await embedded.start()
        program = Path(f"/proc/{embedded.pid}/exe").resolve()
        await embedded.stop()
        copies = [entry for entry in system_folder.iterdir() if entry.name.startswith(("postgresql-", "."))]
        assert [entry.name for entry in copies] == [f"postgresql-{wheel.version}"]
        assert program.is_relative_to(copies[0])


@needs_root
def test_programs_of_a_system_are_not_copied(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="is not open to the user PostgreSQL runs as"):
        programs.copy(Programs(tmp_path / "bin", "17.1", 17), tmp_path)


@needs_root
def test_root_is_told_that_a_user_made_the_folder(tmp_path: Path) -> None:
    (tmp_path / cluster.OWN_FOLDER).mkdir()
    os.chown(tmp_path / cluster.OWN_FOLDER, NOBODY, NOBODY)
    with pytest.raises(StoreRefused, match="was made by nobody; run as that user"):
        cluster.settle(tmp_path)


@needs_root
@pytest.mark.parametrize(
    ("pointer", "named"), [("/var/lib/firstlight/gone\n", "/var/lib/firstlight/gone"), ("", "."), ("gone\n", "gone")]
)
def test_a_pointer_to_nothing_is_named_with_the_remedy(tmp_path: Path, pointer: str, named: str) -> None:
    """An empty one, after a loss of power, was taken for the folder that the command was typed in."""
    (tmp_path / cluster.POINTER).write_text(pointer)
    with pytest.raises(StoreRefused, match=f"points to {re.escape(named)}, which is gone; restore it, or remove"):
        cluster.settle(tmp_path)


@needs_root
async def test_as_root_under_a_tight_umask_its_user_still_gets_to_its_files(open_tmp: Path) -> None:
    open_tmp.chmod(0o755)
    before = os.umask(0o077)
    try:
        embedded = EmbeddedPostgres(open_tmp / "data", system_folder=open_tmp / "system")
        await embedded.start()
        await embedded.stop()
    finally:
        os.umask(before)


@needs_root
def test_a_closed_folder_on_the_way_to_its_files_is_named(tmp_path: Path) -> None:
    # pytest's own folders are open to root alone.
    with pytest.raises(StoreRefused, match=r"is closed to \w+, as whom PostgreSQL runs; open it with `chmod o\+x /"):
        cluster.settle(tmp_path / "data", tmp_path / "system")


@needs_root
def test_without_a_user_of_its_own_it_runs_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SERVICE_USER", "no-such-user-here")
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_more: None)
    assert cluster._service_user() == cluster.Owner(NOBODY, NOBODY)
