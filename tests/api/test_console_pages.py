"""Every page and dialog of the console that a link leads to: it answers, tells its API call, and holds no secret."""

import csv
import html
import io
import re
from collections import deque
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from lwm2m.steps import FailureCause
from server.admin import operators
from server.store import refusals
from server.store.est_offers import NoteOffer
from server.store.refusals import SeenRow
from server.store.writer import Writer
from tests.api.conftest import PERSON, Api
from tests.api.test_console_door import ORIGIN, PASSWORD, hidden
from tests.console.seed import seed
from tests.integration.rows import NOW
from tests.pki import make_factory_ca

HMAC_KEY = "00C0FFEE" * 4
PSK_KEY = "5EC2E7" * 6
MOST = 400
LINK = re.compile(r'(?:href|hx-get)="(/[^"#]*)')
# An id and a query are one page of many that are alike.
ALIKE = re.compile(r"[0-9a-f]{32}")
# Documents of the API, not of the console, and files that never change.
ELSEWHERE = ("/docs", "/static", "/assets", "/openapi.json")


@pytest.fixture
async def operated(api: Api) -> dict[str, str]:
    """An installation with something on every page; its secrets by what they are."""
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    secrets = {"API key": key, "HMAC key": HMAC_KEY, "pre-shared key": PSK_KEY, "password": PASSWORD}
    await seed(api.office.database, api.account_id, devices=60, now=NOW)
    await operators.add(api.office.database, PERSON, api.account_id, name="Aino", role="operator", password=PASSWORD)
    default = await api.ask("GET", "/v1/profiles/default", 200)
    for name in ("lamps", "meters"):
        body = {
            "toml": str(default["toml"]).replace('endpoint = "*"', f'endpoint = "{name}-*"'),
            "files": default["files"],
        }
        await api.ask("PUT", f"/v1/profiles/{name}", 200, body)
    certificate = make_factory_ca("Oulu factory").pem.decode()
    factory = {"name": "Oulu factory", "service": "bootstrap", "certificate": certificate}
    await api.ask("POST", "/v3/trusted-certificates", 201, factory)
    developer = await api.ask("POST", "/v3/developer-certificates", 201, {"name": "desk"})
    secrets["developer's key"] = str(developer["developer_private_key"]).splitlines()[1]
    cfssl = {"host_url": "http://192.0.2.1:8888"}
    await api.ask(
        "POST",
        "/v3/certificate-issuers",
        201,
        {
            "issuer_type": "CFSSL_AUTH",
            "name": "Plant CA",
            "issuer_attributes": cfssl,
            "issuer_credentials": {"hmac_hex_key": HMAC_KEY},
        },
    )
    await api.ask(
        "POST",
        "/v1/pre-shared-keys",
        201,
        {"identity": "pump-1", "endpoint_name": "pump-1", "key": PSK_KEY},
    )
    form = await api.client.get("/sign-in")
    await api.client.post("/sign-in", data={"csrf": hidden(form.text, "csrf"), "key": key}, headers=ORIGIN)
    secrets["session"] = api.client.cookies["firstlight-session"]
    del api.client.headers["Authorization"]
    return secrets


