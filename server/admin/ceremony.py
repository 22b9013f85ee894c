"""The embedded CA and the server's own certificate as an operator handles them: made, shown, exported, taken off-line.

How the certificates look is decided in `issuers/ceremony.py`; here keys are made, sealed into the record and let out.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from issuers import ceremony
from issuers.embedded import EmbeddedIssuer, RevokedCertificate
from issuers.errors import Misconfigured
from server.config import EmbeddedCaConfig
from server.errors import BadRequest, ConfigurationError, NotFound
from server.store import certificates, embedded_ca
from server.store.audit import Actor
from server.store.database import Database
from server.store.embedded_ca import ServerCredential
from server.store.secrets import Sealer

# A device does not check revocation, servers fetch the list; a week survives a long weekend without anyone.
CRL_VALIDITY = timedelta(days=7)
# Whoever gets at the file guesses as fast as the machines allow: as long as an operator's password at least.
SHORTEST_PASSPHRASE = 12


async def make_ca(
    database: Database, sealer: Sealer, actor: Actor, account_id: UUID, config: EmbeddedCaConfig, now: datetime
) -> None:
    """Make device root and issuing CA of an account and record them; Conflict when it has a CA.

    The root is trusted for the service lwm2m from then on.
    """
    keys, serials = ceremony.make_keys(), ceremony.make_serials()
    root = ceremony.device_root(
        keys.device_root, _name(config, "Device Root", serials.device_root), serials.device_root, now
    )
    issuing = ceremony.issuing_ca(
        keys.issuing.public_key(), _name(config, "Issuing CA", serials.issuing), root, serials.issuing, now
    )
    await embedded_ca.add(
        database,
        sealer,
        actor,
        account_id,
        root_certificate=_der(root.certificate),
        root_key=root.key,
        issuing_certificate=_der(issuing),
        issuing_key=keys.issuing,
    )


def make_server_credential(config: EmbeddedCaConfig, names: Sequence[str], now: datetime) -> ServerCredential:
    """A server root and a server certificate for `names` (host names and addresses); ConfigurationError."""
    keys, serials = ceremony.make_keys(), ceremony.make_serials()
    root = ceremony.server_root(
        keys.server_root, _name(config, "Server Root", serials.server_root), serials.server_root, now
    )
    certificate = _server_certificate(keys.server, names, root, serials.server, now)
    return ServerCredential(
        certificate=_der(certificate),
        private_key=keys.server,
        root_certificate=_der(root.certificate),
        root_key=root.key,
    )


def renew_server_certificate(
    held: ServerCredential, names: Sequence[str], now: datetime
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """A server certificate (DER) for `names` with a key of its own under the root that devices hold."""
    root = ceremony.ServerRoot(held.root_key, x509.load_der_x509_certificate(held.root_certificate))
    key = ec.generate_private_key(ec.SECP256R1())
    return _der(_server_certificate(key, names, root, x509.random_serial_number(), now)), key


async def renew_server(database: Database, sealer: Sealer, actor: Actor, now: datetime) -> datetime:
    """Make the server's certificate anew for the names that it has; when the new one ends. NotFound."""
    held = await embedded_ca.server_credential(database, sealer)
    certificate, key = renew_server_certificate(held, names_in(x509.load_der_x509_certificate(held.certificate)), now)
    await embedded_ca.renew_server_certificate(database, sealer, actor, certificate=certificate, private_key=key)
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """Every name and address of a certificate's SAN, as text."""
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        *san.get_values_for_type(x509.DNSName),
        *(str(address) for address in san.get_values_for_type(x509.IPAddress)),
    )


async def show(database: Database, sealer: Sealer, account_id: UUID) -> list[Mapping[str, object]]:
    """One row a certificate: what it is, until when, its fingerprint, and where its key is."""
    own = await _own(database, account_id)
    server = await embedded_ca.server_credential(database, sealer)
    root_key = "sealed in the record" if own.has_root_key else "off-line"
    return [
        _row("device root", own.root_certificate, root_key),
        _row("issuing CA", own.issuing_certificate, "sealed in the record"),
        _row("server root", server.root_certificate, "sealed in the record"),
        _row("server", server.certificate, "sealed in the record"),
    ]


