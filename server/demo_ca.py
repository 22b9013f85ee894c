"""`firstlight demo --ca cfssl`: the real CFSSL beside the demo's server, registered as an operator would."""

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from issuers import ceremony

START_TIMEOUT = 20.0
NAME = "demo CFSSL"

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
    try:
        await _listening(process, port, home / "log")
        await _register(home, data, root, f"http://127.0.0.1:{port}", command)
        yield root
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


async def _listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if process.returncode is not None:
                        raise CaMissing(f"cfssl ended at once: {log.read_text(errors='replace').strip()}") from None
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return
    except TimeoutError:
        raise CaMissing(f"cfssl did not listen within {START_TIMEOUT:g} s") from None


async def _register(home: Path, data: Path, root: Path, url: str, command: Command) -> None:
    where = ("--data-dir", str(data))
    await command("trust", "add", str(root), "--service", "lwm2m", "--name", f"{NAME} root", *where)
    await command(
        *("issuer", "add", NAME, "--type", "CFSSL_AUTH", "--set", f"host_url={url}", "--set", "cfssl_profile=CA"),
        *("--secret-file", f"hmac_hex_key={home / 'hmac.txt'}", *where),
    )
    await command("issuer", "verify", NAME, *where)
    await command("issuer", "activate", NAME, *where)
