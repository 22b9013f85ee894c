"""Who may come in, how far, and in which shape everything that goes wrong is told."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.admin import passwords
from server.store import accounts, operators
from server.store.errors import StoreUnavailable
from tests.api.conftest import PERSON, Api


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer ak_unknown", "Basic YTpi", "ak_1x", "Bearer " + "ak_" + "x" * 9999],
)
async def test_without_a_known_key_the_answer_is_401(api: Api, header: str | None) -> None:
    del api.client.headers["Authorization"]
    answer = await api.client.get("/v3/devices/", headers={} if header is None else {"Authorization": header})
    assert answer.status_code == 401
    body = answer.json()
    assert (body["object"], body["code"], body["type"], body["fields"]) == ("error", 401, "invalid_auth", [])
    assert body["request_id"] == answer.headers["X-Request-ID"]


async def test_a_key_alone_is_known_as_the_commands_of_the_original_send_it(api: Api) -> None:
    key = api.client.headers.pop("Authorization").removeprefix("Bearer ")
    configurations = "/v3/certificate-issuer-configurations"
    made = await api.client.post(
        configurations, json={"reference": "dlms", "certificate_issuer_id": None}, headers={"Authorization": key}
    )
    assert made.status_code == 201, made.text
    assert (await api.client.get(configurations, headers={"Authorization": f"Basic {key}"})).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/v3/certificate-issuers", "reader"),
        ("POST", "/v3/certificate-issuers", "admin"),
        ("POST", "/v3/certificate-issuers/00000000000000000000000000000001/verify", "operator"),
        ("PUT", "/v3/certificate-issuer-configurations/lwm2m", "admin"),
        ("POST", "/v3/trusted-certificates", "admin"),
        ("POST", "/v3/device-enrollments", "operator"),
        ("POST", "/v3/api-keys", "admin"),
        ("PUT", "/v1/profiles/x", "operator"),
        ("POST", "/v1/pre-shared-keys", "operator"),
        ("GET", "/v1/audit", "reader"),
    ],
)
async def test_a_role_reaches_as_far_as_it_should(api: Api, method: str, path: str, needed: str) -> None:
    ranks = ("reader", "operator", "admin")
    for role in ranks:
        answer = await api.client.request(method, path, json={}, headers=await api.key(role))
        assert (answer.status_code == 403) == (ranks.index(role) < ranks.index(needed)), f"{role}: {answer.text}"


@pytest.mark.parametrize(
    ("method", "path", "code", "type"),
    [
        ("GET", "/v3/nothing", 404, "not_found"),
        ("GET", "/v3/certificate-issuers/", 404, "not_found"),
        ("GET", "/v3/devices", 404, "not_found"),
        ("PATCH", "/v3/certificate-issuers", 405, "method_not_allowed"),
        ("GET", "/v3/certificate-issuers/not-an-id", 404, "not_found"),
        ("GET", "/v3/certificate-issuers?order=UP", 400, "validation_error"),
        ("GET", "/v3/devices/?colour__eq=red", 400, "validation_error"),
        ("GET", "/v3/devices/?created_at__gte=yesterday", 400, "validation_error"),
        ("GET", "/v3/devices/?after=behind", 400, "validation_error"),
        ("GET", "/v1/profiles/a%00b", 400, "validation_error"),
        ("GET", "/v1/dry-run?endpoint_name=a%00b", 400, "validation_error"),
        ("GET", "/v3/device-enrollment-denials?trusted_certificate_id__eq=x", 400, "validation_error"),
    ],
)
async def test_every_way_to_fail_has_the_same_shape(api: Api, method: str, path: str, code: int, type: str) -> None:
    body = await api.ask(method, path, code)
    assert set(body) == {"object", "code", "type", "message", "request_id", "fields"}
    assert (body["object"], body["code"], body["type"]) == ("error", code, type)


async def test_a_rule_names_what_broke_it_where_only_the_message_is_read(api: Api) -> None:
    body = await api.ask("GET", "/v3/devices/?created_at__gte=yesterday", 400)
    assert body["message"] == "created_at__gte: must be a time like 2026-11-23T12:00:00Z"
    [fault] = body["fields"]
    assert (fault["field"], fault["message"]) == ("created_at__gte", "must be a time like 2026-11-23T12:00:00Z")


async def test_a_role_is_called_what_the_keys_call_it(api: Api) -> None:
    made = await api.ask("POST", "/v3/api-keys", 201, {"name": "wall", "role": "read-only"})
    refused = await api.ask("POST", "/v3/api-keys", 403, {"name": "x"}, {"Authorization": f"Bearer {made['key']}"})
    assert refused["message"] == "the key wall has the role read-only; this needs the role administrator"


NO_JSON = (b"{", b'{"name": "\xff"}', b"[" * 100_000)


@pytest.mark.parametrize("body", NO_JSON, ids=("cut", "no UTF-8", "deep"))
async def test_a_body_that_is_no_json_is_a_400(api: Api, body: bytes) -> None:
    answer = await api.client.post(
        "/v3/certificate-issuers", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")
    assert [fault["field"] for fault in answer.json()["fields"]] == ["body"]


async def test_an_account_without_cas_of_its_own_is_told_so_whatever_it_sends(api: Api) -> None:
    await accounts.set_third_party_ca(api.office.database, PERSON, api.account_id, False)
    headers = {"Content-Type": "application/json"}
    answer = await api.client.post("/v3/certificate-issuers", content=b"{", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")


FORTY_MEGABYTES = {"Content-Length": str(40 << 20)}
UNKNOWN = {"Authorization": "Bearer ak_unknown"}


@pytest.mark.parametrize(
    ("path", "headers", "code", "type", "most"),
    [
        ("/v3/api-keys", UNKNOWN, 401, "invalid_auth", 0),
        ("/v3/api-keys", {**UNKNOWN, **FORTY_MEGABYTES}, 401, "invalid_auth", 0),
        ("/v3/device-enrollments-bulk-uploads", UNKNOWN, 401, "invalid_auth", 0),
        ("/v3/api-keys", FORTY_MEGABYTES, 413, "too_large", 0),
        # Without a length before, as much is read as a body may have.
        ("/v3/api-keys", {}, 413, "too_large", 17),
    ],
)
async def test_a_body_is_read_for_a_known_key_alone_and_no_further_than_it_may_be(
    api: Api, path: str, headers: dict[str, str], code: int, type: str, most: int
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(640):
            read += 1
            yield b" " * 65536

    sent = {"Content-Type": "application/json", **headers}
    answer = await api.client.post(path, content=body(), headers=sent)
    assert (answer.status_code, answer.json()["type"]) == (code, type)
    assert set(answer.json()) == {"object", "code", "type", "message", "request_id", "fields"}
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert read == most


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "a\\u0000b", "role": "operator"}',
        '{"name": "a\\ud800b", "role": "operator"}',
        '{"name": "a", "\\ud800": 1, "role": "\\ud800"}',
        '{"a\\u0000b": "c"}',
        "[]",
        "null",
        '"text"',
        "",
    ],
)
async def test_a_body_that_cannot_be_stored_is_a_400(api: Api, body: str) -> None:
    answer = await api.client.post("/v3/api-keys", content=body.encode(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


async def test_a_fault_of_ours_says_its_id_and_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Any:
        raise RuntimeError("a secret text")

    monkeypatch.setattr("server.store.issuers.listed", broken)
    answer = await api.client.get("/v3/certificate-issuers")
    assert (answer.status_code, answer.json()["type"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json()["request_id"] in answer.json()["message"]


async def test_a_database_that_is_away_is_a_503_with_a_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> Any:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr("server.store.issuers.listed", away)
    answer = await api.client.get("/v3/certificate-issuers")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


async def test_a_key_is_shown_once_switched_off_and_removed(api: Api) -> None:
    made = await api.ask("POST", "/v3/api-keys", 201, {"name": "night shift", "role": "operator"})
    headers = {"Authorization": f"Bearer {made['key']}"}
    own = await api.ask("GET", "/v3/api-keys/me", 200, headers=headers)
    maker = await api.ask("GET", "/v3/api-keys/me", 200)
    # Who made it, as clients of the original read it; the first key was made by no other.
    assert (made["owner"], maker["owner"], made["groups"]) == (maker["id"], api.account_id.hex, [])
    assert made["creation_time"] > 1_700_000_000_000
    owned = (await api.ask("GET", f"/v3/api-keys?owner__eq={maker['id']}", 200))["data"]
    assert [row["id"] for row in owned] == [made["id"]]
    assert (own["name"], own["role"], own["key"]) == ("night shift", "operator", None)
    public = made["key"][:-32]
    assert [row["id"] for row in (await api.ask("GET", f"/v3/api-keys?key__eq={public}", 200))["data"]] == [made["id"]]
    for other in (made["key"], public[:-1], ""):
        assert (await api.ask("GET", f"/v3/api-keys?key__eq={other}", 200))["data"] == []
    await api.ask("PUT", f"/v3/api-keys/{made['id']}", 200, {"status": "INACTIVE"})
    await api.ask("GET", "/v3/api-keys/me", 401, headers=headers)
    await api.ask("DELETE", f"/v3/api-keys/{made['id']}", 204)
    assert "night shift" not in [row["name"] for row in (await api.ask("GET", "/v3/api-keys", 200))["data"]]


async def test_a_user_of_the_api_is_an_operator_of_the_console(api: Api) -> None:
    sent = {"username": "aino", "password": "a long enough password", "role": "operator"}
    made = await api.ask("POST", "/v3/users", 201, sent)
    assert (made["username"], made["role"], made["status"], made["groups"]) == ("aino", "operator", "ACTIVE", [])
    # What the maker knows is not told again; what nobody knows yet is, once.
    assert made["password"] is None
    invited = await api.ask("POST", "/v3/users", 201, {"email": "eero@example.com"})
    assert (invited["username"], invited["email"]) == ("eero@example.com", "eero@example.com")
    kept = await operators.by_name(api.office.database, "eero@example.com")
    assert kept is not None
    assert passwords.fits(str(invited["password"]), kept.password)
    assert (await api.ask("GET", f"/v3/users/{invited['id']}", 200))["password"] is None
    for path in ("/v3/users", "/v3/users?status__eq=ACTIVE"):
        assert [row["username"] for row in (await api.ask("GET", path, 200))["data"]] == ["aino", "eero@example.com"]
    found = (await api.ask("GET", "/v3/users?email__eq=eero@example.com", 200))["data"]
    assert [row["id"] for row in found] == [invited["id"]]
    one = f"/v3/users/{made['id']}"
    assert (await api.ask("PUT", one, 200, {"username": "aino"}))["etag"] == "1"
    changed = await api.ask("PUT", one, 200, {"role": "read-only", "status": "INACTIVE"})
    assert (changed["role"], changed["status"], changed["etag"]) == ("read-only", "INACTIVE", "2")
    assert await operators.by_name(api.office.database, "aino") is None
    await api.ask("DELETE", one, 204)
    await api.ask("GET", one, 404)


async def test_a_user_whose_name_or_password_will_not_do_is_told_which(api: Api) -> None:
    await api.ask("POST", "/v3/users", 201, {"username": "aino"})
    for sent, code, field in (
        ({}, 400, "email"),
        ({"email": " eero@example.com"}, 400, "email"),
        ({"username": "e\tro"}, 400, "username"),
        ({"username": "eero", "password": "short"}, 400, "password"),
        ({"username": "aino"}, 409, "username"),
    ):
        refused = await api.ask("POST", "/v3/users", code, sent)
        assert [fault["field"] for fault in refused["fields"]] == [field], sent


async def test_keys_and_users_are_in_no_group(api: Api) -> None:
    own = (await api.ask("GET", "/v3/api-keys/me", 200))["id"]
    user = (await api.ask("POST", "/v3/users", 201, {"username": "aino"}))["id"]
    for path in ("/v3/api-keys/me", f"/v3/api-keys/{own}", f"/v3/users/{user}"):
        found = await api.ask("GET", f"{path}/groups?include=total_count", 200)
        assert (found["data"], found["has_more"], found["total_count"]) == ([], False, 0)
    await api.ask("GET", f"/v3/api-keys/{'0' * 32}/groups", 404)


async def test_the_etag_of_an_account_changes_with_it(api: Api) -> None:
    made = await api.ask("POST", "/v3/accounts", 201, {"display_name": "Oulu plant"})
    etags = [made["etag"]]
    for allowed in (False, False, True):
        etags.append((await api.ask("PUT", f"/v3/accounts/{made['id']}", 200, {"third_party_ca": allowed}))["etag"])
    etags.append((await api.ask("GET", f"/v3/accounts/{made['id']}", 200))["etag"])
    assert etags == ["1", "2", "2", "3", "3"]


async def test_an_administrators_key_is_renamed_by_itself(api: Api) -> None:
    made = await api.ask("POST", "/v3/api-keys", 201, {"name": "day shift"})
    own = {"Authorization": f"Bearer {made['key']}"}
    # As the SDKs send what they read: the owner stays who it is.
    sent = {"name": "late shift", "owner": made["owner"], "status": "ACTIVE"}
    changed = await api.ask("PUT", "/v3/api-keys/me", 200, sent, own)
    assert (changed["id"], changed["name"], changed["etag"]) == (made["id"], "late shift", "2")
    assert (await api.ask("PUT", "/v3/api-keys/me", 400, {"name": ""}, own))["fields"][0]["field"] == "name"
    await api.ask("PUT", "/v3/api-keys/me", 200, {"role": "operator"}, own)
    await api.ask("PUT", "/v3/api-keys/me", 403, {"role": "administrator"}, own)


async def test_a_list_does_not_begin_again_behind_a_row_that_is_gone(api: Api) -> None:
    for name in ("one", "two", "three"):
        await api.ask("POST", "/v3/api-keys", 201, {"name": name})
    page = await api.ask("GET", "/v3/api-keys?limit=2", 200)
    last = page["data"][-1]["id"]
    rest = await api.ask("GET", f"/v3/api-keys?limit=2&after={last}", 200)
    assert not {row["id"] for row in page["data"]} & {row["id"] for row in rest["data"]}
    await api.ask("DELETE", f"/v3/api-keys/{last}", 204)
    gone = await api.ask("GET", f"/v3/api-keys?limit=2&after={last}", 400)
    assert [fault["field"] for fault in gone["fields"]] == ["after"]


async def test_the_last_administrator_cannot_be_removed_or_demoted(api: Api) -> None:
    rows = (await api.ask("GET", "/v3/api-keys", 200))["data"]
    own = await api.ask("GET", "/v3/api-keys/me", 200)
    for row in rows:
        if row["id"] != own["id"]:
            await api.ask("DELETE", f"/v3/api-keys/{row['id']}", 204)
    await api.ask("DELETE", f"/v3/api-keys/{own['id']}", 400)
    await api.ask("PUT", f"/v3/api-keys/{own['id']}", 400, {"role": "operator"})
    await api.ask("PUT", f"/v3/api-keys/{own['id']}", 400, {"status": "INACTIVE"})


async def test_an_account_is_made_with_its_own_ca_profile_and_key(api: Api) -> None:
    made = await api.ask("POST", "/v3/accounts", 201, {"display_name": "Oulu plant"})
    headers = {"Authorization": f"Bearer {made['admin_key']}"}
    assert (await api.ask("GET", "/v3/accounts/me", 200, headers=headers))["id"] == made["id"]
    trusted = (await api.ask("GET", "/v3/trusted-certificates", 200, headers=headers))["data"]
    assert [row["service"] for row in trusted] == ["lwm2m"]
    assert [row["name"] for row in (await api.ask("GET", "/v1/profiles", 200, headers=headers))["data"]] == ["default"]
    await api.ask("POST", "/v3/accounts", 403, {"display_name": "another"}, headers)
    refused = await api.ask("GET", "/v1/seen", 403, headers=headers)
    assert "nothing proves whose device it is" in str(refused["message"])
    assert "is in your list of devices" in str(refused["message"])
    await api.ask("POST", "/v3/accounts", 409, {"display_name": "Oulu plant"})


async def test_a_second_account_closes_private_networks_to_issuers(api: Api) -> None:
    issuer = {
        "name": "CA",
        "issuer_type": "CFSSL_AUTH",
        "issuer_attributes": {"host_url": "http://127.0.0.1:9"},
        "issuer_credentials": {"hmac_hex_key": "00"},
    }
    made = await api.ask("POST", "/v3/certificate-issuers", 201, issuer)
    await accounts.add(api.office.database, PERSON, "other")
    answer = await api.ask("POST", f"/v3/certificate-issuers/{made['id']}/verify", 200)
    assert answer["successful"] is False
    assert "allow" in str(answer["message"])
