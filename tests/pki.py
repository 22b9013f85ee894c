"""Factory PKIs for the tests: certificate authorities and devices that are none of ours.

Made with cryptography alone, so that no test proves the project's own certificate code with itself.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Digest = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512
Extensions = Iterable[tuple[x509.ExtensionType, bool]]

CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)


class Holder(NamedTuple):
    """A private key with its certificate; unpacks as `key, certificate = …`."""

    key: PrivateKey
    certificate: x509.Certificate

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


def make_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_name(common_name: str, **others: str) -> x509.Name:
    """A distinguished name, CN last; `others` are NameOID names in lower case: `organization_name="Acme"`."""
    attributes = [x509.NameAttribute(getattr(NameOID, oid.upper()), value) for oid, value in others.items()]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make_certificate(
    subject: str | x509.Name,
    issuer: Holder | None = None,
    *,
    key: PrivateKey | None = None,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | None = None,
    serial: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    extensions: Extensions = (),
    digest: Digest | None = None,
) -> Holder:
    """Exactly what is asked for, sense or nonsense; self-signed without `issuer`.

    With `public_key` the certificate is for a key held elsewhere and the holder's own key means nothing.
    """
    key = key or make_key()
    name = make_name(subject) if isinstance(subject, str) else subject
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(public_key or key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(not_before or now - timedelta(days=1))
        .not_valid_after(not_after or now + timedelta(days=3650))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Holder(key, builder.sign(issuer.key if issuer else key, digest or hashes.SHA256()))


def key_usage(*names: str) -> x509.KeyUsage:
    """A keyUsage extension with the named bits set: `key_usage("digital_signature")`."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


def ca_extensions(
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, path_length: int | None = None
) -> Extensions:
    """What makes a certificate a certificate authority's."""
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    ]


def make_factory_ca(
    name: str = "Factory Root",
    *,
    issuer: Holder | None = None,
    path_length: int | None = None,
    key: PrivateKey | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Holder:
    """A certificate authority: a root, or with `issuer` an intermediate."""
    key = key or make_key()
    extensions = list(ca_extensions(key.public_key(), path_length))
    if issuer:
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False))
    return make_certificate(
        make_name(name, organization_name="Factory"),
        issuer,
        key=key,
        not_before=not_before,
        not_after=not_after,
        extensions=extensions,
    )


def make_device_certificate(
    ca: Holder,
    common_name: str,
    *,
    key: PrivateKey | None = None,
    usages: Iterable[x509.ObjectIdentifier] = CLIENT_AUTH,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    extensions: Extensions = (),
) -> Holder:
    """A device's factory certificate; `usages=()` leaves the extended key usage out."""
    return make_certificate(
        common_name,
        ca,
        key=key,
        not_before=not_before,
        not_after=not_after,
        extensions=[
            (key_usage("digital_signature"), True),
            *([(x509.ExtendedKeyUsage(usages), False)] if usages else []),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False),
            *extensions,
        ],
    )


def make_server_certificate(ca: Holder, *names: x509.GeneralName, common_name: str = "server") -> Holder:
    """A server's certificate for `names`, `x509.DNSName("localhost")` when there are none."""
    return make_certificate(
        common_name,
        ca,
        extensions=[
            (x509.SubjectAlternativeName(names or (x509.DNSName("localhost"),)), False),
            (key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage(SERVER_AUTH), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False),
        ],
    )


def pem_chain(*holders: Holder) -> bytes:
    """The certificates as one PEM text, in the order given."""
    return b"".join(holder.pem for holder in holders)
