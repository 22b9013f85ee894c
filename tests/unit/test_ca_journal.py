import resource
from pathlib import Path

import pytest

from server import worker


def test_a_line_that_the_disk_took_half_of_is_none_and_the_next_one_is_whole(tmp_path: Path) -> None:
    """Where a file may grow no further the kernel takes what fits and says so, as on a disk that fills up."""
    file = tmp_path / "ca-journal.jsonl"
    write = worker._journal(file)
    write('{"a": 1}')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 4, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            write('{"b": 2}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write('{"c": 3}')
    write('{"d": 4}')
    assert file.read_text().splitlines() == ['{"a": 1}', '{"b"', '{"c": 3}', '{"d": 4}']
