"""Trusted certificates, credentials, enrolments, profiles, keys, the dry run and the documentation."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server import sentences
from server.store import accounts, readiness, refusals
from server.store.refusals import Seenrow
from server.transport.engine import RefusalReason
from tests.api.conftest import PERSON, Api
from tests.api.test_certificate_enrollments import device, register
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
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


async def test_server_credentials_tell_where_to_go_and_whom_to_trust(api: Api) -> None:
    bootstrap = await api.ask("GET", "/v3/server-credentials/bootstrap", 200)
    assert bootstrap["server_uri"] == f"coaps://bootstrap.example.com:5684?aid={api.account_id.hex}"
    x509.load_pem_x509_certificate(bootstrap["server_certificate"].encode())
    lwm2m = await api.ask("GET", "/v3/server-credentials/lwm2m", 200)
    assert lwm2m["server_uri"] == f"coaps://lwm2m.example.com:5684?aid={api.account_id.hex}"
    both = await api.ask("GET", "/v3/server-credentials", 200)
    assert both["bootstrap"]["url"] == bootstrap["server_uri"]
    assert both["lwm2m"]["certificate"] == lwm2m["server_certificate"]


async def test_a_device_is_claimed_once_over_all_accounts(api: Api) -> None:
    identity = "A-" + ":".join(["6E"] * 32)
    made = await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity})
    assert (made["object"], made["enrollment_identity"], made["claimed_at"]) == ("enrollment", identity, None)
    other = await api.key("admin", (await accounts.add(api.office.database, PERSON, "other")).id)
    await api.ask(
        "POST", "/v3/device-enrollments", 409, {"enrollment_identity": identity.lower().replace("a-", "A-")}, other
    )
    await api.ask("GET", f"/v3/device-enrollments/{made['id']}", 404, headers=other)
    await api.ask("DELETE", f"/v3/device-enrollments/{made['id']}", 204)
    await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity}, other)
    wrong = await api.ask("POST", "/v3/device-enrollments", 400, {"enrollment_identity": "A-6E"})
    assert wrong["fields"][0]["field"] == "enrollment_identity"
    await api.ask("GET", "/v3/device-enrollment-denials", 400)


async def test_a_profile_is_checked_before_it_is_kept(api: Api) -> None:
    default = await api.ask("GET", "/v1/profiles/default", 200)
    body = {"toml": default["toml"].replace('endpoint = "*"', 'endpoint = "meter-*"'), "files": default["files"]}
    made = await api.ask("PUT", "/v1/profiles/meters", 200, body)
    assert made["name"] == "meters"
    wrong = await api.ask("PUT", "/v1/profiles/wrong", 400, {**body, "toml": body["toml"] + "\ncolour = 1\n"})
    assert wrong["fields"][0]["field"] == "toml"
    await api.ask("PUT", "/v1/profiles/wrong", 400, {"toml": body["toml"], "files": {"server-ca.pem": "not base64"}})
    await api.ask("DELETE", "/v1/profiles/meters", 204)
    assert [row["name"] for row in (await api.ask("GET", "/v1/profiles", 200))["data"]] == ["default"]


async def test_a_pre_shared_key_is_write_only(api: Api) -> None:
    key = "00112233445566778899aabbccddeeff"
    made = await api.ask("POST", "/v1/pre-shared-keys", 201, {"identity": "m1", "key": key, "endpoint_name": "meter-1"})
    assert key not in json.dumps(made)
    assert (await api.ask("GET", "/v1/pre-shared-keys", 200))["data"] == [made]
    for code, change, field, words in (
        (409, {}, "identity", "already a key"),
        (400, {"identity": "m2", "key": "aa"}, "key", "16 to 64 bytes"),
        (400, {"identity": "m2", "key": "a" * 33}, "key", "even number"),
        (400, {"identity": "m" * 129}, "identity", "1 to 128 bytes"),
        (400, {"identity": "m2", "endpoint_name": ""}, "endpoint_name", "1 to 255 bytes"),
    ):
        body = {"identity": "m1", "key": key, "endpoint_name": "other", **change}
        refused = await api.ask("POST", "/v1/pre-shared-keys", code, body)
        assert [fault["field"] for fault in refused["fields"]] == [field]
        assert words in refused["message"]
    await api.ask("DELETE", "/v1/pre-shared-keys/m1", 204)


async def test_the_dry_run_tells_what_a_device_would_get_and_signs_nothing(api: Api) -> None:
    found = await api.ask("GET", "/v1/dry-run?endpoint_name=urn:dev:os:1&version=1.2", 200)
    assert (found["profile"], found["issuers"], found["outcome"]) == ("default", {"LWM2M": "embedded CA"}, "succeeded")
    kinds = [step["operation"] for step in found["operations"]]
    assert kinds == ["discover", "delete", "delete", "write", "write", "finish"]
    security = next(step for step in found["operations"] if step["path"] == "/0/1")
    assert security["bytes"] > 500
    small = await api.ask("GET", "/v1/dry-run?endpoint_name=urn:dev:os:1&version=1.0", 200)
    leaf = next(step for step in small["operations"] if step["path"] == "/0/1")
    assert leaf["bytes"] < security["bytes"]
    assert (await api.ask("GET", "/v1/certificates", 200))["data"] == []


async def test_the_dry_run_of_a_name_that_no_certificate_can_bear_says_so(api: Api) -> None:
    found = await api.ask("GET", f"/v1/dry-run?endpoint_name={'n' * 100}", 200)
    assert "error" in [finding["severity"] for finding in found["findings"]]


async def test_the_dry_run_is_of_the_active_ca_and_says_what_keeps_it_from_signing(api: Api) -> None:
    path = "/v1/dry-run?endpoint_name=urn:dev:os:1"

    async def explained() -> tuple[str, list[str], dict[str, Any]]:
        found: dict[str, Any] = await api.ask("GET", path, 200)
        assert found["issuers"] == {"LWM2M": "Plant CA"}
        assert found["sizes_estimated"] is True
        return found["outcome"], [f"{each['severity']}: {each['message']}" for each in found["findings"]], found

    own = await api.ask("GET", path, 200)
    assert own["sizes_estimated"] is False
    assert any("leaf goes out alone" in each["message"] for each in own["findings"])
    root = make_factory_ca("Plant Root")
    async with cfssl_serve(root) as peer:
        body = {
            "name": "Plant CA",
            "issuer_type": "CFSSL_AUTH",
            "issuer_attributes": {"host_url": peer.url, "cfssl_profile": "CA"},
            "issuer_credentials": {"hmac_hex_key": PAGE_KEY},
        }
        ca = await api.ask("POST", "/v3/certificate-issuers", 201, body)
        activation = {"reference": "LWM2M", "certificate_issuer_id": ca["id"]}
        await api.ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", 200, activation)
        _, findings, _ = await explained()
        assert any("never verified" in each for each in findings)
        assert any("has not shown its certificates" in each for each in findings)
        verify = f"/v3/certificate-issuers/{ca['id']}/verify?issue_test=false"
        await api.ask("POST", verify, 200)
        outcome, findings, _ = await explained()
        assert outcome.startswith("issuer_bad_certificate: ")
        assert [each[:6] for each in findings] == ["error:"]
        assert "the CA certificate of Plant CA is not trusted for LWM2M" in findings[0]
        trusted = {"name": "plant", "service": "lwm2m", "certificate": root.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted)
        await api.ask("POST", verify, 200)
        # The root signs by itself: no intermediate stands above the leaf.
        outcome, findings, found = await explained()
        assert (outcome, findings) == ("succeeded", [])
        security = next(step for step in found["operations"] if step["path"] == "/0/1")
        assert security["bytes"] > 500
    until = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(2):
        await readiness.failed(
            api.office.database,
            UUID(str(ca["id"])),
            "Unauthorized",
            "it does not take our login",
            opens_at=2,
            open_until=until,
        )
    outcome, findings, _ = await explained()
    assert outcome == "issuer_unavailable: CA Plant CA is not ready"
    assert len(findings) == 1
    assert findings[0].startswith("error: CA Plant CA is not ready since ")
    assert "it does not take our login; the device would be answered 5.03" in findings[0]


async def test_the_dry_run_takes_the_version_that_the_device_registered_with(api: Api) -> None:
    path = "/v1/dry-run?endpoint_name=meter"
    assert (await api.ask("GET", path, 200))["version"] == "1.1"
    stored = await api.ask("GET", "/v1/profiles/default", 200)
    text, files = str(stored["toml"]), stored["files"]
    newest = text.replace('content_format = "auto"', 'content_format = "lwm2m-cbor"')
    assert newest != text
    # One that writes what only 1.2 reads is for devices of 1.2.
    await api.ask("PUT", "/v1/profiles/default", 200, {"toml": newest, "files": files})
    assert (await api.ask("GET", path, 200))["version"] == "1.2"
    await api.ask("PUT", "/v1/profiles/default", 200, {"toml": text, "files": files})
    await register(api, await device(api), version="1.2")
    assert (await api.ask("GET", path, 200))["version"] == "1.2"
    assert (await api.ask("GET", f"{path}&version=1.0", 200))["version"] == "1.0"


async def test_who_was_not_admitted_comes_with_what_it_means_and_what_to_do(api: Api) -> None:
    now = datetime.now(UTC)
    knock = Seenrow("192.0.2.7", RefusalReason.UNKNOWN_IDENTITY.value, "psk", "pump-1", 3, now)
    await refusals.record(api.office.database, [knock], unlisted=0, now=now)
    listed = await api.ask("GET", "/v1/seen", 200)
    assert (listed["has_more"], listed["not_listed"]) == (False, None)
    (row,) = listed["data"]
    assert (row["reason"], row["meaning"], row["next_step"]) == (
        "unknown_identity",
        "nobody stored a pre-shared key of this identity",
        "add the key, if the device is yours",
    )
    # What the documentation shows is a reason that there is.
    openapi = await api.ask("GET", "/openapi.json", 200)
    answers = openapi["paths"]["/v1/seen"]["get"]["responses"]["200"]["content"]["application/json"]
    shown = answers["example"]["data"][0]
    assert set(shown) == set(row)
    assert (shown["meaning"], shown["next_step"]) == sentences.REFUSALS[shown["reason"]]


async def test_how_many_more_were_not_admitted_than_are_listed_is_said(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what came at once, and by what the record lets go; a flood of another day is counted for itself."""
    monkeypatch.setattr(refusals, "MOST", 3)
    now = datetime.now(UTC)
    knocks = [Seenrow("192.0.2.7", "unknown_ca", "x509", f"pump-{n}", 2, now + timedelta(seconds=n)) for n in range(5)]
    await refusals.record(api.office.database, knocks, unlisted=40, now=now)
    told = await api.ask("GET", "/v1/seen?limit=2", 200)
    assert ([row["identity"] for row in told["data"]], told["has_more"]) == (["pump-4", "pump-3"], True)
    assert told["not_listed"]["count"] == 40 + 2 * 2
    assert told["not_listed"]["first_at"] == told["not_listed"]["last_at"]
    await refusals.record(api.office.database, [], unlisted=1, now=now + timedelta(hours=1))
    assert (await api.ask("GET", "/v1/seen", 200))["not_listed"]["count"] == 45
    await refusals.record(api.office.database, [], unlisted=1, now=now + timedelta(days=2))
    assert (await api.ask("GET", "/v1/seen", 200))["not_listed"]["count"] == 1


