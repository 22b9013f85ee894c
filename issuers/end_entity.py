"""A device's certificate as nearly all are, read from its bytes (RFC 5280 4.1, X.690).

Version 3, a P-256 key, signed with ECDSA, plain names, and none but the usual extensions, all in DER. Whatever departs
from that by one octet is not read here but by the library, which says what is wrong with it; so this reader refuses
nothing, and what it reads the library reads to the same (a property test holds both to it, mutations included).
"""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuers.name import PlainName, plain_name

LARGEST = 2048
"""Octets of a certificate that is read here: strangers send larger ones, and what is read is remembered a while."""

_INTEGER, _BIT_STRING, _OCTET_STRING, _SEQUENCE = 0x02, 0x03, 0x04, 0x30
_UTC_TIME, _GENERALIZED_TIME, _EXTENSIONS = 0x17, 0x18, 0xA3
_VERSION_3 = bytes.fromhex("a003020102")
# ecdsa-with-SHA256, -SHA384, -SHA512 (RFC 5758 3.2).
_ALGORITHMS: dict[bytes, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    bytes.fromhex("300a06082a8648ce3d040302"): hashes.SHA256(),
    bytes.fromhex("300a06082a8648ce3d040303"): hashes.SHA384(),
    bytes.fromhex("300a06082a8648ce3d040304"): hashes.SHA512(),
}
_ALGORITHM = 12
# SubjectPublicKeyInfo of a P-256 key up to its uncompressed point (RFC 5480 2).
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_SPKI = len(_P256) + 64
# The field of P-256 and b of its equation y² = x³ - 3x + b (SEC 2 2.4.2).
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
# id-ce and the last octet of what is read.
_ID_CE = bytes.fromhex("0603551d")
_SUBJECT_KEY_ID, _KEY_USAGE, _SAN, _BASIC_CONSTRAINTS = 0x0E, 0x0F, 0x11, 0x13
_AUTHORITY_KEY_ID, _EXTENDED_KEY_USAGE = 0x23, 0x25
_CRITICAL = bytes.fromhex("0101ff")
_NO_CA = bytes.fromhex("3000")
# id-kp, in full ten octets with the last that tells the purpose.
_ID_KP = bytes.fromhex("06082b060105050703")
# rfc822Name, dNSName, uniformResourceIdentifier.
_TEXT_NAMES = (0x81, 0x82, 0x86)
# Octets of a positive serial number (RFC 5280 4.1.2.2).
_LONGEST_SERIAL = 20


class Extensions(NamedTuple):
    """What the usual extensions say; none of them makes a CA."""

    key_usage: x509.KeyUsage | None = None
    key_usage_critical: bool = False
    extended_key_usage: x509.ExtendedKeyUsage | None = None
    subject_key_id: bytes | None = None
    authority_key_id: bytes | None = None
    has_san: bool = False


class EndEntity(NamedTuple):
    """The parts of a certificate: names and `spki` DER, `tbs` what `signature` signs with `digest`, times UTC."""

    serial: int
    issuer: bytes
    issuer_attributes: PlainName
    not_before: datetime
    not_after: datetime
    subject: bytes
    attributes: PlainName
    spki: bytes
    extensions: Extensions
    tbs: bytes
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512
    signature: bytes


class _Unusual(Exception):
    """Something the library has to judge."""


def end_entity(der: bytes) -> EndEntity | None:
    """The certificate in its parts, None when it is not of the usual form."""
    return _remembered(der) if len(der) <= LARGEST else None


# One bootstrap reads its two certificates from several places; what is remembered follows from the bytes alone.
@lru_cache(maxsize=1024)
def _remembered(der: bytes) -> EndEntity | None:
    try:
        return _read(der)
    except (_Unusual, IndexError, ValueError):
        # ValueError: a day that is in no calendar.
        return None


