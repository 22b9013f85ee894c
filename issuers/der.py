"""Parts of a certificate as they stand in it, and its issuer's name, parsed once for each CA (RFC 5280 4.1).

Thousands of certificates name the same issuer, and a parsed name is many small objects: after the first certificate of
a CA its bytes are a look-up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

# Names kept; at the limit the memory starts anew. Peers choose names, so it must not grow with them.
LIMIT = 1024

_VERSION_1 = bytes.fromhex("020100")
_NO_ATTRIBUTES = bytes.fromhex("a000")
# ecdsa-with-SHA256, -SHA384 and -SHA512 (RFC 5758 3.2).
_ECDSA = tuple(bytes.fromhex(f"06082a8648ce3d0403{last}") for last in ("02", "03", "04"))
_NULL = bytes.fromhex("0500")

_remembered: dict[bytes, x509.Name] = {}


def issuer_name(certificate: x509.Certificate, der: bytes) -> x509.Name:
    """`certificate.issuer`; `der` is the certificate. Raises what that raises."""
    issuer, _ = names(der)
    name = _remembered.get(issuer)
    if name is None:
        name = certificate.issuer
        if len(_remembered) >= LIMIT:
            _remembered.clear()
        _remembered[issuer] = name
    return name


def names(der: bytes) -> tuple[bytes, bytes]:
    """Issuer and subject, DER, of a certificate that the library has read, so that no length can lie."""
    issuer = _end(der, _algorithm(der))
    validity = _end(der, issuer)
    subject = _end(der, validity)
    return der[issuer:validity], der[subject : _end(der, subject)]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a certificate authority's certificates have in common, DER."""

    algorithm: bytes
    issuer: bytes
    extensions: bytes


def certificate_parts(der: bytes) -> Parts:
    """The parts of a certificate of version 3 that the library has read."""
    algorithm = _algorithm(der)
    issuer = _end(der, algorithm)
    validity = _end(der, issuer)
    spki = _end(der, _end(der, validity))
    inner = _content(der, 0)
    return Parts(der[algorithm:issuer], der[issuer:validity], der[_end(der, spki) : _end(der, inner)])


def attribute_kinds(name: bytes) -> Iterator[tuple[bytes, int]]:
    """Type, DER, and tag of the value of each attribute of a name, DER, that the library has made or read."""
    at, end = _content(name, 0), _end(name, 0)
    while at < end:
        attribute, group_end = _content(name, at), _end(name, at)
        while attribute < group_end:
            kind = _content(name, attribute)
            value = _end(name, kind)
            yield name[kind:value], name[value]
            attribute = _end(name, attribute)
        at = group_end


def request_names(der: bytes) -> tuple[bytes, bytes]:
    """Subject and public key (SubjectPublicKeyInfo), DER, of a CSR that the library has read (RFC 2986 4.1)."""
    version = _content(der, _content(der, 0))
    subject = _end(der, version)
    spki = _end(der, subject)
    return der[subject:spki], der[spki : _end(der, spki)]


def request_attributes(information: bytes) -> Iterator[bytes]:
    """The identifiers, DER, of the attributes of a CSR that the library has read, by its CertificationRequestInfo."""
    subject = _end(information, _content(information, 0))
    attributes = _end(information, _end(information, subject))
    at, end = _content(information, attributes), _end(information, attributes)
    while at < end:
        identifier = _content(information, at)
        yield information[identifier : _end(information, identifier)]
        at = _end(information, at)


def without_null_parameters(der: bytes) -> bytes:
    """A CSR from anywhere, its ECDSA algorithm without the NULL that does not belong behind it (RFC 5758 3.2).

    Mbed TLS before 3.5 writes one, on all its devices. What stands beside the signature is not signed: it still fits.
    """
    try:
        inner = _content(der, 0)
        algorithm = _end(der, inner)
        if _end(der, 0) != len(der):
            return der
    except IndexError:
        return der
    for identifier in _ECDSA:
        written = element(0x30, identifier + _NULL)
        if der.startswith(written, algorithm):
            return element(0x30, der[inner:algorithm] + element(0x30, identifier) + der[algorithm + len(written) :])
    return der


def bare_request(subject: bytes, spki: bytes) -> bytes:
    """The CertificationRequestInfo of a CSR that asks for nothing but a subject and a key, both DER (RFC 2986 4.1)."""
    return element(0x30, _VERSION_1 + subject + spki + _NO_ATTRIBUTES)


def element(tag: int, content: bytes) -> bytes:
    """One element with a definite length (X.690 8.1.3)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def signature_algorithms(der: bytes) -> tuple[bytes, bytes]:
    """The algorithm that is signed and the one beside the signature, DER: they must be the same (RFC 5280 4.1.1.2)."""
    inner, outer = _algorithm(der), _end(der, _content(der, 0))
    return der[inner : _end(der, inner)], der[outer : _end(der, outer)]


def _algorithm(der: bytes) -> int:
    """Where the algorithm that is signed begins: behind version and serial number."""
    at = _content(der, _content(der, 0))
    if der[at] == 0xA0:
        # Certificates of version 1 lack it.
        at = _end(der, at)
    return _end(der, at)


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
