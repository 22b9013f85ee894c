"""A certificate as path building reads it: what forbids it where, who may have issued it (RFC 5280 4)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning

from issuers.certificate import CLIENT_USAGES, KNOWN_CRITICAL, MIN_RSA_BITS, UNREADABLE, USUAL_CURVES
from issuers.der import names
from issuers.end_entity import EndEntity, end_entity

# The device proves possession with ECDSA: only these curves can.
_LEAF_CURVES = (ec.SECP256R1, ec.SECP384R1)
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_ECDSA: dict[type[hashes.HashAlgorithm], ec.ECDSA] = {digest: ec.ECDSA(digest()) for digest in HASHES}
_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class RefusalReason(Enum):
    """Why a chain is not trusted."""

    UNKNOWN_CA = "unknown_ca"
    DENIED = "denied"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    WEAK_KEY = "weak_key"
    WRONG_USAGE = "wrong_usage"
    NOT_A_CA = "not_a_ca"
    PATH_TOO_LONG = "path_too_long"
    MALFORMED = "malformed"


_Reason = tuple[RefusalReason, str]
_NO_CLIENT = (RefusalReason.WRONG_USAGE, "extendedKeyUsage without clientAuth")
_NOT_A_CA = (RefusalReason.NOT_A_CA, "an issuer without basicConstraints CA:TRUE")


class Fault(Exception):
    """A certificate that may not stand where it stands."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@contextmanager
