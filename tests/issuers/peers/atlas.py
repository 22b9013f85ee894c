"""The HVCA stand-in in this process, on loopback."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from simulators.atlas import Atlas, Settings
from simulators.atlas_ca import AtlasCa, Journal, make_atlas_ca
from simulators.atlas_command import AtlasServer

LONG_AGO = datetime(2026, 5, 1, tzinfo=UTC)
PASSPHRASE = "correct horse battery staple"  # noqa: S105 of a key made for the tests


@dataclass(frozen=True)
class AtlasPeer:
    """A running stand-in and what an operator has been given for it."""

    atlas: Atlas
    server: AtlasServer
    url: str

    @property
    def attributes(self) -> dict[str, object]:
        root = self.atlas.ca.tls_root.certificate
        return {"base_url": self.url, "tls_roots": root.public_bytes(Encoding.PEM).decode()}

    @property
    def credentials(self) -> dict[str, object]:
        account = self.atlas.ca.account
        return {
            "api_key": account.api_key,
            "api_secret": account.api_secret,
            "client_certificate": account.client.certificate.public_bytes(Encoding.PEM).decode(),
            "private_key": account.private_key,
            "passphrase": account.passphrase,
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never show."""
        account = self.atlas.ca.account
        return (account.api_key, account.api_secret, account.passphrase, *account.private_key.splitlines()[1:-1])


@cache
def atlas_ca() -> AtlasCa:
    """One for all tests, for an RSA key takes its time; good at LONG_AGO and today."""
    return make_atlas_ca("127.0.0.1", min(LONG_AGO, datetime.now(UTC)), passphrase=PASSPHRASE)


@contextlib.asynccontextmanager
async def running_atlas(
    settings: Settings | None = None,
    *,
    ca: AtlasCa | None = None,
    journal: Path | None = None,
    port: int = 0,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[AtlasPeer]:
    """The stand-in; `settings` and the faults of its `atlas` may be changed while it runs."""
    atlas = Atlas(ca or atlas_ca(), Journal(journal), settings, now=now)
    server = AtlasServer(atlas)
    url = await server.start("127.0.0.1", port)
    try:
        yield AtlasPeer(atlas, server, url)
    finally:
        await server.close()
