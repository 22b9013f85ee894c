"""The services of an account and the CA each has: LWM2M, which is always there, and custom ones."""

from datetime import datetime
from uuid import uuid4

import pytest

from tests.api.conftest import Api
from tests.api.plant import ISSUERS, SERVICES, registered, registered_at
from tests.issuers.peers.cfssl import cfssl_serve
from tests.pki import make_factory_ca


async def test_the_lwm2m_service_is_always_there_with_a_real_id(api: Api) -> None:
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    assert (row["reference"], row["is_custom"], row["certificate_issuer_id"]) == ("LWM2M", False, None)
    assert await api.ask("GET", f"{SERVICES}/{row['id']}", 200) == row
    for name in (row["id"], "lwm2m"):
        assert (await api.ask("DELETE", f"{SERVICES}/{name}", 400))["type"] == "validation_error"


@pytest.mark.parametrize("body", [{}, {"certificate_issuer_id": None}])
async def test_an_issuer_is_activated_and_nothing_or_null_goes_back_to_the_own_ca(
    api: Api, body: dict[str, object]
) -> None:
    issuer = await registered(api)
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    active = await api.ask("PUT", f"{SERVICES}/{row['id']}", 200, {"certificate_issuer_id": issuer["id"]})
    assert active["certificate_issuer_id"] == issuer["id"]
    assert (await api.ask("DELETE", f"{ISSUERS}/{issuer['id']}", 400))["type"] == "validation_error"
    back = await api.ask("PUT", f"{SERVICES}/lwm2m", 200, body)
    assert (back["certificate_issuer_id"], back["etag"]) == (None, "3")
    await api.ask("DELETE", f"{ISSUERS}/{issuer['id']}", 204)
    await api.ask("GET", f"{ISSUERS}/{issuer['id']}", 404)


async def test_a_custom_service_is_made_found_moved_and_removed(api: Api) -> None:
    issuer = await registered(api)
    made = await api.ask("POST", SERVICES, 201, {"reference": "customer.dlms", "certificate_issuer_id": issuer["id"]})
    assert made["is_custom"] is True
    assert [each["kind"] for each in made.pop("warnings")] == ["not_verified"]
    found = await api.ask("GET", f"{SERVICES}?reference__eq=customer.dlms&limit=2", 200)
    assert found["data"] == [made]
    assert len((await api.ask("GET", SERVICES, 200))["data"]) == 2
    await api.ask("POST", SERVICES, 409, {"reference": "customer.dlms", "certificate_issuer_id": None})
    moved = await api.ask("PUT", f"{SERVICES}/{made['id']}", 200, {"certificate_issuer_id": None})
    assert moved["certificate_issuer_id"] is None
    assert "warnings" not in moved
    await api.ask("DELETE", f"{SERVICES}/{made['id']}", 204)
    await api.ask("GET", f"{SERVICES}/{made['id']}", 404)


async def test_a_ca_whose_last_verification_failed_is_activated_with_a_warning(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("POST", f"{ISSUERS}/{issuer['id']}/verify", 200)
    (report,) = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
    active = await api.ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": issuer["id"]})
    assert active["certificate_issuer_id"] == issuer["id"]
    (warning,) = active["warnings"]
    assert warning["kind"] == "verification_failed"
    when = f"{datetime.fromisoformat(report['finished_at']):%Y-%m-%d %H:%M:%S}Z"
    assert warning["message"] == f"Its last verification failed at {when}: {report['message']}"
    assert warning["next_step"] == "mend what that says, then verify it again"


async def test_a_ca_whose_certificate_is_not_trusted_is_one_for_custom_services_without_a_word(api: Api) -> None:
    root = make_factory_ca("Plant Root")
    async with cfssl_serve(root) as peer:
        issuer = await registered_at(api, peer.url)
        verify, body = f"{ISSUERS}/{issuer['id']}/verify", {"certificate_issuer_id": issuer["id"]}
        assert (await api.ask("POST", verify, 200))["successful"] is False
        active = await api.ask("PUT", f"{SERVICES}/lwm2m", 200, body)
        assert [each["kind"] for each in active["warnings"]] == ["not_trusted"]
        assert "warnings" not in await api.ask("POST", SERVICES, 201, {"reference": "customer.dlms", **body})
        trusted = {"name": "plant", "service": "lwm2m", "certificate": root.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted)
        assert (await api.ask("POST", verify, 200))["successful"] is True
    assert "warnings" not in await api.ask("PUT", f"{SERVICES}/lwm2m", 200, body)


@pytest.mark.parametrize("service", ["lwm2m", "customer.dlms"])
async def test_a_service_moves_to_another_ca_and_the_first_is_free(api: Api, service: str) -> None:
    first, second = await registered(api), await registered(api, name="Second CA")
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    if service != "lwm2m":
        row = await api.ask("POST", SERVICES, 201, {"reference": service, "certificate_issuer_id": None})
    for issuer in (first, second):
        active = await api.ask("PUT", f"{SERVICES}/{row['id']}", 200, {"certificate_issuer_id": issuer["id"]})
        assert active["certificate_issuer_id"] == issuer["id"]
        await api.ask("DELETE", f"{ISSUERS}/{issuer['id']}", 400)
    await api.ask("DELETE", f"{ISSUERS}/{first['id']}", 204)


@pytest.mark.parametrize(
    "reference", ["LWM2M", "lwm2m", "LwM2M", "BOOTSTRAP", "Bootstrap", "mbed.x", "Mbed.x", "a b", "", "ü", "x" * 101]
)
async def test_reserved_and_impossible_service_names_are_refused(api: Api, reference: str) -> None:
    refused = await api.ask("POST", SERVICES, 400, {"reference": reference, "certificate_issuer_id": None})
    assert refused["fields"][0]["field"] == "reference"


async def test_an_issuer_that_does_not_exist_cannot_be_activated(api: Api) -> None:
    unknown = {"certificate_issuer_id": uuid4().hex}
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    for service in ("lwm2m", row["id"]):
        assert (await api.ask("PUT", f"{SERVICES}/{service}", 404, unknown))["type"] == "not_found"
    made = await api.ask("POST", SERVICES, 400, {**unknown, "reference": "customer.dlms"})
    wrong = await api.ask("PUT", f"{SERVICES}/lwm2m", 400, {"certificate_issuer_id": "not an id"})
    assert [each["fields"][0]["field"] for each in (made, wrong)] == ["certificate_issuer_id"] * 2


async def test_a_mistyped_name_does_not_take_the_ca_away(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": issuer["id"]})
    empty = await api.ask("PUT", f"{SERVICES}/lwm2m", 400, {"certificate_issuer_id": ""})
    assert empty["fields"][0]["field"] == "certificate_issuer_id"
    refused = await api.ask("PUT", f"{SERVICES}/lwm2m", 400, {"certificate_issuer": issuer["id"]})
    assert [fault["field"] for fault in refused["fields"]] == ["certificate_issuer"]
    assert (await api.ask("GET", f"{SERVICES}/lwm2m", 200))["certificate_issuer_id"] == issuer["id"]
