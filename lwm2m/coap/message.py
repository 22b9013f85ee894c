"""The CoAP message and its wire form (RFC 7252 3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lwm2m.errors import DecodeError, EncodeError

Option = tuple[int, bytes]
"""Option number and value, RFC 7252 3.1."""
Fields = tuple[int, int, int, bytes, list[Option], bytes]
"""What a `Message` holds, in its order: type, code, message id, token, options, payload."""

# Types, RFC 7252 3.
CON = 0
NON = 1
ACK = 2
RST = 3

# Codes as they stand in the header: class in the upper three bits, detail in the lower five (RFC 7252 12.1).
EMPTY = 0x00
GET = 0x01
POST = 0x02
PUT = 0x03
DELETE = 0x04
CREATED = 0x41
DELETED = 0x42
VALID = 0x43
CHANGED = 0x44
CONTENT = 0x45
CONTINUE = 0x5F
BAD_REQUEST = 0x80
UNAUTHORIZED = 0x81
BAD_OPTION = 0x82
FORBIDDEN = 0x83
NOT_FOUND = 0x84
METHOD_NOT_ALLOWED = 0x85
NOT_ACCEPTABLE = 0x86
REQUEST_ENTITY_INCOMPLETE = 0x88
CONFLICT = 0x89
PRECONDITION_FAILED = 0x8C
REQUEST_ENTITY_TOO_LARGE = 0x8D
UNSUPPORTED_CONTENT_FORMAT = 0x8F
INTERNAL_SERVER_ERROR = 0xA0
NOT_IMPLEMENTED = 0xA1
BAD_GATEWAY = 0xA2
SERVICE_UNAVAILABLE = 0xA3
GATEWAY_TIMEOUT = 0xA4
PROXYING_NOT_SUPPORTED = 0xA5

MAX_TOKEN = 8
"""Longest token in bytes, RFC 7252 3."""
MAX_OPTION_NUMBER = 65535
"""Highest option number: the registry's range, RFC 7252 12.2."""
MAX_OPTION_LENGTH = 65804
"""Longest option value the wire form can say: 65535 + 269, RFC 7252 3.1."""

_PAYLOAD_MARKER = 0xFF
_MARKER = bytes((_PAYLOAD_MARKER,))
# Classes 1, 6 and 7 are reserved and a message format error: RFC 7252 4.2, 4.3.
_RESERVED_CLASSES = frozenset({1, 6, 7})
_HEADER = struct.Struct("!BBH")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from


