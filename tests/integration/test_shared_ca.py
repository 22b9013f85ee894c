"""A CA that signs operational certificates and is trusted for bootstraps too: whose devices are they? (design 7)

On a whole server: a device of one account with the certificate it got, and another account that trusts that CA.
"""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from simulators import est
from simulators.dtls import X509Credential
from simulators.est import EnrolmentFailed, KeyPair, common_name
from tests.integration.field import opened, profile, until
from tests.integration.tenants import tenants


async def enrols_in_vain(connected: est.EstClient, name: str) -> None:
    """Have the device ask for the certificate of the LwM2M server in either way, and be refused."""
    for function in ("sen", "sren"):
        with pytest.raises(EnrolmentFailed) as failure:
            await connected.enroll(KeyPair.make(common_name(name)).csr, function=function)
        assert failure.value.code == "4.03"


async def test_an_operational_certificate_bootstraps_its_own_accounts_device_only_and_until_it_is_revoked(
    tmp_path: Path,
) -> None:
    name = "est-shared"
    async with (
        opened(tmp_path, profiles={"est": profile("est-*", mode="est")}) as field,
        tenants(field.service) as accounts,
    ):
        ask = accounts.ask
        pair = KeyPair.make(common_name(name))
        async with field.device(name) as device:
            chain = await (await device.connect()).enroll(pair.csr)
        held = X509Credential(chain, pair.key)

        async def reason(*query: str) -> str:
            """Why a bootstrap with the operational certificate failed; empty when it succeeded."""
            # Who says aid is an Izuma client, whose bootstrap account is not at /0/0.
            report, _ = await field.bootstrap(name, credential=held, query=query, account=1 if query else 0)
            return "" if report.ok else report.reason or "?"

        trusted = {
            "name": "an operational CA",
            "service": "bootstrap",
            "certificate": chain[1].public_bytes(Encoding.PEM).decode(),
            "status": "ACTIVE",
            "enrollment_mode": True,
        }
        # Another account does: that makes the device none of its own.
        theirs = await ask("POST", "/v3/trusted-certificates", trusted, own=False)

        async def elsewhere() -> bool:
            assert "4.03" in await reason()
            refused = field.service.events("device_not_admitted")
            return any("issued to a device of another account" in str(event["identity"]) for event in refused)

        await until(elsewhere)
        assert "4.03" in await reason(f"aid={accounts.other_id}")
        assert (await ask("GET", "/v3/devices/", own=False))["data"] == []
        denials = f"/v3/device-enrollment-denials?trusted_certificate_id__eq={theirs['id']}"
        assert (await ask("GET", denials, own=False))["data"] == []
        async with field.device(name, credential=held) as device:
            renewed = await (await device.connect()).enroll(est.sign_csr(pair.key, common_name(name)), function="sren")
        assert renewed[0].public_key() == pair.key.public_key()

        # Its own account does too: now it is a bootstrap credential there, whoever else trusts the CA.
        await ask("POST", "/v3/trusted-certificates", trusted)

        async def at_home() -> bool:
            return await reason() == ""

        await until(at_home)
        assert await reason(f"aid={field.account}") == ""
        assert "4.03" in await reason(f"aid={accounts.other_id}")
        assert (await ask("GET", "/v3/devices/", own=False))["data"] == []

        # By EST alone too: the record says which of the accounts it is.
        async with field.device(name, credential=held) as device:
            assert await (await device.connect()).enroll(KeyPair.make(common_name(name)).csr)

        # The certificate of a custom service of the same CA is good for that service alone.
        await field.service.command("service", "add", "DLMS")
        meter = KeyPair.make(common_name(name))
        async with field.device(name) as device:
            connected = await device.connect()

            async def enrolled() -> Any:
                with contextlib.suppress(EnrolmentFailed):
                    return await connected.enroll(meter.csr, label="DLMS")

            held_meter = X509Credential(await until(enrolled), meter.key)
        report, _ = await field.bootstrap(name, credential=held_meter)
        assert "4.03" in str(report.reason)
        async with field.device(name, credential=held_meter) as device:
            connected = await device.connect()
            await enrols_in_vain(connected, name)
            assert await connected.enroll(KeyPair.make(common_name(name)).csr, label="DLMS")

        # Revoked, it counts for nothing any more, and the operator reads why.
        serial = format(chain[0].serial_number, "x")
        await field.service.command("certificate", "revoke", serial, "--reason", "keyCompromise")
        assert "4.03" in await reason()
        async with field.device(name, credential=held) as device:
            connected = await device.connect()
            await enrols_in_vain(connected, name)

        assert await field.seen_with(f"the certificate of {name} is revoked")
