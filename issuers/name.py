"""Distinguished names by their bytes (RFC 5280 4.1.2.4): which are the same, and what the plain ones say.

A name that the library has parsed is many small objects, and comparing two of them is many small comparisons. Nearly
every name of a bootstrap is plain, and nearly every comparison is of a name with itself.
"""

from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509

from issuers.der import element

COMMON_NAME = 3
"""The last octet of id-at-commonName; a plain attribute is known by its octet."""

# id-at 3, 5, 6, 7, 8, 10, 11: CN, serialNumber, C, L, ST, O, OU.
_TYPES = frozenset({COMMON_NAME, 5, 6, 7, 8, 10, 11})
_COUNTRY = 6
_UTF8_STRING, _PRINTABLE_STRING, _IA5_STRING = 0x0C, 0x13, 0x16
# X.680 41.4.
_PRINTABLE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?"
# The shortest of their upper bounds (RFC 5280 A.1), countries apart: what is longer the library judges.
_LONGEST = 64
# SET and SEQUENCE of one attribute and the first four octets of its type, by the size of its value.
_HEADS = tuple(bytes((0x31, size + 9, 0x30, size + 7, 0x06, 0x03, 0x55, 0x04)) for size in range(_LONGEST + 1))

PlainName = tuple[tuple[int, str], ...]
"""The attributes of a plain name in their order: the last octet of the type, the value."""


# A subject stands in the request, in the certificate, and where either is checked; a CA's in all its certificates.
@lru_cache(maxsize=1024)
def plain_name(der: bytes) -> PlainName | None:
    """What a name says whose attributes stand alone, are of the usual types, printable ASCII and not too long.

    None for every other: the library has to read it. One that is returned, the library reads to the same.
    """
    size = len(der)
    if size < 0x82:
        at, head = 2, bytes((0x30, size - 2)) if size >= 2 else b""
    else:
        at, head = 3, bytes((0x30, 0x81, size - 3)) if size < 0x103 else b""
    if not head or not der.startswith(head):
        return None
    found: list[tuple[int, str]] = []
    while at < size:
        if size - at < 12:
            return None
        length = der[at + 10]
        end = at + 11 + length
        kind = der[at + 8]
        value = der[at + 11 : end]
        if (
            not 0 < length <= _LONGEST
            or der[at : at + 8] != _HEADS[length]
            or kind not in _TYPES
            or end > size
            or not _fits(der[at + 9], value)
            or (kind == _COUNTRY and length != 2)
        ):
            return None
        text = value.decode()
        if not text.isprintable():
            return None
        found.append((kind, text))
        at = end
    return tuple(found)


def name_of_text(attributes: Iterable[tuple[int, str]]) -> bytes:
    """The plain name, DER, of these attributes as UTF-8 strings; values are ASCII of 1 to 64 characters."""
    return element(
        0x30,
        b"".join(
            [
                _HEADS[len(value)] + bytes((kind, _UTF8_STRING, len(value))) + value.encode("ascii")
                for kind, value in attributes
            ]
        ),
    )


def _fits(string: int, value: bytes) -> bool:
    if string == _UTF8_STRING:
        return value.isascii()
    return string == _PRINTABLE_STRING and not value.translate(None, _PRINTABLE)


def holds(string: int, value: bytes) -> bool:
    """Whether a string of the kind with this tag may have this value, given in UTF-8 (X.680 41)."""
    if string == _PRINTABLE_STRING:
        return not value.translate(None, _PRINTABLE)
    return string != _IA5_STRING or value.isascii()


def same_name(one: bytes, other: bytes) -> bool:
    """Whether two names, DER, are equal as the library says it: by types and values, not by kinds of string.

    Raises ValueError when they differ in their bytes and one of them cannot be read.
    """
    return one == other or _equal(one, other)


@lru_cache(maxsize=256)
def _equal(one: bytes, other: bytes) -> bool:
    """The names of CAs meet again and again. What is remembered follows from the two names and nothing else."""
    said, wanted = plain_name(one), plain_name(other)
    if said is not None and wanted is not None:
        return said == wanted
    return parsed_name(one) == parsed_name(other)


def parsed_name(der: bytes) -> x509.Name:
    """The name as the library reads it; raises ValueError."""
    return x509.Name.from_bytes(der)
