"""What exists from the first start: an account, its embedded CA, the server's own certificate, a profile, an API key.

Every step may race another starter on the same database; whoever is second takes what the first made.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server import logs
from server.admin import api_keys, ceremony
from server.admin.files import read_bytes, write, write_private
from server.config import Config
from server.errors import ConfigurationError, Conflict
from server.profile import DEFAULT_NAME, DEFAULT_SERVER_CERTIFICATE, ProfileError, default_profile, parse_profile
from server.store import accounts, embedded_ca, profiles
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer

log = logs.get("first-start")

SYSTEM = Actor(kind="system", name="first start", request_id="")
API_KEY_FILE = "api-key"
SERVER_CA_FILE = "server-ca.pem"
DEVICE_ROOT_FILE = "device-root.pem"
# What every server can be reached by, besides its configured names and bound addresses.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def ensure(database: Database, sealer: Sealer, config: Config) -> UUID:
    """Make what is missing; returns the id of the default account."""
    account = await accounts.ensure_default(database)
    await _ensure_ca(database, sealer, config, account.id)
    await _ensure_server_credential(database, sealer, config, account.id)
    return account.id


async def _ensure_ca(database: Database, sealer: Sealer, config: Config, account_id: UUID) -> None:
    if await embedded_ca.find(database, account_id) is not None:
        return
    try:
        await ceremony.make_ca(database, sealer, SYSTEM, account_id, config.embedded_ca, datetime.now(UTC))
    except Conflict:
        return
    log.info("embedded_ca_made")


async def _ensure_server_credential(database: Database, sealer: Sealer, config: Config, account_id: UUID) -> None:
    """The server's certificate, and with it the default profile: one that was removed later stays away."""
    if await embedded_ca.has_server_credential(database):
        return
    made = ceremony.make_server_credential(config.embedded_ca, names_of(config, ()), datetime.now(UTC))
    text, files = _default_profile(config, made.root_certificate)
    async with database.transaction() as connection:
        first = await embedded_ca.ensure_server_credential(connection, database, sealer, made)
        if first:
            await profiles.ensure(connection, database, account_id, DEFAULT_NAME, text, files)
    if first:
        log.info("server_certificate_made")


def names_of(config: Config, bound: Sequence[str]) -> tuple[str, ...]:
    """Every name and address the server's certificate must carry; unspecified addresses say nothing."""
    wanted = [*config.server.names, *LOOPBACK]
    for address in bound:
        if not ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
            wanted.append(address.partition("%")[0])
    return tuple(dict.fromkeys(wanted))


async def ensure_server_certificate(database: Database, sealer: Sealer, config: Config, bound: Sequence[str]) -> None:
    """Renew the server's certificate when it lacks a configured name or a bound address; its root stays."""
    credential = await embedded_ca.server_credential(database, sealer)
    held = ceremony.names_in(x509.load_der_x509_certificate(credential.certificate))
    wanted = names_of(config, bound)
    missing = [name for name in wanted if name not in held]
    if not missing:
        return
    # Names of other nodes on the same record stay: one certificate serves them all.
    certificate, key = ceremony.renew_server_certificate(
        credential, tuple(dict.fromkeys((*held, *wanted))), datetime.now(UTC)
    )
    await embedded_ca.renew_server_certificate(database, sealer, SYSTEM, certificate=certificate, private_key=key)
    log.info("server_certificate_renewed", added=missing)


def default_profile_text(config: Config, server_root: bytes = b"") -> tuple[str, dict[str, bytes]]:
    """Text and files of the default profile; `server_root` (PEM) stands in when no certificate is configured."""
    file = config.server.lwm2m_server_certificate_file
    if file is not None:
        try:
            server_root = file.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"server.lwm2m_server_certificate_file: {file} cannot be read ({error.strerror}); give the PEM of the "
                "LwM2M server's certificate or its CA"
            ) from error
    return default_profile(config.server.lwm2m_uri), {DEFAULT_SERVER_CERTIFICATE: server_root}


def check(config: Config) -> None:
    """That the settings make a server certificate and a default profile; nothing of it is kept. ConfigurationError."""
    made = ceremony.make_server_credential(config.embedded_ca, names_of(config, ()), datetime.now(UTC))
    _default_profile(config, made.root_certificate)


def _default_profile(config: Config, server_root: bytes) -> tuple[str, dict[str, bytes]]:
    root = x509.load_der_x509_certificate(server_root).public_bytes(serialization.Encoding.PEM)
    text, files = default_profile_text(config, root)
    try:
        parse_profile(text, files, name=DEFAULT_NAME)
    except ProfileError as error:
        raise ConfigurationError(
            f"server.lwm2m_uri or server.lwm2m_server_certificate_file makes no profile ({error}); mend that setting"
        ) from error
    return text, files


# -- files for people and rigs ------------------------------------------------------------


async def ensure_api_key(database: Database, config: Config, account_id: UUID) -> Path:
    """The file with this node's API key, made when it is missing or unknown; the record holds only its SHA-256."""
    file = config.server.data_dir / API_KEY_FILE
    if file.exists():
        held = await accounts.find_api_key(database, sha256(read_bytes(file).strip()).digest())
        if held is not None:
            return file
    name = f"first start {secrets.token_hex(4)}"
    _, key = await api_keys.make(database, SYSTEM, account_id, name=name, role="admin")
    write_private(file, key + "\n")
    log.info("api_key_made", file=str(file))
    return file


async def write_certificates(database: Database, sealer: Sealer, config: Config, account_id: UUID) -> Path:
    """Write the two roots as PEM into the data folder; returns the server's, which devices must trust."""
    server_root = (await embedded_ca.server_credential(database, sealer)).root_certificate
    own = await embedded_ca.find(database, account_id)
    for name, der in ((SERVER_CA_FILE, server_root), (DEVICE_ROOT_FILE, own.root_certificate if own else None)):
        if der is not None:
            pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
            file = config.server.data_dir / name
            # On a full disk what stands there would be lost.
            if not file.is_file() or read_bytes(file) != pem:
                write(file, pem)
    return config.server.data_dir / SERVER_CA_FILE
