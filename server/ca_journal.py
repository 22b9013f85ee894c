"""The embedded CA's own log, to which all workers append; what its lines say is in `issuers/journal.py`.

Whoever moves the file away begins the next one. Nothing here shortens or removes it: where the record is lost, it alone
tells what the CA signed.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self


def opened(file: Path) -> int:
    """A descriptor that appends to the journal, which is made if there is none; OSError."""
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def appending(file: Path) -> Callable[[str], None]:
    """What appends a line; the write is whole before the certificate is used.

    OSError when it is not, or when no file could be made where one was moved away: then the line stands nowhere.
    """
    journal, name = _Journal.at(file), str(file)

    def write(line: str) -> None:
        nonlocal journal
        if journal.is_left_behind(name):
            following = _Journal.at(file)
            journal.close()
            journal = following
        whole = (b"\n" if journal.is_torn() else b"") + line.encode() + b"\n"
        if os.write(journal.descriptor, whole) < len(whole):
            # What a disk that fills up takes of a line is none; the next one, whichever worker writes it, begins anew.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journal:
    """A journal that is open; `identity` tells files apart, None = it is a pipe or a device, which nobody moves."""

    descriptor: int
    identity: tuple[int, int] | None
    # Of a pipe to a collector, or a file that may only be added to, nothing can be read back.
    reader: int | None

    @classmethod
    def at(cls, file: Path) -> Self:
        """The one that lies there now; OSError."""
        descriptor = opened(file)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return cls(descriptor=descriptor, identity=None, reader=None)
        reader = None
        with contextlib.suppress(OSError):
            # This very file, whatever bears its name by now.
            reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        return cls(descriptor=descriptor, identity=(status.st_dev, status.st_ino), reader=reader)

    def is_left_behind(self, file: str) -> bool:
        """Whether another file lies there now, or none, so that a line in ours might be found by nobody."""
        if self.identity is None:
            return False
        try:
            status = os.stat(file)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self.identity

    def is_torn(self) -> bool:
        """Whether the last line lacks its end."""
        if self.reader is None:
            return False
        size = os.fstat(self.reader).st_size
        return size > 0 and os.pread(self.reader, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)
        if self.reader is not None:
            os.close(self.reader)
