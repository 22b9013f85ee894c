"""What becomes of an operation that was sent to a device: an answer, one that is of no use, or silence."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from lwm2m.coap.events import ExchangeFailure
from lwm2m.coap.message import (
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    CREATED,
    DELETED,
    INTERNAL_SERVER_ERROR,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    UNSUPPORTED_CONTENT_FORMAT,
    code_text,
)
from lwm2m.content_format import ContentFormat
from lwm2m.steps import FailureCause, OperationKind

MAX_DIAGNOSTIC = 200
"""Characters kept of the text a device adds to an error (RFC 7252 5.5.2)."""


# LwM2M Core 1.2 6.1.7: one code says that it was done. RFC 7252 5.8.3 has another for what a PUT creates, and a CoAP
# library may say it of its own accord.
DONE: Mapping[OperationKind, frozenset[int]] = {
    OperationKind.DISCOVER: frozenset({CONTENT}),
    OperationKind.DELETE: frozenset({DELETED}),
    OperationKind.WRITE: frozenset({CHANGED, CREATED}),
    OperationKind.FINISH: frozenset({CHANGED}),
}
"""The codes that say that an operation was done."""

ENCODING_REFUSED = frozenset({BAD_REQUEST, UNSUPPORTED_CONTENT_FORMAT})
"""Codes that may mean "not in this encoding": 4.15 by the standard, 4.00 from the clients that know no other."""

CHAIN_REFUSED = ENCODING_REFUSED | {NOT_ACCEPTABLE, REQUEST_ENTITY_TOO_LARGE, INTERNAL_SERVER_ERROR}
"""Codes that may mean "not a chain": from who cannot read PEM (MCC: 4.00), and from who has no room for more than a
leaf (Wakaama: 4.13, Anjay Lite: 5.00).
"""

MODE_REFUSED = frozenset({BAD_REQUEST, NOT_ACCEPTABLE})
"""Codes that may mean "not with this Security Mode": 4.06 is none of a Write, but Wakaama's answer to one it lacks."""

RESOURCE_REFUSED = frozenset({BAD_REQUEST, NOT_FOUND})
"""Codes that may mean "not with a resource that I do not know" (Wakaama: 4.00, Zephyr: 4.04), which is to be skipped by
LwM2M Core 1.2 6.1.7.5.
"""

BLOCKS_REFUSED = frozenset(
    {NOT_FOUND, REQUEST_ENTITY_INCOMPLETE, REQUEST_ENTITY_TOO_LARGE, INTERNAL_SERVER_ERROR, NOT_IMPLEMENTED}
)
"""Codes that may mean "not in blocks": Zephyr says 4.04 to TLV, 5.00 to SenML CBOR, 5.01 to SenML JSON."""


class Answer(NamedTuple):
    """The device's response; `accepted` is a code that says that the operation was done, `in_blocks` says how its
    payload went out (RFC 7959).
    """

    code: int
    content_format: int | None
    payload: bytes
    accepted: bool
    in_blocks: bool

    @property
    def is_unfit(self) -> bool:
        """Whether it is a success of another kind than the operation has."""
        return not self.accepted and self.code >> 5 == 2

    @property
    def diagnostic(self) -> str:
        """What the device says of an error, in printable characters (RFC 7252 5.5.2), or what is wrong with a code."""
        if self.is_unfit:
            return f"{code_text(self.code)} is not how it is answered"
        if self.accepted or self.content_format not in (None, ContentFormat.TEXT):
            return ""
        text = self.payload[: 4 * MAX_DIAGNOSTIC].decode(errors="replace")
        return "".join(c if c.isprintable() else " " for c in text)[:MAX_DIAGNOSTIC].strip()


class Silence(Enum):
    """The device said nothing to the operation and its repeats, or nothing but a Reset (RFC 7252 4.2)."""

    NO_ANSWER = FailureCause.NO_ANSWER
    RESET = FailureCause.RESET


class Unusable(NamedTuple):
    """The device has answered, and nothing can be made of it; why."""

    problem: str


# RFC 7252 5.4.1, RFC 7959 2.
PROBLEMS: Mapping[ExchangeFailure, str] = {
    ExchangeFailure.TOO_LARGE: "the answer is larger than this server takes",
    ExchangeFailure.BAD_BLOCK: "the answer is not to the block it came for",
    ExchangeFailure.BAD_RESPONSE: "the answer has a critical option that has no meaning there",
}
"""What is wrong with an answer that cannot be used."""
