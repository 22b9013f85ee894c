"""Parts of a certificate as they stand in it, and its issuer's name, parsed once for each CA (RFC 5280 4.1).

Thousands of certificates name the same issuer, and a parsed name is many small objects: after the first certificate of
a CA its bytes are a look-up.
"""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# Names kept; at the limit the memory starts anew. Peers choose names, so it must not grow with them.
LIMIT = 1024

_remembered: dict[bytes, x509.Name] = {}


def issuer_name(certificate: x509.Certificate) -> x509.Name:
    """`certificate.issuer`; raises what that raises."""
    der, _ = names_der(certificate)
    name = _remembered.get(der)
    if name is None:
        name = certificate.issuer
        if len(_remembered) >= LIMIT:
            _remembered.clear()
        _remembered[der] = name
    return name


def names_der(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Issuer and subject, DER; the library has read the structure, so no length can lie."""
    tbs = certificate.tbs_certificate_bytes
    issuer = _end(tbs, _algorithm(tbs))
    validity = _end(tbs, issuer)
    subject = _end(tbs, validity)
    return tbs[issuer:validity], tbs[subject : _end(tbs, subject)]


def signature_algorithms(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """The algorithm that is signed and the one beside the signature, DER: they must be the same (RFC 5280 4.1.1.2)."""
    tbs, whole = certificate.tbs_certificate_bytes, certificate.public_bytes(Encoding.DER)
    inner, outer = _algorithm(tbs), _content(whole, 0) + len(tbs)
    return tbs[inner : _end(tbs, inner)], whole[outer : _end(whole, outer)]


def _algorithm(tbs: bytes) -> int:
    """Where the signature algorithm begins: behind version and serial number."""
    at = _content(tbs, 0)
    if tbs[at] == 0xA0:
        # Certificates of version 1 lack it.
        at = _end(tbs, at)
    return _end(tbs, at)


def _content(der: bytes, at: int) -> int:
    """Where the content of the element at `at` begins (X.690 8.1.3)."""
    first = der[at + 1]
    return at + 2 if first < 0x80 else at + 2 + (first & 0x7F)


def _end(der: bytes, at: int) -> int:
    """Where the element at `at` ends."""
    first = der[at + 1]
    if first < 0x80:
        return at + 2 + first
    content = at + 2 + (first & 0x7F)
    return content + int.from_bytes(der[at + 2 : content], "big")
