"""The client's own format of a certificate chain in an EST answer, and what it asks of the certificates.

`01`, the number of certificates, then each behind its length in two bytes, big-endian: the device's own first, each
next one the signer of the one before. Builds for standard LwM2M (LWM2M_COMPLIANT) take PKCS#7 instead, in the same
order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from simulators import est
from simulators.checks import UNREADABLE, Chain

VERSION = 1
# The client stores no longer chain and no larger certificate, CN or L.
MOST_CERTIFICATES = 5
LARGEST_CERTIFICATE = 1024
LARGEST_COMPLIANT = 2048
LONGEST_NAME = 64


class UnusableChain(Exception):
    """An answer that the client fails its bootstrap for; the text says why."""


@dataclass(frozen=True, slots=True)
class Named:
    """A chain the client can store, and who its own certificate says it is."""

    chain: Chain
    endpoint: str
    device_id: str


def read_chain(body: bytes) -> Chain:
    """The certificates of an answer in their order. Raises UnusableChain."""
    if len(body) < 2 or body[0] != VERSION:
        raise UnusableChain("the answer is no chain of version 1")
    count, at = body[1], 2
    _require_count(count)
    found: list[x509.Certificate] = []
    for number in range(1, count + 1):
        length = int.from_bytes(body[at : at + 2], "big")
        der = body[at + 2 : at + 2 + length]
        if at + 2 > len(body) or len(der) != length:
            raise UnusableChain(f"certificate {number} of {count} runs past the answer")
        if length > LARGEST_CERTIFICATE:
            raise UnusableChain(f"certificate {number} has {length} bytes, {LARGEST_CERTIFICATE} can be stored")
        try:
            certificate = x509.load_der_x509_certificate(der)
            # Parsed when first asked for: what is broken there makes it no certificate either.
            _ = certificate.subject, certificate.issuer, certificate.public_key()
        except UNREADABLE as error:
            raise UnusableChain(f"certificate {number} of {count} cannot be read: {error}") from error
        found.append(certificate)
        at += 2 + length
    if at != len(body):
        raise UnusableChain(f"{len(body) - at} bytes follow the last certificate")
    _require_signers(found)
    return tuple(found)


def read_pkcs7(body: bytes) -> Chain:
    """The certificates of an answer to a build for standard LwM2M, in their order. Raises UnusableChain."""
    try:
        found = est.read_certificates(body)
    except est.EnrolmentFailed as failure:
        raise UnusableChain(str(failure)) from failure
    _require_count(len(found))
    for number, certificate in enumerate(found, 1):
        size = len(certificate.public_bytes(Encoding.DER))
        if size > LARGEST_COMPLIANT:
            raise UnusableChain(f"certificate {number} has {size} bytes, {LARGEST_COMPLIANT} can be stored")
    _require_signers(found)
    return found


def _require_count(count: int) -> None:
    if not 0 < count <= MOST_CERTIFICATES:
        raise UnusableChain(f"{count} certificates, 1 to {MOST_CERTIFICATES} can be stored")


def _require_signers(chain: Sequence[x509.Certificate]) -> None:
    for below, above in itertools.pairwise(chain):
        try:
            below.verify_directly_issued_by(above)
        except (InvalidSignature, *UNREADABLE) as error:
            raise UnusableChain("a certificate is not signed by the next one") from error


def named(chain: Chain, key: ec.EllipticCurvePrivateKey, *, needs_device_id: bool = True) -> Named:
    """Who the device is by its new certificate, which must be of its key. Raises UnusableChain.

    Builds for standard LwM2M do not need their device id back; theirs is empty here.
    """
    leaf = chain[0]
    if leaf.public_key() != key.public_key():
        raise UnusableChain("the certificate is not for the key of the request")
    device_id = _one(leaf, NameOID.LOCALITY_NAME, "L") if needs_device_id else ""
    return Named(chain, _one(leaf, NameOID.COMMON_NAME, "CN"), device_id)


def _one(leaf: x509.Certificate, oid: x509.ObjectIdentifier, short: str) -> str:
    values = [str(each.value) for each in leaf.subject.get_attributes_for_oid(oid)]
    if len(values) != 1 or not values[0]:
        raise UnusableChain(f"the certificate has no {short}")
    if len(values[0]) > LONGEST_NAME:
        raise UnusableChain(f"the certificate's {short} has {len(values[0])} characters, {LONGEST_NAME} can be stored")
    return values[0]
