"""The verdicts of a bootstrap session, what they ask for, and what is kept of them (LwM2M Core 1.2 6.1.7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import NamedTuple, TypeAlias

from lwm2m.coap.message import Option, code_text
from lwm2m.coap.options import ACCEPT, CONTENT_FORMAT, encode_uint


class FailureCause(Enum):
    """Why a bootstrap or an enrolment ended without success; the values are stored, counted and shown."""

    NOT_AUTHORIZED = "not_authorized"
    NO_PROFILE = "no_profile"
    BAD_REQUEST = "bad_request"
    CONFIGURATION_INVALID = "configuration_invalid"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    ISSUER_REFUSED = "issuer_refused"
    ISSUER_BAD_CERTIFICATE = "issuer_bad_certificate"
    STORE_UNAVAILABLE = "store_unavailable"
    DELETE_REFUSED = "delete_refused"
    WRITE_REFUSED = "write_refused"
    FORMAT_REFUSED = "format_refused"
    DISCOVER_REQUIRED = "discover_required"
    FINISH_REFUSED = "finish_refused"
    FINISH_INCONSISTENT = "finish_inconsistent"
    NO_ANSWER = "no_answer"
    BAD_ANSWER = "bad_answer"
    RESET = "reset"
    ASSOCIATION_LOST = "association_lost"
    SUPERSEDED = "superseded"
    DEADLINE = "deadline"
    NO_SERVICE = "no_service"
    CSR_REFUSED = "csr_refused"
    KEY_TAKEN = "key_taken"
    TOO_MANY_CERTIFICATES = "too_many_certificates"
    NOT_FETCHED = "not_fetched"
    INTERNAL = "internal"


class OperationKind(StrEnum):
    """The operations of the bootstrap interface this server starts (LwM2M Core 1.2 6.1.7), and EST's, which the device
    starts (RFC 9148).
    """

    DISCOVER = "discover"
    DELETE = "delete"
    WRITE = "write"
    FINISH = "finish"
    EST = "est"


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True)
class Operation:
    """One confirmable request to the device; `code` is the CoAP method, formats are their numbers."""

    kind: OperationKind
    code: int
    segments: tuple[str, ...]
    content_format: int | None = None
    accept: int | None = None
    query: tuple[str, ...] = ()
    # kept out of repr: the payload of a Security instance holds the device's secret key
    payload: bytes = field(default=b"", repr=False)
    options: tuple[Option, ...] = field(init=False, repr=False, compare=False)
    """The CoAP options it goes out with, beside its path."""
    path: str = field(init=False, repr=False, compare=False)
    """The path as text."""

    def __post_init__(self) -> None:
        # once: most operations are made for all devices
        self.options = _options(self.content_format, self.accept)
        self.path = "/" + "/".join(self.segments)


@lru_cache(maxsize=64)
def _options(content_format: int | None, accept: int | None) -> tuple[Option, ...]:
    options: list[Option] = []
    if content_format is not None:
        options.append((CONTENT_FORMAT, encode_uint(content_format)))
    if accept is not None:
        options.append((ACCEPT, encode_uint(accept)))
    return tuple(options)


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True)
class Send:
    """Send `operation`, then call `answer`, `unanswered` or `interrupt`.

    `may_be_silent`: some clients never answer it and the session goes on without, so fewer repeats will do.
    `accept_again`: before it the answer to the Bootstrap-Request is sent once more, which seems to be lost.
    """

    operation: Operation
    note: str = ""
    may_be_silent: bool = False
    accept_again: bool = False


@dataclass(frozen=True, slots=True)
class AskCredential:
    """Get the credential of `plan.securities[index]`, then call `supply`."""

    index: int


@dataclass(frozen=True, slots=True)
class Done:
    """The device accepted the Finish."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ended without success, at `path` with response `code` where there was one.

    `detail` is for the operator; printable and bounded where it comes from the device.
    """

    cause: FailureCause
    path: str | None
    code: int | None
    detail: str = ""


Step: TypeAlias = Send | AskCredential | Done | Failed


class StepRecord(NamedTuple):
    """One operation as the record keeps it; `at` seconds after the start it took `seconds`, if told the time."""

    operation: OperationKind
    path: str
    code: int | None
    bytes: int
    format: str | None
    note: str
    at: float | None
    seconds: float | None

    def as_row(self) -> dict[str, str | int]:
        """The compact form stored with the session: what is empty is left out, times are milliseconds."""
        row: dict[str, str | int] = {"op": self.operation.value, "path": self.path}
        if self.code is not None:
            row["code"] = code_text(self.code)
        if self.bytes:
            row["bytes"] = self.bytes
        if self.format is not None:
            row["format"] = self.format
        if self.note:
            row["note"] = self.note
        if self.at is not None:
            row["at"] = round(self.at * 1000)
        if self.seconds is not None:
            row["ms"] = round(self.seconds * 1000)
        return row


# One byte is a code.
_CODE_TEXTS = tuple([code_text(code) for code in range(256)])


def rows(steps: Iterable[StepRecord]) -> str:
    """The rows of `steps` as one JSON array, as `json.dumps` writes them."""
    # hot path: text put together, six rows a bootstrap
    return f"[{', '.join([_row(step) for step in steps])}]"


def _row(step: StepRecord) -> str:
    operation, path, code, bytes, format, note, at, seconds = step
    return "".join(
        (
            f'{{"op": "{operation}", "path": {_quoted(path)}',
            "" if code is None else f', "code": "{_CODE_TEXTS[code]}"',
            f', "bytes": {bytes}' if bytes else "",
            "" if format is None else f', "format": {_quoted(format)}',
            f', "note": {_quoted(note)}' if note else "",
            "" if at is None else f', "at": {round(at * 1000)}',
            "" if seconds is None else f', "ms": {round(seconds * 1000)}',
            "}",
        )
    )


def notes(first: str, second: str) -> str:
    """Two notes of one step as one; either may be empty."""
    return f"{first}; {second}" if first and second else first or second
