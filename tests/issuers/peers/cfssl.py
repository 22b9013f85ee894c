"""The real CFSSL: `cfssl serve` and `multirootca` of Debian's golang-cfssl, on loopback."""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pki import Holder

PAGE_CONFIG = """
{
	"signing": {
		"profiles": {
			"CA": {
				"usages": ["client auth"],
				"expiry": "17520h",
				"auth_key": "ca_key"
			}
		},
		"default": {
			"usages": ["client auth"],
			"expiry": "17520h"
		}
	},
	"auth_keys": {
		"ca_key": {
			"type":"standard",
			"key":"0123456789ABCDEF0123456789ABCDEF"
		}
	}
}
"""
"""The configuration of the page this product was ordered from, letter for letter."""
PAGE_KEY = "0123456789ABCDEF0123456789ABCDEF"
STARTED_SECONDS = 20.0


@dataclass(frozen=True)
class Tls:
    """How a peer speaks TLS; with `client_ca` it wants a client certificate, whose CN must match `client_cn`."""

    server: Holder
    client_ca: Holder | None = None
    client_cn: str = ""


@dataclass(frozen=True)
class Label:
    """One signer of a multirootca; `nets` of None lets everybody in."""

    ca: Holder
    config: Mapping[str, Any]
    nets: str | None = None


@dataclass
class Peer:
    """A running server; `log` is what it has written."""

    port: int
    process: asyncio.subprocess.Process
    output: Path
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.output.read_text()

    async def kill(self) -> None:
        """End it the hard way."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def page_config(**changes: Any) -> dict[str, Any]:
    """The page's configuration; `changes` go into its profile "CA"."""
    config: dict[str, Any] = json.loads(PAGE_CONFIG)
    config["signing"]["profiles"]["CA"].update(changes)
    return config


@contextlib.asynccontextmanager
async def cfssl_serve(
    ca: Holder, config: Mapping[str, Any] | str = PAGE_CONFIG, *, tls: Tls | None = None, port: int = 0
) -> AsyncIterator[Peer]:
    """`cfssl serve` signing with `ca`."""
    with _folder() as folder:
        (folder / "ca.pem").write_bytes(ca.pem)
        (folder / "ca-key.pem").write_bytes(ca.key_pem)
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        arguments = ["-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "config.json"]
        if tls is not None:
            arguments += _tls_files(folder, tls.server)
            if tls.client_ca is not None:
                (folder / "client-ca.pem").write_bytes(tls.client_ca.pem)
                arguments += ["-mutual-tls-ca", "client-ca.pem"]
            if tls.client_cn:
                arguments += ["-mutual-tls-cn", tls.client_cn]
        port = port or _free_port()
        command = [_program("cfssl"), "serve", "-address", "127.0.0.1", "-port", str(port), *arguments]
        async with _running(command, folder, port, "https" if tls else "http") as peer:
            yield peer


@contextlib.asynccontextmanager
async def multirootca(
    labels: Mapping[str, Label], default: str = "", *, tls: Holder | None = None, port: int = 0
) -> AsyncIterator[Peer]:
    """`multirootca` with one signer for each label; `default` is taken when a request has none."""
    with _folder() as folder:
        roots = []
        for name, label in labels.items():
            (folder / f"{name}.pem").write_bytes(label.ca.pem)
            (folder / f"{name}-key.pem").write_bytes(label.ca.key_pem)
            (folder / f"{name}.json").write_text(json.dumps(label.config))
            roots += [
                f"[ {name} ]",
                f"private = file://{folder}/{name}-key.pem",
                f"certificate = {folder}/{name}.pem",
                f"config = {folder}/{name}.json",
                *([f"nets = {label.nets}"] if label.nets is not None else []),
            ]
        (folder / "roots.conf").write_text("\n".join([*roots, ""]))
        port = port or _free_port()
        command = [_program("multirootca"), "-a", f"127.0.0.1:{port}", "-roots", "roots.conf", "-l", default]
        if tls is not None:
            command += _tls_files(folder, tls)
        async with _running(command, folder, port, "https" if tls else "http") as peer:
            yield peer


@contextlib.contextmanager
def _folder():  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory(prefix="cfssl-") as folder:
        yield Path(folder)


def _tls_files(folder: Path, server: Holder) -> list[str]:
    (folder / "tls.pem").write_bytes(server.pem)
    (folder / "tls-key.pem").write_bytes(server.key_pem)
    return ["-tls-cert", "tls.pem", "-tls-key", "tls-key.pem"]


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: run tests/install-debian-packages"
    return found


def _free_port() -> int:
    """Neither program can tell which port it was given, so one is picked before."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def _running(command: Sequence[str], folder: Path, port: int, scheme: str) -> AsyncIterator[Peer]:
    output = folder / "log"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    peer = Peer(port, process, output, scheme)
    try:
        async with asyncio.timeout(STARTED_SECONDS):
            while not await _listens(port):
                assert process.returncode is None, f"{command[0]} ended: {peer.log}"
                await asyncio.sleep(0.02)
        yield peer
    finally:
        await peer.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
