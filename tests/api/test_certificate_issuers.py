"""The third-party CA API: 13 calls with the bodies, codes and rules of the original (izuma.md A)."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from issuers import http
from server.admin import issuers as admin
from server.errors import BadRequest
from server.store import accounts, readiness
from tests.api.conftest import PERSON, Api
from tests.issuers.peers.cfssl import cfssl_serve
from tests.issuers.peers.sockets import hanging, raw_peer
from tests.pki import make_device_certificate, make_factory_ca

CFSSL = {
    "name": "Plant CA",
    "issuer_type": "CFSSL_AUTH",
    "description": "signs",
    "issuer_attributes": {"host_url": "http://127.0.0.1:9", "cfssl_profile": "CA", "cfssl_label": ""},
    "issuer_credentials": {"hmac_hex_key": "0123456789ABCDEF0123456789ABCDEF"},
}
# Whether anybody waits for what another transaction holds.
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
ISSUERS, SERVICES = "/v3/certificate-issuers", "/v3/certificate-issuer-configurations"


async def registered(api: Api, **changes: object) -> dict[str, Any]:
    return await api.ask("POST", ISSUERS, 201, {**CFSSL, **changes})


async def test_a_registered_issuer_comes_back_without_its_credentials(api: Api) -> None:
    made = await registered(api)
    assert made["object"] == "certificate-issuer"
    assert made["etag"] == "1"
    assert made["issuer_attributes"] == {"host_url": "http://127.0.0.1:9", "cfssl_profile": "CA"}
    assert "issuer_credentials" not in made
    assert "updated_at" not in made
    assert len(made["id"]) == 32
    assert await api.ask("GET", f"{ISSUERS}/{made['id']}", 200) == made
    assert (await api.ask("GET", ISSUERS, 200))["data"] == [made]


async def test_nothing_of_a_credential_is_in_any_answer_or_in_the_audit(api: Api) -> None:
    canary = "c0ffee" * 8
    made = await registered(api, issuer_credentials={"hmac_hex_key": canary})
    await api.ask("PUT", f"{ISSUERS}/{made['id']}", 200, {"issuer_credentials": {"hmac_hex_key": canary}})
    wrong = await api.client.put(f"{ISSUERS}/{made['id']}", json={"issuer_credentials": {"hmac_hex_key": canary + "z"}})
    assert wrong.status_code == 400
    for path in (ISSUERS, f"{ISSUERS}/{made['id']}", "/v1/audit", f"/v1/issuers/{made['id']}/verifications"):
        answer = await api.client.get(path)
        assert answer.status_code == 200
        assert canary not in answer.text
    assert canary not in wrong.text


async def test_a_mistake_names_the_field_and_the_rule(api: Api) -> None:
    odd = await api.ask("POST", ISSUERS, 400, {**CFSSL, "issuer_credentials": {"hmac_hex_key": "a" * 31}})
    assert odd["message"] == "HMAC Hex key: even number of hexadecimal characters, you gave 31"
    assert odd["fields"] == [
        {
            "field": "issuer_credentials.hmac_hex_key",
            "name": "issuer_credentials.hmac_hex_key",
            "message": odd["message"],
        }
    ]
    assert (odd["object"], odd["code"], odd["type"]) == ("error", 400, "validation_error")
    assert len(str(odd["request_id"])) == 32


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "n" * 51}, "name"),
        ({"name": ""}, "name"),
        ({"description": "d" * 101}, "description"),
        ({"issuer_type": "VAULT"}, "issuer_type"),
        ({"issuer_attributes": {}}, "issuer_attributes.host_url"),
        ({"issuer_attributes": {"host_url": "http://ca", "profile": "x"}}, "issuer_attributes.profile"),
        ({"issuer_attributes": {"host_url": "http://ca", "rate": "fast"}}, "issuer_attributes.rate"),
        ({"issuer_attributes": {"host_url": "http://ca", "concurrency": "0"}}, "issuer_attributes.concurrency"),
        ({"issuer_attributes": {"host_url": "http://ca", "on_unknown": "wait"}}, "issuer_attributes.on_unknown"),
        ({"issuer_attributes": {"host_url": "http://ca", "bundle": "yes"}}, "issuer_attributes.bundle"),
        ({"issuer_credentials": None}, "issuer_credentials.hmac_hex_key"),
        ({"issuer_credentials": {"hmac_hex_key": "zz"}}, "issuer_credentials.hmac_hex_key"),
        ({"issuer_credentials": {"hmac_hex_key": "ab" * 33}}, "issuer_credentials.hmac_hex_key"),
        ({"issuer_attributes": "text"}, "issuer_attributes"),
    ],
)
async def test_what_cannot_be_registered_is_refused_by_its_field(api: Api, change: dict[str, Any], field: str) -> None:
    refused = await api.ask("POST", ISSUERS, 400, {**CFSSL, **change})
    assert [fault["field"] for fault in refused["fields"]] == [field]
    assert (await api.ask("GET", ISSUERS, 200))["data"] == []


GLOBAL_SIGN = ("api_secret", "client_certificate", "private_key")


async def test_the_access_key_of_the_page_is_the_api_key_and_only_one_of_them_is_given(api: Api) -> None:
    given = dict.fromkeys(GLOBAL_SIGN, "x")
    for name in ("access_key", "api_key"):
        body = {"name": "gs", "issuer_type": "GLOBAL_SIGN", "issuer_credentials": {**given, name: "0123"}}
        # The key is taken by either name; what is wrong is the certificate.
        refused = await api.ask("POST", ISSUERS, 400, body)
        assert "client_certificate" in str(refused["message"])
    body["issuer_credentials"] = {**given, "api_key": "0123", "access_key": "0123"}
    twice = await api.ask("POST", ISSUERS, 400, body)
    assert twice["fields"][0]["field"] == "issuer_credentials.api_key"
    lacking = await api.ask("POST", ISSUERS, 400, {**body, "issuer_credentials": given})
    assert lacking["message"] == "Access key: is missing; give it"


CLIENT = make_device_certificate(make_factory_ca(), "client")
OTHER = make_device_certificate(make_factory_ca(), "other")
LOCKED = OTHER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right")).decode()


@pytest.mark.parametrize(
    ("type", "changes", "field"),
    [
        ("CFSSL_AUTH", {"host_url": "ftp://ca"}, "issuer_attributes.host_url"),
        ("CFSSL_AUTH", {"host_url": "https://ca", "tls_roots": "none"}, "issuer_attributes.tls_roots"),
        ("CFSSL_AUTH", {"client_certificate": "none", "private_key": "x"}, "issuer_credentials.client_certificate"),
        ("CFSSL_AUTH", {"client_certificate": "none"}, "issuer_credentials.private_key"),
        (
            "CFSSL_AUTH",
            {"client_certificate": CLIENT.pem.decode(), "private_key": "x"},
            "issuer_credentials.private_key",
        ),
        ("GLOBAL_SIGN", {"base_url": "http://hvca"}, "issuer_attributes.base_url"),
        ("GLOBAL_SIGN", {"tls_roots": "none"}, "issuer_attributes.tls_roots"),
        ("GLOBAL_SIGN", {"client_certificate": "none"}, "issuer_credentials.client_certificate"),
        ("GLOBAL_SIGN", {"private_key": "none"}, "issuer_credentials.private_key"),
        ("GLOBAL_SIGN", {"private_key": LOCKED}, "issuer_credentials.private_key"),
        ("GLOBAL_SIGN", {"private_key": LOCKED, "passphrase": "wrong"}, "issuer_credentials.private_key"),
        ("GLOBAL_SIGN", {"private_key": OTHER.key_pem.decode()}, "issuer_credentials.private_key"),
        ("GLOBAL_SIGN", {"api_secret": " "}, "issuer_credentials.api_secret"),
    ],
)
async def test_what_an_adapter_does_not_take_is_named_where_it_was_given(
    api: Api, type: str, changes: dict[str, str], field: str
) -> None:
    attributes = {"host_url": "https://ca"} if type == "CFSSL_AUTH" else {}
    credentials = (
        {"hmac_hex_key": "00ff"}
        if type == "CFSSL_AUTH"
        else {
            "api_key": "0123",
            "api_secret": "s",
            "client_certificate": CLIENT.pem.decode(),
            "private_key": CLIENT.key_pem.decode(),
        }
    )
    for name, value in changes.items():
        (attributes if name in ("host_url", "base_url", "tls_roots") else credentials)[name] = value
    body = {"name": "x", "issuer_type": type, "issuer_attributes": attributes, "issuer_credentials": credentials}
    refused = await api.ask("POST", ISSUERS, 400, body)
    assert [fault["field"] for fault in refused["fields"]] == [field]


async def test_a_name_is_taken_once_in_an_account(api: Api) -> None:
    await registered(api)
    taken = await api.ask("POST", ISSUERS, 409, CFSSL)
    assert taken["type"] == "duplicate"
    other = await registered(api, name="Other")
    assert (await api.ask("PUT", f"{ISSUERS}/{other['id']}", 409, {"name": "Plant CA"}))["type"] == "duplicate"


async def test_the_twenty_first_issuer_is_one_too_many(api: Api) -> None:
    for number in range(20):
        await registered(api, name=f"CA {number}")
    assert (await api.ask("POST", ISSUERS, 403, CFSSL))["type"] == "account_limit_exceeded"


async def test_null_credentials_keep_what_is_there_and_the_etag_counts(api: Api) -> None:
    made = await registered(api)
    update = {**CFSSL, "description": "moved", "issuer_credentials": None}
    changed = await api.ask("PUT", f"{ISSUERS}/{made['id']}", 200, update)
    assert (changed["description"], changed["etag"]) == ("moved", "2")
    row = await api.office.database.fetchrow("issuer_find", api.account_id, UUID(made["id"]))
    sealed = api.office.sealer.open(
        row["credentials"], "certificate_issuer", "credentials", api.account_id, UUID(made["id"])
    )
    assert b"0123456789ABCDEF" in sealed


async def test_the_lists_come_whole_whatever_limit_says(api: Api) -> None:
    for number in range(3):
        await registered(api, name=f"CA {number}")
    listed = await api.ask("GET", f"{ISSUERS}?limit=2&after=anything&order=DESC", 200)
    assert [row["name"] for row in listed["data"]] == ["CA 2", "CA 1", "CA 0"]
    assert (listed["object"], listed["has_more"], listed["total_count"]) == ("list", False, 3)
    assert (listed["limit"], listed["order"]) == (2, "DESC")


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
    found = await api.ask("GET", f"{SERVICES}?reference__eq=customer.dlms&limit=2", 200)
    assert found["data"] == [made]
    assert len((await api.ask("GET", SERVICES, 200))["data"]) == 2
    await api.ask("POST", SERVICES, 409, {"reference": "customer.dlms", "certificate_issuer_id": None})
    moved = await api.ask("PUT", f"{SERVICES}/{made['id']}", 200, {"certificate_issuer_id": None})
    assert moved["certificate_issuer_id"] is None
    await api.ask("DELETE", f"{SERVICES}/{made['id']}", 204)
    await api.ask("GET", f"{SERVICES}/{made['id']}", 404)


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


async def test_before_in_the_audit_is_what_the_change_replaced(api: Api) -> None:
    """A change that waits for another one replaces what that one wrote."""
    issuer = await registered(api)
    service = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    database = api.office.database
    for statement, row, path, body, before in (
        (
            "UPDATE certificate_issuer SET description = $2::uuid::text WHERE id = $1",
            issuer,
            ISSUERS,
            {"description": "after"},
            str(UUID(issuer["id"])),
        ),
        (
            "UPDATE certificate_issuer_configuration SET issuer_id = $2::uuid WHERE id = $1",
            service,
            SERVICES,
            {"certificate_issuer_id": None},
            issuer["id"],
        ),
    ):
        async with database.acquire() as watching, database.acquire() as other:
            async with other.transaction():
                await other.execute(statement, UUID(row["id"]), UUID(issuer["id"]))
                change = asyncio.create_task(api.ask("PUT", f"{path}/{row['id']}", 200, body))
                while not change.done() and not await watching.fetchval(WAITING):
                    await asyncio.sleep(0.01)
            await change
        newest = (await api.ask("GET", "/v1/audit?order=DESC&limit=2", 200))["data"][0]
        assert before in newest["detail"]["before"].values(), newest


async def test_an_empty_word_names_no_issuer(api: Api) -> None:
    made = await registered(api)
    with pytest.raises(BadRequest, match="names no certificate issuers"):
        await admin.by_word(api.office.database, api.account_id, "")
    assert (await admin.by_word(api.office.database, api.account_id, str(made["id"])[:8])).name == "Plant CA"


@pytest.mark.parametrize(
    ("place", "body"),
    [
        (
            "issuer_attributes.cfssl_profile",
            {"issuer_attributes": {"host_url": "https://ok", "cfssl_profile": "\ud800"}},
        ),
        ("issuer_attributes.cfssl_label", {"issuer_attributes": {"host_url": "https://ok", "cfssl_label": "a\0"}}),
        ("issuer_credentials.hmac_hex_key", {"issuer_credentials": {"hmac_hex_key": "00\udfff"}}),
        ("name", {"name": "Plant \udc00"}),
        ("description", {"description": "\ud83d"}),
    ],
)
async def test_half_a_character_is_refused_by_its_field(api: Api, place: str, body: dict[str, Any]) -> None:
    text = json.dumps({**CFSSL, **body})
    headers = {"Content-Type": "application/json"}
    answer = await api.client.post(ISSUERS, content=text.encode(), headers=headers)
    assert answer.status_code == 400, answer.text
    assert [fault["field"] for fault in answer.json()["fields"]] == [place]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:CANARYPW@ca.example.com",
        "user:CANARYPW@ca.example.com:99999",
        "https://user:CANARYPW@ca.example.com",
        "https://user:CANARY/CANARYPW@ca.example.com",
        "CANARYPW:CANARYPW@",
    ],
)
async def test_the_password_of_an_address_is_never_repeated(api: Api, url: str) -> None:
    refused = await api.ask("POST", ISSUERS, 400, {**CFSSL, "issuer_attributes": {"host_url": url}})
    assert "CANARY" not in str(refused)
    assert "user name or password" in str(refused["message"])


async def test_another_accounts_issuers_and_services_do_not_exist(api: Api) -> None:
    other = await accounts.add(api.office.database, PERSON, "other")
    stranger = await api.key("admin", other.id)
    issuer = await registered(api)
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    for method, path, body in (
        ("GET", f"{ISSUERS}/{issuer['id']}", None),
        ("PUT", f"{ISSUERS}/{issuer['id']}", {"name": "mine"}),
        ("DELETE", f"{ISSUERS}/{issuer['id']}", None),
        ("POST", f"{ISSUERS}/{issuer['id']}/verify", None),
        ("GET", f"{SERVICES}/{row['id']}", None),
        ("PUT", f"{SERVICES}/{row['id']}", {}),
        ("DELETE", f"{SERVICES}/{row['id']}", None),
    ):
        assert (await api.ask(method, path, 404, body, stranger))["type"] == "not_found"
    own = await api.ask("PUT", f"{SERVICES}/lwm2m", 404, {"certificate_issuer_id": issuer["id"]}, stranger)
    assert own["type"] == "not_found"
    assert (await api.ask("GET", ISSUERS, 200, headers=stranger))["data"] == []


async def test_the_account_setting_closes_all_thirteen_calls(api: Api) -> None:
    issuer = await registered(api)
    row = await api.ask("GET", f"{SERVICES}/lwm2m", 200)
    await accounts.set_third_party_ca(api.office.database, PERSON, api.account_id, False)
    calls = (
        ("GET", ISSUERS, None),
        ("POST", ISSUERS, CFSSL),
        ("GET", f"{ISSUERS}/{issuer['id']}", None),
        ("PUT", f"{ISSUERS}/{issuer['id']}", {}),
        ("DELETE", f"{ISSUERS}/{issuer['id']}", None),
        ("POST", f"{ISSUERS}/{issuer['id']}/verify", None),
        ("GET", SERVICES, None),
        ("POST", SERVICES, {"reference": "x"}),
        ("GET", f"{SERVICES}/lwm2m", None),
        ("PUT", f"{SERVICES}/lwm2m", {}),
        ("GET", f"{SERVICES}/{row['id']}", None),
        ("PUT", f"{SERVICES}/{row['id']}", {}),
        ("DELETE", f"{SERVICES}/{row['id']}", None),
    )
    assert len(calls) == 13
    for method, path, body in calls:
        assert (await api.ask(method, path, 403, body))["type"] == "forbidden"


async def test_a_ca_that_cannot_be_reached_is_an_answer_of_verify_and_on_record(api: Api) -> None:
    issuer = await registered(api)
    answer = await api.ask("POST", f"{ISSUERS}/{issuer['id']}/verify", 200)
    assert answer["successful"] is False
    assert "127.0.0.1" in str(answer["message"])
    reports = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
    assert [report["successful"] for report in reports] == [False]
    assert any(step["outcome"] == "fail" for step in reports[0]["steps"])
    actions = [row["action"] for row in (await api.ask("GET", "/v1/audit?order=DESC", 200))["data"]]
    assert actions[0] == "certificate_issuer.verified"


async def test_every_change_is_one_audit_row_with_before_and_after(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{ISSUERS}/{issuer['id']}", 200, {"description": "moved"})
    rows = (await api.ask("GET", "/v1/audit?subject_kind__eq=certificate_issuer", 200))["data"]
    assert [row["action"] for row in rows] == ["certificate_issuer.added", "certificate_issuer.changed"]
    assert rows[1]["detail"]["before"]["description"] == "signs"
    assert rows[1]["detail"]["after"]["description"] == "moved"
    assert len(rows[1]["request_id"]) == 32


async def test_readiness_tells_the_last_error_and_since_when(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": issuer["id"]})
    (fresh,) = (await api.ask("GET", "/v1/issuers", 200))["data"]
    assert (fresh["ready"], fresh["services"], fresh["error"], fresh["failures"]) == (True, ["LWM2M"], None, 0)
    until = datetime.now(UTC) + timedelta(seconds=10)
    for _ in range(2):
        await readiness.failed(
            api.office.database, UUID(issuer["id"]), "Unavailable", "it is away", opens_at=2, open_until=until
        )
    (state,) = (await api.ask("GET", "/v1/issuers", 200))["data"]
    assert (state["ready"], state["error"], state["failures"]) == (False, "it is away", 2)
    assert state["since"] is not None
    assert state["asked_again_at"] is not None


async def not_ready(api: Api, issuer: dict[str, Any]) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(5):
        await readiness.failed(
            api.office.database,
            UUID(issuer["id"]),
            "Unauthorized",
            "does not take our login",
            opens_at=5,
            open_until=until,
        )


async def test_a_ca_is_asked_again_as_soon_as_its_settings_change_and_ready_once_it_is_verified(api: Api) -> None:
    async def state() -> dict[str, Any]:
        (found,) = (await api.ask("GET", "/v1/issuers", 200))["data"]
        return found

    async with cfssl_serve(make_factory_ca("Plant Root")) as peer:
        works = {"host_url": peer.url, "cfssl_profile": "CA"}
        issuer = await registered(api, issuer_attributes=works, issuer_credentials={"hmac_hex_key": "00" * 16})
        path = f"{ISSUERS}/{issuer['id']}"
        await not_ready(api, issuer)
        # Nothing of that kind is mended by a new description, nor by a look that the CA refuses.
        await api.ask("PUT", path, 200, {"description": "tried"})
        assert (await api.ask("POST", f"{path}/verify", 200))["successful"] is False
        shut = await state()
        assert datetime.fromisoformat(shut["asked_again_at"]) > datetime.now(UTC) + timedelta(minutes=1)
        await api.ask("PUT", path, 200, {"issuer_credentials": CFSSL["issuer_credentials"]})
        half_open = await state()
        assert half_open["asked_again_at"] < shut["asked_again_at"]
        assert datetime.fromisoformat(half_open["asked_again_at"]) <= datetime.now(UTC) + timedelta(seconds=1)
        await api.ask("POST", f"{path}/verify?issue_test=false", 200)
        now = await state()
        assert (now["ready"], now["error"], now["failures"], now["since"]) == (True, None, 0, None)
        # One that was asked before its settings were kept works too.
        await not_ready(api, issuer)
        await api.ask("PUT", f"{path}?check=true", 200, {"issuer_attributes": works})
        assert (await state())["ready"] is True


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("credentials", b"\x00" * 40, "the credentials cannot be opened"),
        ("attributes", '{"host_url": "ftp://ca"}', "host_url"),
    ],
)
async def test_settings_that_do_not_open_are_the_first_step_that_failed_and_on_record(
    api: Api, column: str, value: object, words: str
) -> None:
    issuer = await registered(api)
    path = f"{ISSUERS}/{issuer['id']}"
    async with api.office.database.transaction() as connection:
        await connection.execute(f"UPDATE certificate_issuer SET {column} = $1", value)  # noqa: S608 one of two above
    answer = await api.ask("POST", f"{path}/verify", 200)
    assert answer["successful"] is False
    assert words in str(answer["message"])
    (report,) = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
    assert (report["successful"], report["message"]) == (False, answer["message"])
    assert report["finished_at"] is not None
    assert [(step["name"], step["outcome"], step["message"]) for step in report["steps"]] == [
        ("settings", "fail", answer["message"])
    ]
    actions = [row["action"] for row in (await api.ask("GET", "/v1/audit?order=DESC", 200))["data"]]
    assert actions[0] == "certificate_issuer.verified"


async def test_a_ca_may_be_registered_before_it_is_there(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{ISSUERS}/{issuer['id']}", 200, {"issuer_attributes": {"host_url": "http://127.0.0.1:7"}})


async def test_with_check_a_ca_that_refuses_or_is_away_is_a_424_and_nothing_is_kept(api: Api) -> None:
    away = await api.ask("POST", f"{ISSUERS}?check=true", 424, CFSSL)
    assert (away["object"], away["code"], away["type"]) == ("error", 424, "failed_dependency")
    assert "127.0.0.1:9 takes no connections" in str(away["message"])
    assert (await api.ask("GET", ISSUERS, 200))["data"] == []
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer:
        works = {"host_url": peer.url, "cfssl_profile": "CA"}
        issuer = await api.ask("POST", f"{ISSUERS}?check=true", 201, {**CFSSL, "issuer_attributes": works})
        path = f"{ISSUERS}/{issuer['id']}"
        signed = peer.log.count("signed certificate")
        # What is given is tried with what stays.
        await api.ask("PUT", f"{path}?check=true", 200, {"description": "tried"})
        gone = {**works, "host_url": "http://127.0.0.1:9"}
        refused = await api.ask("PUT", f"{path}?check=true", 424, {"issuer_attributes": gone})
        assert "nothing was changed" in str(refused["message"])
        assert peer.log.count("signed certificate") == signed
    kept = await api.ask("GET", path, 200)
    assert (kept["issuer_attributes"]["host_url"], kept["etag"]) == (peer.url, "2")
    actions = [row["action"] for row in (await api.ask("GET", "/v1/audit", 200))["data"]]
    assert actions.count("certificate_issuer.added") == actions.count("certificate_issuer.changed") == 1


async def test_a_ca_that_nobody_trusts_is_told_before_a_test_certificate_is_spent(api: Api) -> None:
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer:
        attributes = {"host_url": peer.url, "cfssl_profile": "CA"}
        path = f"{ISSUERS}/{(await registered(api, issuer_attributes=attributes))['id']}/verify"
        signed = peer.log.count("signed certificate")
        for query in ("", "?issue_test=false"):
            answer = await api.ask("POST", path + query, 200)
            assert answer["successful"] is False
            assert "upload the certificate of CN=Plant Root" in str(answer["message"])
        assert peer.log.count("signed certificate") == signed
        trusted = {"name": "plant", "service": "lwm2m", "certificate": ca.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted)
        assert (await api.ask("POST", f"{path}?issue_test=false", 200))["successful"] is True
        assert peer.log.count("signed certificate") == signed
        assert (await api.ask("POST", path, 200))["successful"] is True
    reports = (await api.ask("GET", f"/v1/issuers/{path.split('/')[3]}/verifications", 200))["data"]
    outcomes = [{step["name"]: step["outcome"] for step in report["steps"]} for report in reports]
    assert [found["trust"] for found in outcomes] == ["fail", "fail", "ok", "ok"]
    assert [found["test certificate"] for found in outcomes] == ["skipped", "skipped", "skipped", "ok"]


async def test_a_ca_for_services_of_an_operators_own_needs_no_trust_of_lwm2m(api: Api) -> None:
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer:
        issuer = await registered(api, issuer_attributes={"host_url": peer.url, "cfssl_profile": "CA"})
        path = f"{ISSUERS}/{issuer['id']}"
        await api.ask("POST", SERVICES, 201, {"reference": "customer.dlms", "certificate_issuer_id": issuer["id"]})
        answer = await api.ask("POST", f"{path}/verify", 200)
        assert answer["successful"] is True
        assert str(answer["message"]).startswith("the CA works; ")
        (report,) = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
        steps = {step["name"]: (step["outcome"], step["message"]) for step in report["steps"]}
        assert steps["test certificate"][0] == "ok"
        assert steps["trust"][0] == "skipped"
        assert steps["trust"][1].startswith("not needed for customer.dlms; needed before LWM2M: ")
        # Once it is active for LWM2M too, it is.
        await api.ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": issuer["id"]})
        assert (await api.ask("POST", f"{path}/verify", 200))["successful"] is False


async def test_a_ca_that_takes_connections_and_says_nothing_is_waited_for_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "READ_SECONDS", 1.0)
    async with raw_peer(hanging) as peer:
        issuer = await registered(api, issuer_attributes={"host_url": peer.url, "cfssl_profile": "CA"})
        answer = await api.ask("POST", f"{ISSUERS}/{issuer['id']}/verify", 200)
        assert answer["successful"] is False
        assert "no answer came" in str(answer["message"])
        assert len(peer.requests) <= 1
    (report,) = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
    assert [(step["name"], step["outcome"]) for step in report["steps"]] == [("reach", "fail")]
