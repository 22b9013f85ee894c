"""multipart-core: several representations in one payload, content format 62 (RFC 8710)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cbor2

from lwm2m.errors import EncodeError

Part: TypeAlias = tuple[int, bytes]
"""Content-Format and representation."""

_LARGEST_FORMAT = 65535


def encode_parts(parts: Sequence[Part]) -> bytes:
    """A CBOR array of format, bytes, format, bytes …; EncodeError for a number that is no Content-Format."""
    if any(not 0 <= format <= _LARGEST_FORMAT for format, _ in parts):
        raise EncodeError("a Content-Format is 0 to 65535 (RFC 7252 12.3)")
    return cbor2.dumps([item for part in parts for item in part])
