"""The fast path of certificates and CSRs of ours: what all share is encoded once (RFC 5280 4.1, RFC 2986, X.690).

`x509.CertificateBuilder` stays the only place that says how a certificate looks: a template is cut out of one that it
made, and a test holds that both give the same bytes. Built by the library a certificate costs 114 µs, of which its
signature is 31 (docs/performance.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuers import der

_INTEGER, _BIT_STRING, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE = 0x02, 0x03, 0x17, 0x18, 0x30
# RFC 5758 3.2.
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_VERSION_3 = bytes.fromhex("a003020102")


@dataclass(frozen=True, slots=True)
class Template:
    """The parts of a certificate that stay: algorithm, issuer and extensions, each DER."""

    algorithm: bytes
    issuer: bytes
    extensions: bytes

    @classmethod
    def of(cls, sample: x509.Certificate) -> "Template":
        """Cut `sample` up; whose key and name it holds and who signed it does not matter."""
        parts = der.certificate_parts(sample.public_bytes(Encoding.DER))
        return cls(parts.algorithm, parts.issuer, parts.extensions)

    def certificate(
        self,
        *,
        serial: int,
        not_before: datetime,
        not_after: datetime,
        subject: bytes,
        spki: bytes,
        sign: Callable[[bytes], bytes],
    ) -> bytes:
        """A certificate in DER; times are UTC to the second, `subject` and `spki` DER, `sign` signs the inner part."""
        inner = der.element(
            _SEQUENCE,
            _VERSION_3
            + der.element(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big"))
            + self.algorithm
            + self.issuer
            + _validity(not_before, not_after)
            + subject
            + spki
            + self.extensions,
        )
        return der.element(_SEQUENCE, inner + self.algorithm + der.element(_BIT_STRING, b"\0" + sign(inner)))


def request(*, subject: bytes, spki: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A CSR in DER that asks for nothing but a subject and a key, both DER; `sign` signs with ECDSA and SHA-256."""
    inner = der.bare_request(subject, spki)
    return der.element(_SEQUENCE, inner + _ECDSA_SHA256 + der.element(_BIT_STRING, b"\0" + sign(inner)))


# To the second: what a busy CA signs within one has the same.
@lru_cache(maxsize=64)
def _validity(not_before: datetime, not_after: datetime) -> bytes:
    return der.element(_SEQUENCE, _time(not_before) + _time(not_after))


def _time(at: datetime) -> bytes:
    """Two digits of the year up to 2049, then four (RFC 5280 4.1.2.5)."""
    digits = f"{at.year:04}{at.month:02}{at.day:02}{at.hour:02}{at.minute:02}{at.second:02}Z".encode()
    return der.element(_UTC_TIME, digits[2:]) if at.year < 2050 else der.element(_GENERALIZED_TIME, digits)
