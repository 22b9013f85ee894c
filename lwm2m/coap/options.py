"""Options: their numbers, their values, and what a request asks for (RFC 7252 5.4, 5.10; RFC 7959 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lwm2m.coap.message import BAD_OPTION, BAD_REQUEST, PROXYING_NOT_SUPPORTED, Option
from lwm2m.errors import DecodeError, EncodeError

# Numbers: RFC 7252 12.2, RFC 7959 6, RFC 9175 6. Odd numbers are critical, even ones elective (RFC 7252 5.4.1).
URI_HOST = 3
ETAG = 4
URI_PORT = 7
LOCATION_PATH = 8
URI_PATH = 11
CONTENT_FORMAT = 12
MAX_AGE = 14
URI_QUERY = 15
ACCEPT = 17
LOCATION_QUERY = 20
BLOCK2 = 23
BLOCK1 = 27
SIZE2 = 28
PROXY_URI = 35
PROXY_SCHEME = 39
SIZE1 = 60
REQUEST_TAG = 292

MAX_SEGMENT = 255
"""Longest Uri-Path or Uri-Query value in bytes, RFC 7252 5.10.1."""
MAX_QUERIES = 8
"""Uri-Query options a request may have: no LwM2M or EST request has more than five, the rest is an attack."""
DEFAULT_MAX_AGE = 60
"""Seconds meant by an absent Max-Age, RFC 7252 5.10.5."""

# Shortest and longest value of the critical options a request may have beside Uri-Path and Uri-Query; each
# at most once. If-Match and If-None-Match are absent: a condition that is not checked must not be accepted
# (RFC 7252 5.10.8).
_CRITICAL_IN_REQUEST = {URI_HOST: (1, 255), URI_PORT: (0, 2), ACCEPT: (0, 2), BLOCK2: (0, 3), BLOCK1: (0, 3)}
_CRITICAL_IN_RESPONSE = {BLOCK2: (0, 3), BLOCK1: (0, 3)}


class BadOption(DecodeError):
    """A critical option that is unknown, repeated, too long or without meaning, RFC 7252 5.4; `code`
    answers it.
    """

    def __init__(self, reason: str, code: int = BAD_OPTION) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Block(NamedTuple):
    """A Block1 or Block2 value, RFC 7959 2.2: number 0..2^20-1, more to come, size in bytes (16..1024)."""

    number: int
    more: bool
    size: int

    @property
    def offset(self) -> int:
        """Where the block starts in the body, in bytes."""
        return self.number * self.size


class Target(NamedTuple):
    """What a request is about: path and query, the format asked for, and its place in a block-wise transfer."""

    path: tuple[str, ...]
    query: tuple[str, ...]
    accept: int | None
    block1: Block | None
    block2: Block | None


def encode_uint(value: int) -> bytes:
    """Write an option of format uint in as few bytes as it takes, RFC 7252 3.2; EncodeError below zero."""
    if value < 0:
        raise EncodeError("an unsigned option value is not negative")
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode_uint(value: bytes) -> int:
    """Read an option of format uint, RFC 7252 3.2; leading zeros are allowed."""
    return int.from_bytes(value, "big")


def encode_block(block: Block) -> bytes:
    """Write a block option value, RFC 7959 2.2; EncodeError when a field is out of range."""
    exponent = block.size.bit_length() - 5
    if not 0 <= exponent <= 6 or block.size != 16 << exponent or not 0 <= block.number < 1 << 20:
        raise EncodeError(f"no block option can say {block}")
    return encode_uint(block.number << 4 | block.more << 3 | exponent)


def decode_block(value: bytes) -> Block:
    """Read a block option value, RFC 7959 2.2; BadOption for more than 3 bytes (4.02) or size exponent 7
    (4.00).
    """
    if len(value) > 3:
        raise BadOption("block option longer than 3 bytes")
    bits = int.from_bytes(value, "big")
    exponent = bits & 7
    if exponent == 7:
        raise BadOption("block size exponent 7 is reserved", BAD_REQUEST)
    return Block(bits >> 4, bool(bits & 8), 16 << exponent)


def read_target(options: Sequence[Option]) -> Target:
    """Read what a request asks for and refuse critical options not understood (RFC 7252 5.4.1, 5.4.3, 5.4.5).

    BadOption carries the response code: 4.02, 5.05 for a proxy request (RFC 7252 5.10.2), 4.00 for a
    reserved block size. Elective options are never an error: those out of bounds read as absent.
    """
    path: list[str] = []
    query: list[str] = []
    accept = block1 = block2 = None
    previous = 0
    for number, value in options:
        if number == URI_PATH:
            path.append(_text(value))
        elif number == URI_QUERY:
            if len(query) == MAX_QUERIES:
                raise BadOption(f"more than {MAX_QUERIES} Uri-Query options")
            query.append(_text(value))
        elif number & 1:
            if number in (PROXY_URI, PROXY_SCHEME):
                raise BadOption("this endpoint is no proxy", PROXYING_NOT_SUPPORTED)
            _check(number, value, previous, _CRITICAL_IN_REQUEST)
            if number == BLOCK1:
                block1 = decode_block(value)
            elif number == BLOCK2:
                block2 = decode_block(value)
            elif number == ACCEPT:
                accept = decode_uint(value)
        previous = number
    return Target(tuple(path), tuple(query), accept, block1, block2)


def read_blocks(options: Sequence[Option]) -> tuple[Block | None, Block | None]:
    """Block1 and Block2 of a response; BadOption for any critical option a response cannot have (RFC 7252
    5.4.1).
    """
    block1 = block2 = None
    previous = 0
    for number, value in options:
        if number & 1:
            _check(number, value, previous, _CRITICAL_IN_RESPONSE)
            if number == BLOCK1:
                block1 = decode_block(value)
            else:
                block2 = decode_block(value)
        previous = number
    return block1, block2


def uri_path(options: Sequence[Option]) -> tuple[str, ...]:
    """The path segments, RFC 7252 5.10.1; BadOption when one is too long or no UTF-8."""
    return tuple(_text(value) for number, value in options if number == URI_PATH)


def uri_query(options: Sequence[Option]) -> tuple[str, ...]:
    """The query arguments, RFC 7252 5.10.1; BadOption when one is too long or no UTF-8."""
    return tuple(_text(value) for number, value in options if number == URI_QUERY)


def content_format(options: Sequence[Option]) -> int | None:
    """The format of the payload, RFC 7252 5.10.3; None when absent."""
    return _elective_uint(options, CONTENT_FORMAT, 2) if options else None


def accept(options: Sequence[Option]) -> int | None:
    """The format asked for, RFC 7252 5.10.4; None when absent. `read_target` has refused one that is too
    long.
    """
    return _elective_uint(options, ACCEPT, 2)


def max_age(options: Sequence[Option]) -> int:
    """Seconds a response is fresh, or to stay away with 5.03 (RFC 7252 5.10.5, 5.9.3.4)."""
    seconds = _elective_uint(options, MAX_AGE, 4)
    return DEFAULT_MAX_AGE if seconds is None else seconds


def size1(options: Sequence[Option]) -> int | None:
    """Size of the whole request body, or the largest one taken, in bytes (RFC 7959 4); None when absent."""
    return _elective_uint(options, SIZE1, 4)


def request_tags(options: Sequence[Option]) -> tuple[bytes, ...]:
    """What tells the blocks of one body from those of another one on the same path (RFC 9175 3.2)."""
    return tuple(value for number, value in options if number == REQUEST_TAG)


def _elective_uint(options: Sequence[Option], wanted: int, longest: int) -> int | None:
    # The first one counts (RFC 7252 5.4.5), and a value that is too long reads as absent (5.4.3).
    for number, value in options:
        if number == wanted:
            return int.from_bytes(value, "big") if len(value) <= longest else None
    return None


def _text(value: bytes) -> str:
    if len(value) > MAX_SEGMENT:
        raise BadOption("path segment or query argument longer than 255 bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadOption("path segment or query argument is no UTF-8") from error


def _check(number: int, value: bytes, previous: int, recognised: dict[int, tuple[int, int]]) -> None:
    bounds = recognised.get(number)
    if bounds is None:
        raise BadOption(f"critical option {number} is not understood")
    if not bounds[0] <= len(value) <= bounds[1]:
        raise BadOption(f"critical option {number} has {len(value)} bytes")
    if number == previous:
        raise BadOption(f"critical option {number} is repeated")
