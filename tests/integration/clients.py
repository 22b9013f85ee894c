"""Other people's DTLS and TLS clients, spoken with."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.integration.factory import Factory
from tests.unit.transport.client import PSK_SUITES

requires_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
requires_libcoap = pytest.mark.skipif(
    shutil.which("coap-client-openssl") is None, reason="needs coap-client-openssl (libcoap3-bin)"
)
requires_gnutls = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-cli (gnutls-bin)")
# Only a hung test gets here; nothing asserts on how long a thing took.
PATIENCE = 60.0


class Program:
    """Another's client: what it printed so far, what it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = b""

    async def until(self, text: bytes) -> bytes:
        """Read until it printed `text` or ended."""
        assert self._process.stdout is not None
        while text not in self.printed:
            some = await self._process.stdout.read(4096)
            if not some:
                break
            self.printed += some
        return self.printed

    async def tell(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def as_device(factory: Factory, suite: str = "ECDHE-ECDSA-AES128-CCM8", who: str = "device") -> list[str]:
    folder = factory.folder
    options = ["-cert", str(folder / f"{who}.pem"), "-key", str(folder / f"{who}.key")]
    if who == "device":
        options += ["-cert_chain", str(folder / "line.pem")]
    return [*options, "-cipher", f"{suite}:@SECLEVEL=0"]


def with_key(suite: str = PSK_SUITES, identity: str = "urn:dev:1", key: bytes = b"k" * 16) -> list[str]:
    return ["-psk_identity", identity, "-psk", key.hex(), "-cipher", f"{suite}:@SECLEVEL=0"]
