"""What one association's exchanges tell the endpoint: whole messages and their fate (RFC 7252 2.2).

The two that come with every message are not frozen: that takes twice as long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lwm2m.coap.message import Option


class ExchangeFailure(Enum):
    """Why one of our requests has no answer."""

    TIMEOUT = "timeout"
    RESET = "reset"
    TOO_LARGE = "too-large"
    BAD_BLOCK = "bad-block"
    BAD_RESPONSE = "bad-response"


class MessageFault(Enum):
    """Why a message of the peer was refused before anybody saw it; the values are counted."""

    MALFORMED = "malformed"
    OPTION = "option"
    BLOCK = "block"
    BUSY = "busy"


@dataclass(slots=True)
class RequestReceived:
    """A whole request of the peer, each one once (RFC 7252 4.5); answer it with `respond(request_id, …)`."""

    request_id: int
    code: int
    path: tuple[str, ...]
    query: tuple[str, ...]
    options: Sequence[Option]
    payload: bytes
    confirmable: bool


@dataclass(slots=True)
class ResponseReceived:
    """The whole answer to one of our requests; `separate` when it did not come in the acknowledgement, `in_blocks` when
    the request's payload went out in blocks.
    """

    exchange_id: int
    code: int
    options: Sequence[Option]
    payload: bytes
    separate: bool
    in_blocks: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """One of our requests ended without an answer."""

    exchange_id: int
    cause: ExchangeFailure


@dataclass(frozen=True, slots=True)
class ResponseDelivered:
    """Our answer has left (in an acknowledgement, NON, or as its last block) or was acknowledged
    (separate).
    """

    request_id: int


@dataclass(frozen=True, slots=True)
class ResponseLost:
    """Our separate answer was never acknowledged or was reset, or its blocks were not all fetched."""

    request_id: int


Event = RequestReceived | ResponseReceived | ExchangeFailed | ResponseDelivered | ResponseLost
