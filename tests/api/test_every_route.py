"""Over every route there is: no key, no entry; each role as far as it should; one audit row a change."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import serialization

from server.api.openapi import OPEN
from server.store import accounts
from server.store.issuance_operations import RecordFailed
from server.store.writer import Writer
from tests.api.conftest import PERSON, Api
from tests.integration.rows import device, intent, issued
from tests.pki import make_factory_ca

RANKS = ("reader", "operator", "admin")

# What a GET does not say: who may change what, and what only administrators see.
NEEDED: Mapping[str, str] = {
    "POST /v3/certificate-issuers": "admin",
    "PUT /v3/certificate-issuers/{issuer_id}": "admin",
    "DELETE /v3/certificate-issuers/{issuer_id}": "admin",
    "POST /v3/certificate-issuers/{issuer_id}/verify": "operator",
    "POST /v3/certificate-issuer-configurations": "admin",
    "PUT /v3/certificate-issuer-configurations/lwm2m": "admin",
    "PUT /v3/certificate-issuer-configurations/{configuration_id}": "admin",
    "DELETE /v3/certificate-issuer-configurations/{configuration_id}": "admin",
    "POST /v3/trusted-certificates": "admin",
    "PUT /v3/trusted-certificates/{certificate_id}": "admin",
    "DELETE /v3/trusted-certificates/{certificate_id}": "admin",
    "GET /v3/accounts/{account_id}/trusted-certificates": "admin",
    "POST /v3/accounts/{account_id}/trusted-certificates": "admin",
    "GET /v3/accounts/{account_id}/trusted-certificates/{certificate_id}": "admin",
    "PUT /v3/accounts/{account_id}/trusted-certificates/{certificate_id}": "admin",
    "DELETE /v3/accounts/{account_id}/trusted-certificates/{certificate_id}": "admin",
    "POST /v3/developer-certificates": "admin",
    "POST /v3/devices/": "operator",
    "PUT /v3/devices/{device_id}/": "operator",
    "DELETE /v3/devices/{device_id}/": "operator",
    "POST /v3/devices/{device_id}/certificates/{certificate_name}/renew": "operator",
    "POST /v1/devices/forget": "operator",
    "POST /v1/devices/release": "operator",
    "POST /v3/device-enrollments": "operator",
    "DELETE /v3/device-enrollments/{enrollment_id}": "operator",
    "POST /v3/device-enrollments-bulk-uploads": "operator",
    "POST /v3/device-enrollments-bulk-deletes": "operator",
    "POST /v3/api-keys": "admin",
    "PUT /v3/api-keys/me": "admin",
    "PUT /v3/api-keys/{key_id}": "admin",
    "DELETE /v3/api-keys/{key_id}": "admin",
    "GET /v3/users": "admin",
    "POST /v3/users": "admin",
    "GET /v3/users/{user_id}": "admin",
    "PUT /v3/users/{user_id}": "admin",
    "DELETE /v3/users/{user_id}": "admin",
    "GET /v3/users/{user_id}/groups": "admin",
    "GET /v3/accounts": "admin",
    "POST /v3/accounts": "admin",
    "GET /v3/accounts/{account_id}": "admin",
    "PUT /v3/accounts/{account_id}": "admin",
    "POST /v3/accounts/{account_id}/api-keys": "admin",
    "PUT /v1/profiles/{name}": "operator",
    "DELETE /v1/profiles/{name}": "operator",
    "POST /v1/pre-shared-keys": "operator",
    "POST /v1/pre-shared-keys-batch": "operator",
    "POST /v1/trusted-certificates-batch": "admin",
    "DELETE /v1/pre-shared-keys/{identity}": "operator",
    "POST /v1/certificates/{certificate_id}/revoke": "operator",
    "GET /v1/seen": "admin",
    "GET /v1/devices/{device_id}/transcripts": "operator",
    "GET /v1/devices/{device_id}/transcripts/{session_id}": "operator",
}


async def operations(api: Api) -> list[tuple[str, str]]:
    """(method, path) of every operation that OpenAPI tells of."""
    schema = (await api.client.get("/openapi.json")).json()
    return [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]


def at(path: str) -> str:
    """The path of something that is not there."""
    words = [uuid4().hex if word.startswith("{") else word for word in path.split("/")]
    # A stream ends with its first event, which is this key being used by nobody.
    return "/".join(words) + ("?limit=1" if path.endswith("/events") else "")


async def test_every_change_and_no_other_needs_more_than_a_reader(api: Api) -> None:
    for method, path in await operations(api):
        if method != "GET":
            assert f"{method} {path}" in NEEDED, "say who may do this"
    known = {f"{method} {path}" for method, path in await operations(api)}
    assert set(NEEDED) <= known, "what is gone"


@pytest.mark.parametrize("role", RANKS)
async def test_a_role_reaches_as_far_as_it_should_on_every_route(api: Api, role: str) -> None:
    headers = await api.key(role)
    wrong = []
    for method, path in await operations(api):
        if path in OPEN or path.endswith("/events"):
            continue
        answer = await api.client.request(method, at(path), json={}, headers=headers)
        allowed = RANKS.index(role) >= RANKS.index(NEEDED.get(f"{method} {path}", "reader"))
        if (answer.status_code == 403) == allowed or answer.status_code in (401, 500):
            wrong.append(f"{method} {path}: {answer.status_code}")
    assert wrong == []


async def test_no_route_but_the_public_ones_opens_without_a_key(api: Api) -> None:
    del api.client.headers["Authorization"]
    for method, path in await operations(api):
        answer = await api.client.request(method, at(path), json={})
        assert (answer.status_code == 401) == (path not in OPEN), f"{method} {path}: {answer.status_code}"


async def test_who_asks_is_judged_before_the_body_on_every_route_that_takes_one(api: Api) -> None:
    schema = (await api.client.get("/openapi.json")).json()
    readers = await api.key("reader")
    judged = 0
    for method, path in await operations(api):
        taken = schema["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
        if "application/json" not in taken:
            continue
        codes = []
        for headers in ({"Authorization": "Bearer ak_unknown"}, readers, {}):
            sent = {"Content-Type": "application/json", **headers}
            answer = await api.client.request(method, at(path), content=b"{", headers=sent)
            codes.append(answer.status_code)
        # Of an account that is not there the trusted certificates are a 404, whatever they are.
        assert codes in ([401, 403, 400], [401, 403, 404]), f"{method} {path}: {codes}"
        if codes[-1] == 400:
            judged += 1
            assert [fault["field"] for fault in answer.json()["fields"]] == ["body"]
    assert judged > 15


async def test_what_is_another_accounts_is_a_404_on_every_route_with_an_id(api: Api) -> None:
    """Whatever an account made, a stranger's administrator does not find it."""
    other = await accounts.add(api.office.database, PERSON, "other")
    stranger = await api.key("admin", other.id)
    pem = make_factory_ca("mine").certificate.public_bytes(serialization.Encoding.PEM).decode()
    made: dict[str, Any] = {
        "/v3/certificate-issuers": await api.ask("POST", "/v3/certificate-issuers", 201, ISSUER),
        "/v3/certificate-issuer-configurations": await api.ask(
            "POST", "/v3/certificate-issuer-configurations", 201, {"reference": "x"}
        ),
        "/v3/trusted-certificates": await api.ask(
            "POST", "/v3/trusted-certificates", 201, {**TRUSTED, "certificate": pem}
        ),
        "/v3/developer-certificates": await api.ask("POST", "/v3/developer-certificates", 201, {"name": "desk"}),
        "/v3/device-enrollments": await api.ask(
            "POST", "/v3/device-enrollments", 201, {"enrollment_identity": IDENTITY}
        ),
        "/v3/api-keys": await api.ask("POST", "/v3/api-keys", 201, {"name": "mine"}),
        "/v3/users": await api.ask("POST", "/v3/users", 201, {"username": "mine"}),
    }
    for path, row in made.items():
        for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
            answer = await api.client.request(method, f"{path}/{row['id']}", json=body, headers=stranger)
            assert answer.status_code in (404, 405), f"{method} {path}: {answer.status_code}"
        await api.ask("GET", f"{path}/{row['id']}", 200)


