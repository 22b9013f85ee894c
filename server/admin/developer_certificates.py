"""Developer certificates: a throw-away factory CA and device in one, for a device on a desk."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from issuers.extensions import SIGNS_ALL
from server.admin.server_credentials import Credentials
from server.store import trust
from server.store.audit import Actor
from server.store.database import Database
from server.store.trust import TrustedCertificate

VALIDITY = timedelta(days=3650)
# Arm's private extension that marks a developer certificate; its value is the execution mode.
EXECUTION_MODE = x509.ObjectIdentifier("1.3.6.1.4.1.4128.201")
DEVELOPER = 1
BYTES_A_LINE = 12
# What the client reports of itself until its maker says otherwise; without them it does not link.
DEVICE_WORDS = {
    "MBED_CLOUD_DEV_MANUFACTURER": "dev_manufacturer",
    "MBED_CLOUD_DEV_MODEL_NUMBER": "dev_model_num",
    "MBED_CLOUD_DEV_SERIAL_NUMBER": "0",
    "MBED_CLOUD_DEV_DEVICE_TYPE": "dev_device_type",
    "MBED_CLOUD_DEV_HARDWARE_VERSION": "dev_hardware_version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeveloperCertificate:
    """What was made; the key (PEM) and the source file that holds it are nowhere else."""

    row: TrustedCertificate
    certificate: str
    private_key: str = field(repr=False)
    source: str = field(repr=False)


async def make(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    name: str,
    description: str,
    owner_id: UUID | None,
    bootstrap: Credentials,
    now: datetime,
) -> DeveloperCertificate:
    """Make one and trust it for bootstraps; Conflict, LimitReached."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Its common name is the endpoint name of the device that carries it.
    endpoint = uuid4().hex
    certificate = _certificate(key, endpoint, account_id, now)
    der = certificate.public_bytes(serialization.Encoding.DER)
    row = await trust.add(
        database,
        actor,
        account_id,
        service="bootstrap",
        certificate=der,
        name=name,
        description=description,
        device_execution_mode=DEVELOPER,
        owner_id=owner_id,
    )
    packed = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return DeveloperCertificate(
        row=row,
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        source=_source(endpoint, account_id, bootstrap, der, packed),
    )


def _certificate(key: ec.EllipticCurvePrivateKey, endpoint: str, account_id: UUID, now: datetime) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Firstlight developer"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account_id.hex),
            x509.NameAttribute(NameOID.COMMON_NAME, endpoint),
        ]
    )
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(SIGNS_ALL, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.UnrecognizedExtension(EXECUTION_MODE, b"\x02\x01" + bytes([DEVELOPER])), critical=False)
        .sign(key, hashes.SHA256())
    )


def _source(endpoint: str, account_id: UUID, bootstrap: Credentials, certificate: bytes, key: bytes) -> str:
    """`mbed_cloud_dev_credentials.c`, as the Izuma client's developer flow compiles it in."""
    server_ca = x509.load_pem_x509_certificate(bootstrap.certificate.encode()).public_bytes(serialization.Encoding.DER)
    texts = {
        "MBED_CLOUD_DEV_BOOTSTRAP_ENDPOINT_NAME": endpoint,
        "MBED_CLOUD_DEV_ACCOUNT_ID": account_id.hex,
    }
    arrays = {
        "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE": certificate,
        "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_ROOT_CA_CERTIFICATE": server_ca,
        "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_PRIVATE_KEY": key,
    }
    lines = ["#ifndef __MBED_CLOUD_DEV_CREDENTIALS_H__", "#define __MBED_CLOUD_DEV_CREDENTIALS_H__", ""]
    lines += ["#include <inttypes.h>", ""]
    lines += [_text(name, text) for name, text in (texts | DEVICE_WORDS).items()]
    lines += ["const uint32_t MBED_CLOUD_DEV_MEMORY_TOTAL_KB = 0;", "", *_server_uri(bootstrap)]
    for name, content in arrays.items():
        lines += [
            "",
            f"const uint8_t {name}[] = {{",
            *_rows(content),
            "};",
            f"const uint32_t {name}_SIZE = sizeof({name});",
        ]
    return "\n".join([*lines, "", "#endif //__MBED_CLOUD_DEV_CREDENTIALS_H__", ""])


def _server_uri(bootstrap: Credentials) -> list[str]:
    name = "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_URI"
    if bootstrap.tcp_uri in ("", bootstrap.uri):
        return [_text(name, bootstrap.uri)]
    # The scheme is the same for both: only the client's own configuration says which port it needs.
    return [
        "#ifdef MBED_CLOUD_CLIENT_USER_CONFIG_FILE",
        "#include MBED_CLOUD_CLIENT_USER_CONFIG_FILE",
        "#endif",
        "#if defined(MBED_CLOUD_CLIENT_TRANSPORT_MODE_UDP) || defined(MBED_CLOUD_CLIENT_TRANSPORT_MODE_UDP_QUEUE)",
        _text(name, bootstrap.uri),
        "#else",
        _text(name, bootstrap.tcp_uri),
        "#endif",
    ]


def _text(name: str, text: str) -> str:
    return f'const char {name}[] = "{text}";'


def _rows(content: bytes) -> list[str]:
    return [
        "    " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + BYTES_A_LINE]) + ","
        for start in range(0, len(content), BYTES_A_LINE)
    ]
