"""Other people's DTLS and TLS clients: which are here, and how openssl shows a device's credential."""

import shutil

import pytest

from tests.integration.factory import Factory
from tests.unit.transport.client import PSK_SUITES

requires_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
requires_libcoap = pytest.mark.skipif(
    shutil.which("coap-client-openssl") is None, reason="needs coap-client-openssl (libcoap3-bin)"
)
requires_gnutls = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-cli (gnutls-bin)")


def as_device(factory: Factory, suite: str = "ECDHE-ECDSA-AES128-CCM8", who: str = "device") -> list[str]:
    folder = factory.folder
    options = ["-cert", str(folder / f"{who}.pem"), "-key", str(folder / f"{who}.key")]
    if who == "device":
        options += ["-cert_chain", str(folder / "line.pem")]
    return [*options, "-cipher", f"{suite}:@SECLEVEL=0"]


def with_key(suite: str = PSK_SUITES, identity: str = "urn:dev:1", key: bytes = b"k" * 16) -> list[str]:
    return ["-psk_identity", identity, "-psk", key.hex(), "-cipher", f"{suite}:@SECLEVEL=0"]