ISSUER = {
    "name": "CA",
    "issuer_type": "CFSSL_AUTH",
    "issuer_attributes": {"host_url": "http://127.0.0.1:9"},
    "issuer_credentials": {"hmac_hex_key": "00"},
}
TRUSTED = {"name": "factory", "service": "bootstrap"}
IDENTITY = "A-" + ":".join(["6E"] * 32)
PSK = {"identity": "m1", "key": "00112233445566778899aabbccddeeff", "endpoint_name": "meter-1"}


async def audited(api: Api) -> int:
    """How many rows the audit of the account has."""
    async with api.office.database.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM audit WHERE account_id = $1", api.account_id))


async def test_an_added_account_is_told_as_it_is(api: Api) -> None:
    made = await api.ask("POST", "/v3/accounts", 201, {"display_name": "Oulu plant"})
    async with api.office.database.acquire() as connection:
        detail = await connection.fetchval(
            "SELECT detail::text FROM audit WHERE account_id = $1 AND action = 'account.added'", UUID(str(made["id"]))
        )
    assert json.loads(detail) == {"after": {"name": "Oulu plant", "third_party_ca": True}}


async def last_detail(api: Api) -> Any:
    """What the newest row of the audit tells of its change."""
    return (await api.client.get("/v1/audit?order=DESC&limit=2")).json()["data"][0]["detail"]


