"""Making the certificates of our own CAs: two roots, of which neither signs the other's kind (design 8).

    device root ── issuing CA ── devices            clientAuth
    server root ── the bootstrap server's own       serverAuth

Pure functions but for `make_keys` and `make_serials`: keys, serial numbers and times are arguments. Profile:
draft-ietf-uta-tls13-iot-profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from issuers.errors import Misconfigured
from issuers.extensions import (
    DIGITAL_SIGNATURE,
    SERVES_AND_ENROLS,
    SIGNS_ALL,
    SIGNS_CERTIFICATES,
    authority_key_identifier,
)

YEAR = timedelta(days=365.25)
ROOT_VALIDITY = 30 * YEAR
ISSUING_VALIDITY = 10 * YEAR
SERVER_VALIDITY = 20 * YEAR
"""Design 8: devices in the field keep the server's certificate as their trust for as long as they live."""
BACKDATE = timedelta(days=1)
"""CA certificates begin a day before they are made, so that what they sign, backdated an hour, lies within."""
SERVER_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
"""What a device without a clock takes for now: the server's certificate and its root are in force then already."""
LONGEST_CN = 64
LONGEST_ORGANIZATION = 64


@dataclass(frozen=True, slots=True)
class CaName:
    """What every CA's subject has (draft-ietf-uta-tls13-iot-profile)."""

    common_name: str
    organization: str
    country: str

    def as_name(self) -> x509.Name:
        """In the usual order; raises Misconfigured when a part is empty or too long, the country no two letters."""
        # RFC 5280 A.1: ub-organization-name, and X520countryName is two letters.
        if not 0 < len(self.organization) <= LONGEST_ORGANIZATION or not self.organization.isprintable():
            raise Misconfigured(
                f"{self.organization!r} cannot be a CA's name: give an organization of 1 to "
                f"{LONGEST_ORGANIZATION} printable characters"
            )
        if len(self.country) != 2 or not (self.country.isascii() and self.country.isalpha()):
            raise Misconfigured(f"{self.country!r} cannot be in a CA's name: give a country of two letters")
        try:
            return x509.Name(
                [
                    x509.NameAttribute(NameOID.COUNTRY_NAME, self.country),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization),
                    x509.NameAttribute(NameOID.COMMON_NAME, self.common_name),
                ]
            )
        except ValueError as error:
            raise Misconfigured(f"{self} cannot be a CA's name: {error}") from error


@dataclass(frozen=True, slots=True)
class DeviceRoot:
    """The root above what devices get."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class ServerRoot:
    """The root above what servers get; another type, so that nothing takes one for the other."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """One key for each certificate of a ceremony."""

    device_root: ec.EllipticCurvePrivateKey = field(repr=False)
    issuing: ec.EllipticCurvePrivateKey = field(repr=False)
    server_root: ec.EllipticCurvePrivateKey = field(repr=False)
    server: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Serials:
    """One serial number for each certificate of a ceremony."""

    device_root: int
    issuing: int
    server_root: int
    server: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CaBundle:
    """All a ceremony makes; the device root's key is meant to leave the machine (`export_key`)."""

    keys: Keys
    device_root: x509.Certificate
    issuing: x509.Certificate
    server_root: x509.Certificate
    server: x509.Certificate


def make_keys() -> Keys:
    """Four new P-256 keys."""
    return Keys(
        **{
            name: ec.generate_private_key(ec.SECP256R1())
            for name in ("device_root", "issuing", "server_root", "server")
        }
    )


def make_serials() -> Serials:
    """Four new serial numbers of 159 random bits."""
    return Serials(
        **{name: x509.random_serial_number() for name in ("device_root", "issuing", "server_root", "server")}
    )


def hold_ceremony(
    *,
    organization: str,
    country: str,
    names: Sequence[str],
    addresses: Sequence[IPv4Address | IPv6Address],
    keys: Keys,
    serials: Serials,
    now: datetime,
) -> CaBundle:
    """Both hierarchies at once; each CA's CN ends in the first digits of its serial number, to tell ceremonies apart.

    `names` and `addresses` are all under which devices reach the server. Raises Misconfigured.
    """

    def name(what: str, serial: int) -> CaName:
        digits = f"{serial:040x}"[:8]
        return CaName(f"{organization[:40]} {what} {digits}", organization, country)

    root = device_root(keys.device_root, name("Device Root", serials.device_root), serials.device_root, now)
    issuing = issuing_ca(keys.issuing.public_key(), name("Issuing CA", serials.issuing), root, serials.issuing, now)
    above_server = server_root(keys.server_root, name("Server Root", serials.server_root), serials.server_root, now)
    server = server_certificate(keys.server.public_key(), names, addresses, above_server, serials.server, now)
    return CaBundle(
        keys=keys,
        device_root=root.certificate,
        issuing=issuing,
        server_root=above_server.certificate,
        server=server,
    )


