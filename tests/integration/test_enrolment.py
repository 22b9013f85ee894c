"""First to claim: a factory CA that two accounts hold, and a device that names neither (design 7)."""

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from simulators.dtls import X509Credential
from tests.integration.field import opened, until
from tests.integration.tenants import tenants
from tests.pki import make_factory_ca


def identity(certificate: x509.Certificate) -> str:
    return "A-" + certificate.fingerprint(hashes.SHA256()).hex(":").upper()


async def test_a_device_of_a_shared_factory_is_served_by_the_account_that_claims_it(tmp_path: Path) -> None:
    shared = make_factory_ca("Shared Factory")
    upload = {
        "name": "shared",
        "service": "bootstrap",
        "certificate": shared.pem.decode(),
        "status": "ACTIVE",
        "enrollment_mode": True,
    }
    async with opened(tmp_path) as field, tenants(field.service) as accounts:
        ask = accounts.ask
        first = await ask("POST", "/v3/trusted-certificates", upload)
        await ask("POST", "/v3/trusted-certificates", upload, own=False)
        held = field.certificate("wanderer", shared)
        assert isinstance(held, X509Credential)

        async def refused() -> bool:
            report, _ = await field.bootstrap("wanderer", credential=held)
            assert not report.ok
            return "4.03" in (report.reason or "")

        await until(refused)
        query = f"/v3/device-enrollment-denials?trusted_certificate_id__eq={first['id']}"

        async def denied() -> list[Any]:
            rows: list[Any] = (await ask("GET", query))["data"]
            return rows

        (denial,) = await until(denied)
        assert denial["enrollment_identity"] == identity(held.chain[0])
        claim = {"enrollment_identity": denial["enrollment_identity"]}
        claimed = await ask("POST", "/v3/device-enrollments", claim, own=False)
        assert claimed["claimed_at"] is None
        report, _ = await field.bootstrap("wanderer", credential=held)
        assert report.ok, report.reason
        after = await ask("GET", f"/v3/device-enrollments/{claimed['id']}", own=False)
        assert after["claimed_at"] is not None

        async def theirs() -> list[Any]:
            rows: list[Any] = (await ask("GET", "/v3/devices/", own=False))["data"]
            return rows

        (device,) = await until(theirs)
        assert device["endpoint_name"] == "wanderer"
        assert after["enrolled_device_id"] == device["id"]
        assert (await ask("GET", "/v3/devices/?endpoint_name__eq=wanderer"))["data"] == []
