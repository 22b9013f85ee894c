"""Trusted certificates through both doors to the commands (design 3): named, doubted, and what hangs on them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
import pytest_asyncio

from tests.integration.doors import Doors, file, in_order
from tests.integration.field import Field, opened, profile
from tests.pki import make_device_certificate, make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with opened(tmp_path_factory.mktemp("trust")) as started:
        # Devices that depend on what is trusted.
        await started.bootstrapped("lamp-1", "meter-1")
        yield started


@pytest.fixture
def doors(field: Field) -> Doors:
    return Doors(field)


async def test_a_certificate_of_both_services_is_named_by_its_id_through_both_doors(field: Field, doors: Doors) -> None:
    pem = file(field, "both.pem", make_factory_ca("Both").pem)
    for service in ("bootstrap", "lwm2m"):
        await doors.remote("trust", "add", pem, "--service", service, "--name", f"both {service}")
    both = [row for row in in_order(await doors.remote("trust", "list", "--json")) if row["name"].startswith("both ")]
    (word,) = {row["fingerprint"] for row in both}
    ids = {row["id"]: f"({row['name']}, service {row['service']})" for row in both}
    for door in (doors.remote, doors.local):
        said = await door("trust", "remove", word, code=1)
        assert all(f"{id} {apart}" in said for id, apart in ids.items())
        assert "give the beginning of the id" in said
    for id in ids:
        assert "is removed" in await doors.remote("trust", "remove", id)
    assert "`firstlight trust list` shows them" in await doors.remote("trust", "remove", word, code=1)


async def test_the_log_says_no_warnings_where_there_are_none(field: Field) -> None:
    lines = field.service.events("certificate_issued")
    assert len(lines) == 2
    assert not any("warnings" in line for line in lines)


async def test_a_certificate_that_nobody_named_gets_the_same_name_through_both_doors(
    field: Field, doors: Doors
) -> None:
    for door, name in ((doors.remote, "Far"), (doors.local, "Near")):
        pem = file(field, f"{name}.pem", make_factory_ca(name).pem)
        for service, called in (("bootstrap", f"CN={name},O=Factory"), ("lwm2m", f"CN={name},O=Factory 2")):
            assert f"Trusted for {service}: {called} (" in await door("trust", "add", pem, "--service", service)
            assert "is already there" in await door("trust", "add", pem, "--service", service, code=1)
        for called in (f"CN={name},O=Factory", f"CN={name},O=Factory 2"):
            assert "is removed" in await door("trust", "remove", called)


async def test_a_devices_own_certificate_is_put_on_record_to_be_refused_through_both_doors(
    field: Field, doors: Doors
) -> None:
    for door, name in ((doors.remote, "far-thief"), (doors.local, "near-thief")):
        pem = file(field, "thief.pem", make_device_certificate(field.factory, name).pem)
        words = ("trust", "add", pem, "--service", "lwm2m", "--name", name)
        assert "this is no CA's certificate" in await door(*words, code=1)
        said = await door(*words, "--denied")
        assert said.startswith(f"Denied for lwm2m: {name} (SHA-256 ")
        assert f"`firstlight trust remove {name}` takes it back" in said
        [row] = [each for each in in_order(await door("trust", "list", "--json")) if each["name"] == name]
        assert row["status"] == "denied"
        assert "is removed" in await door("trust", "remove", name)


async def test_what_follows_when_a_trusted_certificate_counts_no_more_is_said_through_both_doors(
    field: Field, doors: Doors
) -> None:
    rows = in_order(await doors.local("trust", "list", "--json"))
    [factory] = [row for row in rows if row["fingerprint"] == sha256(field.factory.der).hexdigest()]
    [root] = [row for row in rows if row["service"] == "lwm2m"]
    matched = profile("other-*").replace("[match]", f'[match]\ntrusted_certificate = "{factory["fingerprint"]}"')
    await field.set_profile("matched", matched)
    pem = file(field, "again.pem", field.factory.pem)
    for door in (doors.remote, doors.local):
        said = (await door("trust", "deny", root["id"])).splitlines()
        assert said[0].startswith(
            f"{root['name']} is denied: nothing that leads to it is delivered; `firstlight trust ac"
        )
        assert said[1:] == [
            "Warning: nothing else that is trusted stands above the embedded CA, which signs for LWM2M: devices get no "
            "certificate from now on; activate it again, or another CA."
        ]
        assert (await door("trust", "activate", root["id"])).strip() == f"{root['name']} is active."
        said = (await door("trust", "deny", factory["name"])).splitlines()
        assert said[1:] == [
            "Warning: 2 devices came with it last: their next bootstrap is refused; what they hold stays valid; "
            "activate it again if they are to come."
        ]
        await door("trust", "activate", factory["name"])
        said = (await door("trust", "remove", factory["name"])).splitlines()
        assert said[0] == f"{factory['name']} is removed: its devices are unknown from now on."
        assert "2 devices came with it last: their next bootstrap is refused, unless another" in said[1]
        assert "the profile matched is for devices that come with it: none gets what it says any more" in said[2]
        await door("trust", "add", pem, "--service", "bootstrap", "--name", factory["name"])
        # What nobody depends on goes without a warning.
        other = file(field, "other.pem", make_factory_ca("Nobody").pem)
        await door("trust", "add", other, "--service", "bootstrap", "--name", "nobody")
        assert len((await door("trust", "remove", "nobody")).splitlines()) == 1
    await doors.remote("profile", "remove", "matched")


async def test_a_certificate_that_may_not_be_meant_is_doubted_through_both_doors(field: Field, doors: Doors) -> None:
    now = datetime.now(UTC)
    past = now - timedelta(days=900)
    ended = file(field, "ended.pem", make_factory_ca("Ended", not_before=past, not_after=past + timedelta(days=1)).pem)
    early = file(field, "early.pem", make_factory_ca("Early", not_before=now + timedelta(days=2)).pem)
    for door in (doors.remote, doors.local):
        said = await door("trust", "add", ended, "--service", "bootstrap", "--name", "doubtful")
        assert "Warning: it ended on 20" in said
        again = await door("trust", "add", ended, "--service", "bootstrap", "--name", "doubtful too", code=1)
        assert "is already there for the service bootstrap, as doubtful, active" in again
        await door("trust", "deny", "doubtful")
        again = await door("trust", "add", ended, "--service", "bootstrap", "--name", "doubtful too", code=1)
        assert "as doubtful, denied: activate that one" in again
        await door("trust", "remove", "doubtful")
        assert "may lead to it" in await door("trust", "add", ended, "--service", "lwm2m", "--name", "e", code=1)
        said = await door("trust", "add", early, "--service", "lwm2m", "--name", "early")
        assert "Warning: it is valid from 20" in said
        await door("trust", "remove", "early")
