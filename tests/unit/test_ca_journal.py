"""The embedded CA's own log on a disk that fills up, written by several workers: each line is whole or none.

And people may move the file away at any time.
"""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from server import ca_journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journal with one line."""
    made = tmp_path / "ca-journal.jsonl"
    ca_journal.appending(made)('{"a": 1}')
    return made


def tear(file: Path, write: Callable[[str], None]) -> None:
    """Where a file may grow no further the kernel takes what fits and says so, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 4, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            write('{"b": 2}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WHOLE = ['{"a": 1}', '{"b"', '{"c": 3}', '{"d": 4}']


def test_a_line_that_the_disk_took_half_of_is_none_and_the_next_one_is_whole(file: Path) -> None:
    write = ca_journal.appending(file)
    tear(file, write)
    write('{"c": 3}')
    write('{"d": 4}')
    assert file.read_text().splitlines() == WHOLE


def test_the_next_line_is_whole_too_where_another_worker_writes_it(file: Path) -> None:
    """Every worker has the file open, and who left the half may be the one before a restart."""
    torn, other = ca_journal.appending(file), ca_journal.appending(file)
    tear(file, torn)
    other('{"c": 3}')
    torn('{"d": 4}')
    assert file.read_text().splitlines() == WHOLE


def test_the_next_line_is_whole_too_after_a_restart(file: Path) -> None:
    tear(file, ca_journal.appending(file))
    after = ca_journal.appending(file)
    after('{"c": 3}')
    after('{"d": 4}')
    assert file.read_text().splitlines() == WHOLE


def test_a_journal_that_its_worker_may_only_add_to_is_one() -> None:
    """A pipe to a collector: nothing of it can be read back."""
    read, write = os.pipe()
    try:
        line = ca_journal.appending(Path(f"/dev/fd/{write}"))
        line('{"a": 1}')
        line('{"b": 2}')
        assert os.read(read, 100) == b'{"a": 1}\n{"b": 2}\n'
    finally:
        os.close(read)
        os.close(write)


# -- moved away ----------------------------------------


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_a_file_that_was_moved_away_is_followed_by_a_new_one_for_all_that_write(file: Path) -> None:
    one, two = ca_journal.appending(file), ca_journal.appending(file)
    one('{"b": 2}')
    moved = file.rename(file.with_name("ca-journal-2026.jsonl"))
    two('{"c": 3}')
    one('{"d": 4}')
    assert (lines(moved), lines(file)) == (['{"a": 1}', '{"b": 2}'], ['{"c": 3}', '{"d": 4}'])
    # And again, with a file of somebody else's making in its place.
    moved = file.rename(file.with_name("ca-journal-2027.jsonl"))
    file.touch()
    one('{"e": 5}')
    two('{"f": 6}')
    assert (lines(moved), lines(file)) == (['{"c": 3}', '{"d": 4}'], ['{"e": 5}', '{"f": 6}'])


def test_half_a_line_stays_behind_with_its_file(file: Path) -> None:
    write = ca_journal.appending(file)
    tear(file, write)
    moved = file.rename(file.with_name("ca-journal-2026.jsonl"))
    write('{"c": 3}')
    assert (moved.read_text(), file.read_text()) == ('{"a": 1}\n{"b"', '{"c": 3}\n')


def test_no_line_goes_to_a_file_that_was_removed(file: Path) -> None:
    write = ca_journal.appending(file)
    file.unlink()
    write('{"b": 2}')
    assert lines(file) == ['{"b": 2}']


def test_nothing_is_written_where_no_file_can_follow_until_one_can(file: Path) -> None:
    """As when the disk it lies on is not mounted."""
    folder = file.parent / "mounted"
    folder.mkdir()
    write = ca_journal.appending(folder / file.name)
    write('{"a": 1}')
    away = folder.rename(file.parent / "away")
    with pytest.raises(FileNotFoundError):
        write('{"b": 2}')
    folder.mkdir()
    write('{"c": 3}')
    assert (lines(away / file.name), lines(folder / file.name)) == (['{"a": 1}'], ['{"c": 3}'])


def test_no_file_that_was_left_behind_stays_open(file: Path) -> None:
    write = ca_journal.appending(file)
    write('{"b": 2}')
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        file.rename(file.with_name(f"{number}.jsonl"))
        write('{"c": 3}')
    assert len(os.listdir("/proc/self/fd")) == before
