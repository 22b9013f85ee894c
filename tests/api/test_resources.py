"""The smaller resources: server credentials, profiles, keys, who was not admitted, revocation list, events."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from server import sentences
from server.store import refusals
from server.store.refusals import SeenRow
from server.transport.engine import RefusalReason
from tests.api.conftest import Api


async def test_server_credentials_tell_where_to_go_and_whom_to_trust(api: Api) -> None:
    bootstrap = await api.ask("GET", "/v3/server-credentials/bootstrap", 200)
    assert bootstrap["server_uri"] == f"coaps://bootstrap.example.com:5684?aid={api.account_id.hex}"
    x509.load_pem_x509_certificate(bootstrap["server_certificate"].encode())
    lwm2m = await api.ask("GET", "/v3/server-credentials/lwm2m", 200)
    assert lwm2m["server_uri"] == f"coaps://lwm2m.example.com:5684?aid={api.account_id.hex}"
    both = await api.ask("GET", "/v3/server-credentials", 200)
    assert both["bootstrap"]["url"] == bootstrap["server_uri"]
    assert both["lwm2m"]["certificate"] == lwm2m["server_certificate"]


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


async def test_who_was_not_admitted_comes_with_what_it_means_and_what_to_do(api: Api) -> None:
    now = datetime.now(UTC)
    knock = SeenRow("192.0.2.7", RefusalReason.UNKNOWN_IDENTITY.value, "psk", "pump-1", 3, now)
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
    knocks = [SeenRow("192.0.2.7", "unknown_ca", "x509", f"pump-{n}", 2, now + timedelta(seconds=n)) for n in range(5)]
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