async def test_long_lists_are_empty_but_whole_at_first(api: Api) -> None:
    for path in ("/v3/devices/", "/v1/sessions", "/v1/certificates", "/v1/seen"):
        assert (await api.ask("GET", path, 200))["data"] == []
    await api.ask("GET", "/v3/devices/" + "0" * 32 + "/", 404)
    await api.ask("GET", "/v1/certificates/" + "0" * 32, 404)
    await api.ask("GET", "/v1/sessions/" + "0" * 32, 404)


async def test_the_revocation_list_is_public_and_verifies(api: Api) -> None:
    answer = await api.client.get(f"/v1/crl/{api.account_id.hex}.crl", headers={"Authorization": ""})
    crl = x509.load_der_x509_crl(answer.content)
    assert answer.headers["content-type"] == "application/pkix-crl"
    assert len(crl) == 0
    assert crl.next_update_utc is not None
    assert crl.next_update_utc > datetime.now(UTC)


async def test_changes_arrive_as_events(api: Api) -> None:
    listening = asyncio.create_task(api.client.get("/v1/events?limit=1"))
    for number in range(40):
        await api.ask("POST", "/v3/developer-certificates", 201, {"name": f"desk {number}"})
        done, _ = await asyncio.wait({listening}, timeout=0.5)
        if done:
            break
    answer = await listening
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["action"] for event in events] == ["trusted_certificate.added"]


