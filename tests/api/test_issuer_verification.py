"""Whether a CA works: `verify`, `check`, and what is on record of its readiness."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from issuers import http
from server.store import readiness, verifications
from server.store.verifications import Step
from tests.api.conftest import PERSON, Api
from tests.api.plant import CFSSL, ISSUERS, SERVICES, registered
from tests.issuers.peers.cfssl import cfssl_serve
from tests.issuers.peers.sockets import hanging, raw_peer
from tests.pki import make_factory_ca


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


async def test_the_list_tells_how_a_ca_that_signs_nothing_was_verified(api: Api) -> None:
    async def state() -> tuple[object, object]:
        (found,) = (await api.ask("GET", "/v1/issuers", 200))["data"]
        return found["unproven"], found["last_verification"]

    issuer = await registered(api)
    assert await state() == ("not verified yet", None)
    await api.ask("POST", f"{ISSUERS}/{issuer['id']}/verify", 200)
    (report,) = (await api.ask("GET", f"/v1/issuers/{issuer['id']}/verifications", 200))["data"]
    last = {name: report[name] for name in ("successful", "finished_at", "message")}
    assert await state() == ("verification failed", last)
    # What it said was about other settings.
    await api.ask("PUT", f"{ISSUERS}/{issuer['id']}", 200, {"issuer_attributes": {"host_url": "http://127.0.0.1:10"}})
    assert await state() == (None, last)


async def test_a_test_certificate_with_a_negative_serial_number_is_a_verification_with_an_end(api: Api) -> None:
    issuer = UUID((await registered(api))["id"])
    begun = await verifications.begin(api.office.database, PERSON, api.account_id, issuer, csr_sha256=bytes(32))
    failed = Step("serial", "fail", "the serial number is not a positive number")
    ended = await verifications.end(
        api.office.database,
        PERSON,
        api.account_id,
        begun,
        issuer_name="Plant CA",
        successful=False,
        message=failed.message,
        steps=[failed],
        serial=-5,
        works=False,
    )
    assert (ended.serial, ended.message, ended.steps) == (None, failed.message, (failed,))


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