def _read(der: bytes) -> EndEntity:
    tbs, end = _element(der, 0, _SEQUENCE)
    at, tbs_end = _element(der, tbs, _SEQUENCE)
    number = at + 5
    octets, at = _element(der, number, _INTEGER)
    algorithm = der[at : at + _ALGORITHM]
    digest = _ALGORITHMS.get(algorithm)
    issuer = at + _ALGORITHM
    _, validity = _element(der, issuer, _SEQUENCE)
    _, subject = _element(der, validity, _SEQUENCE)
    not_before, not_after = _times(der[validity:subject])
    _, spki = _element(der, subject, _SEQUENCE)
    attributes = plain_name(der[subject:spki])
    issuer_attributes = plain_name(der[issuer:validity])
    after = spki + _SPKI
    key = der[spki:after]
    signature, signature_end = _element(der, tbs_end + _ALGORITHM, _BIT_STRING)
    if (
        end != len(der)
        or der[number - 5 : number] != _VERSION_3
        or digest is None
        # Both algorithms must be the same (RFC 5280 4.1.1.2).
        or der[tbs_end : tbs_end + _ALGORITHM] != algorithm
        or attributes is None
        or issuer_attributes is None
        or not _on_p256(key)
        or signature_end != end
        or signature + 1 >= end
        # Every signature has whole bytes: no unused bits.
        or der[signature]
    ):
        raise _Unusual
    return EndEntity(
        _serial(der[octets:at]),
        der[issuer:validity],
        issuer_attributes,
        not_before,
        not_after,
        der[subject:spki],
        attributes,
        key,
        _extensions_at(der, after, tbs_end),
        der[tbs:tbs_end],
        digest,
        der[signature + 1 : end],
    )


def _require(usual: bool) -> None:
    if not usual:
        raise _Unusual


