"""A certificate as a person reads it: the fields that decide, and its fingerprint."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuers.certificate import UNREADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One certificate; `serial` in hexadecimal, `fingerprint` SHA-256."""

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    key: str
    signature: str
    is_ca: bool
    self_signed: bool
    fingerprint: bytes
    pem: str = field(repr=False)


def described(certificate: x509.Certificate) -> Described:
    """What is read of `certificate`; a part of it that cannot be read is said to be unreadable."""
    return Described(
        subject=_name(certificate, "subject"),
        issuer=_name(certificate, "issuer"),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=_key(certificate),
        signature=_signature(certificate),
        is_ca=_is_ca(certificate),
        self_signed=_name(certificate, "subject") == _name(certificate, "issuer"),
        fingerprint=certificate.fingerprint(hashes.SHA256()),
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def _name(certificate: x509.Certificate, which: str) -> str:
    try:
        name: x509.Name = getattr(certificate, which)
        return name.rfc4514_string() or "without a name"
    except UNREADABLE:
        return "unreadable"


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except UNREADABLE:
        return "unreadable"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ECDSA P-256"}.get(key.curve.name, f"ECDSA {key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey")


def _signature(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UNREADABLE:
        return "unreadable"
    return algorithm.name.upper() if algorithm is not None else "of its own"


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return found.value.ca
