"""Where devices go and whom they must trust there, for factory data."""

import tomllib
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.config import Config
from server.errors import NotFound
from server.profile import DEFAULT_NAME
from server.store import embedded_ca, profiles
from server.store.database import Database
from server.store.secrets import Sealer


@dataclass(frozen=True, slots=True)
class Credentials:
    """A server's URI with the account in it, and the CA (PEM) a device must trust."""

    uri: str
    certificate: str
    created_at: datetime
    # Where the server listens for TLS over TCP, if it does.
    tcp_uri: str = ""


async def bootstrap(database: Database, sealer: Sealer, config: Config, account_id: UUID, bound: str) -> Credentials:
    """This server, by its first configured name, else by the address it is bound to (`bound`, a coaps URI)."""
    held = await embedded_ca.server_credential(database, sealer)
    root = x509.load_der_x509_certificate(held.root_certificate)
    tcp = config.server.coaps_tcp
    return Credentials(
        uri=_with_account(_reachable(config, bound), account_id),
        certificate=root.public_bytes(serialization.Encoding.PEM).decode(),
        created_at=await embedded_ca.server_credential_made(database),
        tcp_uri=_with_account(_reachable(config, f"coaps://{tcp[0]}"), account_id) if tcp else "",
    )


async def lwm2m(database: Database, account_id: UUID) -> Credentials:
    """The first LwM2M server of the default profile; NotFound when there is no such profile."""
    row = await profiles.find(database, account_id, DEFAULT_NAME)
    if row is None:
        raise NotFound(
            f"there is no profile {DEFAULT_NAME}; `firstlight profile set {DEFAULT_NAME} FILE.toml` makes it"
        )
    security = tomllib.loads(row.toml)["security"][0]
    file = security.get("server_certificate_file")
    return Credentials(
        uri=_with_account(security["uri"], account_id),
        certificate=row.files[file].decode() if file is not None else "",
        created_at=row.created_at,
    )


def _reachable(config: Config, bound: str) -> str:
    parts = urlsplit(bound)
    host = parts.hostname or ""
    if config.server.names:
        host = config.server.names[0]
    elif _is_unspecified(host):
        host = "localhost"
    return f"coaps://[{host}]:{parts.port}" if ":" in host else f"coaps://{host}:{parts.port}"


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _with_account(uri: str, account_id: UUID) -> str:
    # Izuma's clients take their account from the URI (docs/izuma.md).
    return uri if urlsplit(uri).query else f"{uri}?aid={account_id.hex}"
