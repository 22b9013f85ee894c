"""Certificates as the transport tests need them, good and bad."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.trust import Anchor, TrustIndex

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNT = UUID(int=1)


class Made:
    """A certificate and the key that belongs to it."""

    def __init__(self, certificate: x509.Certificate, key: Any) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make(
    common_name: str,
    issuer: Made | None = None,
    *,
    key: Any = None,
    ca: bool | None = None,
    path_length: int | None = None,
    not_before: datetime = NOW - HOUR,
    not_after: datetime = NOW + 1000 * HOUR,
    digest: hashes.HashAlgorithm | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    key_ids: bool = False,
) -> Made:
    """A certificate of `issuer`, self-signed without one; `ca=None` leaves basicConstraints out."""
    key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer is not None else name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if key_ids:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Made(builder.sign(signer, digest or hashes.SHA256()), key)


def anchor(made: Made, *, account: UUID = ACCOUNT, active: bool = True, service: Any = "bootstrap") -> Anchor:
    return Anchor(id=uuid4(), account_id=account, service=service, certificate=made.der, active=active)


class Pki:
    """A factory with root, intermediate and one device; a server's own certificate."""

    def __init__(self) -> None:
        self.root = make("Factory Root", ca=True)
        self.intermediate = make("Factory Line 1", self.root, ca=True, path_length=0)
        self.device = make("dev-1", self.intermediate, ca=False)
        self.stranger = make("dev-1", make("Elsewhere", ca=True), ca=False)
        self.server = make("bootstrap.example.com")
        self.index = TrustIndex([anchor(self.root)])

    @property
    def path(self) -> tuple[Made, ...]:
        return (self.device, self.intermediate, self.root)
