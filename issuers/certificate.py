"""What one certificate says, read once into plain fields.

All that is constant about CA certificates is remembered by their content, what they say and who signed whom: the
checks of a returned certificate run in every bootstrap, and there only the leaf is new.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    PublicKeyAlgorithmOID,
    SignatureAlgorithmOID,
)

from issuers.der import issuer_name, names, signature_algorithms
from issuers.end_entity import end_entity
from issuers.name import same_name
from issuers.words import plain

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

MIN_RSA_BITS = 2048
USUAL_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
CLIENT_USAGES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
KNOWN_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
"""Extensions that every server applies where they are critical; policies restrict nothing (RFC 5280 6.1.1 (c))."""

# CA certificates known by their objects; at the limit the memory starts anew.
LIMIT = 256
# Bytes of a certificate that is remembered; a CA may send a megabyte, and a thousand of those are not to stay.
LARGEST_REMEMBERED = 8192

_STRONG_WITHOUT_HASH = frozenset({SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448})
_ECDSA = {digest.name: ec.ECDSA(digest) for digest in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())}
# AlgorithmIdentifier, DER (RFC 5758 3.2).
_ALGORITHMS = {
    bytes.fromhex("300a06082a8648ce3d040302"): _ECDSA["sha256"],
    bytes.fromhex("300a06082a8648ce3d040303"): _ECDSA["sha384"],
    bytes.fromhex("300a06082a8648ce3d040304"): _ECDSA["sha512"],
}
_RSA = frozenset({PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5, PublicKeyAlgorithmOID.RSASSA_PSS})


class Certificate:
    """A certificate read; `self_signed` is verified, `self_issued` a matter of names; times are UTC.

    `plain` are its parts where it has the usual form of a device's (`end_entity.py`); then nothing of it is parsed that
    nobody asks for. `doubts` are reasons for which servers may refuse it, each the end of a sentence. It is its bytes:
    two of the same are equal.
    """

    __slots__ = (
        "_ec_key",
        "_fingerprint",
        "_issuer",
        "_subject",
        "authority_key_id",
        "der",
        "doubts",
        "extended_key_usage",
        "has_revocation_pointers",
        "has_rsa_key",
        "has_san",
        "is_ca",
        "issuer_der",
        "key_usage",
        "key_usage_critical",
        "not_after",
        "not_before",
        "parsed",
        "path_length",
        "plain",
        "self_issued",
        "self_signed",
        "serial",
        "strong_signature",
        "subject_der",
        "subject_key_id",
    )

    def __init__(self, parsed: x509.Certificate, der: bytes) -> None:
        """`der` is `parsed`; raises one of UNREADABLE."""
        self.parsed = parsed
        self.der = der
        self._subject: x509.Name | None = None
        self._issuer: x509.Name | None = None
        self._fingerprint = b""
        # None = not looked for yet.
        self._ec_key: ec.EllipticCurvePublicKey | Literal[False] | None = None
        self.is_ca = self.has_rsa_key = self.has_revocation_pointers = False
        self.path_length: int | None = None
        self.doubts: tuple[str, ...] = ()
        plain = self.plain = end_entity(der)
        if plain is None:
            self._read_whole(parsed)
        else:
            self.subject_der, self.issuer_der, self.serial = plain.subject, plain.issuer, plain.serial
            self.not_before, self.not_after = plain.not_before, plain.not_after
            (
                self.key_usage,
                self.key_usage_critical,
                self.extended_key_usage,
                self.subject_key_id,
                self.authority_key_id,
                self.has_san,
            ) = plain.extensions
            self.self_issued = plain.attributes == plain.issuer_attributes
            self.strong_signature = True
        self.self_signed = self.self_issued and _signed_by(self, self)

    def _read_whole(self, parsed: x509.Certificate) -> None:
        self.key_usage = self.extended_key_usage = self.subject_key_id = self.authority_key_id = None
        self.key_usage_critical = self.has_san = False
        for extension in parsed.extensions:
            match extension.value:
                case x509.KeyUsage() as usage:
                    self.key_usage, self.key_usage_critical = usage, extension.critical
                case x509.ExtendedKeyUsage() as extended:
                    self.extended_key_usage = extended
                case x509.AuthorityKeyIdentifier(key_identifier=identifier):
                    self.authority_key_id = identifier
                case x509.SubjectKeyIdentifier(digest=identifier):
                    self.subject_key_id = identifier
                case x509.BasicConstraints(ca=is_ca, path_length=path_length):
                    self.is_ca, self.path_length = is_ca, path_length
                case x509.SubjectAlternativeName():
                    self.has_san = True
                case x509.CRLDistributionPoints():
                    self.has_revocation_pointers = True
                case x509.AuthorityInformationAccess() as access if any(
                    each.access_method == AuthorityInformationAccessOID.OCSP for each in access
                ):
                    self.has_revocation_pointers = True
                case _:
                    pass
        self._subject, self._issuer = parsed.subject, issuer_name(parsed, self.der)
        self.issuer_der, self.subject_der = names(self.der)
        self.serial = parsed.serial_number
        self.not_before, self.not_after = parsed.not_valid_before_utc, parsed.not_valid_after_utc
        self.self_issued = self._subject == self._issuer
        self.strong_signature = _is_strong(parsed)
        self.has_rsa_key = parsed.public_key_algorithm_oid in _RSA
        self.doubts = tuple(self._doubts())

    def _doubts(self) -> Iterator[str]:
        for extension in self.parsed.extensions:
            if isinstance(extension.value, x509.NameConstraints):
                yield "has name constraints, which not every server applies"
            elif extension.critical and extension.oid not in KNOWN_CRITICAL:
                oid = extension.oid.dotted_string
                yield f"has the critical extension {oid}, which who does not know it must refuse"
        usage = self.extended_key_usage
        if self.is_ca and usage is not None and CLIENT_USAGES.isdisjoint(usage):
            yield "has an extended key usage without clientAuth, so many servers take no client below it"
        try:
            key = self.parsed.public_key()
        except UNREADABLE:
            return
        match key:
            case rsa.RSAPublicKey(key_size=bits) if bits < MIN_RSA_BITS:
                yield f"has an RSA key of {bits} bits, which most servers refuse as weak"
            case ec.EllipticCurvePublicKey(curve=curve) if not isinstance(curve, USUAL_CURVES):
                yield f"has a key on {curve.name}, which most servers refuse as weak"
            case _:
                pass

    @property
    def subject(self) -> x509.Name:
        """Parsed when first asked for."""
        if self._subject is None:
            self._subject = self.parsed.subject
        return self._subject

    @property
    def issuer(self) -> x509.Name:
        """Parsed when first asked for."""
        if self._issuer is None:
            self._issuer = issuer_name(self.parsed, self.der)
        return self._issuer

    @property
    def name(self) -> str:
        """The subject for messages."""
        return plain(self.subject.rfc4514_string()) or "(no subject)"

    @property
    def fingerprint(self) -> bytes:
        """Its SHA-256."""
        if not self._fingerprint:
            self._fingerprint = sha256(self.der).digest()
        return self._fingerprint

    @property
    def ec_key(self) -> ec.EllipticCurvePublicKey | None:
        """Its public key where that is an EC key that can be loaded; loaded once."""
        if self._ec_key is None:
            try:
                key = self.parsed.public_key()
            except UNREADABLE:
                self._ec_key = False
            else:
                self._ec_key = key if isinstance(key, ec.EllipticCurvePublicKey) else False
        return self._ec_key or None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


def read_certificate(certificate: x509.Certificate, der: bytes = b"") -> Certificate:
    """Read a certificate; `der` is the same in bytes, for whoever has them. Raises one of UNREADABLE."""
    return Certificate(certificate, der or certificate.public_bytes(Encoding.DER))


def ca_certificate(certificate: x509.Certificate) -> Certificate:
    """`read_certificate` for CA certificates, remembered unless they are very large."""
    known = _known.get(id(certificate))
    # The same object costs no hashing of its content; kept here, it keeps its id.
    if known is None or known[0] is not certificate:
        der = certificate.public_bytes(Encoding.DER)
        if len(der) > LARGEST_REMEMBERED:
            return read_certificate(certificate, der)
        if len(_known) >= LIMIT:
            _known.clear()
        known = _known[id(certificate)] = certificate, _ca_certificate(certificate)
    return known[1]


_known: dict[int, tuple[x509.Certificate, Certificate]] = {}
_ca_certificate = lru_cache(maxsize=1024)(read_certificate)


def signed_by(child: Certificate, issuer: Certificate) -> bool:
    """Whether `issuer`'s key made the signature of `child`; remembered when `child` is a CA, and neither very large."""
    is_remembered = child.is_ca and max(len(child.der), len(issuer.der)) <= LARGEST_REMEMBERED
    return (_signed_by_remembered if is_remembered else _signed_by)(child, issuer)


def _signed_by(child: Certificate, issuer: Certificate) -> bool:
    """As `verify_directly_issued_by`, at the price of the verification alone where a remembered EC key does it."""
    key, plain = issuer.ec_key, child.plain
    try:
        if key is not None and plain is not None:
            key.verify(plain.signature, plain.tbs, _ECDSA[plain.digest.name])
            return same_name(plain.issuer, issuer.subject_der)
        inner, outer = signature_algorithms(child.der)
        algorithm = _ALGORITHMS.get(inner)
        if key is None or algorithm is None or inner != outer:
            child.parsed.verify_directly_issued_by(issuer.parsed)
            return True
        key.verify(child.parsed.signature, child.parsed.tbs_certificate_bytes, algorithm)
        return child.issuer == issuer.subject
    except (InvalidSignature, *UNREADABLE):
        return False


_signed_by_remembered = lru_cache(maxsize=1024)(_signed_by)


def _is_strong(certificate: x509.Certificate) -> bool:
    if certificate.signature_algorithm_oid in _STRONG_WITHOUT_HASH:
        return True
    digest = certificate.signature_hash_algorithm
    return digest is not None and digest.name in STRONG_HASHES