def _element(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of an element begins and where it ends; only shortest lengths up to two octets (X.690 10.1)."""
    if der[at] != tag:
        raise _Unusual
    size = der[at + 1]
    if size < 0x80:
        return at + 2, at + 2 + size
    if size == 0x81 and der[at + 2] >= 0x80:
        return at + 3, at + 3 + der[at + 2]
    if size == 0x82 and der[at + 2]:
        return at + 4, at + 4 + (der[at + 2] << 8 | der[at + 3])
    raise _Unusual


def _serial(octets: bytes) -> int:
    """A positive number in its shortest form."""
    number = int.from_bytes(octets, "big", signed=True)
    if number <= 0 or len(octets) > _LONGEST_SERIAL or number.bit_length() // 8 + 1 != len(octets):
        raise _Unusual
    return number


# A CA signs many certificates within a second, and a factory may give one end to all of its own.
@lru_cache(maxsize=1024)
def _times(validity: bytes) -> tuple[datetime, datetime]:
    since, end = _element(validity, 0, _SEQUENCE)
    not_before, until = _time(validity, since)
    not_after, times_end = _time(validity, until)
    _require(times_end == end)
    return not_before, not_after


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    """A time and where it ends: two digits of the year up to 2049, then four (RFC 5280 4.1.2.5)."""
    if der[at] == _UTC_TIME:
        octets, digits = 15, der[at + 2 : at + 14]
        text = ("20" if digits < b"50" else "19") + digits.decode("ascii")
    else:
        octets, digits = 17, der[at + 2 : at + 16]
        text = digits.decode("ascii")
        if der[at] != _GENERALIZED_TIME or text < "2050":
            raise _Unusual
    end = at + octets
    if der[at + 1] != octets - 2 or not digits.isdigit() or der[end - 1] != 0x5A or text[8:10] > "23":
        raise _Unusual
    return datetime.fromisoformat(f"{text[:8]}T{text[8:]}Z"), end


def _on_p256(spki: bytes) -> bool:
    """Whether it is a P-256 key whose point is on the curve."""
    x, y = int.from_bytes(spki[-64:-32], "big"), int.from_bytes(spki[-32:], "big")
    return (
        len(spki) == _SPKI and spki.startswith(_P256) and x < _P and y < _P and (y * y - (x * x - 3) * x - _B) % _P == 0
    )


def _extensions_at(der: bytes, at: int, end: int) -> Extensions:
    if at == end:
        return Extensions()
    at, tagged_end = _element(der, at, _EXTENSIONS)
    first, last = _element(der, at, _SEQUENCE)
    _require(first < last == tagged_end == end)
    found = _extensions(der[first:last])
    if found is None:
        raise _Unusual
    return found


# Of one factory or CA they are often the same in all its certificates.
@lru_cache(maxsize=1024)
def _extensions(block: bytes) -> Extensions | None:
    try:
        return _extensions_of(block)
    except (_Unusual, IndexError):
        return None


def _extensions_of(block: bytes) -> Extensions:
    found: dict[int, tuple[bytes, bool]] = {}
    at, end = 0, len(block)
    while at < end:
        start, at = _element(block, at, _SEQUENCE)
        kind, value = block[start + 4], start + 5
        critical = block[value : value + 3] == _CRITICAL
        first, last = _element(block, value + 3 if critical else value, _OCTET_STRING)
        _require(block[start : start + 4] == _ID_CE and last == at and kind not in found)
        found[kind] = block[first:last], critical
    _require(at == end)
    read = Extensions()
    for kind, (content, critical) in found.items():
        if kind == _KEY_USAGE:
            read = read._replace(key_usage=_key_usage(content), key_usage_critical=critical)
        elif kind == _EXTENDED_KEY_USAGE:
            read = read._replace(extended_key_usage=_purposes(content))
        elif kind == _SUBJECT_KEY_ID:
            read = read._replace(subject_key_id=_whole(content, _OCTET_STRING))
        elif kind == _AUTHORITY_KEY_ID:
            read = read._replace(authority_key_id=_whole(_whole(content, _SEQUENCE), 0x80))
        elif kind == _SAN:
            _require_texts(_whole(content, _SEQUENCE))
            read = read._replace(has_san=True)
        else:
            _require(kind == _BASIC_CONSTRAINTS and content == _NO_CA)
    return read


def _whole(content: bytes, tag: int) -> bytes:
    """What is inside the one element that `content` is; not empty."""
    start, end = _element(content, 0, tag)
    _require(start < end == len(content))
    return content[start:]


@lru_cache(maxsize=64)
def _key_usage(content: bytes) -> x509.KeyUsage:
    """A named bit list of one octet without trailing zeros (X.690 11.2.2), so without encipherOnly at bit 7."""
    _require(len(content) == 4 and content[:2] == b"\x03\x02")
    unused, bits = content[2], content[3]
    _require(0 < unused < 8 and bits & -bits == 1 << unused)
    return x509.KeyUsage(
        digital_signature=bool(bits & 0x80),
        content_commitment=bool(bits & 0x40),
        key_encipherment=bool(bits & 0x20),
        data_encipherment=bool(bits & 0x10),
        key_agreement=bool(bits & 0x08),
        key_cert_sign=bool(bits & 0x04),
        crl_sign=bool(bits & 0x02),
        encipher_only=False,
        decipher_only=False,
    )


@lru_cache(maxsize=64)
def _purposes(content: bytes) -> x509.ExtendedKeyUsage:
    """Purposes of id-kp alone."""
    purposes = _whole(content, _SEQUENCE)
    _require(len(purposes) % 10 == 0)
    for at in range(0, len(purposes), 10):
        _require(purposes[at : at + 9] == _ID_KP and purposes[at + 9] < 0x80)
    return x509.ExtendedKeyUsage(
        [x509.ObjectIdentifier(f"1.3.6.1.5.5.7.3.{purposes[at + 9]}") for at in range(0, len(purposes), 10)]
    )


def _require_texts(names: bytes) -> None:
    """Only names of DNS and mail and URIs, printable ASCII."""
    at = 0
    while at < len(names):
        start, end = _element(names, at, names[at])
        text = names[start:end]
        _require(names[at] in _TEXT_NAMES and text.isascii() and text.decode().isprintable())
        at = end
    _require(at == len(names))
