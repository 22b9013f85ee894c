"""`/v1/statistics` and `/v1/attention` over a record: numbers as the record holds them, findings as it shows them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from server.attention import Attendant
from server.metrics import Merged
from server.statistics import LAG, Statistics
from server.store import accounts, readiness
from server.store.session_operations import RecordSession
from server.store.writer import MarkDelivered, Writer
from tests.api.conftest import Api
from tests.api.plant import ISSUERS, SERVICES, registered, registered_at
from tests.integration.rows import device, intent, issued
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.pki import make_factory_ca


async def happened(
    api: Api,
    *,
    good: int,
    bad: int,
    ago: timedelta = timedelta(seconds=30),
    cause: str = "no_answer",
    ca: str | None = None,
    asked: bool = True,
    profile: str = "meters",
) -> None:
    """Bootstraps that ended `ago`, some of them failed for `cause`, which is that of `ca`, `asked` or not."""
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    at = datetime.now(UTC) - ago
    for number in range(good + bad):
        opened = intent(f"device-{number}", account_id=api.account_id)
        failed = number >= good
        if asked and ca is not None:
            opened.issuer_id = UUID(ca)
        if asked or not failed:
            await writer.write(opened)
        if not failed or (ca is None and asked):
            await writer.write(issued(opened))
        if not failed:
            await writer.write(MarkDelivered(opened.id))
        await writer.write(
            RecordSession(
                id=opened.session_id or uuid4(),
                account_id=api.account_id,
                endpoint=opened.endpoint,
                started_at=at - timedelta(milliseconds=100),
                ended_at=at,
                profile=profile,
                credential="x509",
                address="192.0.2.7:1",
                outcome="failed" if failed else "succeeded",
                cause=cause if failed else None,
                sentence="",
                issuance_id=opened.id,
                steps="[]",
                failed_ca=ca if failed else None,
            )
        )
        came = device(opened, account_id=api.account_id, at=at)
        await writer.write(replace(came, state="failed", cause=cause, failed_ca=ca) if failed else came)
    await writer.close()


async def test_statistics_are_what_the_record_holds(api: Api) -> None:
    await happened(api, good=7, bad=3)
    found = await api.ask("GET", "/v1/statistics?window=1h", 200)
    funnel = found["funnel"]
    assert isinstance(funnel, dict)
    # What was issued just now is read a moment later.
    assert (funnel["seen"], funnel["admitted"], funnel["confirmed"]) == (10, 10, 7)
    assert found["bootstraps_per_minute"] == 10
    assert found["success_ratio"] == 0.7
    assert isinstance(found["p50_ms"], float)
    assert 80 <= found["p50_ms"] <= 125
    failures = found["failures"]
    assert isinstance(failures, list)
    assert [(f["cause"], f["family"], f["issuer"], f["count"]) for f in failures] == [
        ("no_answer", "meters", "embedded CA", 3)
    ]
    steps = found["steps"]
    assert isinstance(steps, list)
    assert len(steps) == 60
    assert sum(step["succeeded"] for step in steps) == 7
    await api.ask("GET", "/v1/statistics?window=1y", 400)


async def test_what_comes_later_is_added_to_what_was_read(api: Api) -> None:
    clock = [datetime.now(UTC)]
    service: Statistics = api.app.state.statistics
    service._now = lambda: clock[0]
    first = await service.picture(api.account_id, "15m", installation=True)
    assert first.ended == 0
    await happened(api, good=2, bad=0, ago=-timedelta(seconds=1))
    clock[0] += timedelta(seconds=20)
    second = await service.picture(api.account_id, "15m", installation=True)
    assert (second.ended, dict(second.funnel)["issued"], dict(second.funnel)["delivered"]) == (2, 2, 2)
    # Nobody looked for hours: the bins are filled again, nothing counts twice.
    clock[0] += timedelta(hours=3)
    later = await service.picture(api.account_id, "24h", installation=True)
    assert later.ended == 2
    clock[0] += timedelta(days=2)
    assert (await service.picture(api.account_id, "24h", installation=True)).ended == 0


async def test_a_clock_that_is_set_back_stops_neither_picture_nor_findings(api: Api) -> None:
    now = datetime.now(UTC)
    clock = [now + timedelta(days=1)]
    statistics = Statistics(api.office.database, Merged(), lambda: clock[0])
    attendant = Attendant(
        database=api.office.database,
        sealer=api.office.sealer,
        statistics=statistics,
        now=lambda: clock[0],
        workers=lambda: (1, 1),
    )
    account = await accounts.find(api.office.database, api.account_id)
    assert account is not None
    await happened(api, good=3, bad=0)
    assert (await attendant.look(account)).checked_at == clock[0]
    clock[0] = now
    assert (await attendant.look(account)).checked_at == now
    picture = await statistics.picture(account.id, "1h", installation=False)
    assert (picture.at, picture.whole.counts["succeeded"]) == (now - LAG, 3)


async def test_another_account_sees_its_own_bootstraps_only(api: Api) -> None:
    await happened(api, good=2, bad=0)
    other = await api.ask("POST", "/v3/accounts", 201, {"display_name": "other"})
    key = {"Authorization": f"Bearer {other['admin_key']}"}
    found = await api.ask("GET", "/v1/statistics", 200, headers=key)
    assert found["funnel"] == dict.fromkeys(("seen", "admitted", "requested", "issued", "delivered", "confirmed"), 0)


async def test_all_clear_says_when_it_looked(api: Api) -> None:
    found = await api.ask("GET", "/v1/attention", 200)
    assert found["all_clear"] is True
    assert found["findings"] == []
    assert datetime.now(UTC) - datetime.fromisoformat(str(found["checked_at"])) < timedelta(minutes=5)


async def test_failing_devices_need_a_person(api: Api) -> None:
    await happened(api, good=7, bad=3)
    found = await api.ask("GET", "/v1/attention", 200)
    findings = found["findings"]
    assert isinstance(findings, list)
    assert [(f["kind"], f["severity"], f["title"]) for f in findings] == [
        ("devices_failing", "fault", "3 of 10 bootstraps failed in the last quarter of an hour")
    ]
    assert findings[0]["since"] is not None
    listed = await api.ask("GET", f"/v3/devices/?{findings[0]['devices']}", 200)
    assert [row["last_cause"] for row in listed["data"]] == ["no_answer"] * 3


async def test_a_ca_that_is_not_ready_needs_a_person(api: Api) -> None:
    body = {
        "name": "Plant CA",
        "issuer_type": "CFSSL_AUTH",
        "issuer_attributes": {"host_url": "https://ca.example.com"},
        "issuer_credentials": {"hmac_hex_key": "00" * 16},
    }
    ca = await api.ask("POST", "/v3/certificate-issuers", 201, body)
    database, now = api.office.database, datetime.now(UTC)
    for _ in range(2):
        until = now + timedelta(minutes=1)
        text = "connection refused"
        await readiness.failed(database, UUID(str(ca["id"])), "Unavailable", text, opens_at=2, open_until=until)
    assert (await api.ask("GET", "/v1/attention", 200))["all_clear"] is True
    reference = {"reference": "LWM2M", "certificate_issuer_id": ca["id"]}
    await api.ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", 200, reference)
    api.app.state.attendant._last.clear()
    findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert isinstance(findings, list)
    assert [(f["kind"], f["title"], f["certificate_issuer_id"]) for f in findings] == [
        ("issuer_not_ready", "Plant CA gives no certificates for LWM2M", ca["id"]),
        ("issuer_not_verified", "Plant CA is active for LWM2M and was never verified", ca["id"]),
    ]
    assert findings[0]["cause"] == "connection refused"
    assert findings[0]["since"] is not None


async def test_a_certificate_that_ends_soon_is_told_of_since_it_is_here(api: Api) -> None:
    began = datetime.now(UTC)
    factory = make_factory_ca("Short Factory", not_after=began + timedelta(days=30))
    body = {"name": "short", "service": "bootstrap", "certificate": factory.pem.decode()}
    await api.ask("POST", "/v3/trusted-certificates", 201, body)
    findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert isinstance(findings, list)
    assert [(f["kind"], f["title"]) for f in findings] == [
        ("ca_certificate_expiring", "The trusted certificate short ends in 29 days")
    ]
    # Sixty days before its end it was not here, and nobody had anything to do.
    assert datetime.fromisoformat(findings[0]["since"]) >= began - timedelta(seconds=1)


async def test_an_active_ca_that_was_not_verified_or_is_not_trusted_needs_a_person(api: Api) -> None:
    async def kinds() -> list[tuple[str, str]]:
        api.app.state.attendant._last.clear()
        findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
        assert isinstance(findings, list)
        assert all(f["next_step"] for f in findings)
        return [(f["severity"], f["kind"]) for f in findings]

    root = make_factory_ca("Plant Root")
    async with cfssl_serve(root) as peer:
        ca = await registered_at(api, peer.url, hmac_hex_key="00" * 16)
        path = f"/v3/certificate-issuers/{ca['id']}"
        reference = {"reference": "LWM2M", "certificate_issuer_id": ca["id"]}
        await api.ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", 200, reference)
        assert await kinds() == [("warning", "issuer_not_verified")]
        assert (await api.ask("POST", f"{path}/verify", 200))["successful"] is False
        # CFSSL shows its certificate to everybody, so that both are known.
        assert await kinds() == [("fault", "issuer_not_trusted"), ("warning", "verification_failed")]
        await api.ask("PUT", path, 200, {"issuer_credentials": {"hmac_hex_key": PAGE_KEY}})
        assert (await api.ask("POST", f"{path}/verify", 200))["successful"] is False
        # For want of trust alone: said once.
        assert await kinds() == [("fault", "issuer_not_trusted")]
        trusted = {"name": "plant", "service": "lwm2m", "certificate": root.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted)
        assert (await api.ask("POST", f"{path}/verify?issue_test=false", 200))["successful"] is True
        assert await kinds() == []


async def test_an_embedded_ca_whose_root_is_no_longer_trusted_needs_a_person(api: Api) -> None:
    [root] = (await api.ask("GET", "/v3/trusted-certificates?service__eq=lwm2m", 200))["data"]
    for status, kinds in (("INACTIVE", ["issuer_not_trusted"]), ("ACTIVE", [])):
        changed = await api.ask("PUT", f"/v3/trusted-certificates/{root['id']}", 200, {"status": status})
        assert [each["kind"] for each in changed.get("warnings", ())] == kinds
        api.app.state.attendant._last.clear()
        findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
        assert [finding["kind"] for finding in findings] == kinds


async def test_an_embedded_ca_that_has_ended_is_one_finding(api: Api) -> None:
    """As after a first start under a clock that was years behind."""
    later = datetime.now(UTC) + timedelta(days=11 * 365)
    account = await accounts.find(api.office.database, api.account_id)
    assert account is not None
    attendant = Attendant(
        database=api.office.database,
        sealer=api.office.sealer,
        statistics=Statistics(api.office.database, Merged(), lambda: later),
        now=lambda: later,
        workers=lambda: (1, 1),
    )
    (finding,) = (await attendant.look(account)).findings
    assert (finding.kind, finding.severity) == ("issuer_ended", "fault")
    assert "`firstlight issuer add`" in finding.next_step


async def test_a_device_that_got_nothing_because_of_a_ca_needs_a_person(api: Api) -> None:
    await happened(api, good=0, bad=2, cause="issuer_unavailable")
    (finding,) = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert (finding["kind"], finding["title"], finding["cause"]) == (
        "certificates_missing",
        "2 bootstraps got no certificate from the embedded CA",
        "most often: issuer unavailable",
    )
    listed = await api.ask("GET", f"/v3/devices/?{finding['devices']}", 200)
    assert len(listed["data"]) == 2


async def away(api: Api) -> str:
    """The id of a CA that signs for devices and is away, as the record says it."""
    ca = await registered(api)
    reference = {"reference": "LWM2M", "certificate_issuer_id": ca["id"]}
    await api.ask("PUT", f"{SERVICES}/lwm2m", 200, reference)
    until = datetime.now(UTC) + timedelta(minutes=1)
    for _ in range(2):
        text = "127.0.0.1:9 takes no connections: Connection refused"
        await readiness.failed(api.office.database, UUID(ca["id"]), "Unavailable", text, opens_at=2, open_until=until)
    return str(ca["id"])


async def test_an_outage_of_a_ca_is_one_group_of_failures_whether_it_was_asked_or_not(api: Api) -> None:
    ca = await away(api)
    await happened(api, good=0, bad=2, cause="issuer_unavailable", ca=ca)
    await happened(api, good=0, bad=9, cause="issuer_unavailable", ca=ca, asked=False)
    failures = (await api.ask("GET", "/v1/statistics", 200))["failures"]
    assert isinstance(failures, list)
    assert [(f["cause"], f["issuer"], f["certificate_issuer_id"], f["count"]) for f in failures] == [
        ("issuer_unavailable", "Plant CA", ca, 11)
    ]


async def test_an_outage_of_a_ca_is_one_finding_with_its_cost_over_all_profiles(api: Api) -> None:
    ca = await away(api)
    verify = await api.ask("POST", f"{ISSUERS}/{ca}/verify", 200)
    assert verify["successful"] is False
    await happened(api, good=1, bad=9, cause="issuer_unavailable", ca=ca, asked=False, ago=timedelta(0))
    await happened(api, good=1, bad=9, cause="issuer_unavailable", ca=ca, profile="valves", ago=timedelta(0))
    api.app.state.statistics._now = lambda: datetime.now(UTC) + timedelta(seconds=5)
    (finding,) = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert (finding["kind"], finding["title"], finding["count"], finding["certificate_issuer_id"]) == (
        "issuer_not_ready",
        "Plant CA gives no certificates for LWM2M: 18 bootstraps without a certificate so far",
        18,
        ca,
    )
    assert "Connection refused" in finding["cause"]
    assert finding["since"] is not None
    listed = await api.ask("GET", f"/v3/devices/?{finding['devices']}", 200)
    assert len(listed["data"]) == 9


async def test_an_outage_is_over_when_the_ca_signs_again(api: Api) -> None:
    ca = await away(api)
    assert (await api.ask("POST", f"{ISSUERS}/{ca}/verify", 200))["successful"] is False
    await happened(api, good=0, bad=9, cause="issuer_unavailable", ca=ca, ago=timedelta(minutes=2))
    await readiness.worked(api.office.database, UUID(ca))
    (finding, _) = await findings_now(api)
    assert (finding["kind"], finding["title"]) == (
        "certificates_missing",
        "9 bootstraps got no certificate from Plant CA",
    )
    await happened(api, good=3, bad=0, ca=ca, ago=timedelta(0))
    api.app.state.statistics._now = lambda: datetime.now(UTC) + timedelta(seconds=5)
    assert await findings_now(api) == []


async def findings_now(api: Api) -> list[dict[str, Any]]:
    """What a look now finds."""
    api.app.state.attendant._last.clear()
    findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert isinstance(findings, list)
    return findings


async def test_a_ca_that_refuses_some_devices_has_not_stopped_because_it_signs_for_others(api: Api) -> None:
    await happened(api, good=0, bad=2, cause="issuer_refused", ago=timedelta(minutes=1))
    await happened(api, good=9, bad=0)
    (finding,) = await findings_now(api)
    assert finding["kind"] == "certificates_missing"


async def test_failures_that_nobody_met_for_some_minutes_are_over(api: Api) -> None:
    await happened(api, good=1, bad=19, cause="store_unavailable", ago=timedelta(minutes=7))
    assert await findings_now(api) == []
    await happened(api, good=1, bad=1, cause="store_unavailable", ago=timedelta(0))
    api.app.state.statistics._now = lambda: datetime.now(UTC) + timedelta(seconds=5)
    (finding,) = await findings_now(api)
    assert (finding["kind"], finding["count"]) == ("devices_failing", 20)


async def test_what_a_ca_failed_with_a_while_ago_is_over(api: Api) -> None:
    await happened(api, good=0, bad=2, cause="issuer_unavailable", ago=timedelta(minutes=7))
    assert (await api.ask("GET", "/v1/attention", 200))["all_clear"] is True


async def test_a_device_that_asks_for_too_many_certificates_needs_a_person(api: Api) -> None:
    await happened(api, good=0, bad=12, cause="too_many_certificates")
    (finding,) = (await api.ask("GET", "/v1/attention", 200))["findings"]
    assert (finding["kind"], finding["severity"], finding["title"]) == (
        "devices_at_limit",
        "warning",
        "12 bootstraps or enrolments refused: a device had its certificates of the day",
    )
    assert finding["since"] is not None
    listed = await api.ask("GET", f"/v3/devices/?{finding['devices']}", 200)
    assert len(listed["data"]) == 12
