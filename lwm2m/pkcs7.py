"""Certificates in a degenerate PKCS#7 SignedData: "certs-only", application/pkcs7-mime (RFC 5652 5.1, RFC 8551 3.2.2).

Written byte for byte as RFC 9148 appendix A shows it, with the empty set of CRLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from lwm2m.der import SEQUENCE, SET, decode, encode, encode_object_identifier, read
from lwm2m.errors import DecodeError, EncodeError

Order: TypeAlias = Literal["leaf-first", "der"]
"""How the certificates stand in their SET: see `encode_certificates`."""

MOST = 16
"""Certificates of one message taken: a path has no more."""

_INTEGER = 0x02
_EXPLICIT_0 = 0xA0
_CERTIFICATES = 0xA0
_CRLS = 0xA1
_SIGNED_DATA = encode_object_identifier("1.2.840.113549.1.7.2")
_DATA = encode_object_identifier("1.2.840.113549.1.7.1")
_VERSION_1 = encode(_INTEGER, b"\x01")


def encode_certificates(certificates: Sequence[bytes], order: Order = "leaf-first") -> bytes:
    """The message that holds `certificates` (DER); EncodeError when one is no single DER SEQUENCE.

    `leaf-first` keeps the given order, which is BER: DER sorts a SET OF by its encodings (X.690 11.6), and then a leaf
    that is longer than its CA comes last, where clients were seen to fail. `der` sorts.
    """
    for certificate in certificates:
        _check(certificate)
    if order == "der":
        # X.690 11.6: compared as octet strings, the shorter one filled up with zeros at its end.
        longest = max(map(len, certificates), default=0)
        certificates = sorted(certificates, key=lambda each: each.ljust(longest, b"\0"))
    signed_data = encode(
        SEQUENCE,
        _VERSION_1,
        encode(SET),
        encode(SEQUENCE, _DATA),
        encode(_CERTIFICATES, *certificates),
        encode(_CRLS),
        encode(SET),
    )
    return encode(SEQUENCE, _SIGNED_DATA, encode(_EXPLICIT_0, signed_data))


def decode_certificates(message: bytes) -> tuple[bytes, ...]:
    """The certificates of a message (DER), in the order they stand in; CRLs are passed over.

    Raises DecodeError for anything else than a SignedData without content and signers.
    """
    tag, content = decode(message)
    parts = list(read(content))
    if tag != SEQUENCE or [part[0] for part in parts[1:]] != [_EXPLICIT_0] or parts[0][2] != _SIGNED_DATA:
        raise DecodeError("this is no PKCS#7 SignedData")
    tag, content = decode(parts[1][1])
    if tag != SEQUENCE:
        raise DecodeError("a PKCS#7 SignedData is a SEQUENCE")
    fields = list(read(content))
    tags = [field[0] for field in fields]
    optional = [tag for tag in (_CERTIFICATES, _CRLS) if tag in tags]
    if tags != [_INTEGER, SET, SEQUENCE, *optional, SET]:
        raise DecodeError("a PKCS#7 SignedData does not have the fields of one")
    version, digests, contained, *_, signers = (field[1] for field in fields)
    if version != b"\x01" or digests or contained != _DATA or signers:
        raise DecodeError("a PKCS#7 message that holds more than certificates")
    if _CERTIFICATES not in optional:
        return ()
    found = tuple(whole for _, _, whole in read(fields[3][1]))
    if len(found) > MOST:
        raise DecodeError(f"a PKCS#7 message has at most {MOST} certificates here")
    if any(certificate[0] != SEQUENCE for certificate in found):
        raise DecodeError("a PKCS#7 message holds something that is no X.509 certificate")
    return found


def _check(certificate: bytes) -> None:
    try:
        tag, _ = decode(certificate)
    except DecodeError as error:
        raise EncodeError(f"a certificate is one DER value: {error}") from error
    if tag != SEQUENCE:
        raise EncodeError("a certificate is a DER SEQUENCE")