async def test_every_operation_has_an_example_of_its_answer_and_body(api: Api) -> None:
    schema = (await api.client.get("/openapi.json")).json()
    lacking = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            answers = [answer for code, answer in operation["responses"].items() if code.startswith("2")]
            if (
                not any(c.get("example") for a in answers for c in a.get("content", {}).values())
                and "204" not in operation["responses"]
            ):
                lacking.append(f"{method} {path}: answer")
            assert "422" not in operation["responses"]
            bodies = operation.get("requestBody", {}).get("content", {})
            lacking += [
                f"{method} {path}: {kind}"
                for kind in set(bodies) - {"application/json"}
                if not bodies[kind].get("example")
            ]
            body = bodies.get("application/json")
            if body is not None:
                options = body["schema"].get("anyOf", [body["schema"]])
                name = next(option["$ref"].rpartition("/")[2] for option in options if "$ref" in option)
                if not schema["components"]["schemas"][name].get("examples"):
                    lacking.append(f"{method} {path}: body")
    assert lacking == []


async def test_the_documentation_is_one_page_without_any_outside_host(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    assert "/v3/certificate-issuers" in page
    assert "HMAC Hex key" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    assert "<script" not in page


UPLOADS, DELETES = "/v3/device-enrollments-bulk-uploads", "/v3/device-enrollments-bulk-deletes"


async def bulk(api: Api, path: str, text: str, code: int = 202, field: str = "enrollment_identities") -> dict[str, Any]:
    answer = await api.client.post(path, files={field: ("devices.csv", text.encode(), "text/csv")})
    assert answer.status_code == code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def identity(number: int) -> str:
    return "A-" + ":".join([f"{number:02X}"] * 32)


async def test_a_csv_of_devices_is_claimed_and_each_fault_is_told_by_its_line(api: Api) -> None:
    other = (await accounts.add(api.office.database, PERSON, "other")).id
    theirs = await api.key("admin", other)
    await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity(9)}, theirs)
    lines = ["enrollment_identity", identity(1), f'"{identity(2)}"', "", "A-nonsense", identity(1), identity(9)]
    made = await bulk(api, UPLOADS, "\ufeff" + "\r\n".join(lines))
    assert (made["object"], made["status"]) == ("enrollment-bulk-uploads", "completed")
    assert (made["total_count"], made["processed_count"], made["errors_count"]) == (5, 5, 3)
    assert await api.ask("GET", f"{UPLOADS}/{made['id']}", 200) == made
    report = (await api.client.get(made["errors_report_file"])).text.splitlines()
    assert report[0] == "line,identity,reason"
    assert [row.split(",")[0] for row in report[1:]] == ["5", "6", "7"]
    assert [row.rpartition(",")[2] for row in report[2:]] == ["stands in the list twice", "is claimed already"]
    claimed = (await api.ask("GET", "/v3/device-enrollments", 200))["data"]
    assert {row["enrollment_identity"] for row in claimed} == {identity(1), identity(2)}
    await api.ask("GET", f"{UPLOADS}/{made['id']}", 404, headers=theirs)
    await api.ask("GET", f"{DELETES}/{made['id']}", 404)
    gone = await bulk(api, DELETES, f"{identity(1)}\n{identity(9)}\n")
    assert (gone["object"], gone["errors_count"]) == ("enrollment-bulk-deletes", 1)
    assert "is not claimed by this account" in (await api.client.get(gone["errors_report_file"])).text
    assert len((await api.ask("GET", "/v3/device-enrollments", 200))["data"]) == 1
    assert len((await api.ask("GET", "/v3/device-enrollments", 200, headers=theirs))["data"]) == 1
    actions = [row["action"] for row in (await api.ask("GET", "/v1/audit?order=DESC&limit=2", 200))["data"]]
    assert actions == ["device_enrollment.removed_many", "device_enrollment.added_many"]


async def test_what_is_no_list_of_devices_is_refused(api: Api) -> None:
    assert (await bulk(api, UPLOADS, identity(1), 400, field="file"))["fields"][0]["field"] == "enrollment_identities"
    await api.ask("POST", UPLOADS, 400, {"enrollment_identities": "x"})
    await bulk(api, UPLOADS, "x" * ((10 << 20) + 1), 400)
    assert (await api.ask("GET", "/v3/device-enrollments", 200))["data"] == []


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
