"""systemd's journal behind standard error: lines that carry their priority (sd-daemon(3)).

Without one each line is information to it, and `journalctl -p warning` would show none of ours.
"""

import contextlib
import os
from typing import TextIO

import structlog

# Of syslog(3). What has none is information (SyslogLevel= of systemd.exec(5)), as most lines are.
_DEBUG, _WARNING, _ERROR = "<7>", "<4>", "<3>"


def writer(stream: TextIO, told: str | None) -> structlog.WriteLogger:
    """What writes lines to `stream`, by methods named for their levels: with priorities where it leads to the journal.

    `told` is JOURNAL_STREAM, `device:inode`, None = not set. Programs whose output goes elsewhere inherit it, so the
    two are compared (systemd.exec(5)).
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        # closed, or no file at all
        return _Lines(stream)
    return (_Journal if told == f"{status.st_dev}:{status.st_ino}" else _Lines)(stream)


class _Lines(structlog.WriteLogger):
    """Lines that end nothing when they cannot be written: a disk that is full keeps no device from its answer."""

    def msg(self, message: str) -> None:
        """Write one, if there is room."""
        with contextlib.suppress(OSError):
            super().msg(message)

    # As structlog's own: methods of the same name would be those of the class above.
    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _Journal(_Lines):
    """Lines as the journal takes them; structlog calls the method of a line's level."""

    def debug(self, message: str) -> None:
        """Write what only a search for a fault needs."""
        super().msg(_prioritised(_DEBUG, message))

    def warning(self, message: str) -> None:
        """Write what somebody may have to look at."""
        super().msg(_prioritised(_WARNING, message))

    def error(self, message: str) -> None:
        """Write what somebody has to mend."""
        super().msg(_prioritised(_ERROR, message))


def _prioritised(priority: str, message: str) -> str:
    """`message` with `priority` in front of each line: to the journal each of a traceback is an entry of its own."""
    return priority + message.replace("\n", f"\n{priority}")
