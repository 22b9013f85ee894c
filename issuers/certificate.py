"""What one certificate says, read once into plain fields.

All that is constant about CA certificates is remembered by their content, what they say and who signed whom: the
checks of a returned certificate run in every bootstrap, and there only the leaf is new.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, PublicKeyAlgorithmOID, SignatureAlgorithmOID

from issuers.der import issuer_name, signature_algorithms

STRONG_HASHES = frozenset({"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"})

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that cryptography raises on what it cannot read."""

_STRONG_WITHOUT_HASH = frozenset({SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448})
# AlgorithmIdentifier, DER (RFC 5758 3.2).
_ECDSA = {
    bytes.fromhex("300a06082a8648ce3d040302"): ec.ECDSA(hashes.SHA256()),
    bytes.fromhex("300a06082a8648ce3d040303"): ec.ECDSA(hashes.SHA384()),
    bytes.fromhex("300a06082a8648ce3d040304"): ec.ECDSA(hashes.SHA512()),
}
_RSA = frozenset({PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5, PublicKeyAlgorithmOID.RSASSA_PSS})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Certificate:
    """A certificate read; `self_signed` is verified, `self_issued` a matter of names; times are UTC."""

    parsed: x509.Certificate
    der: bytes
    fingerprint: bytes
    subject: x509.Name
    issuer: x509.Name
    serial: int
    not_before: datetime
    not_after: datetime
    self_issued: bool
    self_signed: bool
    strong_signature: bool
    has_rsa_key: bool
    is_ca: bool
    path_length: int | None
    key_usage: x509.KeyUsage | None
    key_usage_critical: bool
    extended_key_usage: x509.ExtendedKeyUsage | None
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    has_san: bool
    has_revocation_pointers: bool

    @property
    def name(self) -> str:
        """The subject for messages."""
        return self.subject.rfc4514_string() or "(no subject)"


def read_certificate(certificate: x509.Certificate) -> Certificate:
    """Read a certificate; raises one of UNREADABLE."""
    basic: x509.BasicConstraints | None = None
    key_usage: x509.KeyUsage | None = None
    key_usage_critical = False
    extended: x509.ExtendedKeyUsage | None = None
    subject_key_id: bytes | None = None
    authority_key_id: bytes | None = None
    has_san = has_revocation_pointers = False
    for extension in certificate.extensions:
        match extension.value:
            case x509.KeyUsage() as key_usage:
                key_usage_critical = extension.critical
            case x509.ExtendedKeyUsage() as extended:
                pass
            case x509.AuthorityKeyIdentifier(key_identifier=authority_key_id):
                pass
            case x509.SubjectKeyIdentifier(digest=subject_key_id):
                pass
            case x509.BasicConstraints() as basic:
                pass
            case x509.SubjectAlternativeName():
                has_san = True
            case x509.CRLDistributionPoints():
                has_revocation_pointers = True
            case x509.AuthorityInformationAccess() as access if any(
                each.access_method == AuthorityInformationAccessOID.OCSP for each in access
            ):
                has_revocation_pointers = True
            case _:
                pass
    der = certificate.public_bytes(Encoding.DER)
    subject, issuer = certificate.subject, issuer_name(certificate, der)
    self_issued = subject == issuer
    return Certificate(
        parsed=certificate,
        der=der,
        fingerprint=sha256(der).digest(),
        subject=subject,
        issuer=issuer,
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        self_issued=self_issued,
        self_signed=self_issued and _signed_by(certificate, certificate),
        strong_signature=_is_strong(certificate),
        has_rsa_key=certificate.public_key_algorithm_oid in _RSA,
        is_ca=basic is not None and basic.ca,
        path_length=basic.path_length if basic is not None else None,
        key_usage=key_usage,
        key_usage_critical=key_usage_critical,
        extended_key_usage=extended,
        subject_key_id=subject_key_id,
        authority_key_id=authority_key_id,
        has_san=has_san,
        has_revocation_pointers=has_revocation_pointers,
    )


ca_certificate = lru_cache(maxsize=1024)(read_certificate)
"""`read_certificate` for CA certificates, remembered."""


def signed_by(child: Certificate, issuer: Certificate) -> bool:
    """Whether `issuer`'s key made the signature of `child`; remembered when `child` is a CA."""
    return (_signed_by_remembered if child.is_ca else _signed_by)(child.parsed, issuer.parsed)


def _signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """As `verify_directly_issued_by`, at the price of the verification alone where a remembered EC key does it."""
    try:
        der = child.public_bytes(Encoding.DER)
        inner, outer = signature_algorithms(der)
        key, algorithm = _ec_key(issuer), _ECDSA.get(inner)
        if key is None or algorithm is None or inner != outer:
            child.verify_directly_issued_by(issuer)
            return True
        key.verify(child.signature, child.tbs_certificate_bytes, algorithm)
        return issuer_name(child, der) == issuer.subject
    except (InvalidSignature, *UNREADABLE):
        return False


@lru_cache(maxsize=1024)
def _ec_key(issuer: x509.Certificate) -> ec.EllipticCurvePublicKey | None:
    try:
        key = issuer.public_key()
    except UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


_signed_by_remembered = lru_cache(maxsize=1024)(_signed_by)


def _is_strong(certificate: x509.Certificate) -> bool:
    if certificate.signature_algorithm_oid in _STRONG_WITHOUT_HASH:
        return True
    digest = certificate.signature_hash_algorithm
    return digest is not None and digest.name in STRONG_HASHES
