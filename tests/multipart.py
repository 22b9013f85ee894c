"""multipart-core as a device reads it, by a library (RFC 8710)."""

import cbor2


def parts_of(payload: bytes) -> list[tuple[int, bytes]]:
    """The Content-Format and the representation of each part."""
    items = cbor2.loads(payload)
    return list(zip(items[::2], items[1::2], strict=True))
