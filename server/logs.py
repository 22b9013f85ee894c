"""The log: past-tense facts with fields, one line each; nothing secret has a field name here."""

import logging
import re
import sys
from typing import TextIO

import structlog

# Field names whose values never reach the log, whatever a caller passes.
REDACTED = frozenset(
    {"key", "private_key", "psk", "secret", "password", "passphrase", "token", "credentials", "authorization"}
)

_WORD = re.compile(r"[^\s\"'=\x00-\x1f\x7f-\x9f]*")


def configure(format: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (default standard error) as `console` or `json`."""
    renderer: structlog.typing.Processor
    if format == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        renderer = _line
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _redact,
    ]
    processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def _redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name in REDACTED.intersection(event):
        event[name] = "[redacted]"
    return event


def _line(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    """One line for people, as structlog's ConsoleRenderer writes it without colours, and a line costs half."""
    level, name, exception = event.pop("level", ""), event.pop("event", ""), event.pop("exception", None)
    words = " ".join([f"{field}={_shown(event[field])}" for field in sorted(event)])
    line = f"[{level:<9}] {name!s:<28} {words}"
    return line if exception is None else f"{line}\n{exception}"


def _shown(value: object) -> str:
    """Plain text as it is, anything else, and text that would look like more than one word, as Python writes it."""
    return value if type(value) is str and _WORD.fullmatch(value) else repr(value)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `part=name`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
