"""The log: past-tense facts with fields, one line each; nothing secret has a field name here.

structlog writes it. The plain lines of the console, several for each bootstrap, are put together here in one go.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns
from typing import NamedTuple, TextIO

import structlog

from lwm2m.text import escaped
from server import journal

# Field names whose values never reach the log, whatever a caller passes.
REDACTED = frozenset(
    {"key", "private_key", "psk", "secret", "password", "passphrase", "token", "credentials", "authorization"}
)

# What a traceback consists of besides text.
_LINES = "\n\t"

# Of text that prints.
_is_word = re.compile(r"[^ \"'=]*").fullmatch

# Fields that a processor of structlog reads or writes.
_STRUCTLOGS_OWN = frozenset({"exc_info", "stack_info", "exception", "level"})


@dataclass(frozen=True, slots=True)
class _Console:
    """Where plain lines go; `processors` are those that structlog was given with it."""

    processors: list[structlog.typing.Processor]
    least: int
    logger: structlog.WriteLogger


_console: _Console | None = None


class _Shape(NamedTuple):
    """What the names of a line's fields tell of it: whether structlog has no hand in it, whose values are hidden, and
    what stands before each value, in the order of the line.
    """

    plain: bool
    redacted: frozenset[str]
    words: Sequence[tuple[str, str]]


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> _Shape:
    """As the code says the same lines again and again, each is looked at once."""
    words = [(name, f"{name}=") for name in sorted({*names, "part", "at"})]
    return _Shape(_STRUCTLOGS_OWN.isdisjoint(names), REDACTED.intersection(names), words)


class _Clock:
    """The wall clock as a line says it; what does not change within a second is put together once."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: int) -> str:
        """`datetime.isoformat` in UTC of a time in nanoseconds."""
        second, fraction = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).isoformat()[: -len("+00:00")]
        microsecond = fraction // 1000
        return f"{self._text}.{microsecond:06}Z" if microsecond else f"{self._text}Z"


_clock = _Clock()


class Log:
    """The log of one part of the server; each line carries `part`."""

    __slots__ = ("_others", "_part")

    def __init__(self, part: str) -> None:
        self._part = part
        self._others: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=part)

    def debug(self, event: str, **fields: object) -> None:
        """Say what only a search for a fault needs."""
        if not self._said("debug", logging.DEBUG, event, fields):
            self._others.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""
        if not self._said("info", logging.INFO, event, fields):
            self._others.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what somebody may have to look at."""
        if not self._said("warning", logging.WARNING, event, fields):
            self._others.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what somebody has to mend."""
        if not self._said("error", logging.ERROR, event, fields):
            self._others.error(event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Say a fault of ours, with the traceback of the exception under way."""
        self._others.exception(event, **fields)

    def foreign(self, library: str, text: str, error: BaseException | None) -> None:
        """Say what a library calls an error, with its traceback where it has one."""
        self._others.error("library_said", library=library, text=text, exc_info=error)

    def _said(self, level: str, number: int, event: str, fields: dict[str, object]) -> bool:
        """Write a plain line of the console, as structlog's chain of processors would; whether that was one."""
        # hot path: three lines a bootstrap, each a third of what the chain costs
        console = _console
        if console is None:
            return False
        plain, redacted, words = _shape(tuple(fields))
        if not plain:
            return False
        processors = structlog.get_config()["processors"]
        if processors is not console.processors or processors[-1] is not _line:
            # configured anew, or listened to by a test
            return False
        if number >= console.least:
            for name in redacted:
                fields[name] = "[redacted]"
            fields.setdefault("part", self._part)
            fields["at"] = _clock.text(time_ns())
            getattr(console.logger, level)(_text(level, event, fields, words))
        return True


class _Libraries(logging.Handler):
    """What libraries say by `logging`, as lines of this log: theirs have no form that a collector could read.

    The pool of asyncpg tells with a traceback every few seconds that the database is away, which is no fault of ours;
    a traceback stays where the library calls it an error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        log = get("library")
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR:
            log.foreign(record.name, record.getMessage(), error)
        elif error is None:
            log.warning("library_said", library=record.name, text=record.getMessage())
        else:
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("library_said", library=record.name, text=record.getMessage(), reason=reason)


_libraries = _Libraries(logging.WARNING)


def configure(format: str, level: str, stream: TextIO | None = None, *, journal_stream: str | None = None) -> None:
    """Send every log line of this process to `stream` (default standard error) as `console` or `json`.

    `journal_stream` is what systemd says of its journal; lines that go there carry their priority.
    """
    global _console
    logger = journal.writer(stream or sys.stderr, journal_stream)
    logging.getLogger().addHandler(_libraries)
    least: int = getattr(logging, level.upper())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _redact,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False) if format == "json" else _line,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )
    _console = None if format == "json" else _Console(processors, least, logger)


def _redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name in REDACTED.intersection(event):
        event[name] = "[redacted]"
    return event


def _line(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    """One line for people, as structlog's ConsoleRenderer writes it without colours, and a line costs half."""
    level, name, exception = event.pop("level", ""), event.pop("event", ""), event.pop("exception", None)
    line = _text(level, name, event, [(each, f"{each}=") for each in sorted(event)])
    # What a fault says may hold what a peer sent.
    return line if exception is None else f"{line}\n{escaped(str(exception), kept=_LINES)}"


def _text(level: str, event: object, fields: Mapping[str, object], names: Sequence[tuple[str, str]]) -> str:
    """A word that prints as it is; anything else, and text that would look like more than one, as Python writes it."""
    # isalnum is true of words alone, and costs a third
    words = [
        before
        + (
            value
            if type(value := fields[name]) is str
            and (value.isalnum() or (value.isprintable() and _is_word(value) is not None))
            else repr(value)
        )
        for name, before in names
    ]
    return f"[{level:<9}] {event!s:<28} {' '.join(words)}"


def get(name: str) -> Log:
    """A logger whose lines carry `part=name`."""
    return Log(name)
