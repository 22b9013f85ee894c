"""The directory of devices: what people write into it, and what the bootstrap service alone does."""

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from server.admin import devices as admin
from server.store.certificates import serial_bytes
from server.store.devices import device_id
from server.store.est_offers import NoteOffer
from server.store.session_operations import TouchDevice
from server.store.writer import MarkAbandoned, MarkDelivered, Writer
from tests.api.conftest import Api
from tests.integration.rows import NOW, intent, issued

DEVICES = "/v3/devices/"
NAME = "urn:dev:os:0001"


async def added(api: Api, **more: object) -> dict[str, Any]:
    return await api.ask("POST", DEVICES, 201, {"endpoint_name": NAME, **more})


async def here(api: Api, *, endpoint: str = NAME, verified_by: bytes | None = None) -> None:
    """A device has bootstrapped."""
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    at = api.office.now()
    await writer.write(
        TouchDevice(
            account_id=api.account_id,
            endpoint=endpoint,
            profile="default",
            session_id=None,
            at=at,
            state="bootstrapped",
            verified_by=verified_by,
        )
    )
    await writer.close()


async def test_a_device_that_is_expected_is_in_the_directory_and_is_the_same_one_when_it_comes(api: Api) -> None:
    made = await added(api, name="gate 3", description="hall 3")
    assert made["id"] == device_id(api.account_id, NAME).hex
    assert (made["object"], made["endpoint_name"], made["name"]) == ("device", NAME, "gate 3")
    assert (made["state"], made["last_outcome"], made["description"]) == ("unenrolled", None, "hall 3")
    assert (made["mechanism"], made["device_execution_mode"], made["deployed_state"]) == ("connector", 0, "production")
    assert (await api.ask("POST", DEVICES, 409, {"endpoint_name": NAME}))["type"] == "duplicate"
    for query in ("name__eq=gate 3", "name__like=GATE", "description__eq=hall 3", "endpoint_name__eq=" + NAME):
        assert [row["id"] for row in (await api.ask("GET", f"{DEVICES}?{query}", 200))["data"]] == [made["id"]], query
    await here(api)
    now = await api.ask("GET", f"{DEVICES}{made['id']}/", 200)
    assert (now["last_outcome"], now["profile"]) == ("bootstrapped", "default")
    assert (now["name"], now["description"], now["created_at"]) == ("gate 3", "hall 3", made["created_at"])
    assert len((await api.ask("GET", DEVICES, 200))["data"]) == 1


async def test_a_device_is_named_and_described_and_what_is_not_given_stays(api: Api) -> None:
    await here(api)
    (seen,) = (await api.ask("GET", DEVICES, 200))["data"]
    path = f"{DEVICES}{seen['id']}/"
    assert (seen["name"], seen["description"]) == (NAME, "")
    assert (await api.ask("PUT", path, 200, {"description": "hall 3"}))["name"] == NAME
    # A client of the original sends back what it read.
    whole = await api.ask("PUT", path, 200, {**seen, "name": "gate 3", "description": None})
    assert (whole["name"], whole["description"]) == ("gate 3", "hall 3")
    (row,) = (await api.ask("GET", "/v1/audit?action__eq=device.changed&order=DESC", 200))["data"][:1]
    assert row["detail"] == {
        "before": {"name": NAME, "description": "hall 3"},
        "after": {"name": "gate 3", "description": "hall 3"},
    }
    # The name of a device in the protocol is not changed by it.
    assert (await api.ask("GET", path, 200))["endpoint_name"] == NAME


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "bootstrapped"),
        ("device_key", "6e" * 32),
        ("ca_id", "0" * 32),
        ("device_execution_mode", 5),
        ("mechanism", "direct"),
        ("bootstrap_expiration_date", "2030-01-01"),
    ],
)
async def test_what_the_service_saw_is_not_said_by_a_request(api: Api, field: str, value: object) -> None:
    refused = await api.ask("POST", DEVICES, 400, {"endpoint_name": NAME, field: value})
    assert refused["fields"][0]["field"] == field
    made = await added(api)
    assert (await api.ask("PUT", f"{DEVICES}{made['id']}/", 400, {field: value}))["fields"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "endpoint_name"),
        ({"endpoint_name": NAME, "name": "n" * 129}, "name"),
        ({"endpoint_name": ""}, "endpoint_name"),
    ],
)
async def test_a_mistake_names_its_field(api: Api, body: dict[str, object], field: str) -> None:
    assert (await api.ask("POST", DEVICES, 400, body))["fields"][0]["field"] == field


