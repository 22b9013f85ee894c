"""multipart-core: several representations in one payload, content format 62 (RFC 8710)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cbor2

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.lwm2m_cbor import read_item

Part: TypeAlias = tuple[int, bytes]
"""Content-Format and representation."""

_LARGEST_FORMAT = 65535


def encode_parts(parts: Sequence[Part]) -> bytes:
    """A CBOR array of format, bytes, format, bytes …; EncodeError for a number that is no Content-Format."""
    if any(not 0 <= format <= _LARGEST_FORMAT for format, _ in parts):
        raise EncodeError("a Content-Format is 0 to 65535 (RFC 7252 12.3)")
    return cbor2.dumps([item for part in parts for item in part])


def decode_parts(payload: bytes) -> tuple[Part, ...]:
    """The parts in their order; one left out (null instead of bytes, RFC 8710 2) is not among them."""
    items = read_item(payload)
    if not isinstance(items, list) or len(items) % 2:
        raise DecodeError("multipart-core is an array of pairs")
    parts: list[Part] = []
    for format, content in zip(items[::2], items[1::2], strict=True):
        if isinstance(format, bool) or not isinstance(format, int) or not 0 <= format <= _LARGEST_FORMAT:
            raise DecodeError("a part of multipart-core begins with its Content-Format")
        if content is None:
            continue
        if not isinstance(content, bytes):
            raise DecodeError("a part of multipart-core is a byte string")
        parts.append((format, content))
    return tuple(parts)