async def export(database: Database, sealer: Sealer, account_id: UUID, which: str) -> bytes:
    """The certificate `device-root`, `issuing`, `server-root` or `server` in PEM."""
    choices: Mapping[str, Callable[[], bytes]]
    own = await _own(database, account_id)
    server = await embedded_ca.server_credential(database, sealer)
    choices = {
        "device-root": lambda: own.root_certificate,
        "issuing": lambda: own.issuing_certificate,
        "server-root": lambda: server.root_certificate,
        "server": lambda: server.certificate,
    }
    return x509.load_der_x509_certificate(choices[which]()).public_bytes(serialization.Encoding.PEM)


async def encrypted_root_key(database: Database, sealer: Sealer, account_id: UUID, passphrase: bytes) -> bytes:
    """The device root's key as encrypted PKCS#8 in PEM; BadRequest on a short passphrase, NotFound when off-line."""
    length = len(passphrase.decode(errors="replace"))
    if length < SHORTEST_PASSPHRASE:
        raise BadRequest(
            f"the passphrase of a root key has at least {SHORTEST_PASSPHRASE} characters, you gave {length}; "
            "`openssl rand -base64 24` prints a good one"
        )
    try:
        return ceremony.export_key(await embedded_ca.root_key(database, sealer, account_id), passphrase)
    except Misconfigured as error:
        raise BadRequest(error.message) from error


async def crl(database: Database, sealer: Sealer, account_id: UUID, now: datetime) -> tuple[bytes, int]:
    """The revocation list (DER) of the account's issuing CA as of `now` (UTC), and how many it lists."""
    material = next(
        (found for found in await embedded_ca.issuing_material(database, sealer) if found.account_id == account_id),
        None,
    )
    if material is None:
        raise NotFound("this account has no embedded CA")
    # Milliseconds since 1970 grow from one list to the next without a counter of their own (RFC 5280 5.2.3).
    number, now = int(now.timestamp() * 1000), now.replace(microsecond=0)
    issuer = EmbeddedIssuer(
        key=material.issuing_key, chain=material.chain, root=material.root, journal=lambda _entry: None
    )
    rows = await certificates.revoked(database, material.chain[0].fingerprint(hashes.SHA256()), now)

    def build() -> bytes:
        listed = (
            RevokedCertificate(row.serial, row.revoked_at, x509.ReasonFlags(row.reason or "unspecified"))
            for row in rows
        )
        return issuer.build_crl(listed, number=number, now=now, next_update=now + CRL_VALIDITY)

    # A second for a list of 100,000, in which the others go on.
    return await asyncio.to_thread(build), len(rows)


async def _own(database: Database, account_id: UUID) -> embedded_ca.EmbeddedCa:
    own = await embedded_ca.find(database, account_id)
    if own is None:
        raise NotFound("this account has no embedded CA")
    return own


def _name(config: EmbeddedCaConfig, what: str, serial: int) -> ceremony.CaName:
    # Digits of the serial number tell the CAs of two ceremonies apart.
    name = ceremony.CaName(
        f"{config.organization[:40]} {what} {serial:040x}"[:-32], config.organization, config.country
    )
    try:
        name.as_name()
    except Misconfigured as error:
        raise ConfigurationError(f"embedded_ca.organization, embedded_ca.country: {error.message}") from error
    return name


def _server_certificate(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str], root: ceremony.ServerRoot, serial: int, now: datetime
) -> x509.Certificate:
    hosts: list[str] = []
    addresses: list[IPv4Address | IPv6Address] = []
    for name in names:
        try:
            addresses.append(ipaddress.ip_address(name))
        except ValueError:
            hosts.append(name)
    try:
        return ceremony.server_certificate(key.public_key(), hosts, addresses, root, serial, now)
    except Misconfigured as error:
        raise ConfigurationError(f"server.names: {error.message}") from error


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _row(what: str, der: bytes, key: str) -> Mapping[str, object]:
    certificate = x509.load_der_x509_certificate(der)
    return {
        "certificate": what,
        "subject": certificate.subject.rfc4514_string(),
        "until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "key": key,
    }
