"""Devices register with the certificate that a bootstrap gave them, over real DTLS."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.checks import Identity
from simulators.registration import RegisteredDevice, RegistrationFailed, lwm2m_server
from tests import pki
from tests.integration.enrolments import taken_up
from tests.integration.field import Field, opened, profile
from tests.integration.registered import at_work, registering
from tests.integration.service import simulate

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with registering(tmp_path_factory.mktemp("registration")) as started:
        yield started


async def test_an_issued_certificate_opens_a_session_and_registers(field: Field) -> None:
    async with at_work(field, "worker-1") as (_, registered):
        assert registered.location[0] == "rd"
        assert await registered.update(lt="600") == codes.CHANGED
        assert await registered.update() == codes.CHANGED
        assert await registered.deregister() == codes.DELETED
        assert await registered.update() == codes.NOT_FOUND
        assert await registered.deregister() == codes.NOT_FOUND


async def test_a_device_that_took_the_leaf_alone_registers_too(field: Field) -> None:
    async with field.device("leaf-only", version="1.1") as device:
        report = await device.bootstrap()
        assert report.ok, report.reason
        identity, server = lwm2m_server(device)
        assert len(identity.chain) == 1
        async with RegisteredDevice("leaf-only", identity, server) as registered:
            await registered.register()


@pytest.mark.parametrize(
    ("ep", "parameters", "code"),
    [
        ("another", {}, "4.00"),
        (None, {"lwm2m": "1.9"}, "4.12"),
        (None, {"lt": "never"}, "4.00"),
        (None, {"b": "7"}, "4.00"),
    ],
)
async def test_a_register_that_cannot_be_is_refused(
    field: Field, ep: str | None, parameters: dict[str, str], code: str
) -> None:
    async with at_work(field, "worker-2") as (_, registered):
        with pytest.raises(RegistrationFailed, match=code):
            await registered.register(ep=ep, **parameters)
        # What was registered before stands.
        assert await registered.update() == codes.CHANGED


async def test_a_factory_certificate_may_not_register(field: Field) -> None:
    held = field.certificate("factory-fresh")
    identity = Identity(instance=0, chain=held.chain, key=held.key)
    async with RegisteredDevice("factory-fresh", identity, field.server) as device:
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await device.register()
    assert (await field.seen_with("factory-fresh"))["reason"] == "not_authorized"


async def test_an_operational_certificate_may_not_bootstrap(field: Field) -> None:
    async with at_work(field, "worker-3") as (_, registered):
        answer = await registered.request(codes.POST, ("bs",), query={"ep": "worker-3"})
        assert answer.code == codes.FORBIDDEN


async def test_a_ca_of_the_operators_own_is_no_identity_by_itself(field: Field) -> None:
    """A certificate that leads to a trusted CA and names nobody of ours, or someone without the account in OU."""
    commercial = pki.make_factory_ca("Commercial CA")
    file = field.folder / "commercial.pem"
    file.write_bytes(commercial.pem)
    await field.service.command("trust", "add", str(file), "--service", "lwm2m", "--name", "commercial")
    await field.known(anchors=3, profiles=2)
    account = field.service.ready["account_id"]

    async def register(common_name: str, **names: str) -> None:
        subject = pki.make_name(common_name, **names)
        usage = [(pki.key_usage("digital_signature"), True)]
        held = pki.make_certificate(subject, commercial, extensions=usage)
        identity = Identity(instance=0, chain=(held.certificate,), key=cast("ec.EllipticCurvePrivateKey", held.key))
        async with RegisteredDevice(common_name, identity, field.server) as device:
            await device.register()

    async with at_work(field, "worker-4"):
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await register("worker-4")
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await register("nobody", organizational_unit_name=account)
        await register("worker-4", organizational_unit_name=account)


async def test_a_ca_that_is_denied_ends_what_its_connected_devices_may(field: Field) -> None:
    leaving = pki.make_factory_ca("Leaving CA")
    file = field.folder / "leaving.pem"
    file.write_bytes(leaving.pem)
    await taken_up(field, field.service.command("trust", "add", str(file), "--service", "lwm2m", "--name", "leaving"))
    subject = pki.make_name("worker-7", organizational_unit_name=field.account)
    held = pki.make_certificate(subject, leaving, extensions=[(pki.key_usage("digital_signature"), True)])
    identity = Identity(instance=0, chain=(held.certificate,), key=cast("ec.EllipticCurvePrivateKey", held.key))
    async with at_work(field, "worker-7"), RegisteredDevice("worker-7", identity, field.server) as registered:
        await registered.register()
        await taken_up(field, field.service.command("trust", "deny", "leaving"))
        assert await registered.update() == codes.FORBIDDEN


async def test_a_revoked_certificate_registers_no_more(field: Field) -> None:
    async with at_work(field, "worker-5") as (device, registered):
        serial = f"{device.identities[0].leaf.serial_number:x}"
        await field.service.command("certificate", "revoke", serial)
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await registered.register()


async def test_the_interface_is_closed_unless_it_is_switched_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as closed:
        await closed.set_profile("at-home", profile("*", uri=closed.service.server_uri))
        await closed.known(anchors=2, profiles=2)
        async with closed.device("early") as device:
            assert (await device.bootstrap()).ok
            identity, server = lwm2m_server(device)
            async with RegisteredDevice("early", identity, server) as registered:
                with pytest.raises(RegistrationFailed, match=r"4\.04"):
                    await registered.register()


async def test_the_simulator_registers_after_its_bootstrap(field: Field, tmp_path: Path) -> None:
    (tmp_path / "factory.pem").write_bytes(field.factory.pem)
    (tmp_path / "factory.key").write_bytes(field.factory.key_pem)
    words = ("--server", field.service.server_uri, "--mode", "x509", "--out", str(tmp_path), "--register")
    factory = ("--factory-ca", str(tmp_path / "factory.pem"), "--factory-key", str(tmp_path / "factory.key"))
    anchor = ("--server-ca", field.service.ready["server_ca_file"], "--endpoint", "simulated")
    code, reports, summary = await simulate(*words, *factory, *anchor)
    assert (code, summary["succeeded"]) == (0, 1), reports
    assert "== registered" in (tmp_path / "simulated" / "transcript.txt").read_text()
