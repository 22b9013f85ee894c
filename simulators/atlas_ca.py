"""The CA behind the HVCA stand-in: its keys, an account's credentials, and its own log of what it signed.

Everything lies in one folder and is taken up again from there, so that a stand-in that was killed still knows what it
has issued. The log is written before anybody can learn of a certificate.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators.atlas_policy import Content

JOURNAL = "issued.jsonl"
ROOT_YEARS, ISSUING_YEARS, TLS_YEARS = 20, 10, 10

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Holder:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What GlobalSign gives a customer, and the key that the customer made."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    client: Holder
    passphrase: str = field(repr=False)

    @property
    def private_key(self) -> str:
        """The client's RSA key in PEM, encrypted when there is a passphrase."""
        cipher = BestAvailableEncryption(self.passphrase.encode()) if self.passphrase else NoEncryption()
        return _private_pem(self.client.key, cipher).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasCa:
    """Root and issuing CA for devices, and another root for the server and the clients' TLS certificates."""

    root: Holder
    issuing: Holder
    tls_root: Holder
    server: Holder
    account: Account

    @property
    def trust_chain(self) -> tuple[x509.Certificate, ...]:
        """Issuing CA first, root last."""
        return self.issuing.certificate, self.root.certificate

    def sign(self, content: Content, serial: int) -> x509.Certificate:
        """The certificate of an accepted request."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(content.subject)
            .issuer_name(self.issuing.certificate.subject)
            .public_key(content.public_key)
            .serial_number(serial)
            .not_valid_before(content.not_before)
            .not_valid_after(content.not_after)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(_authority(self.issuing), critical=False)
        )
        if content.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(content.usages), content.usages_critical)
        if content.alternative_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(content.alternative_names), critical=False)
        return builder.sign(self.issuing.key, hashes.SHA256())


class Journal:
    """One JSON line for each certificate signed, refused late or withdrawn; `path` None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def entries(self) -> Iterator[Mapping[str, Any]]:
        """What was written so far, an unfinished last line left out."""
        if self._path is None or not self._path.exists():
            return
        for line in self._path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)

    def write(self, **entry: object) -> None:
        """Add a line; it is with the system when this returns."""
        if self._path is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def make_atlas_ca(host: str, now: datetime, *, passphrase: str = "") -> AtlasCa:
    """New keys for everything; the server's certificate names `host`, localhost and the loopback addresses."""
    root = _make_ca("Atlas Stand-In Root", None, now, ROOT_YEARS)
    issuing = _make_ca("Atlas Stand-In Issuing CA", root, now, ISSUING_YEARS)
    tls_root = _make_ca("Atlas Stand-In TLS Root", None, now, ROOT_YEARS)
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for address in dict.fromkeys(("127.0.0.1", "::1", host)):
        try:
            names.append(x509.IPAddress(ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    server = _make_end(
        "atlas",
        tls_root,
        ec.generate_private_key(ec.SECP256R1()),
        now,
        (x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
    )
    client = _make_end(
        "a customer",
        tls_root,
        # GlobalSign takes RSA keys here.
        rsa.generate_private_key(65537, 2048),
        now,
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),),
    )
    # As long as the document's examples: 16 and 40 hexadecimal characters.
    account = Account(
        api_key=secrets.token_hex(8), api_secret=secrets.token_hex(20), client=client, passphrase=passphrase
    )
    return AtlasCa(root=root, issuing=issuing, tls_root=tls_root, server=server, account=account)


def open_folder(folder: Path, host: str, now: datetime, *, passphrase: str = "") -> AtlasCa:
    """The CA that lies in `folder`, made there at the first start. Raises OSError."""
    keys = folder / "ca.json"
    if keys.exists():
        return _load(json.loads(keys.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    ca = make_atlas_ca(host, now, passphrase=passphrase)
    # Last, by rename: a folder with it is whole.
    write_private(keys, json.dumps(_dump(ca)))
    return ca


def write_credentials(folder: Path, ca: AtlasCa, base_url: str) -> None:
    """All that a customer needs, each in a file of its own; `issuer.json` and `hvclient.json` hold them together."""
    account = ca.account
    certificate = _pem(account.client.certificate)
    texts = {
        "api-key": account.api_key,
        "api-secret": account.api_secret,
        "passphrase": account.passphrase,
        "client.pem": certificate,
        "client-key.pem": account.private_key,
        "tls-root.pem": _pem(ca.tls_root.certificate),
        "root.pem": _pem(ca.root.certificate),
        "chain.pem": "".join(map(_pem, ca.trust_chain)),
    }
    # As POST /v3/certificate-issuers of the Izuma API takes it.
    issuer = {
        "name": "globalsign",
        "issuer_type": "GLOBAL_SIGN",
        "issuer_attributes": {"base_url": base_url, "tls_roots": texts["tls-root.pem"]},
        "issuer_credentials": {
            "api_key": account.api_key,
            "api_secret": account.api_secret,
            "client_certificate": certificate,
            "private_key": account.private_key,
            **({"passphrase": account.passphrase} if account.passphrase else {}),
        },
    }
    hvclient = {
        "url": base_url,
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "cert_file": str(folder / "client.pem"),
        "key_file": str(folder / "client-key.pem"),
    }
    for name, text in texts.items():
        write_private(folder / name, text)
    write_private(folder / "issuer.json", json.dumps(issuer, indent=2))
    write_private(folder / "hvclient.json", json.dumps(hvclient, indent=2))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.replace(path)


def _make_ca(name: str, issuer: Holder | None, now: datetime, years: int) -> Holder:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stand-In"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = (
        _builder(subject, issuer, key, now, years)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else None), critical=True)
        .add_extension(_key_usage(digital_signature=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(_authority(issuer), critical=False)
    return Holder(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _make_end(
    name: str, issuer: Holder, key: PrivateKey, now: datetime, extensions: tuple[x509.ExtensionType, ...]
) -> Holder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer, key, now, TLS_YEARS)
    for extension in (*extensions, _authority(issuer)):
        builder = builder.add_extension(extension, critical=False)
    return Holder(builder.sign(issuer.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: Holder | None, key: PrivateKey, now: datetime, years: int
) -> x509.CertificateBuilder:
    begin = now.replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(hours=1))
        .not_valid_after(begin + timedelta(days=365 * years))
    )


def _key_usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=not digital_signature,
        crl_sign=not digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(issuer: Holder) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _private_pem(key: PrivateKey, cipher: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher)


def _dump(ca: AtlasCa) -> Mapping[str, Any]:
    def pair(holder: Holder) -> list[str]:
        return [_pem(holder.certificate), _private_pem(holder.key, NoEncryption()).decode()]

    account = ca.account
    return {
        "root": pair(ca.root),
        "issuing": pair(ca.issuing),
        "tls_root": pair(ca.tls_root),
        "server": pair(ca.server),
        "client": pair(account.client),
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "passphrase": account.passphrase,
    }


def _load(kept: Mapping[str, Any]) -> AtlasCa:
    def holder(name: str) -> Holder:
        certificate, key = kept[name]
        loaded = load_pem_private_key(key.encode(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        return Holder(x509.load_pem_x509_certificate(certificate.encode()), loaded)

    account = Account(
        api_key=kept["api_key"],
        api_secret=kept["api_secret"],
        client=holder("client"),
        passphrase=kept["passphrase"],
    )
    return AtlasCa(
        root=holder("root"),
        issuing=holder("issuing"),
        tls_root=holder("tls_root"),
        server=holder("server"),
        account=account,
    )


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a UTC time."""
    return datetime.fromtimestamp(seconds, UTC)
