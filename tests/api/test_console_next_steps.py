"""No page of the console is a dead end: what needs a person leads to where that person acts."""

import csv
import html
import io
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from server.api.lists import time
from server.store import enrollments, refusals
from server.store.issuance_operations import RecordFailed
from server.store.readiness import failed
from server.store.refusals import SeenRow
from server.store.writer import Writer
from tests.api.conftest import Api
from tests.api.plant import registered
from tests.api.test_console_door import ORIGIN, hidden
from tests.console.seed import seed
from tests.integration.rows import device, intent
from tests.pki import make_factory_ca

DEVICES = 320


@pytest.fixture
async def browser(api: Api) -> httpx.AsyncClient:
    """An administrator's browser; the API key stays for `api.ask`."""
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    form = await api.client.get("/sign-in")
    await api.client.post("/sign-in", data={"csrf": hidden(form.text, "csrf"), "key": key}, headers=ORIGIN)
    return api.client


async def page(browser: httpx.AsyncClient, path: str) -> str:
    answer = await browser.get(path, follow_redirects=True)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return html.unescape(answer.text)


def links(text: str) -> set[str]:
    return set(re.findall(r'href="([^"]*)"', text))


async def test_a_device_that_waits_for_a_person_is_found_and_released_in_the_console(
    api: Api, browser: httpx.AsyncClient
) -> None:
    lost = intent("meter-lost", account_id=api.account_id)
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    await writer.write(lost)
    await writer.write(device(lost, account_id=api.account_id))
    await writer.write(RecordFailed(lost.id, lost.owner, "unknown", "OutcomeUnknown", "the answer was lost"))
    await writer.close()
    at = f"/devices/{lost.device_id.hex}"
    # While the server itself may still find out, nobody need act.
    assert "Somebody has to look" not in await page(browser, at)
    async with api.office.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET settled = true WHERE id = $1", lost.id)
    found: dict[str, Any] = await api.ask("GET", "/v1/attention", 200)
    assert "on the page of the device" in found["findings"][0]["next_step"]
    start = await page(browser, "/")
    where = next(link for link in links(start) if link.startswith("/devices?endpoint_name__in="))
    listed = await page(browser, where)
    assert at in links(listed)
    shown = await page(browser, at)
    assert "Somebody has to look" in shown
    # It may have been served: by default a CA is asked once more.
    assert "unless the CA's setting is to hold" in html.unescape(shown)
    assert f"{at}/release" in links(shown)
    dialog = await browser.get(f"{at}/release")
    assert "see the CA's own log" in html.unescape(dialog.text)
    answer = await browser.post(f"{at}/release", data={"csrf": hidden(dialog.text, "csrf")}, headers=ORIGIN)
    assert answer.headers["Location"] == at
    shown = await page(browser, at)
    assert "meter-lost is released" in shown
    assert "Somebody has to look" not in shown


async def test_one_of_many_devices_that_fail_leads_to_the_others(api: Api, browser: httpx.AsyncClient) -> None:
    await seed(api.office.database, api.account_id, devices=DEVICES, now=api.office.now())
    rows: dict[str, Any] = await api.ask("GET", "/v3/devices/?last_cause__eq=no_answer&include=total_count", 200)
    others = rows["total_count"] - 1
    assert others > 0
    shown = await page(browser, f"/devices/{rows['data'][0]['id']}")
    assert f"{others} other device{'s' if others != 1 else ''} failed for the same cause." in shown
    where = "/devices?last_outcome__eq=failed&last_cause__eq=no_answer"
    assert where in links(shown)
    assert f"{rows['total_count']} devices that fit" in await page(browser, where)
    # A failure of a CA leads to the CAs, and every page back to its list.
    rows = await api.ask("GET", "/v3/devices/?last_cause__eq=issuer_unavailable", 200)
    shown = await page(browser, f"/devices/{rows['data'][0]['id']}")
    assert "State of the CAs" in shown
    assert '<nav class="group" aria-label="Above this page"><a href="/devices">Devices</a></nav>' in shown
    rows = await api.ask("GET", "/v3/devices/?state__eq=bootstrapped", 200)
    assert "for the same cause" not in await page(browser, f"/devices/{rows['data'][0]['id']}")


async def test_the_file_of_who_was_turned_away_holds_what_the_list_shows(api: Api, browser: httpx.AsyncClient) -> None:
    now = api.office.now()
    for reason, identity in (("unknown_ca", "CN=stranger"), ("unknown_identity", "pump-9")):
        row = SeenRow("192.0.2.1", reason, "x509", identity, 1, now)
        await refusals.record(api.office.database, [row], unlisted=0, now=now)
    shown = await page(browser, "/devices/seen?reason__eq=unknown_ca")
    file = next(link for link in links(shown) if link.startswith("/devices/seen/list.csv"))
    rows = list(csv.DictReader(io.StringIO((await browser.get(file)).text)))
    assert [row["identity"] for row in rows] == ["CN=stranger"]
    # And what is to be trusted there is a factory's.
    upload = next(link for link in links(shown) if link.startswith("/device-identity/certificates/upload?"))
    assert '<option value="bootstrap" selected>' in await page(browser, upload)


