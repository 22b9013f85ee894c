"""`firstlight demo --ca …`: the real CFSSL, or the stand-in for GlobalSign, registered as an operator would."""

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from issuers import ceremony

START_TIMEOUT = 20.0
CFSSL, GLOBALSIGN = "demo CFSSL", "demo GlobalSign"

Command = Callable[..., Awaitable[bytes]]


class CaMissing(Exception):
    """The CA's program cannot be run; the text says how to get it."""


@contextlib.asynccontextmanager
async def cfssl(folder: Path, data: Path, command: Command) -> AsyncIterator[Path]:
    """Run `cfssl serve`, register, verify and activate it; yields the PEM of its root. Raises CaMissing."""
    program = shutil.which("cfssl")
    if program is None:
        raise CaMissing("cfssl is not installed; install Debian's golang-cfssl, or run the demo with the embedded CA")
    home = folder / "cfssl"
    home.mkdir()
    key = secrets.token_hex(16)
    root = _write_ca(home, key)
    port = _free_port()
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            "serve",
            *("-address", "127.0.0.1", "-port", str(port)),
            *("-ca", str(root), "-ca-key", str(home / "ca-key.pem"), "-config", str(home / "config.json")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
        )
    async with _ending(process):
        await _started("cfssl", process, home / "log", lambda: _listens(port))
        await _register(
            *(CFSSL, "CFSSL_AUTH", data, root, command),
            attributes={"host_url": f"http://127.0.0.1:{port}", "cfssl_profile": "CA"},
            secret_files={"hmac_hex_key": home / "hmac.txt"},
        )
        yield root


@contextlib.asynccontextmanager
async def globalsign(folder: Path, data: Path, command: Command) -> AsyncIterator[Path]:
    """Run the stand-in for GlobalSign's HVCA, register, verify and activate it; yields the PEM of its root.

    The private key of the account is encrypted, as GlobalSign advises. Raises CaMissing.
    """
    home = folder / "globalsign"
    home.mkdir()
    ready, passphrase = home / "ready.json", home / "chosen-passphrase"
    passphrase.write_text(secrets.token_hex(16))
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "simulators", "atlas", "--dir", str(home / "account")),
            *("--passphrase-file", str(passphrase), "--ready-file", str(ready)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    async def is_ready() -> bool:
        return ready.exists()

    async with _ending(process):
        await _started("the stand-in for GlobalSign", process, home / "log", is_ready)
        account = home / "account"
        await _register(
            *(GLOBALSIGN, "GLOBAL_SIGN", data, account / "root.pem", command),
            attributes={
                "base_url": json.loads(ready.read_text())["base_url"],
                "tls_roots": f"@{account / 'tls-root.pem'}",
            },
            secret_files={
                "api_key": account / "api-key",
                "api_secret": account / "api-secret",
                "client_certificate": account / "client.pem",
                "private_key": account / "client-key.pem",
                "passphrase": account / "passphrase",
            },
        )
        yield account / "root.pem"


@contextlib.asynccontextmanager
async def _ending(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """The process does not outlive the block."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _write_ca(home: Path, key: str) -> Path:
    """The CA's key and root, its configuration and its HMAC key, as files."""
    now = datetime.now(UTC)
    held = ceremony.make_keys().device_root
    serial = x509.random_serial_number()
    made = ceremony.device_root(held, ceremony.CaName("Demo CFSSL Root", "Demo", "FI"), serial, now - timedelta(days=1))
    root = home / "ca.pem"
    root.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    (home / "ca-key.pem").write_bytes(
        held.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    profile = {"usages": ["digital signature", "client auth"], "expiry": "17520h", "auth_key": "ca_key"}
    # The default profile is authenticated too: in the usual example it signs for everybody who can reach the port.
    config = {
        "signing": {"profiles": {"CA": profile}, "default": profile},
        "auth_keys": {"ca_key": {"type": "standard", "key": key}},
    }
    (home / "config.json").write_text(json.dumps(config))
    (home / "hmac.txt").write_text(key)
    return root


def _free_port() -> int:
    # cfssl cannot pick a port itself and tell it.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _started(
    what: str, process: asyncio.subprocess.Process, log: Path, is_up: Callable[[], Awaitable[bool]]
) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not await is_up():
                if process.returncode is not None:
                    raise CaMissing(f"{what} ended at once: {log.read_text(errors='replace').strip()}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CaMissing(f"{what} did not listen within {START_TIMEOUT:g} s") from None


async def _register(
    name: str,
    type: str,
    data: Path,
    root: Path,
    command: Command,
    *,
    attributes: Mapping[str, str],
    secret_files: Mapping[str, Path],
) -> None:
    where = ("--data-dir", str(data))
    await command("trust", "add", str(root), "--service", "lwm2m", "--name", f"{name} root", *where)
    given = [word for key, value in attributes.items() for word in ("--set", f"{key}={value}")]
    given += [word for key, file in secret_files.items() for word in ("--secret-file", f"{key}={file}")]
    await command("issuer", "add", name, "--type", type, *given, *where)
    await command("issuer", "verify", name, *where)
    await command("issuer", "activate", name, *where)
