"""Whom the service trusts: factory CAs and the CAs of issuers, of one account and of its tenants."""

from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.store import accounts
from tests.api.conftest import PERSON, Api
from tests.pki import make_device_certificate, make_factory_ca

TRUSTED = "/v3/trusted-certificates"


def pem(*certificates: x509.Certificate) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def upload(name: str, text: str, service: str = "bootstrap", **more: object) -> dict[str, object]:
    return {"name": name, "certificate": text, "service": service, "status": "ACTIVE", **more}


async def test_a_factory_ca_is_trusted_denied_and_removed(api: Api) -> None:
    ca = make_factory_ca("Factory")
    made = await api.ask("POST", TRUSTED, 201, upload("Factory", pem(ca.certificate)))
    der = ca.certificate.public_bytes(serialization.Encoding.DER)
    assert (made["object"], made["status"], made["service"]) == ("trusted-cert", "ACTIVE", "bootstrap")
    assert made["certificate_fingerprint"] == sha256(der).hexdigest()
    assert made["certificate"] == pem(ca.certificate)
    assert made["account_id"] == api.account_id.hex
    assert made["owner_id"] == (await api.ask("GET", "/v3/api-keys/me", 200))["id"]
    denied = await api.ask("PUT", f"{TRUSTED}/{made['id']}", 200, {"status": "INACTIVE"})
    assert (denied["status"], denied["etag"]) == ("INACTIVE", "2")
    await api.ask("DELETE", f"{TRUSTED}/{made['id']}", 204)
    await api.ask("GET", f"{TRUSTED}/{made['id']}", 404)


async def test_name_and_certificate_are_taken_once(api: Api) -> None:
    first, second = make_factory_ca("one"), make_factory_ca("two")
    await api.ask("POST", TRUSTED, 201, upload("one", pem(first.certificate)))
    assert (await api.ask("POST", TRUSTED, 409, upload("two", pem(first.certificate))))["type"] == "duplicate"
    assert (await api.ask("POST", TRUSTED, 409, upload("one", pem(second.certificate))))["type"] == "duplicate"


async def test_one_that_nobody_named_gets_its_subject_with_a_number_where_that_is_taken(api: Api) -> None:
    """Two clients that look for a free name themselves may find the same one."""
    for name in ("CN=twice,O=Factory", "CN=twice,O=Factory 2"):
        body = {"certificate": pem(make_factory_ca("twice").certificate), "service": "bootstrap"}
        assert (await api.ask("POST", TRUSTED, 201, body))["name"] == name


async def test_a_certificate_that_is_no_cas_is_refused_where_a_ca_is_needed_and_may_still_be_denied(api: Api) -> None:
    device = make_device_certificate(make_factory_ca(), "meter-1")
    body = {"name": "meter", "service": "lwm2m", "certificate": device.pem.decode()}
    refused = await api.ask("POST", TRUSTED, 400, body)
    assert [fault["field"] for fault in refused["fields"]] == ["certificate"]
    assert "give the certificate of the CA" in refused["message"]
    await api.ask("POST", TRUSTED, 201, {**body, "status": "INACTIVE"})
    await api.ask("POST", TRUSTED, 201, {**body, "name": "the meter", "service": "bootstrap"})


async def test_the_fifty_first_trusted_certificate_is_one_too_many(api: Api) -> None:
    there = len((await api.ask("GET", TRUSTED, 200))["data"])
    for number in range(50 - there):
        await api.ask("POST", TRUSTED, 201, upload(str(number), pem(make_factory_ca(str(number)).certificate)))
    refused = await api.ask("POST", TRUSTED, 403, upload("more", pem(make_factory_ca("more").certificate)))
    assert refused["type"] == "account_limit_exceeded"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
)
async def test_what_is_no_certificate_is_refused(api: Api, text: str) -> None:
    refused = await api.ask("POST", TRUSTED, 400, upload("x", text))
    assert (refused["type"], [fault["field"] for fault in refused["fields"]]) == ("validation_error", ["certificate"])


async def test_two_roots_are_no_chain(api: Api) -> None:
    roots = pem(make_factory_ca("a").certificate, make_factory_ca("b").certificate)
    assert "chain" in (await api.ask("POST", TRUSTED, 400, upload("x", roots)))["message"]


