"""The embedded CA's own log on a disk that fills up, written by several workers: each line is whole or none."""

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
