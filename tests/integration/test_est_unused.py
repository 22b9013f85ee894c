"""Devices that take mode 4 and never ask for a certificate, on a whole server with two workers and real DTLS.

A CSR is waited for half a second here, and a device is away for as long: the server closes its association then.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509

from simulators import est
from simulators.device import Device
from simulators.dtls import Credential, PskCredential
from simulators.est import KeyPair, common_name
from simulators.tree import MODE, MODE_CERTIFICATE, MODE_EST
from tests.integration.enrolments import delivered, enrolled, refused, taken_up, tampered, until_sessions
from tests.integration.field import Field, opened, profile, steps, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = "[limits]\nafter_finish_seconds = 0.5\nafter_finish_est_seconds = 0.5\n"
PROFILES = {
    "either": profile("either-*", mode="est-then-server-key"),
    "est": profile("est-*", mode="est"),
    "away": profile("away-*", mode="est-then-server-key", security='service = "Plant"'),
}
WHY = "mode 4 was taken before and no certificate asked for"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("unused")
    settings = folder / "firstlight.toml"
    settings.write_text(SETTINGS)
    async with opened(folder, "--config", str(settings), "--workers", "2", profiles=PROFILES) as started:
        await started.service.command("service", "add", "DLMS")
        key = folder / "key.txt"
        key.write_text("00112233445566778899aabbccddeeff")
        # Nobody listens there.
        words = ("--type", "CFSSL_AUTH", "--set", "host_url=http://127.0.0.1:1", "--secret-file", f"hmac_hex_key={key}")
        await started.service.command("issuer", "add", "plant", *words)
        await taken_up(started, started.service.command("service", "add", "Plant", "--issuer", "plant"))
        yield started


class Visits:
    """One device that bootstraps again and again: each time with its factory certificate, and as if it were new."""

    def __init__(self, field: Field, endpoint: str, credential: Credential | None = None) -> None:
        self.field = field
        self.endpoint = endpoint
        self.credential = credential or field.certificate(endpoint)
        self.count = 0

    async def bootstrap(self, *, waits: bool = True) -> Device:
        """What a visit left on the device, which stays until the server no longer waits for it."""
        async with self.field.device(self.endpoint, credential=self.credential, est="later") as device:
            report = await device.bootstrap()
            assert report.ok, report.reason
            self.count += 1
            await self.field.over(self.endpoint, count=self.count)
            if waits:
                await until(lambda: asyncio.sleep(0, device.is_lost))
            return device

    async def modes(self, visits: int) -> list[object]:
        """The security mode that each of so many visits brought."""
        return [mode_of(await self.bootstrap()) for _ in range(visits)]

    async def shown(self) -> dict[str, Any]:
        """What `device show` says."""
        return await self.field.shown(self.endpoint)


def mode_of(device: Device) -> object:
    [account] = device.tree.server_accounts().values()
    return account[MODE]


async def test_the_third_bootstrap_brings_a_key_and_its_chain_over_a_restart_too_until_the_device_sends_a_csr(
    field: Field,
) -> None:
    visits = Visits(field, "either-silent")
    assert await visits.modes(2) == [MODE_EST] * 2
    assert (await visits.shown())["est_offer"]["rounds"] == 2
    assert await field.service.stop() == 0
    await field.service.start()
    third = await visits.bootstrap()
    assert mode_of(third) == MODE_CERTIFICATE
    [identity] = third.identities
    issuing, root = [await exported(field, which) for which in ("issuing", "device-root")]
    identity.leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    assert identity.leaf.public_key() == identity.key.public_key()

    shown = await visits.shown()
    assert json.loads(shown["learned"]) == {"est_unused": True}
    security = [row for row in steps(shown["sessions"][0], "write") if row["path"].startswith("/0")]
    assert [row["note"].split(";")[0] for row in security] == [WHY]
    [told] = [event for event in field.service.events("mode_4_unused") if event["endpoint"] == "either-silent"]
    assert "asked for no certificate" in str(told["reason"])
    assert "it took mode 4 in 2 bootstraps" in await field.service.command("device", "show", "either-silent")
    assert await visits.modes(1) == [MODE_CERTIFICATE]

    async with field.device("either-silent", credential=visits.credential) as device:
        await enrolled(await device.connect(), "either-silent")
    shown = await delivered(field, "either-silent")
    assert (shown["learned"], shown["est_offer"]["rounds"]) == ("{}", 0)
    assert await visits.modes(3) == [MODE_EST] * 3


async def exported(field: Field, which: str) -> x509.Certificate:
    """A certificate of the embedded CA."""
    return x509.load_pem_x509_certificate((await field.service.command("ca", "export", which)).encode())


async def test_a_device_that_enrols_late_keeps_mode_4(field: Field) -> None:
    visits = Visits(field, "either-late")
    assert await visits.modes(2) == [MODE_EST] * 2
    async with field.device("either-late", credential=visits.credential) as device:
        await enrolled(await device.connect(), "either-late")
    assert await visits.modes(2) == [MODE_EST] * 2
    shown = await visits.shown()
    assert (shown["learned"], shown["est_offer"]["rounds"]) == ("{}", 0)


async def test_a_device_that_enrolled_before_its_bootstraps_keeps_mode_4(field: Field) -> None:
    """It has its certificate, and has no need to ask."""
    visits = Visits(field, "either-before")
    async with field.device("either-before", credential=visits.credential) as device:
        await enrolled(await device.connect(), "either-before")
    assert await visits.modes(3) == [MODE_EST] * 3


async def test_a_device_whose_csr_is_refused_did_ask_and_keeps_mode_4(field: Field) -> None:
    visits = Visits(field, "either-refused")
    assert await visits.modes(1) == [MODE_EST]
    async with field.device("either-refused", credential=visits.credential) as device:
        assert await refused(await device.connect(), payload=tampered("either-refused")) == "4.00"
    await until_sessions(field, "either-refused")
    assert await visits.modes(3) == [MODE_EST] * 3


async def test_a_device_whose_ca_is_away_did_ask_and_keeps_mode_4(field: Field) -> None:
    visits = Visits(field, "away-1")
    assert await visits.modes(1) == [MODE_EST]
    async with field.device("away-1", credential=visits.credential) as device:
        csr = KeyPair.make(common_name("away-1")).csr
        assert await refused(await device.connect(), (*est.ROOT, "Plant", "sen"), payload=csr) == "5.03"
    assert (await visits.shown())["est_offer"]["rounds"] == 0
    assert await visits.modes(3) == [MODE_EST] * 3


async def test_a_device_with_a_pre_shared_key_that_may_not_enrol_gets_a_key(field: Field) -> None:
    """It asks each time, and EST is for certificates (RFC 9148 4)."""
    key = "00112233445566778899aabbccddeeff"
    await field.add_key("either-keyed", key, "either-keyed")
    visits = Visits(field, "either-keyed", PskCredential(b"either-keyed", bytes.fromhex(key)))
    for _ in range(2):
        assert await visits.modes(1) == [MODE_EST]
        async with field.device("either-keyed", credential=visits.credential) as device:
            csr = KeyPair.make(common_name("either-keyed")).csr
            assert await refused(await device.connect(), payload=csr) == "4.01"
    assert await visits.modes(1) == [MODE_CERTIFICATE]


async def test_a_device_that_asks_with_a_label_that_is_none_did_ask_and_keeps_mode_4(field: Field) -> None:
    visits = Visits(field, "either-label")
    assert await visits.modes(1) == [MODE_EST]
    async with field.device("either-label", credential=visits.credential) as device:
        csr = KeyPair.make(common_name("either-label")).csr
        assert await refused(await device.connect(), (*est.ROOT, "Wi-SUN", "sen"), payload=csr) == "4.04"
    await until_sessions(field, "either-label")
    assert await visits.modes(3) == [MODE_EST] * 3


async def test_a_device_that_reads_the_ca_certificates_alone_gets_a_key(field: Field) -> None:
    visits = Visits(field, "either-reads")
    assert await visits.modes(1) == [MODE_EST]
    async with field.device("either-reads", credential=visits.credential) as device:
        assert len(await (await device.connect()).ca_certificates()) == 2
    assert await visits.modes(2) == [MODE_EST, MODE_CERTIFICATE]


async def test_an_application_that_asks_for_another_service_does_not_make_the_client_know_mode_4(field: Field) -> None:
    visits = Visits(field, "either-meter")
    assert await visits.modes(1) == [MODE_EST]
    async with field.device("either-meter", credential=visits.credential) as device:
        await enrolled(await device.connect(), "either-meter", label="DLMS")
    assert await visits.modes(2) == [MODE_EST, MODE_CERTIFICATE]


async def test_a_profile_that_permits_no_key_made_here_never_gives_one(field: Field) -> None:
    visits = Visits(field, "est-silent")
    assert await visits.modes(4) == [MODE_EST] * 4
    assert (await visits.shown())["est_offer"] is None


async def test_a_device_that_is_forgotten_is_offered_mode_4_again(field: Field) -> None:
    visits = Visits(field, "either-forgotten")
    assert await visits.modes(3) == [MODE_EST, MODE_EST, MODE_CERTIFICATE]
    await field.service.command("device", "forget", "either-forgotten")
    assert (await visits.shown())["learned"] == "{}"
    assert await visits.modes(3) == [MODE_EST, MODE_EST, MODE_CERTIFICATE]
