"""EST with CAs of the operator's own: a real CFSSL for a service of its own, and a CA that takes a minute."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from lwm2m.multipart import decode_parts
from simulators.atlas import Settings
from simulators.atlas_ca import Journal
from simulators.atlas_faults import Fault
from simulators.est import PKCS10, ROOT, EnrolmentFailed, KeyPair, common_name, read_certificates
from tests.integration.enrolments import taken_up
from tests.integration.field import Field, opened, profile, until
from tests.issuers.peers.atlas import running_atlas
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.pki import make_factory_ca

SHORT_HOLD = "hold_seconds = 1\nretry_after = 1"
# Seconds of silence that end an association of whom nobody has anything to give.
IDLE = 5
PROFILES = {
    "waits": profile("waits-*", mode="est", est=SHORT_HOLD),
    "holds": profile("holds-*", mode="est", est="hold_seconds = 60"),
}


@pytest_asyncio.fixture
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("est-ca")
    settings = folder / "settings.toml"
    settings.write_text(f"[limits]\nidle_seconds = {IDLE}\n")
    async with opened(folder, "--config", str(settings), profiles=PROFILES) as started:
        yield started


@dataclass
class Clock:
    """The CA's clock, which a test may move on."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def test_a_ca_that_takes_a_minute_signs_once_and_the_device_ends_with_one_certificate(field: Field) -> None:
    clock = Clock()
    # It has the certificate ready sixty seconds after it was asked.
    journal = field.folder / "atlas.jsonl"
    async with running_atlas(Settings(issue_delay=60.0), journal=journal, now=clock) as peer:
        await slow_ca(field, peer.attributes, peer.credentials, peer.atlas.ca.root.certificate)
        waits, holds = KeyPair.make(common_name("waits-1")), KeyPair.make(common_name("holds-1"))
        async with field.device("waits-1") as one, field.device("holds-1") as other:
            # The one is told to come back, and comes with the same CSR; the other's exchange is held open.
            held = asyncio.create_task((await other.connect()).enroll(holds.csr))
            client = await one.connect()
            # Seven seconds and more, in which the device that is held says nothing.
            for _ in range(IDLE + 2):
                with pytest.raises(EnrolmentFailed) as later:
                    await client.enroll(waits.csr)
                assert (later.value.code, later.value.retry_after) == ("5.03", 1)
            assert not held.done()
            clock.ahead = 60.0

            async def given() -> tuple[x509.Certificate, ...] | None:
                try:
                    return await client.enroll(waits.csr)
                except EnrolmentFailed as failure:
                    answers.add(failure.code)
                    return None

            answers: set[str | None] = set()
            chain = await until(given)
            assert answers <= {"5.03"}
            assert chain[0].public_key() == waits.key.public_key()
            assert (await held)[0].public_key() == holds.key.public_key()
        # By the CA's own log: one signature for each of the two, whatever the devices asked meanwhile.
        signed = [line["spki_sha256"] for line in Journal(journal).entries() if line["event"] == "issued"]
        assert len(signed) == len(set(signed)) == peer.atlas.issued == 2
    for name in ("waits-1", "holds-1"):
        shown = await field.shown(name)
        assert [row["state"] for row in shown["issuances"]] == ["delivered"]


async def test_a_ca_that_signs_after_we_gave_up_waiting_has_signed_once_and_the_device_gets_that_certificate(
    field: Field,
) -> None:
    journal = field.folder / "atlas.jsonl"
    async with running_atlas(journal=journal) as peer:
        await slow_ca(field, peer.attributes, peer.credentials, peer.atlas.ca.root.certificate)
        # It keeps the request for longer than anybody waits for its answer, and performs it then.
        peer.atlas.faults.append(Fault(at="POST /certificates", do="late"))
        pair = KeyPair.make(common_name("waits-3"))
        async with field.device("waits-3") as device:
            client = await device.connect()
            answers: set[str | None] = set()

            async def told_later() -> bool:
                with pytest.raises(EnrolmentFailed) as later:
                    await client.enroll(pair.csr)
                answers.add(later.value.code)
                assert later.value.retry_after
                # More looks than a moment of patience: the CA says each time that it has issued nothing.
                return peer.atlas.calls["GET /stats/issued"] >= 4

            await until(told_later)
            peer.atlas.go_on()

            async def given() -> tuple[x509.Certificate, ...] | None:
                try:
                    return await client.enroll(pair.csr)
                except EnrolmentFailed as failure:
                    answers.add(failure.code)
                    return None

            chain = await until(given)
        assert answers == {"5.03"}
        assert chain[0].public_key() == pair.key.public_key()
        # By the CA's own log there is one, and it is this one; we asked for it once.
        signed = [line["serial"] for line in Journal(journal).entries() if line["event"] == "issued"]
        assert signed == [f"{chain[0].serial_number:x}"]
        assert peer.atlas.calls["POST /certificates"] == 1
    shown = await field.shown("waits-3")
    assert [row["state"] for row in shown["issuances"]] == ["delivered"]