async def test_what_is_not_there_is_a_404(api: Api) -> None:
    await api.ask("PUT", f"{DEVICES}{'0' * 32}/", 404, {"name": "x"})


async def test_a_device_with_a_developer_certificate_is_one_in_development(api: Api) -> None:
    desk = await api.ask("POST", "/v3/developer-certificates", 201, {"name": "desk"})
    certificate = x509.load_pem_x509_certificate(str(desk["developer_certificate"]).encode())
    await here(api, endpoint="on-a-desk", verified_by=sha256(certificate.public_bytes(Encoding.DER)).digest())
    await here(api, endpoint="in-the-field", verified_by=sha256(b"a factory").digest())
    await here(api, endpoint="by-psk")
    modes = {row["endpoint_name"]: row for row in (await api.ask("GET", DEVICES, 200))["data"]}
    assert {name: (row["device_execution_mode"], row["deployed_state"]) for name, row in modes.items()} == {
        "on-a-desk": (1, "development"),
        "in-the-field": (0, "production"),
        "by-psk": (0, "production"),
    }
    for query in ("device_execution_mode__eq=1", "deployed_state__eq=development", "deployed_state__neq=production"):
        found = (await api.ask("GET", f"{DEVICES}?{query}", 200))["data"]
        assert [row["endpoint_name"] for row in found] == ["on-a-desk"], query


async def test_a_device_is_forgotten_with_all_its_certificates_however_many_they_are(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bootstrap leaves one that is valid to its end; all of these came in one commit."""
    monkeypatch.setattr(admin, "MOST", 2)
    await here(api)
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    wishes = [intent(NAME, account_id=api.account_id) for _ in range(5)]
    await asyncio.gather(*map(writer.write, wishes))
    await asyncio.gather(*(writer.write(issued(wish)) for wish in wishes))
    await asyncio.gather(*(writer.write(MarkDelivered(wish.id)) for wish in wishes))
    await writer.close()
    (device,) = (await api.ask("GET", DEVICES, 200))["data"]  # type: ignore[misc]
    await api.ask("DELETE", f"{DEVICES}{device['id']}/?revoke=true", 204)
    found: Any = (await api.ask("GET", f"/v1/certificates?endpoint_name__eq={NAME}", 200))["data"]
    assert len(found) == 5
    assert all(row["revocation_reason"] == "cessationOfOperation" for row in found)


async def test_what_was_learned_of_a_device_and_how_it_stands_with_est(api: Api) -> None:
    await here(api)
    path = f"/v1/devices/{device_id(api.account_id, NAME).hex}/learned"
    known = await api.ask("GET", path, 200)
    assert (known["endpoint_name"], known["learned"], known["est_offer"], known["est"]) == (NAME, {}, None, "")
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    for at in (NOW, NOW + timedelta(minutes=2)):
        until = at + timedelta(minutes=2)
        await writer.write(NoteOffer(account_id=api.account_id, endpoint=NAME, offered_at=at, waited_until=until))
    await writer.close()
    known = await api.ask("GET", path, 200)
    assert known["learned"] == {"est_unused": True}
    assert known["est_offer"] == {
        "rounds": 2,
        "offered_at": "2026-11-23T12:02:00.000Z",
        "waited_until": "2026-11-23T12:04:00.000Z",
        "asked_at": None,
    }
    assert known["est"].startswith("it took mode 4 in 2 bootstraps, last at 2026-11-23 12:02:00Z")


async def test_a_certificate_that_a_device_may_have_is_revoked_with_it(api: Api) -> None:
    """The last word of its device was lost: it acknowledged no enrolment, or did not answer the Finish."""
    await here(api)
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    enrolled = intent(NAME, account_id=api.account_id, server_key=False)
    sure, doubtful = (intent(NAME, account_id=api.account_id) for _ in range(2))
    for wish in (enrolled, sure, doubtful):
        await writer.write(wish)
        await writer.write(issued(wish))
    await writer.write(MarkAbandoned(doubtful.id, "silent", doubtful=True))
    await writer.write(MarkAbandoned(sure.id, "gone"))
    await writer.close()
    (device,) = (await api.ask("GET", DEVICES, 200))["data"]  # type: ignore[misc]
    await api.ask("DELETE", f"{DEVICES}{device['id']}/?revoke=true", 204)
    found: Any = (await api.ask("GET", f"/v1/certificates?endpoint_name__eq={NAME}", 200))["data"]
    revoked = {row["serial"] for row in found if row["revocation_reason"] == "cessationOfOperation"}
    assert revoked == {serial_bytes(wish.serial).hex() for wish in (enrolled, doubtful)}