async def made_a_change(api: Api, action: str, method: str, path: str, code: int, body: object = None) -> Any:
    """The answer to a request that leaves one row, which tells `action` and the request."""
    before = await audited(api)
    answer = await api.client.request(method, path, json=body)
    assert answer.status_code == code, f"{method} {path}: {answer.text}"
    rows = (await api.client.get("/v1/audit?order=DESC&limit=2")).json()["data"]
    assert await audited(api) == before + 1, f"{method} {path}"
    assert (rows[0]["action"], rows[0]["request_id"]) == (action, answer.headers["X-Request-ID"])
    assert rows[0]["actor_kind"] == "api"
    return answer.json() if answer.content else None


async def test_each_change_is_one_audit_row_with_the_id_of_its_request(api: Api) -> None:
    changed = partial(made_a_change, api)
    pem = make_factory_ca("mine").certificate.public_bytes(serialization.Encoding.PEM).decode()
    issuers, services = "/v3/certificate-issuers", "/v3/certificate-issuer-configurations"
    issuer = await changed("certificate_issuer.added", "POST", issuers, 201, ISSUER)
    one = f"{issuers}/{issuer['id']}"
    await changed("certificate_issuer.changed", "PUT", one, 200, {"description": "moved"})
    await changed("certificate_issuer.verified", "POST", f"{one}/verify?issue_test=false", 200)
    body = {"certificate_issuer_id": issuer["id"]}
    await changed("service.configured", "PUT", f"{services}/lwm2m", 200, body)
    await changed("service.configured", "PUT", f"{services}/lwm2m", 200, {})
    service = await changed("service.added", "POST", services, 201, {"reference": "x"})
    await changed("service.removed", "DELETE", f"{services}/{service['id']}", 204)
    await changed("certificate_issuer.removed", "DELETE", one, 204)
    assert (await last_detail(api))["before"] == {
        "name": "CA",
        "type": "CFSSL_AUTH",
        "description": "moved",
        "attributes": {"host_url": "http://127.0.0.1:9"},
    }
    trusted = await changed(
        "trusted_certificate.added", "POST", "/v3/trusted-certificates", 201, {**TRUSTED, "certificate": pem}
    )
    one = f"/v3/trusted-certificates/{trusted['id']}"
    await changed("trusted_certificate.changed", "PUT", one, 200, {"description": "x"})
    was = (await last_detail(api))["after"]
    await changed("trusted_certificate.removed", "DELETE", one, 204)
    assert (await last_detail(api))["before"] == was
    await changed("trusted_certificate.added", "POST", "/v3/developer-certificates", 201, {"name": "desk"})
    claim = await changed(
        "device_enrollment.added", "POST", "/v3/device-enrollments", 201, {"enrollment_identity": IDENTITY}
    )
    claimed = {"id": claim["id"], "fingerprint": "6e" * 32, "claimed_at": None, "device_id": None}
    assert await last_detail(api) == {"after": claimed}
    await changed("device_enrollment.removed", "DELETE", f"/v3/device-enrollments/{claim['id']}", 204)
    assert await last_detail(api) == {"before": claimed}
    key = await changed("api_key.added", "POST", "/v3/api-keys", 201, {"name": "night"})
    await changed("api_key.changed", "PUT", f"/v3/api-keys/{key['id']}", 200, {"status": "INACTIVE"})
    await changed("api_key.removed", "DELETE", f"/v3/api-keys/{key['id']}", 204)
    user = await changed("operator.added", "POST", "/v3/users", 201, {"username": "aino"})
    await changed("operator.changed", "PUT", f"/v3/users/{user['id']}", 200, {"status": "INACTIVE"})
    await changed("operator.removed", "DELETE", f"/v3/users/{user['id']}", 204)
    default = (await api.client.get("/v1/profiles/default")).json()
    body = {"toml": default["toml"], "files": default["files"]}
    await changed("profile.set", "PUT", "/v1/profiles/meters", 200, body)
    await changed("profile.removed", "DELETE", "/v1/profiles/meters", 204)
    await changed("pre_shared_key.added", "POST", "/v1/pre-shared-keys", 201, PSK)
    await changed("pre_shared_key.removed", "DELETE", "/v1/pre-shared-keys/m1", 204)
    await changed(
        "pre_shared_key.added", "POST", "/v1/pre-shared-keys-batch", 201, {"keys": [PSK, {**PSK, "identity": "m2"}]}
    )
    await changed(
        "trusted_certificate.added",
        "POST",
        "/v1/trusted-certificates-batch",
        201,
        {"service": "bootstrap", "certificates": pem},
    )