async def test_every_certificate_of_a_file_is_trusted_or_none(api: Api) -> None:
    root = make_factory_ca("Root")
    low = make_factory_ca("Line", issuer=root)
    batch = "/v1/trusted-certificates-batch"
    body = {"service": "bootstrap", "certificates": pem(low.certificate, root.certificate)}
    held = await api.ask("POST", TRUSTED, 201, upload("root", pem(root.certificate)))
    refused = await api.ask("POST", batch, 409, body)
    assert refused["message"].endswith("as root, active; none of the 2 certificates of the file was added")
    assert [row["name"] for row in (await api.ask("GET", f"{TRUSTED}?service__eq=bootstrap", 200))["data"]] == ["root"]
    await api.ask("DELETE", f"{TRUSTED}/{held['id']}", 204)
    made = (await api.ask("POST", batch, 201, {**body, "name": "plant", "status": "INACTIVE"}))["data"]
    assert [(row["name"], row["status"], row["owner_id"]) for row in made] == [
        (name, "INACTIVE", held["owner_id"]) for name in ("plant 1", "plant 2")
    ]
    leaf = make_device_certificate(root, "meter-1").certificate
    (warned,) = (await api.ask("POST", batch, 201, {**body, "certificates": pem(leaf)}))["data"]
    assert warned["warnings"]
    for text in ("", "nonsense", root.key_pem.decode()):
        await api.ask("POST", batch, 400, {**body, "certificates": text})


async def test_filters_and_paging_walk_the_whole_list(api: Api) -> None:
    for number in range(5):
        await api.ask("POST", TRUSTED, 201, upload(f"ca {number}", pem(make_factory_ca(f"works {number}").certificate)))
    seen: list[str] = []
    after = ""
    while True:
        query = f"service__eq=bootstrap&limit=2&after={after}&include=total_count"
        page = await api.ask("GET", f"{TRUSTED}?{query}", 200)
        assert page["total_count"] == 5
        seen += [row["name"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = page["data"][-1]["id"]
    assert seen == [f"ca {number}" for number in range(5)]
    for query, count in (
        ("name__eq=ca 3", 1),
        ("subject__like=WORKS 3", 1),
        ("service__eq=lwm2m", 1),
        ("service__eq=LwM2M", 1),
        ("status__eq=INACTIVE", 0),
        ("valid__eq=false", 0),
        ("enrollment_mode__eq=true", 0),
        ("device_execution_mode__neq=0", 0),
        ("expire__eq=36500", 6),
    ):
        assert len((await api.ask("GET", f"{TRUSTED}?{query}", 200))["data"]) == count, query


async def test_a_factory_ca_of_two_accounts_needs_enrollment_mode_in_both(api: Api) -> None:
    ca = pem(make_factory_ca("shared").certificate)
    other = await api.key("admin", (await accounts.add(api.office.database, PERSON, "other")).id)
    mine = await api.ask("POST", TRUSTED, 201, upload("shared", ca))
    assert (await api.ask("POST", TRUSTED, 409, upload("shared", ca), other))["type"] == "duplicate"
    await api.ask("PUT", f"{TRUSTED}/{mine['id']}", 200, {"enrollment_mode": True})
    await api.ask("POST", TRUSTED, 201, upload("shared", ca, enrollment_mode=True), other)
    await api.ask("GET", f"{TRUSTED}/{mine['id']}", 404, headers=other)


async def test_the_default_account_manages_the_trust_of_its_tenants(api: Api) -> None:
    other = (await accounts.add(api.office.database, PERSON, "other")).id
    theirs = await api.key("admin", other)
    path = f"/v3/accounts/{other.hex}/trusted-certificates"
    made = await api.ask("POST", path, 201, upload("theirs", pem(make_factory_ca("theirs").certificate)))
    assert made["account_id"] == other.hex
    assert await api.ask("GET", f"{TRUSTED}/{made['id']}", 200, headers=theirs) == made
    await api.ask("GET", f"{TRUSTED}/{made['id']}", 404)
    assert [row["id"] for row in (await api.ask("GET", path, 200))["data"]] == [made["id"]]
    denied = await api.ask("PUT", f"{path}/{made['id']}", 200, {"status": "INACTIVE"})
    assert await api.ask("GET", f"{path}/{made['id']}", 200) == denied
    await api.ask("GET", path, 403, headers=theirs)
    await api.ask("DELETE", f"{path}/{made['id']}", 204)
    await api.ask("GET", f"/v3/accounts/{'0' * 32}/trusted-certificates", 404)