async def walk(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """Every page that links lead to from the start page, one of those that are alike."""
    found: dict[str, httpx.Response] = {}
    alike = set[str]()
    left = deque(["/"])
    while left:
        path = left.popleft()
        kind = ALIKE.sub("ID", path.partition("?")[0])
        if kind in alike or path.startswith(ELSEWHERE):
            continue
        alike.add(kind)
        found[path] = await client.get(path, follow_redirects=True)
        assert len(found) < MOST
        if found[path].headers.get("Content-Type", "").startswith("text/html"):
            left.extend(html.unescape(link) for link in LINK.findall(found[path].text))
    return found


async def test_every_link_leads_to_a_page_that_tells_its_api_call_and_holds_no_secret(
    api: Api, operated: dict[str, str]
) -> None:
    pages = await walk(api.client)
    assert len(pages) > 30
    for path, page in pages.items():
        assert page.status_code in (200, 204), f"{path}: {page.status_code}"
        assert page.url.path != "/sign-in", path
        for what, secret in operated.items():
            assert secret.lower() not in page.text.lower(), f"{what} on {path}"
    # A fragment that a page asks for later stands on a page that tells the call.
    assert [path for path, page in pages.items() if "<h1" in page.text and "curl -" not in page.text] == []


async def test_a_profile_that_was_deleted_is_called_so_and_no_link_leads_to_it(
    api: Api, operated: dict[str, str]
) -> None:
    key = {"Authorization": f"Bearer {operated['API key']}"}
    for name, gone in (("lamps", True), ("meters", False)):
        if gone:
            await api.ask("DELETE", f"/v1/profiles/{name}", 204, headers=key)
        found = await api.ask("GET", f"/v3/devices/?limit=2&profile__eq={name}", 200, headers=key)
        for page in (f"/devices?profile__eq={name}", f"/devices/{found['data'][0]['id']}"):
            shown = (await api.client.get(page)).text
            assert (f'{name} <span class="dim">(deleted)</span>' in shown) is gone, page
            assert (f'href="/profiles/{name}"' in shown) is not gone, page


async def test_the_dry_run_of_a_profile_that_is_not_stored_leads_nowhere(api: Api, operated: dict[str, str]) -> None:
    form = await api.client.get("/profiles/new?endpoint=pump-1")
    toml = html.unescape(re.search(r'<textarea[^>]*name="toml"[^>]*>(.*?)</textarea>', form.text, re.DOTALL)[1])
    said = {"csrf": hidden(form.text, "csrf"), "name": "pumps", "toml": toml, "endpoint_name": "pump-1"}
    said["file.server-ca.pem"] = make_factory_ca("Server CA").pem.decode()
    shown = (await api.client.post("/profiles/check", data=said, headers=ORIGIN)).text
    assert "gets the profile pumps" in shown
    assert 'href="/profiles/pumps"' not in shown


async def test_a_ca_is_chosen_with_a_word_of_what_its_last_verification_found(
    api: Api, operated: dict[str, str]
) -> None:
    key = {"Authorization": f"Bearer {operated['API key']}"}
    rows = (await api.ask("GET", "/v3/certificate-issuers", 200, headers=key))["data"]
    issuer = next(row["id"] for row in rows if row["name"] == "Plant CA")
    nobody = {"issuer_attributes": {"host_url": "http://127.0.0.1:9"}}
    await api.ask("PUT", f"/v3/certificate-issuers/{issuer}", 200, nobody, headers=key)
    await api.ask("POST", f"/v3/certificate-issuers/{issuer}/verify", 200, headers=key)
    reports = await api.ask("GET", f"/v1/issuers/{issuer}/verifications?order=DESC", 200, headers=key)
    when = f"{datetime.fromisoformat(reports['data'][0]['finished_at']):%Y-%m-%d %H:%M:%S}Z"
    said = f"Its last verification failed at {when}: "
    page = f"/device-identity/certificate-authorities/{issuer}/services"
    asked = (await api.client.get(page)).text
    assert said in asked
    form = {"csrf": hidden(asked, "csrf"), "reference": "LWM2M"}
    answer = await api.client.post(page, data=form, headers=ORIGIN)
    assert answer.status_code == 303
    shown = (await api.client.get(answer.headers["location"])).text
    notice = shown.partition('class="notice bad"')[2].partition("</p>")[0]
    assert "Plant CA signs for LWM2M from now on" in notice
    assert said in notice
    assert "; mend what that says, then verify it again." in notice


async def test_who_was_turned_away_is_found_by_any_reason_that_is_listed(api: Api, operated: dict[str, str]) -> None:
    assert operated
    now = datetime.now(UTC)
    await refusals.record(
        api.office.database,
        [SeenRow("192.0.2.7", FailureCause.NO_PROFILE.value, "psk", "odd-one-out", 1, now)],
        unlisted=1234,
        now=now,
    )
    page = (await api.client.get("/devices/seen")).text
    # Those of a seeded list that it had no room for are counted with them.
    assert "234 refusals from " in page
    assert "are not listed: more came than are kept" in page
    assert "odd-one-out" in page
    assert re.search(r'<option value="no_profile"', page)
    found = (await api.client.get("/devices/seen?reason__eq=no_profile")).text
    assert "odd-one-out" in found
    assert "CN=stranger" not in found


async def test_before_a_profile_is_deleted_it_is_said_how_many_devices_had_it(
    api: Api, operated: dict[str, str]
) -> None:
    assert operated
    page = (await api.client.get("/profiles/lamps/delete")).text
    assert "Devices that had it at their last bootstrap: 6." in page
    assert 'action="/profiles/lamps/delete"' in page


async def test_each_list_comes_as_csv_with_the_filters_of_its_address(api: Api, operated: dict[str, str]) -> None:
    assert operated
    for page, rows in (
        ("/devices?profile__eq=lamps", 6),
        ("/devices/seen", 2000),
        ("/device-identity/certificates?service__eq=bootstrap", 2),
        ("/device-identity/certificates/issued?endpoint_name__like=urn&state__eq=delivered", 72),
        ("/device-identity/certificate-authorities", 2),
        ("/profiles", 3),
        ("/audit?action__eq=profile.set", 77),
        ("/access", 1),
    ):
        shown = (await api.client.get(page)).text
        links = [html.unescape(link) for link in LINK.findall(shown) if ".csv" in link]
        assert links, page
        answer = await api.client.get(links[0])
        assert answer.headers["Content-Type"].startswith("text/csv"), page
        found = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(found) == rows, page
        assert all(found), page


@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_a_list_of_certificates_comes_as_csv_in_its_own_order(
    api: Api, operated: dict[str, str], order: str
) -> None:
    assert operated
    shown = (await api.client.get(f"/device-identity/certificates/issued?sort=not_after&order={order}")).text
    [link] = [html.unescape(link) for link in LINK.findall(shown) if ".csv" in link]
    ends = [row["not_after"] for row in csv.DictReader(io.StringIO((await api.client.get(link)).text))]
    assert len(set(ends)) > 1
    assert ends == sorted(ends, reverse=order == "DESC")


async def test_the_page_of_a_device_that_takes_mode_4_and_never_asks_says_so(
    api: Api, operated: dict[str, str]
) -> None:
    key = {"Authorization": f"Bearer {operated['API key']}"}
    [device] = (await api.ask("GET", "/v3/devices/?limit=2&profile__eq=lamps", 200, headers=key))["data"][:1]
    page = f"/devices/{device['id']}"
    assert "<dt>EST</dt>" not in (await api.client.get(page)).text
    writer = Writer(api.database_url, api.office.database.queries)
    await writer.start()
    for at in (NOW, NOW + timedelta(minutes=2)):
        until = at + timedelta(minutes=2)
        await writer.write(
            NoteOffer(account_id=api.account_id, endpoint=device["endpoint_name"], offered_at=at, waited_until=until)
        )
    await writer.close()
    shown = html.unescape((await api.client.get(page)).text)
    assert "it took mode 4 in 2 bootstraps" in shown
    assert '{"leaf_only": true, "est_unused": true}' in shown
