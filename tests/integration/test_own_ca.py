"""The operator's own CA, end to end: a real CFSSL behind a running server, devices that get its certificates."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest_asyncio
from cryptography import x509

from simulators.brief import Report
from tests.integration.field import Field, opened, until
from tests.integration.service import environment
from tests.issuers.peers.cfssl import PAGE_KEY, Peer, cfssl_serve
from tests.pki import Holder, make_factory_ca

SDK_SCRIPT = Path(__file__).parents[1] / "interop" / "izuma_sdk.py"
STEPS = [
    "trust",
    "create",
    "list",
    "read",
    "verify",
    "activate",
    "custom and filter",
    "refusals",
    "update keeps the credentials",
    "server credentials",
    "a device that is expected",
    "an API key",
    "a user",
    "back to the own CA and removed",
]


@pytest_asyncio.fixture
async def field(tmp_path: Path) -> AsyncIterator[Field]:
    async with opened(tmp_path) as started:
        yield started


async def registered(field: Field, peer: Peer, *, name: str = "plant", trust: Holder | None = None) -> None:
    """A CFSSL registered by the command line, its CA trusted for lwm2m."""
    key = field.folder / "hmac.txt"
    key.write_text(PAGE_KEY + "\n")
    if trust is not None:
        file = field.folder / "plant-ca.pem"
        file.write_bytes(trust.pem)
        await field.service.command("trust", "add", str(file), "--service", "lwm2m", "--name", "plant CA")
    await field.service.command(
        *("issuer", "add", name, "--type", "CFSSL_AUTH", "--set", f"host_url={peer.url}"),
        *("--set", "cfssl_profile=CA", "--secret-file", f"hmac_hex_key={key}"),
    )


def leaf_issuer(report: Report) -> str:
    assert report.ok, report.reason
    return report.issuer


async def until_signed_by(field: Field, names: str, common_name: str) -> None:
    """Bootstrap devices until one is signed by this CA: the change reaches every worker within two seconds."""
    number = 0

    async def signed() -> bool:
        nonlocal number
        number += 1
        report, _ = await field.bootstrap(f"{names}-{number}")
        assert report.ok, report.reason
        return common_name in report.issuer

    await until(signed)


async def test_devices_get_certificates_of_the_ca_that_is_active_and_switching_back_works(field: Field) -> None:
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer:
        await registered(field, peer, trust=ca)
        said = await field.service.command("issuer", "verify", "plant")
        assert "plant: the CA works" in said
        await field.service.command("issuer", "activate", "plant")
        await until_signed_by(field, "by-cfssl", "Plant Root")
        listed = [json.loads(line) for line in (await field.service.command("issuer", "list", "--json")).splitlines()]
        assert {row["name"]: row["services"] for row in listed} == {"embedded CA": "none", "plant": "LWM2M"}
        active = await field.service.command("issuer", "remove", "plant", code=1)
        assert "active for LWM2M" in active
        await field.service.command("issuer", "deactivate")
        await until_signed_by(field, "by-own", "Firstlight")
        await field.service.command("issuer", "remove", "plant")


async def test_a_ca_that_nobody_trusts_is_told_before_it_is_active(field: Field) -> None:
    async with cfssl_serve(make_factory_ca("Plant Root")) as peer:
        await registered(field, peer)
        said = await field.service.command("issuer", "verify", "plant", code=1)
    assert "upload" in said or "trust" in said


async def test_a_dead_ca_costs_a_device_nothing_but_time(field: Field) -> None:
    """It is told to come back, keeps what it has, and finishes when the CA is there again."""
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer:
        port = peer.port
        await registered(field, peer, trust=ca)
        await field.service.command("issuer", "activate", "plant")
        await until_signed_by(field, "before", "Plant Root")
    async with field.device("patient") as device:
        refused = await device.bootstrap()
        assert not refused.ok
        # 5.03 at the Bootstrap-Request: nothing on the device was touched.
        assert "5.03" in refused.reason
        async with cfssl_serve(ca, port=port):
            again = await device.bootstrap()
            assert leaf_issuer(again)
            await device.linger()
    shown = await field.shown("patient")
    assert [session["outcome"] for session in shown["sessions"]] == ["succeeded", "failed"]
    assert shown["sessions"][1]["cause"] == "issuer_unavailable"


async def test_the_vendors_sdk_does_its_whole_script_against_us(field: Field) -> None:
    ca = make_factory_ca("SDK Root")
    file = field.folder / "sdk-ca.pem"
    file.write_bytes(ca.pem)
    async with cfssl_serve(ca) as peer:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SDK_SCRIPT), field.service.ready["http"], field.service.ready["api_key_file"]),
            *(peer.url, PAGE_KEY, str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            cwd=field.folder,
        )
        output, errors = await process.communicate()
    assert process.returncode == 0, f"{output.decode()}\n{errors.decode()}"
    assert output.decode().splitlines() == STEPS


async def test_the_api_shows_a_device_with_its_certificate_session_and_revocation(field: Field) -> None:
    factory_made = field.certificate("shown")
    report, _ = await field.bootstrap("shown", credential=factory_made)
    assert report.ok, report.reason
    await field.over("shown")
    key = Path(field.service.ready["api_key_file"]).read_text().strip()
    async with httpx.AsyncClient(
        base_url=field.service.ready["http"], headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ) as client:
        (device,) = (await client.get("/v3/devices/?endpoint_name__eq=shown")).json()["data"]
        assert (device["state"], device["endpoint_name"]) == ("bootstrapped", "shown")
        assert (await client.get(f"/v3/devices/{device['id']}/")).json() == device
        assert device["issuer_fingerprint"] == sha256(field.factory.der).hexdigest()
        assert device["bootstrap_expiration_date"] == f"{factory_made.chain[0].not_valid_after_utc:%Y-%m-%d}"
        verified = f"/v3/devices/?issuer_fingerprint__in={device['issuer_fingerprint']}"
        assert [row["id"] for row in (await client.get(verified)).json()["data"]] == [device["id"]]
        (certificate,) = (await client.get("/v1/certificates?endpoint_name__eq=shown")).json()["data"]
        assert certificate["fingerprint"] == device["device_key"]
        assert int(certificate["serial"], 16) == int(report.serial, 16)
        whole = (await client.get(f"/v1/certificates/{certificate['id']}")).json()
        assert x509.load_pem_x509_certificates(whole["chain"].encode())[0].serial_number == int(report.serial, 16)
        (session,) = (await client.get("/v1/sessions?endpoint_name__eq=shown")).json()["data"]
        steps = (await client.get(f"/v1/sessions/{session['id']}")).json()["steps"]
        assert [step["op"] for step in steps][-1] == "finish"
        revoked = await client.post(f"/v1/certificates/{certificate['id']}/revoke", json={"reason": "keyCompromise"})
        assert revoked.status_code == 200
        assert (await client.post(f"/v1/certificates/{certificate['id']}/revoke")).status_code == 409
        account = field.service.ready["account_id"]
        crl = x509.load_der_x509_crl((await client.get(f"/v1/crl/{account}.crl")).content)
        assert crl.get_revoked_certificate_by_serial_number(int(report.serial, 16)) is not None
