"""The log: past-tense facts with fields, one line each; nothing secret has a field name here."""

import logging
import sys
from typing import TextIO

import structlog

# Field names whose values never reach the log, whatever a caller passes.
REDACTED = frozenset(
    {"key", "private_key", "psk", "secret", "password", "passphrase", "token", "credentials", "authorization"}
)


def configure(format: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (default standard error) as `console` or `json`."""
    renderer: structlog.typing.Processor
    if format == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=28, exception_formatter=structlog.dev.plain_traceback
        )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _redact,
    ]
    if format == "json":
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


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `part=name`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