class Malformed(DecodeError):
    """A datagram with a message format error, RFC 7252 3 and 4.2.

    `type` and `mid` are those of its header, or None when there is no header of this version to answer: such
    a datagram is ignored in silence (RFC 7252 3).
    """

    def __init__(self, reason: str, type: int | None = None, mid: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.type = type
        self.mid = mid


@dataclass(slots=True)
class Message:
    """One CoAP message, RFC 7252 3: options by ascending number, mid 0..65535, token 0..8 bytes."""

    type: int
    code: int
    mid: int
    token: bytes
    options: list[Option]
    payload: bytes


@lru_cache(256)
def code_text(code: int) -> str:
    """A code as people write it, RFC 7252 3: 0x44 is "2.04"."""
    return f"{code >> 5}.{code & 31:02d}"


def decode(datagram: bytes) -> Message:
    """Read one message strictly (RFC 7252 3); Malformed when the datagram breaks any rule of its format."""
    return Message(*decode_fields(datagram))


def decode_fields(datagram: bytes) -> Fields:
    """`decode` without the Message around its fields."""
    length = len(datagram)
    if length < 4:
        raise Malformed("shorter than a header")
    first, code, mid = _unpack_header(datagram)
    if first >> 6 != 1:
        raise Malformed("unknown version")
    type = first >> 4 & 3
    position = 4 + (first & 15)
    if position > 4 + MAX_TOKEN:
        raise Malformed("token length is reserved", type, mid)
    if position > length:
        raise Malformed("token beyond the datagram", type, mid)
    if code == EMPTY:
        if length > 4:
            raise Malformed("empty message with content", type, mid)
    elif code >> 5 in _RESERVED_CLASSES:
        raise Malformed("reserved code class", type, mid)
    token = datagram[4:position]
    if position == length:
        # Most answers of a device.
        return type, code, mid, token, [], b""
    options: list[Option] = []
    payload = b""
    number = 0
    while position < length:
        byte = datagram[position]
        position += 1
        delta = byte >> 4
        size = byte & 15
        if delta > 12 or size > 12:
            if byte == _PAYLOAD_MARKER:
                if position == length:
                    raise Malformed("payload marker without payload", type, mid)
                payload = datagram[position:]
                position = length
                break
            if delta == 15 or size == 15:
                raise Malformed("option delta or length is reserved", type, mid)
            # Short reads leave `position` beyond the datagram, which is refused below.
            if delta > 12:
                end = position + delta - 12
                delta = int.from_bytes(datagram[position:end], "big") + (13 if delta == 13 else 269)
                position = end
            if size > 12:
                end = position + size - 12
                size = int.from_bytes(datagram[position:end], "big") + (13 if size == 13 else 269)
                position = end
        number += delta
        end = position + size
        options.append((number, datagram[position:end]))
        position = end
    if position > length:
        raise Malformed("option beyond the datagram", type, mid)
    if number > MAX_OPTION_NUMBER:
        raise Malformed("option number above 65535", type, mid)
    return type, code, mid, token, options, payload


def encode(message: Message) -> bytes:
    """Write one message (RFC 7252 3); EncodeError when a field does not fit."""
    return encode_fields(message.type, message.code, message.mid, message.token, message.options, message.payload)


def encode_fields(type: int, code: int, mid: int, token: bytes, options: Sequence[Option], payload: bytes) -> bytes:
    """`encode` without the Message around its fields.

    Options may come in any order, those of one number keep theirs.
    """
    return encode_written(type, code, mid, token, encode_options(options) if options else b"", payload)


def encode_written(type: int, code: int, mid: int, token: bytes, written: bytes, payload: bytes) -> bytes:
    """`encode_fields` for options that `encode_options` has written."""
    if type >> 2 or len(token) > MAX_TOKEN:
        raise EncodeError("no such type, or a token longer than 8 bytes")
    if code == EMPTY:
        if token or written or payload:
            raise EncodeError("an empty message has no content")
    elif code >> 5 in _RESERVED_CLASSES:
        raise EncodeError("reserved code class")
    try:
        header = _pack_header(0x40 | type << 4 | len(token), code, mid)
    except struct.error as error:
        raise EncodeError("code or message id out of range") from error
    if payload:
        return b"".join((header, token, written, _MARKER, payload))
    return header + token + written


def encode_options(options: Sequence[Option], after: int = 0) -> bytes:
    """The wire form of options that stand behind one of number `after` (RFC 7252 3.1); EncodeError when one does not
    fit, or has a lower number.
    """
    out = bytearray()
    number = after
    for option, value in options:
        delta = option - number
        size = len(value)
        if delta < 0:
            if option < after:
                raise EncodeError("option number out of range")
            return encode_options(sorted(options, key=_number), after)
        if delta < 13 and size < 13:
            out.append(delta << 4 | size)
        else:
            out += _extended(delta, size)
        out += value
        number = option
    if number > MAX_OPTION_NUMBER:
        raise EncodeError("option number out of range")
    return bytes(out)


def _number(option: Option) -> int:
    return option[0]


def _extended(delta: int, size: int) -> bytes:
    if size > MAX_OPTION_LENGTH or delta > MAX_OPTION_NUMBER:
        raise EncodeError("option number or length out of range")
    delta_nibble, delta_bytes = _nibble(delta)
    size_nibble, size_bytes = _nibble(size)
    return bytes((delta_nibble << 4 | size_nibble,)) + delta_bytes + size_bytes


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")
