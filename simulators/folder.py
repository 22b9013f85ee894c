"""What a device leaves on disk: a folder with its transcript, what was written to it, and its credentials."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Held(Protocol):
    """A credential: its chain, leaf first, and the leaf's key."""

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        """The leaf and its issuers, as far as the device has them."""
        ...

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The leaf's."""
        ...


def folder_of(endpoint: str, out: Path) -> Path:
    """Where a device leaves its files: its endpoint name, with what a file name cannot hold as %XX."""
    name = quote(endpoint, safe=" :@+,=")
    return out / (name.replace(".", "%2E") if name.strip(".") == "" else name)


def leave(folder: Path, transcript: Sequence[str], resources: object, credentials: Mapping[str, Held]) -> None:
    """Leave `transcript.txt`, `resources.json`, `chain.pem` and `key.pem`, and nothing of an earlier run.

    `credentials` are by name: files of a named one end in `-NAME`, the one that tools look for has an empty name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.pem"), *folder.glob("*.json")):
        old.unlink()
    (folder / "transcript.txt").write_text("".join(f"{line}\n" for line in transcript))
    _write_secret(folder / "resources.json", json.dumps(resources, indent=1).encode() + b"\n")
    for name, held in credentials.items():
        end = f"-{name}" if name else ""
        chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in held.chain)
        _write_secret(folder / f"chain{end}.pem", chain)
        key = held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_secret(folder / f"key{end}.pem", key)


def _write_secret(path: Path, content: bytes) -> None:
    """A file that its owner alone may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