async def test_what_is_done_to_devices_and_certificates_is_one_audit_row_each(api: Api) -> None:
    lost, held = (intent(name, account_id=api.account_id) for name in ("meter-lost", "meter-held"))
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    for opened in (lost, held):
        await writer.write(opened)
        await writer.write(device(opened, account_id=api.account_id))
    await writer.write(RecordFailed(lost.id, lost.owner, "unknown", "OutcomeUnknown", "the answer was lost"))
    leaf, issuing = make_factory_ca("leaf").der, make_factory_ca("issuing").der
    await writer.write(replace(issued(held), chain=(leaf, issuing)))
    await writer.close()
    changed = partial(made_a_change, api)
    await changed(
        "certificate.revoked", "POST", f"/v1/certificates/{held.id.hex}/revoke", 200, {"reason": "superseded"}
    )
    await changed("issuance.released", "POST", "/v1/devices/release", 200, {"endpoint_name": lost.endpoint})
    await changed("device.forgotten", "POST", "/v1/devices/forget", 204, {"endpoint_name": held.endpoint})
    one = f"/v3/devices/{held.device_id.hex}/"
    await changed("device.changed", "PUT", one, 200, {"description": "gate of hall 3"})
    await changed("device.added", "POST", "/v3/devices/", 201, {"endpoint_name": "meter-to-come"})
    await changed("device.removed", "DELETE", f"/v3/devices/{held.device_id.hex}/", 204)


async def test_a_change_of_an_account_tells_what_it_was_before(api: Api) -> None:
    own = f"/v3/accounts/{api.account_id.hex}"
    for before, after in ((True, False), (False, False), (False, True)):
        await made_a_change(api, "account.changed", "PUT", own, 200, {"third_party_ca": after})
        (row,) = (await api.client.get("/v1/audit?order=DESC&limit=2")).json()["data"][:1]
        assert row["detail"] == {"before": {"third_party_ca": before}, "after": {"third_party_ca": after}}