def _leniently() -> Iterator[None]:
    """Read what factories really made (serial numbers below one, NULL parameters) without a warning for each device.

    What the library refuses is refused; what it only warns of takes nothing from the proof of possession or the path.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


class Certificate:
    """A certificate with everything a path asks of it, read once; plain slots, it is per handshake."""

    __slots__ = (
        "_key",
        "_spki",
        "authority_key_id",
        "ca",
        "der",
        "fault",
        "issuer",
        "issuer_fault",
        "key_id",
        "not_after",
        "not_before",
        "path_length",
        "signature",
        "signature_hash",
        "signature_padding",
        "subject",
        "tbs",
    )

    def __init__(self, der: bytes) -> None:
        """Raises Fault when `der` is not a certificate we can read."""
        self.der = der
        self._key: _PublicKey | None = None
        self._spki: bytes | None = None
        self.ca = False
        self.path_length: int | None = None
        self.key_id: bytes | None = None
        self.authority_key_id: bytes | None = None
        # What forbids it as a device's certificate, and what as an issuer; None = nothing.
        self.fault: _Reason | None = None
        self.issuer_fault: _Reason | None = None
        self.signature_hash: hashes.HashAlgorithm | None = None
        self.signature_padding: object = None
        plain = end_entity(der)
        if plain is None:
            self._read_whole()
        else:
            self._take(plain)
        if self.issuer_fault is None and not self.ca:
            self.issuer_fault = _NOT_A_CA

    def _take(self, plain: EndEntity) -> None:
        """What `_read_whole` would find in a certificate of the usual form, without parsing it; its key is P-256."""
        self.issuer, self.subject = plain.issuer, plain.subject
        self.not_before, self.not_after = plain.not_before, plain.not_after
        self.tbs, self.signature, self.signature_hash = plain.tbs, plain.signature, plain.digest
        self._spki = plain.spki
        extensions = plain.extensions
        self.key_id, self.authority_key_id = extensions.subject_key_id, extensions.authority_key_id
        if extensions.key_usage is not None:
            self._apply(extensions.key_usage)
        if extensions.extended_key_usage is not None and CLIENT_USAGES.isdisjoint(extensions.extended_key_usage):
            self.fault = self.fault or _NO_CLIENT
            self.issuer_fault = self.issuer_fault or _NO_CLIENT

    def _read_whole(self) -> None:
        der = self.der
        try:
            with _leniently():
                parsed = x509.load_der_x509_certificate(der)
                # Parsed when first asked for, and may be what is broken; the issuer's stands in its own certificate.
                _ = parsed.subject
                self.issuer, self.subject = names(der)
                self.not_before = parsed.not_valid_before_utc
                self.not_after = parsed.not_valid_after_utc
                self.tbs = parsed.tbs_certificate_bytes
                self.signature = parsed.signature
                key = parsed.public_key()
                extensions = parsed.extensions
                self.signature_hash = parsed.signature_hash_algorithm
                self.signature_padding = parsed.signature_algorithm_parameters
        except UNREADABLE as error:
            raise Fault(RefusalReason.MALFORMED, f"not a certificate we can read: {error}") from error
        if der[-len(self.signature) - 1 :][:1] != b"\0":
            # The count of unused bits stands outside what is signed; every signature has whole bytes.
            raise Fault(RefusalReason.MALFORMED, "the signature has unused bits")
        if isinstance(
            key,
            ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey,
        ):
            self._key = key
        else:
            self._spki = b""
        self.fault = self._key_fault(leaf=True)
        self.issuer_fault = self._key_fault(leaf=False)
        self._read(extensions)

    def _key_fault(self, *, leaf: bool) -> _Reason | None:
        match self._key:
            case ec.EllipticCurvePublicKey(curve=curve):
                allowed = _LEAF_CURVES if leaf else USUAL_CURVES
                return None if isinstance(curve, allowed) else (RefusalReason.WEAK_KEY, f"curve {curve.name}")
            case rsa.RSAPublicKey(key_size=bits):
                if leaf:
                    return RefusalReason.WEAK_KEY, "an RSA key cannot prove itself in the suites offered"
                if bits < MIN_RSA_BITS:
                    return RefusalReason.WEAK_KEY, f"RSA key of {bits} bits"
                return None
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                return (RefusalReason.WEAK_KEY, "an EdDSA key cannot prove itself here") if leaf else None
            case None:
                return RefusalReason.WEAK_KEY, "a key of a kind not accepted"

    def _read(self, extensions: x509.Extensions) -> None:
        both: _Reason | None = None
        for extension in extensions:
            value = extension.value
            match value:
                case x509.BasicConstraints():
                    self.ca = value.ca
                    self.path_length = value.path_length
                case x509.KeyUsage():
                    self._apply(value)
                case x509.ExtendedKeyUsage():
                    if CLIENT_USAGES.isdisjoint(value):
                        both = _NO_CLIENT
                case x509.SubjectKeyIdentifier():
                    self.key_id = value.digest
                case x509.AuthorityKeyIdentifier():
                    self.authority_key_id = value.key_identifier
                case x509.NameConstraints():
                    # RFC 5280 4.2.1.10: who does not apply them must refuse, critical or not.
                    self.issuer_fault = (RefusalReason.MALFORMED, "nameConstraints are not supported")
                case _:
                    if extension.critical and extension.oid not in KNOWN_CRITICAL:
                        both = (
                            RefusalReason.MALFORMED,
                            f"unknown critical extension {extension.oid.dotted_string}",
                        )
        if both is not None:
            self.fault = self.fault or both
            self.issuer_fault = self.issuer_fault or both

    def _apply(self, usage: x509.KeyUsage) -> None:
        if not usage.digital_signature and self.fault is None:
            self.fault = (RefusalReason.WRONG_USAGE, "keyUsage without digitalSignature")
        if not usage.key_cert_sign and self.issuer_fault is None:
            self.issuer_fault = (RefusalReason.NOT_A_CA, "an issuer whose keyUsage lacks keyCertSign")

    @property
    def key(self) -> _PublicKey | None:
        """Its public key, None for a kind not accepted; of a device's certificate loaded when first asked."""
        if self._key is None and self._spki:
            key = serialization.load_der_public_key(self._spki)
            self._key = key if isinstance(key, ec.EllipticCurvePublicKey) else None
        return self._key

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo in DER, empty for a kind not accepted; made when first asked."""
        if self._spki is None:
            self._spki = b"" if self._key is None else _public_key_info(self._key)
        return self._spki

    def check_time(self, now: datetime) -> None:
        """Raises Fault outside the validity."""
        if now > self.not_after:
            raise Fault(RefusalReason.EXPIRED, f"valid until {self.not_after:%Y-%m-%d %H:%M:%S}Z")
        if now < self.not_before:
            raise Fault(RefusalReason.NOT_YET_VALID, f"valid from {self.not_before:%Y-%m-%d %H:%M:%S}Z")

    def may_have_issued(self, child: "Certificate") -> bool:
        """Names and, where both tell one, key identifiers fit (RFC 5280 4.2.1.1)."""
        return self.subject == child.issuer and (
            self.key_id is None or child.authority_key_id is None or self.key_id == child.authority_key_id
        )

    def signed(self, child: "Certificate") -> bool:
        """Whether our key made the child's signature."""
        key, digest = self.key, child.signature_hash
        try:
            match key:
                case ec.EllipticCurvePublicKey():
                    if digest is None:
                        return False
                    key.verify(child.signature, child.tbs, _ECDSA.get(type(digest)) or ec.ECDSA(digest))
                case rsa.RSAPublicKey():
                    scheme = child.signature_padding
                    if digest is None or not isinstance(scheme, padding.PKCS1v15 | padding.PSS):
                        return False
                    key.verify(child.signature, child.tbs, scheme, digest)
                case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                    key.verify(child.signature, child.tbs)
                case None:
                    return False
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True


def _public_key_info(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def name_and_key(der: bytes) -> tuple[bytes, bytes]:
    """Subject and SubjectPublicKeyInfo of a certificate, both DER; raises ValueError."""
    try:
        with _leniently():
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject
            return names(der)[1], _public_key_info(certificate.public_key())
    except UNREADABLE as error:
        raise ValueError(f"not a certificate we can use: {error}") from error


def describe(der: bytes) -> str:
    """The subject of a certificate as RFC 4514 text, or its SHA-256 when it has none or cannot be read."""
    try:
        with _leniently():
            subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except UNREADABLE:
        subject = ""
    if not subject:
        return f"sha256:{sha256(der).hexdigest()}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in subject)
