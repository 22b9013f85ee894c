"""The embedded CA's own log, to which all workers append; what its lines say is in `issuers/journal.py`."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path


def opened(file: Path) -> int:
    """A descriptor that appends to it; OSError."""
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def appending(file: Path) -> Callable[[str], None]:
    """What appends one line at a time; the write is whole before the certificate is used. OSError, then and later."""
    descriptor = opened(file)
    # Of a pipe to a collector, or a file that may only be added to, nothing can be read back.
    reader: int | None = None
    with contextlib.suppress(PermissionError):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            reader = os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def write(line: str) -> None:
        torn = reader is not None and _is_torn(reader)
        whole = (b"\n" if torn else b"") + line.encode() + b"\n"
        if os.write(descriptor, whole) < len(whole):
            # What a disk that fills up takes of a line is none; the next one, whichever worker writes it, begins anew.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


def _is_torn(reader: int) -> bool:
    """Whether the last line of a file lacks its end."""
    size = os.fstat(reader).st_size
    return size > 0 and os.pread(reader, 1, size - 1) != b"\n"