async def test_a_device_that_asks_for_a_key_made_here_waits_as_its_profile_says(field: Field) -> None:
    clock = Clock()
    journal = field.folder / "atlas.jsonl"
    async with running_atlas(Settings(issue_delay=60.0), journal=journal, now=clock) as peer:
        await slow_ca(field, peer.attributes, peer.credentials, peer.atlas.ca.root.certificate)
        async with field.device("waits-5") as device:
            client = await device.connect()
            csr = KeyPair.make(common_name("waits-5")).csr

            async def asked() -> bytes:
                answer = await client.ask(codes.POST, (*ROOT, "skg"), payload=csr, content_format=PKCS10)
                return bytes(answer.payload)

            with pytest.raises(EnrolmentFailed) as later:
                await asked()
            assert (later.value.code, later.value.retry_after) == ("5.03", 1)
            clock.ahead = 60.0

            async def given() -> bytes | None:
                try:
                    return await asked()
                except EnrolmentFailed as failure:
                    answers.add(failure.code)
                    return None

            answers: set[str | None] = set()
            (_, key), (_, chain) = decode_parts(await until(given))
            leaf = read_certificates(chain)[0]
            assert leaf.public_key() == load_der_private_key(key, None).public_key()
            assert answers <= {"5.03"}
        assert peer.atlas.issued == 1
    await until(lambda: asyncio.sleep(0, field.service.events("certificate_delivered")))
    # Nothing went wrong while it waited: what is on record is the one that ended well.
    shown = await field.shown("waits-5")
    assert [session["outcome"] for session in shown["sessions"]] == ["succeeded"]


async def slow_ca(
    field: Field, attributes: Mapping[str, object], credentials: Mapping[str, object], root: x509.Certificate
) -> None:
    """Register the stand-in, trust its root for lwm2m, and make it active for the LwM2M certificate."""
    file = field.folder / "atlas-root.pem"
    file.write_bytes(root.public_bytes(Encoding.PEM))
    await field.service.command("trust", "add", str(file), "--service", "lwm2m", "--name", "atlas")
    key = Path(field.service.ready["api_key_file"]).read_text().strip()
    async with httpx.AsyncClient(
        base_url=field.service.ready["http"],
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=60,
    ) as client:
        issuer = {"name": "slow", "issuer_type": "GLOBAL_SIGN", "issuer_attributes": dict(attributes)}
        made = await client.post("/v3/certificate-issuers", json={**issuer, "issuer_credentials": dict(credentials)})
        assert made.status_code == 201, made.text
    await taken_up(field, field.service.command("issuer", "activate", "slow"))


async def test_a_custom_service_with_its_own_ca_issues_under_its_label(field: Field) -> None:
    plant = make_factory_ca("Plant CA")
    async with cfssl_serve(plant) as peer:
        key = field.folder / "hmac.txt"
        key.write_text(PAGE_KEY)
        await field.service.command(
            *("issuer", "add", "plant", "--type", "CFSSL_AUTH", "--set", f"host_url={peer.url}"),
            *("--set", "cfssl_profile=CA", "--secret-file", f"hmac_hex_key={key}"),
        )
        # The plant's CA is trusted for nothing else: its own root is where the path of its service ends.
        await taken_up(field, field.service.command("service", "add", "DLMS", "--issuer", "plant"))
        async with field.device("waits-2") as device:
            client = await device.connect()
            pair = KeyPair.make(common_name("waits-2"))
            metering = await client.enroll(pair.csr, label="DLMS")
            metering[0].verify_directly_issued_by(plant.certificate)
            assert await client.ca_certificates(label="DLMS") == (plant.certificate,)
            # The same key, the same CSR, another service: another CA.
            lwm2m = await client.enroll(pair.csr)
            assert lwm2m[0].issuer != plant.certificate.subject
            assert lwm2m[0].public_key() == metering[0].public_key() == pair.key.public_key()
            await peer.kill()
            with pytest.raises(EnrolmentFailed) as later:
                await client.enroll(KeyPair.make(common_name("waits-2")).csr, label="DLMS")
            assert (later.value.code, bool(later.value.retry_after)) == ("5.03", True)
            # The other services go on.
            assert await client.enroll(KeyPair.make(common_name("waits-2")).csr)

    async def told() -> bool:
        return bool(field.service.events("enrollment_failed"))

    await until(told)
    shown = await field.shown("waits-2")
    failed = [session for session in shown["sessions"] if session["outcome"] == "failed"]
    assert [(session["kind"], session["cause"]) for session in failed] == [("enrollment", "issuer_unavailable")]
    assert sorted((row["service"], row["state"]) for row in shown["issuances"]) == [
        ("DLMS", "delivered"),
        ("DLMS", "failed"),
        ("LWM2M", "delivered"),
        ("LWM2M", "delivered"),
    ]


async def test_a_server_that_stops_keeps_nobody_waiting_and_the_next_one_has_the_certificate(field: Field) -> None:
    clock = Clock()
    journal = field.folder / "atlas.jsonl"
    async with running_atlas(Settings(issue_delay=60.0), journal=journal, now=clock) as peer:
        await slow_ca(field, peer.attributes, peer.credentials, peer.atlas.ca.root.certificate)
        pair = KeyPair.make(common_name("holds-2"))
        async with field.device("holds-2") as device:
            held = asyncio.create_task((await device.connect()).enroll(pair.csr))
            await until(lambda: asyncio.sleep(0, peer.atlas.issued == 1))
            assert await field.service.stop() == 0
            with pytest.raises(EnrolmentFailed) as later:
                await held
            assert (later.value.code, later.value.retry_after) == ("5.03", 5)
        clock.ahead = 60.0
        await field.service.start()
        async with field.device("holds-2") as device:
            client = await device.connect()

            async def given() -> tuple[x509.Certificate, ...] | None:
                try:
                    return await client.enroll(pair.csr)
                except EnrolmentFailed:
                    return None

            chain = await until(given)
        assert chain[0].public_key() == pair.key.public_key()
        assert peer.atlas.issued == 1
