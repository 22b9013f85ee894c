"""mbed TLS comes in, as it does in many devices, and makes a Bootstrap-Request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.field import Field, opened
from tests.interop.coap_bytes import CHANGED, bootstrap_request
from tests.interop.faulty import each_arrives
from tests.interop.peers import HAS_MBED_TLS
from tests.pki import make_device_certificate
from tests.programs import PATIENCE

if HAS_MBED_TLS:
    from tests.interop.mbed_client import MbedClient

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not HAS_MBED_TLS, reason="python-mbedtls has no wheel here"),
]

IDENTITY, KEY = "mbed-psk", bytes.fromhex("c0ffee" * 6)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("mbed-tls")
    # This client answers nothing of what follows the 2.04 and leaves without a word.
    (folder / "firstlight.toml").write_text("[server]\ndrain_seconds = 0\n")
    async with opened(folder, "--config", str(folder / "firstlight.toml"), keys={IDENTITY: KEY.hex()}) as started:
        yield started


def with_certificate(field: Field, address: tuple[str, int], name: str, suite: str, mtu: int = 1200) -> "MbedClient":
    """A device of the factory, which checks the server's certificate."""
    anchor = Path(field.service.ready["server_ca_file"]).read_text()
    return MbedClient(address, suite, certificate=make_device_certificate(field.factory, name), anchor=anchor, mtu=mtu)


async def bootstraps(client: "MbedClient", endpoint: str) -> None:
    """It comes in and is told 2.04."""
    async with asyncio.timeout(PATIENCE):
        with client.sock:
            await client.handshake()
            await client.ask(bootstrap_request(endpoint), CHANGED)


@pytest.mark.parametrize("mtu", [1200, 300])
@pytest.mark.parametrize("suite", ["CCM-8", "GCM-SHA256"])
async def test_mbed_tls_bootstraps_with_its_certificate(field: Field, suite: str, mtu: int) -> None:
    suite = f"TLS-ECDHE-ECDSA-WITH-AES-128-{suite}"
    client = with_certificate(field, field.address, "mbed-x509", suite, mtu)
    await bootstraps(client, "mbed-x509")
    assert client.tls.cipher() == suite


@pytest.mark.parametrize("suite", ["CCM-8", "GCM-SHA256", "CBC-SHA256"])
async def test_mbed_tls_bootstraps_with_its_pre_shared_key(field: Field, suite: str) -> None:
    suite = f"TLS-PSK-WITH-AES-128-{suite}"
    client = MbedClient(field.address, suite, psk=(IDENTITY, KEY))
    await bootstraps(client, IDENTITY)
    assert client.tls.cipher() == suite


async def test_mbed_tls_has_its_answer_whatever_is_lost(field: Field) -> None:
    """Beside the handshake the exchange, by CoAP's own repeats."""

    async def comes(address: tuple[str, int], number: int) -> None:
        if number % 2:
            await bootstraps(MbedClient(address, "TLS-PSK-WITH-AES-128-CCM-8", psk=(IDENTITY, KEY)), IDENTITY)
        else:
            name = f"mbed-{number}"
            await bootstraps(with_certificate(field, address, name, "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8"), name)

    await each_arrives(field, comes)
