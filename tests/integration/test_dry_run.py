"""The dry run, and the profile by which a device is served once its factory certificate is not what it shows."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import NameOID

from server.store.devices import device_id
from simulators.dtls import X509Credential
from simulators.est import KeyPair, common_name
from tests.integration.field import Field, opened, profile, until


async def explained(field: Field, endpoint: str, *words: str) -> dict[str, Any]:
    told = await field.service.command("device", "explain", endpoint, *words, "--json")
    return cast("dict[str, Any]", json.loads(told))


async def test_a_device_is_served_by_the_profile_of_the_factory_it_came_from_when_it_renews(tmp_path: Path) -> None:
    name = "renews"
    async with opened(tmp_path) as field:
        text = profile("*", mode="est", est='subject = "CN={endpoint},O=Plant"')
        matched = f'[match]\ntrusted_certificate = "{sha256(field.factory.der).hexdigest()}"'
        await field.service.command("service", "add", "DLMS")
        await field.set_profile("by-factory", text.replace("[match]", matched))
        await field.known(anchors=2, profiles=2)
        assert (await explained(field, name))["profile"] == "default"
        async with field.device(name) as device:
            pair = KeyPair.make(common_name(name))
            held = X509Credential(await (await device.connect()).enroll(pair.csr), pair.key)
        of_plant = x509.Name([*common_name(name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Plant")])

        async def on_record() -> bool:
            return bool((await explained(field, name))["profile"] == "by-factory")

        # What it came with is remembered, and the dry run says what the server does.
        await until(on_record)
        async with field.device(name, credential=held) as device:
            wanted = KeyPair.make(of_plant)
            chain = await (await device.connect()).enroll(wanted.csr, label="DLMS")
        assert chain[0].subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "Plant"


async def test_the_dry_run_of_an_izuma_device_is_fitted_to_it(tmp_path: Path) -> None:
    profiles = {
        "izuma": profile("izuma-*", mode="est"),
        "est": profile("est-*", mode="est"),
        "alone": profile("alone-*", mode="est", est='answer = "certificate"'),
    }
    async with opened(tmp_path, profiles=profiles) as field:
        account = field.account
        told = await explained(field, "izuma-1", "--izuma")
        id = device_id(UUID(account), "izuma-1").hex
        assert (told["client"], told["outcome"]) == ("izuma", "succeeded")
        writes = [row["path"] for row in told["operations"] if row["step"] == "write"]
        assert writes[0] == "/0"
        assert told["operations"][-1]["note"] == f"iep={id}"
        [enrolment] = told["enrolments"]
        assert (enrolment["path"], enrolment["answer"]) == ("/est/sen", "izuma-chain")
        assert set(enrolment["subject"].split(",")) == {f"L={id}", f"OU={account}", "CN=izuma-1"}
        plain = await explained(field, "est-1")
        assert plain["client"] == "standard"
        assert plain["operations"][-1]["note"] is None
        [enrolment] = plain["enrolments"]
        assert enrolment == {
            "service": "LWM2M",
            "path": "/.well-known/est/sen",
            "subject": "CN=est-1",
            "answer": "pkcs7, leaf-first",
        }
        [enrolment] = (await explained(field, "alone-1"))["enrolments"]
        assert enrolment["answer"] == "certificate"
        # What a real device showed needs no telling any more.
        async with field.device("izuma-2", account=1, query=(f"aid={account}",)) as device:
            assert (await device.bootstrap()).ok
        await field.over("izuma-2")
        again = await explained(field, "izuma-2")
        assert again["client"] == "izuma"
        assert again["operations"][-1]["note"] == device.finish_query[0]


async def test_what_the_record_lacks_is_the_operators_turn_and_stops_the_dry_run_too(tmp_path: Path) -> None:
    """Neither has a CA that anybody could verify."""
    profiles = {
        "service": profile("service-*", security='service = "NoSuch"'),
        "key": profile("key-*", mode="psk"),
    }
    async with opened(tmp_path, profiles=profiles) as field:
        for endpoint, cause, lacks, remedy in (
            ("service-1", "no_service", "the service NoSuch", "firstlight service add"),
            ("key-1", "configuration_invalid", "has no pre-shared key", "--service lwm2m"),
        ):
            told = json.loads(await field.service.command("device", "explain", endpoint, "--json", code=1))
            assert told["outcome"].startswith(f"{cause}: ")
            assert lacks in told["outcome"]
            report, _ = await field.bootstrap(endpoint)
            assert not report.ok
            await field.over(endpoint)
            shown = await field.shown(endpoint)
            [session] = shown["sessions"]
            assert session["cause"] == cause
            sentence = session["sentence"]
            assert lacks in sentence
            assert remedy in sentence
            assert "the operator's turn" in sentence