def device_root(
    key: ec.EllipticCurvePrivateKey,
    name: CaName,
    serial: int,
    now: datetime,
    validity: timedelta = ROOT_VALIDITY,
) -> DeviceRoot:
    """The root of the device hierarchy; no path length, as the profile advises."""
    return DeviceRoot(key, _root(key, name, serial, _begin(now), now, validity, path_length=None))


def server_root(
    key: ec.EllipticCurvePrivateKey,
    name: CaName,
    serial: int,
    now: datetime,
    validity: timedelta = ROOT_VALIDITY,
) -> ServerRoot:
    """The root of the server hierarchy; it signs servers and no CA below it."""
    return ServerRoot(key, _root(key, name, serial, SERVER_BEGIN, now, validity, path_length=0))


def issuing_ca(
    public_key: ec.EllipticCurvePublicKey,
    name: CaName,
    root: DeviceRoot,
    serial: int,
    now: datetime,
    validity: timedelta = ISSUING_VALIDITY,
) -> x509.Certificate:
    """The CA that signs devices, below the device root; it ends no later than the root."""
    return (
        _builder(name.as_name(), public_key, root.certificate.subject, serial)
        .not_valid_before(_begin(now))
        .not_valid_after(min(now.replace(microsecond=0) + validity, root.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(SIGNS_ALL, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(root.certificate), critical=False)
        .sign(root.key, hashes.SHA256())
    )


def server_certificate(
    public_key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    addresses: Sequence[IPv4Address | IPv6Address],
    root: ServerRoot,
    serial: int,
    now: datetime,
    validity: timedelta = SERVER_VALIDITY,
) -> x509.Certificate:
    """The bootstrap server's own certificate: SAN has every DNS name and every address, CN the first that fits.

    Raises Misconfigured when there is none, or a name is no host name in ASCII.
    """
    alternatives = [
        *(x509.DNSName(_host_name(name)) for name in dict.fromkeys(names)),
        *(x509.IPAddress(address) for address in dict.fromkeys(addresses)),
    ]
    if not alternatives:
        raise Misconfigured("the server needs at least one name or address that devices reach it by")
    common_name = next((name for name in (*names, *map(str, addresses)) if len(name) <= LONGEST_CN), "bootstrap server")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        _builder(subject, public_key, root.certificate.subject, serial)
        .not_valid_before(SERVER_BEGIN)
        .not_valid_after(min(now.replace(microsecond=0) + validity, root.certificate.not_valid_after_utc))
        .add_extension(DIGITAL_SIGNATURE, critical=True)
        .add_extension(SERVES_AND_ENROLS, critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(root.certificate), critical=False)
        .sign(root.key, hashes.SHA256())
    )


def export_key(key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    """A private key as encrypted PKCS#8 in PEM; raises Misconfigured on an empty passphrase."""
    if not passphrase:
        raise Misconfigured("a CA key is exported under a passphrase only; give one that is not empty")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def _root(
    key: ec.EllipticCurvePrivateKey,
    name: CaName,
    serial: int,
    begin: datetime,
    now: datetime,
    validity: timedelta,
    *,
    path_length: int | None,
) -> x509.Certificate:
    subject = name.as_name()
    key_identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(subject, key.public_key(), subject, serial)
        .not_valid_before(begin)
        .not_valid_after(now.replace(microsecond=0) + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(key_identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, issuer: x509.Name, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder().subject_name(subject).public_key(public_key).issuer_name(issuer).serial_number(serial)
    )


def _begin(now: datetime) -> datetime:
    return now.replace(microsecond=0) - BACKDATE


def _host_name(name: str) -> str:
    labels = name.removesuffix(".").split(".")
    if (
        len(name) > 253
        or not all(0 < len(label) <= 63 and label.replace("-", "").isalnum() and label.isascii() for label in labels)
        or labels[-1].isdigit()
        or any(label.startswith("-") or label.endswith("-") for label in labels)
    ):
        raise Misconfigured(f"{name!r} is no host name; give DNS names in ASCII, and addresses as addresses")
    return name.removesuffix(".")
