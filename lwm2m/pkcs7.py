"""Certificates in a degenerate PKCS#7 SignedData: "certs-only", application/pkcs7-mime (RFC 5652 5.1, RFC 8551 3.2.2).

Written byte for byte as RFC 9148 appendix A shows it, with the empty set of CRLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from lwm2m.der import SEQUENCE, SET, decode, encode, encode_object_identifier
from lwm2m.errors import DecodeError, EncodeError

Order: TypeAlias = Literal["leaf-first", "der"]
"""How the certificates stand in their SET: see `encode_certificates`."""

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


def _check(certificate: bytes) -> None:
    try:
        tag, _ = decode(certificate)
    except DecodeError as error:
        raise EncodeError(f"a certificate is one DER value: {error}") from error
    if tag != SEQUENCE:
        raise EncodeError("a certificate is a DER SEQUENCE")
