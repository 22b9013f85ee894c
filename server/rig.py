"""A server of its own for one command: started as a user would, told of a factory, stopped and gone at the end.

`demo` and `bench` stand on it; nothing here is the server's own code, only its commands.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from issuers.extensions import SIGNS_ALL
from server.store.errors import StoreRefused
from server.store.postgres import EmbeddedPostgres

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
# A change reaches a running server within so many seconds (README, "Operate").
CHANGES_ARRIVE = 2.0


T = TypeVar("T")


class RigFailed(Exception):
    """The rig could not run; the text says at which step and where the server's log is."""


def run(work: Coroutine[object, object, T]) -> T:
    """Do `work`, which SIGTERM ends as Ctrl+C does: what it has started ends with it. Raises KeyboardInterrupt."""

    async def ended_by_a_signal() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end() -> None:
            # Once: what is being put away is left in peace.
            loop.add_signal_handler(signal.SIGTERM, lambda: None)
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, end)
        return await work

    try:
        return asyncio.run(ended_by_a_signal())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder for one run of the command `name`; gone at the end."""
    with tempfile.TemporaryDirectory(prefix=f"firstlight-{name}-") as made:
        folder = Path(made)
        # As root the embedded PostgreSQL runs as another user, who only needs to pass through.
        folder.chmod(0o711)
        yield folder


@contextlib.asynccontextmanager
async def server(folder: Path, *words: str, kept_log: Path) -> AsyncIterator[Mapping[str, str]]:
    """`firstlight serve` with `words` on free loopback ports; stopped by SIGTERM at the end. Yields its ready file.

    The log of a server that does not start is kept as `kept_log`.
    """
    ready = folder / "ready.json"
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *firstlight("serve"),
            *("--data-dir", str(folder / "data")),
            *("--coaps", "127.0.0.1:0"),
            *("--http", "127.0.0.1:0"),
            *("--ready-file", str(ready)),
            *words,
            stdout=stream,
            stderr=stream,
            stdin=asyncio.subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if process.returncode is not None or time.monotonic() > deadline:
                shutil.copyfile(log, kept_log)
                raise RigFailed(f"the server did not start; its log is in {kept_log}, the last line: {_last_line(log)}")
            await asyncio.sleep(0.05)
        yield json.loads(ready.read_text())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await _removed(EmbeddedPostgres(folder / "data"))
    if process.returncode != 0:
        raise RigFailed(f"the server ended with {process.returncode}")


async def _removed(postgres: EmbeddedPostgres) -> None:
    """As root the cluster lives outside the data folder: it must not stay behind, however the run ended."""
    # One that does not start is removed as well.
    with contextlib.suppress(StoreRefused):
        await postgres.start()
    await postgres.destroy()


def firstlight(*words: str) -> list[str]:
    """The command line of `firstlight` with `words`, in this interpreter."""
    return [sys.executable, "-P", "-c", "from server.cli.commands import main; main()", *words]


async def command(*words: str) -> bytes:
    """Run `firstlight` with `words`; its standard output. Raises RigFailed."""
    process = await asyncio.create_subprocess_exec(
        *firstlight(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise RigFailed(f"`firstlight {' '.join(words)}` failed: {errors.decode(errors='replace').strip()}")
    return output


async def trust_factory(folder: Path, name: str, now: datetime) -> None:
    """Make a factory's CA (`factory.pem`, `factory.key` in `folder`) and tell the server, as an operator would."""
    key, certificate = factory(name, now)
    (folder / "factory.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "factory.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    data = str(folder / "data")
    await command("trust", "add", str(folder / "factory.pem"), "--service", "bootstrap", "--data-dir", data)


async def add_keys(folder: Path, lines: Mapping[str, str]) -> None:
    """Write `keys.txt` in `folder`, one pre-shared key in hexadecimal for each endpoint, and tell the server."""
    text = "".join(f"{endpoint}:{key}:{endpoint}\n" for endpoint, key in lines.items())
    (folder / "keys.txt").write_text(text)
    await command("psk", "add", "--from", str(folder / "keys.txt"), "--data-dir", str(folder / "data"))


def factory(name: str, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Key and self-signed CA certificate of a factory."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_ALL, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"