async def test_a_line_of_the_audit_leads_to_what_it_tells_of(api: Api, browser: httpx.AsyncClient) -> None:
    await seed(api.office.database, api.account_id, devices=40, now=api.office.now())
    default: dict[str, Any] = await api.ask("GET", "/v1/profiles/default", 200)
    await api.ask("PUT", "/v1/profiles/default", 200, {"toml": default["toml"], "files": default["files"]})
    key = {"identity": "pump 1", "key": "00" * 16, "endpoint_name": "pump-1"}
    await api.ask("POST", "/v1/pre-shared-keys", 201, key)
    shown = links(await page(browser, "/audit?actor_kind__eq=api"))
    assert "/profiles/default" in shown
    assert "/device-identity/pre-shared-keys?identity__like=pump+1" in shown
    # A profile that is gone has no page.
    assert "/profiles/subject%201" not in shown
    one = next(
        link for link in links(await page(browser, "/audit?actor_kind__eq=device")) if "endpoint_name__eq" in link
    )
    assert "1 device that fits" in await page(browser, one)


async def test_the_audit_of_the_last_hour_is_one_click_away_and_keeps_the_other_filters(
    api: Api, browser: httpx.AsyncClient
) -> None:
    await seed(api.office.database, api.account_id, devices=40, now=api.office.now() - timedelta(hours=2))
    await api.ask("POST", "/v3/api-keys", 201, {"name": "robot", "role": "read-only"})
    shown = await page(browser, "/audit?actor_kind__neq=device")
    hour = next(re.finditer(r'href="([^"]*)">Last hour<', shown))[1]
    assert "actor_kind__neq=device" in hour
    now = await page(browser, hour)
    assert "API key 'robot' made" in now
    assert "subject 1" not in now
    assert f'href="{hour}" aria-current="true">Last hour<' not in shown
    assert re.search(r'aria-current="true">Last hour<', now)
    assert time(api.office.now() - timedelta(hours=1))[:13] in hour  # type: ignore[index]


async def test_a_ca_whose_turn_has_come_is_asked_when_a_device_needs_it(api: Api, browser: httpx.AsyncClient) -> None:
    ca = await registered(api)
    await failed(api.office.database, UUID(ca["id"]), "Unavailable", "away", opens_at=9, open_until=api.office.now())
    for ahead, told in (
        (-timedelta(minutes=5), "asked again when the next"),
        (timedelta(minutes=5), "asked again in "),
    ):
        at = api.office.now() + ahead
        await failed(api.office.database, UUID(ca["id"]), "Unavailable", "away", opens_at=1, open_until=at)
        shown = re.sub(r"<[^>]*>", "", await page(browser, "/device-identity/certificate-authorities"))
        assert told in shown[shown.index("Plant CA") :][:600]


async def test_a_file_that_a_profile_names_is_not_called_optional(browser: httpx.AsyncClient) -> None:
    shown = await page(browser, "/profiles/default")
    assert '<label for="f-file.server-ca.pem">server-ca.pem</label>' in shown
    assert "signs for LWM2M." in shown


async def test_a_device_that_came_before_it_was_claimed_is_claimed_with_one_click(
    api: Api, browser: httpx.AsyncClient
) -> None:
    factory = {"service": "bootstrap", "certificate": make_factory_ca("Shared factory").pem.decode()}
    body = {**factory, "name": "Shared factory", "enrollment_mode": True}
    row: dict[str, Any] = await api.ask("POST", "/v3/trusted-certificates", 201, body)
    at = f"/device-identity/certificates/trusted/{row['id']}"
    shown = await page(browser, at)
    assert "POST /v3/device-enrollments" in shown
    # One account alone needs no claims: nobody is sent to make a list for nothing.
    assert "while several accounts trust" in shown
    for form in ("/device-identity/certificates/upload", f"{at}/edit"):
        assert "a device belongs to the one that claimed it" in await page(browser, form)
    for name, fingerprint in (("meter-8", bytes(31) + b"8"), ("meter-9", bytes(31) + b"9")):
        await enrollments.deny(api.office.database, [UUID(row["id"])], fingerprint, name)
    shown = await page(browser, at)
    assert shown.index("meter-9") < shown.index("meter-8")
    identity = re.findall(r'name="identity" value="([^"]*)"', shown)[0]
    sent = {"csrf": hidden(shown, "csrf"), "identity": identity}
    answer = await browser.post(f"{at}/claim", data=sent, headers=ORIGIN)
    assert answer.headers["Location"] == at
    listed: dict[str, Any] = await api.ask("GET", "/v3/device-enrollments", 200)
    assert [each["enrollment_identity"] for each in listed["data"]] == [identity]
    shown = await page(browser, at)
    assert "It is on the enrollment list" in shown
    assert "meter-9" not in shown
    assert "meter-8" in shown
