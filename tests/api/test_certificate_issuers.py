"""The third-party CA API: 13 calls with the bodies, codes and rules of the original."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from server.admin import issuers as admin
from server.errors import BadRequest
from server.store import accounts
from tests.api.conftest import PERSON, Api
from tests.api.plant import CFSSL, ISSUERS, SERVICES, registered
from tests.pki import make_device_certificate, make_factory_ca

# Whether anybody waits for what another transaction holds.
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


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
    kept = await api.ask("PUT", f"{ISSUERS}/{made['id']}", 200, {"issuer_credentials": {"hmac_hex_key": canary}})
    wrong = await api.client.put(f"{ISSUERS}/{made['id']}", json={"issuer_credentials": {"hmac_hex_key": canary + "z"}})
    assert wrong.status_code == 400
    assert canary not in f"{made}{kept}{wrong.text}"
    for path in (ISSUERS, f"{ISSUERS}/{made['id']}", "/v1/audit", f"/v1/issuers/{made['id']}/verifications"):
        answer = await api.client.get(path)
        assert answer.status_code == 200
        assert canary not in answer.text


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
    with pytest.raises(BadRequest, match="no certificate issuers named"):
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


async def test_every_change_is_one_audit_row_with_before_and_after(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{ISSUERS}/{issuer['id']}", 200, {"description": "moved"})
    rows = (await api.ask("GET", "/v1/audit?subject_kind__eq=certificate_issuer", 200))["data"]
    assert [row["action"] for row in rows] == ["certificate_issuer.added", "certificate_issuer.changed"]
    assert rows[1]["detail"]["before"]["description"] == "signs"
    assert rows[1]["detail"]["after"]["description"] == "moved"
    assert len(rows[1]["request_id"]) == 32


async def test_a_ca_may_be_registered_before_it_is_there(api: Api) -> None:
    issuer = await registered(api)
    await api.ask("PUT", f"{ISSUERS}/{issuer['id']}", 200, {"issuer_attributes": {"host_url": "http://127.0.0.1:7"}})
