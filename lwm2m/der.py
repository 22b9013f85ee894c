"""The few pieces of DER that EST messages are made of beside whole certificates (X.690 8, 10)."""

from __future__ import annotations

from collections.abc import Iterator

from lwm2m.errors import DecodeError

OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31


def encode(tag: int, *contents: bytes) -> bytes:
    """One value with a one-byte tag and its definite length (X.690 8.1)."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def encode_object_identifier(dotted: str) -> bytes:
    """An object identifier from its dotted form (X.690 8.19)."""
    first, second, *others = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *others):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        content += bytes(reversed(septets))
    return encode(OBJECT_IDENTIFIER, bytes(content))


def decode(data: bytes) -> tuple[int, bytes]:
    """Tag and content of the one value that `data` is; DecodeError when it is none, or more."""
    values = list(read(data))
    if len(values) != 1:
        raise DecodeError(f"one DER value belongs here, not {len(values)}")
    tag, content, _ = values[0]
    return tag, content


def read(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (tag, content, whole value) of values laid end to end; DecodeError for what is not DER.

    Tags have one byte and lengths are as short as can be: nothing an EST message holds needs more.
    """
    position, end = 0, len(data)
    while position < end:
        start = position + 2
        if start > end:
            raise DecodeError("a DER value ends inside its header")
        tag, size = data[position], data[position + 1]
        if tag & 0x1F == 0x1F:
            raise DecodeError("a DER tag of several bytes")
        if size >= 0x80:
            octets = size & 0x7F
            length = data[start : start + octets]
            size = int.from_bytes(length, "big")
            if not 0 < octets <= 4 or len(length) < octets or length[0] == 0 or size < 0x80:
                raise DecodeError("a DER length that is none, or not the shortest")
            start += octets
        if start + size > end:
            raise DecodeError("a DER value is longer than what holds it")
        yield tag, data[start : start + size], data[position : start + size]
        position = start + size
