"""Credentials that an operator withdraws while their devices are on an association: they count for nothing more."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiocoap.numbers import codes

from simulators import est
from simulators.dtls import PskCredential
from simulators.est import KeyPair, common_name
from tests.integration import enrolments
from tests.integration.enrolments import enrolled, refused, taken_up
from tests.integration.field import Field, profile
from tests.pki import make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

SKG, CRTS = (*est.ROOT, "skg"), (*est.ROOT, "crts")
KEY = "00112233445566778899aabbccddeeff"
PROFILES = {"est": profile("est-*", mode="est", est="psk_enrolls = true")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("est-withdrawn")
    async with enrolments.opened(folder, PROFILES, keys={"est-psk": KEY}) as started:
        yield started


async def test_a_factory_that_is_denied_gets_its_connected_devices_no_more_certificates(field: Field) -> None:
    stolen = make_factory_ca("Stolen Factory")
    await taken_up(field, field.trust(stolen, name="stolen"))
    credential = field.certificate("est-stolen", stolen)
    async with field.device("est-stolen", credential=credential) as device, field.device("est-sound") as sound:
        client, other = await device.connect(), await sound.connect()
        await enrolled(client, "est-stolen")
        await taken_up(field, field.service.command("trust", "deny", "stolen"))
        csr = KeyPair.make(common_name("est-stolen")).csr
        assert await refused(client, payload=csr) == "4.03"
        assert await refused(client, SKG, payload=csr) == "4.03"
        assert await refused(client, CRTS, code=codes.GET, content_format=None) == "4.03"
        assert await refused(client, ("bs",), query=("ep=est-stolen",), content_format=None) == "4.03"
        # A change that is none of its own takes nothing from a device.
        await enrolled(other, "est-sound")
        await taken_up(field, field.service.command("trust", "activate", "stolen"))
        await enrolled(client, "est-stolen")


async def test_a_key_that_is_removed_or_changed_gets_its_connected_device_no_more_certificates(field: Field) -> None:
    credential = PskCredential(b"est-psk", bytes.fromhex(KEY))
    async with field.device("est-psk", credential=credential) as device:
        client = await device.connect()
        await enrolled(client, "est-psk")
        await taken_up(field, field.add_key("est-unrelated", KEY, "est-unrelated"))
        await enrolled(client, "est-psk")
        await taken_up(field, field.service.command("psk", "remove", "est-psk"))
        csr = KeyPair.make(common_name("est-psk")).csr
        assert await refused(client, payload=csr) == "4.03"
        await taken_up(field, field.add_key("est-psk", KEY[::-1], "est-psk"))
        assert await refused(client, payload=csr) == "4.03"
        assert await refused(client, ("bs",), query=("ep=est-psk",), content_format=None) == "4.03"
