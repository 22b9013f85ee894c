"""Why the embedded PostgreSQL does not start: said in one line, with what to do about it."""

from pathlib import Path

import pytest

from server.store import cluster, postgres, programs
from server.store.errors import StoreRefused
from server.store.postgres import EmbeddedPostgres
from server.store.programs import Programs


async def test_why_it_does_not_start_is_said_in_one_line_and_the_folder_is_free_again(data_dir: Path) -> None:
    broken = EmbeddedPostgres(data_dir, settings={"no_such_setting": "1"})
    with pytest.raises(StoreRefused, match=r"unrecognized configuration parameter.*more in ") as caught:
        await broken.start()
    assert "\n" not in str(caught.value)
    assert broken.pid is None
    whole = EmbeddedPostgres(data_dir)
    await whole.start()
    await whole.stop()


async def test_a_cluster_that_cannot_be_made_says_why(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = programs.find
    monkeypatch.setattr(programs, "find", lambda major: Programs(find(major).folder, "18.0", 18))
    monkeypatch.setattr(postgres, "ROLE", "pg_reserved")
    with pytest.raises(StoreRefused, match=r"could not be made: .*pg_"):
        await EmbeddedPostgres(fresh).start()


async def test_a_start_that_fails_on_a_full_disk_says_that_it_is_full(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EmbeddedPostgres(data_dir, settings={"no_such_setting": "1"})
    with pytest.raises(StoreRefused) as caught:
        await broken.start()
    assert "make room" not in str(caught.value)
    # No disk of the machine has as much.
    monkeypatch.setattr(postgres, "ROOM", 1 << 62)
    with pytest.raises(StoreRefused, match=r"; its disk has [0-9]+ MB left: make room, then start again"):
        await broken.start()


async def test_a_lost_password_is_named(fresh: Path) -> None:
    embedded = EmbeddedPostgres(fresh)
    await embedded.start()
    await embedded.stop()
    found = cluster.settle(fresh)
    found.password_file.write_text("another")
    with pytest.raises(StoreRefused, match=r"refuses the password in .*password; restore that file"):
        await embedded.start()
    assert embedded.pid is None


async def test_a_cluster_of_a_release_that_is_not_installed_is_refused(fresh: Path) -> None:
    embedded = EmbeddedPostgres(fresh)
    await embedded.start()
    await embedded.stop()
    (cluster.settle(fresh).data / "PG_VERSION").write_text("99\n")
    with pytest.raises(StoreRefused, match=r"no PostgreSQL 99 was found \(found: .*18"):
        await embedded.start()


async def test_without_any_postgres_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "WHEEL", "no_such_package")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StoreRefused, match=r"no PostgreSQL 15 or newer.*install firstlight\[embedded\]"):
        programs.find(None)


def test_the_wheels_newest_release_is_taken_and_an_old_cluster_keeps_its_own() -> None:
    newest = programs.find(None)
    assert newest.folder.parent.parent.name == programs.WHEEL
    assert newest.major >= 18
    assert programs.find(newest.major) == newest
    assert programs.find(16).major == 16
