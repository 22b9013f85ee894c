"""A device's own look at the credentials it was given: would it be able to use them?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators import tree
from simulators.formats import Resource

PEM_PREFIX = b"-----BEGIN CERTIFICATE-----"
# No path of a device PKI is longer; a limit for loops.
MAX_PATH = 8
# All that cryptography raises on a certificate it cannot read.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

Chain = tuple[x509.Certificate, ...]
Extension = TypeVar("Extension", bound=x509.ExtensionType)


class UnusableCredential(Exception):
    """What a device cannot work with; the text names the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The certificate account of a device: `chain` leaf first, as far as it was given, and the leaf's key."""

    instance: int
    chain: Chain
    key: ec.EllipticCurvePrivateKey

    @property
    def leaf(self) -> x509.Certificate:
        """The device's own certificate."""
        return self.chain[0]


def read_certificates(value: bytes) -> Chain:
    """Certificates in resource 3 or 4: one DER, or PEM leaf first.

    Of several DER certificates in one value only the first is used, as real clients do. Raises
    UnusableCredential.
    """
    try:
        if value.lstrip().startswith(PEM_PREFIX):
            found = tuple(x509.load_pem_x509_certificates(value))
        else:
            found = (x509.load_der_x509_certificate(_first_der(value)),)
        for each in found:
            # Parsed when first asked for: what is broken there makes it no certificate either.
            _ = each.subject, each.issuer, each.extensions, each.public_key()
    except UNREADABLE as error:
        raise UnusableCredential(f"not a certificate: {error}") from error
    return found


def _first_der(value: bytes) -> bytes:
    """The first DER item of `value` (X.690 8.1.3, definite lengths)."""
    if len(value) < 2 or value[1] < 0x80:
        return value[: 2 + value[1]] if len(value) > 1 else value
    size = value[1] & 0x7F
    return value[: 2 + size + int.from_bytes(value[2 : 2 + size], "big")]


def read_identity(instance: int, held: Mapping[int, Resource]) -> Identity:
    """The usable certificate account in an instance of /0 of mode 2. Raises UnusableCredential."""
    try:
        chain = read_certificates(_opaque(held, tree.IDENTITY))
    except UnusableCredential as error:
        raise UnusableCredential(f"/0/{instance}/3: {error}") from error
    try:
        key = load_der_private_key(_opaque(held, tree.SECRET), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The cause may quote the key, so its text stays out.
        raise UnusableCredential(f"/0/{instance}/5 is no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnusableCredential(f"/0/{instance}/5 is no key on P-256")
    if _spki(key.public_key()) != _spki(chain[0].public_key()):
        raise UnusableCredential(f"/0/{instance}/5 does not fit the first certificate of /0/{instance}/3")
    return Identity(instance=instance, chain=chain, key=key)


def unusable(instance: int, held: Mapping[int, Resource]) -> str | None:
    """Why an account of /0 cannot be connected with, by its mode (LwM2M Transport 1.2 5.2), or None."""
    mode = held.get(tree.MODE)
    try:
        match mode:
            case tree.MODE_PSK:
                if not 0 < len(_opaque(held, tree.IDENTITY)) <= 128:
                    return f"/0/{instance}/3 is no PSK identity"
                if not 0 < len(_opaque(held, tree.SECRET)) <= 64:
                    return f"/0/{instance}/5 is no pre-shared key"
            case tree.MODE_CERTIFICATE:
                read_identity(instance, held)
                _server_certificate(instance, held)
            case tree.MODE_NOSEC:
                pass
            case tree.MODE_EST:
                _server_certificate(instance, held)
            case _:
                return f"/0/{instance}/2: security mode {mode!r} is not supported"
    except UnusableCredential as error:
        return str(error)
    return None


def _server_certificate(instance: int, held: Mapping[int, Resource]) -> None:
    """Resource 4 holds the server's certificate or an anchor; by matching type 1 to 3 only its hash."""
    value = _opaque(held, tree.SERVER_KEY)
    if held.get(13, 0) == 0:
        try:
            read_certificates(value)
        except UnusableCredential as error:
            raise UnusableCredential(f"/0/{instance}/4: {error}") from error
    elif not value:
        raise UnusableCredential(f"/0/{instance}/4 is empty")


def _opaque(held: Mapping[int, Resource], resource: int) -> bytes:
    value = held.get(resource, b"")
    return value if isinstance(value, bytes) else b""


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def problems(identity: Identity, *, endpoint: str, now: datetime, trust: Sequence[x509.Certificate]) -> list[str]:
    """What is wrong with a certificate account beyond its use at once; empty = nothing.

    `now` is aware UTC. With `trust` the chain must end at one of its certificates, as `openssl verify` would
    have it; without, only the certificates that were given are judged.
    """
    found: list[str] = []
    names = [attribute.value for attribute in identity.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [endpoint]:
        found.append(f"the certificate's CN is {names}, the endpoint name {endpoint!r}")
    usage = _extension(identity.leaf, x509.ExtendedKeyUsage)
    if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        found.append("the certificate is not for clientAuth")
    if (limits := _extension(identity.leaf, x509.BasicConstraints)) and limits.ca:
        found.append("the certificate is one of a CA")
    for position, certificate in enumerate(identity.chain):
        name = f"certificate {position + 1} of {len(identity.chain)}"
        if now < certificate.not_valid_before_utc:
            found.append(f"{name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC")
        if now > certificate.not_valid_after_utc:
            found.append(f"{name} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")
        if position and not _issued(certificate, identity.chain[position - 1]):
            found.append(f"{name} did not sign the one before it")
        if certificate.subject == certificate.issuer:
            found.append(f"{name} is a root, which has no place in the chain of a device")
    if trust and not found and not _leads_to(identity.chain[-1], trust, now):
        found.append("the chain does not end at the trust anchor")
    return found


def _leads_to(last: x509.Certificate, trust: Sequence[x509.Certificate], now: datetime) -> bool:
    """Whether `last` is in `trust` or reaches a self-signed certificate of it through others of it."""
    for _ in range(MAX_PATH):
        if last in trust and last.subject == last.issuer:
            return True
        above = next((one for one in trust if one != last and _issued(one, last)), None)
        if above is None:
            # A file of one intermediate is an anchor too (`openssl verify -partial_chain`).
            return last in trust
        if not above.not_valid_before_utc <= now <= above.not_valid_after_utc:
            return False
        last = above
    return False


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    limits = _extension(issuer, x509.BasicConstraints)
    if limits is None or not limits.ca:
        return False
    try:
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
