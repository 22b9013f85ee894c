"""A factory whose devices come to a real socket, its certificates also as files for programs."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from server.trust import TrustIndex
from tests.pki import Holder
from tests.unit.transport.certificates import HOUR, anchor, make


class Factory:
    """A factory's PKI and the server's certificate, valid now, also as files for programs."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        valid = {"not_before": now - HOUR, "not_after": now + 24 * HOUR}
        self.root = make("Factory Root", ca=True, **valid)
        self.line = make("Factory Line 1", self.root, ca=True, **valid)
        self.device = make("dev-1", self.line, ca=False, **valid)
        self.stranger = make("dev-1", ca=False, **valid)
        # libcoap's client sends its own certificate only.
        self.direct = make("dev-2", self.root, ca=False, **valid)
        self.server = make("bootstrap.example.com", **valid)
        # A factory with an RSA root, and a device that vouches for itself: no CA, and another's certificate it signed.
        self.rsa_root = make("RSA Root", ca=True, key=rsa.generate_private_key(65537, 2048), **valid)
        self.by_rsa = make("dev-rsa", self.rsa_root, ca=False, **valid)
        self.itself = make("dev-itself", ca=False, key_ids=True, **valid)
        self.by_device = make("dev-forged", self.itself, ca=False, key_ids=True, **valid)
        self.index = TrustIndex([anchor(self.root), anchor(self.rsa_root), anchor(self.itself)])
        self.folder = folder
        for stem in ("device", "stranger", "direct", "by_rsa", "itself", "by_device"):
            made: Holder = getattr(self, stem)
            (folder / f"{stem}.pem").write_bytes(made.pem)
            (folder / f"{stem}.key").write_bytes(made.key_pem)
        (folder / "line.pem").write_bytes(self.line.pem)
        (folder / "device-chain.pem").write_bytes(self.device.pem + self.line.pem)
