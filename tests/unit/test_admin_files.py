"""Files of an operator: what cannot be read is told in one line, secrets are whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from server.admin.files import read_text, write_private
from server.errors import BadRequest


def test_only_its_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", "secret\n")
    finally:
        os.umask(before)
    assert (tmp_path / "key").read_text() == "secret\n"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_private(tmp_path / "a" / "b" / "key", "secret")
    assert (tmp_path / "a" / "b" / "key").exists()


def test_an_older_file_is_replaced_at_once_and_its_mode_with_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    file.chmod(0o644)
    held = file.open()
    write_private(file, "new")
    assert held.read() == "old"
    held.close()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_older_file_and_nothing_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadRequest, match=r"key cannot be written \(No space left on device\); give"):
        write_private(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    write_private(tmp_path / "key", "secret")
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_file_that_waits_for_the_secret_under_the_name_of_its_scratch_does_not_get_it(tmp_path: Path) -> None:
    """In a folder of many: whoever holds it open would read along, a link would lead it elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (tmp_path / f".key.{os.getpid()}").symlink_to(elsewhere)
    write_private(tmp_path / "key", "secret")
    assert elsewhere.read_text() == ""
    assert not (tmp_path / "key").is_symlink()


def test_its_name_is_on_the_disk_before_anybody_relies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root key is removed from the record after it."""
    real, folders = os.fsync, []

    def synced(descriptor: int) -> None:
        folders.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "key").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    write_private(tmp_path / "key", "secret")
    assert folders == [(False, False), (True, True)]


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"\xff\xfe", "no text in UTF-8")])
def test_what_cannot_be_read_is_told_once_and_with_what_to_do(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "key.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadRequest, match=said) as refused:
        read_text(file)
    assert str(refused.value).count("key.txt") == 1
    assert "; give a" in str(refused.value)
    assert "Errno" not in str(refused.value)
