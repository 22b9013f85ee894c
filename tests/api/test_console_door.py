"""The door of the console without a browser: what a browser must bring, what it is given, and what is refused."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest

from server.admin import api_keys, operators
from server.api.console import door
from server.store import accounts, refused_sign_ins
from server.store import operators as store
from tests.api.conftest import PERSON, Api
from tests.api.plant import registered_at
from tests.issuers.peers.cfssl import cfssl_serve
from tests.pki import make_factory_ca

PASSWORD = "correct horse battery"  # noqa: S105 of a person made for the test
ORIGIN = {"Origin": "http://firstlight", "Sec-Fetch-Site": "same-origin"}


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return found[1]


@pytest.fixture
def browser(api: Api) -> httpx.AsyncClient:
    """The client without an API key: a browser has cookies only."""
    del api.client.headers["Authorization"]
    return api.client


async def person(api: Api, name: str = "Aino", role: store.Role = "operator") -> store.Operator:
    return await operators.add(api.office.database, PERSON, api.account_id, name=name, role=role, password=PASSWORD)


async def signed_in(browser: httpx.AsyncClient, password: str = PASSWORD, **fields: str) -> httpx.Response:
    form = await browser.get("/sign-in")
    token = hidden(form.text, "csrf")
    return await browser.post(
        "/sign-in", data={"csrf": token, "name": "Aino", "password": password, **fields}, headers=ORIGIN
    )


async def test_an_operator_signs_in_and_is_greeted_by_name(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    answer = await signed_in(browser, then="/device-identity/server")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/device-identity/server"
    page = await browser.get("/device-identity/server")
    assert page.status_code == 200
    assert "<b>Aino</b>" in page.text


async def test_cookies_are_out_of_reach_of_scripts_and_other_sites(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    answer = await signed_in(browser)
    cookie = next(c for c in answer.headers.get_list("Set-Cookie") if c.startswith("firstlight-session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie


async def test_with_https_the_cookie_is_bound_to_the_host(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    browser.base_url = httpx.URL("https://firstlight")
    form = await browser.get("/sign-in")
    answer = await browser.post(
        "/sign-in",
        data={"csrf": hidden(form.text, "csrf"), "name": "Aino", "password": PASSWORD},
        headers={**ORIGIN, "Origin": "https://firstlight"},
    )
    cookie = next(c for c in answer.headers.get_list("Set-Cookie") if "firstlight-session=" in c)
    assert cookie.startswith("__Host-firstlight-session=")
    assert "Secure" in cookie


async def test_the_record_holds_neither_password_nor_token(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    await signed_in(browser)
    token = browser.cookies["firstlight-session"]
    async with api.office.database.acquire() as connection:
        rows = [
            str(dict(row))
            for table in ("operator", "console_session", "audit")
            for row in await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608 names of our tables
        ]
    assert rows
    assert not any(PASSWORD in row or token in row for row in rows)
    assert any(repr(sha256(token.encode()).digest()) in row for row in rows)


async def test_every_page_wants_somebody_signed_in_and_leads_back_to_itself(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/device-identity/server?x=1")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/sign-in?then=%2Fdevice-identity%2Fserver%3Fx%3D1"


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
async def test_no_sign_in_leads_out_of_the_house(api: Api, browser: httpx.AsyncClient, then: str) -> None:
    await person(api)
    answer = await signed_in(browser, then=then)
    assert answer.headers["Location"] == "/"


async def test_a_wrong_password_and_an_unknown_name_read_the_same(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    wrong = await signed_in(browser, password="something else entirely")
    unknown = await signed_in(browser, name="Nobody")
    assert wrong.status_code == unknown.status_code == 401
    said = [re.search(r'role="alert">.*?</p>', answer.text, re.DOTALL) for answer in (wrong, unknown)]
    assert said[0]
    assert said[1]
    assert said[0][0] == said[1][0]


async def test_who_was_refused_may_type_where_it_was_wrong(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    for answer, field in (
        (await browser.get("/sign-in"), "name"),
        (await signed_in(browser, password="something else entirely"), "name"),
        (await signed_in(browser, name="", key="ak_unknown"), "key"),
    ):
        assert re.findall(r'<input id="f-(\w+)"[^>]* autofocus', answer.text) == [field]


async def test_whoever_guesses_a_password_has_to_wait_and_a_good_one_does_not_help(
    api: Api, browser: httpx.AsyncClient
) -> None:
    await person(api)
    codes = [(await signed_in(browser, password=f"guess number {n} of many")).status_code for n in range(6)]
    assert codes == [401] * 5 + [429]
    right = await signed_in(browser)
    assert right.status_code == 429
    assert int(right.headers["Retry-After"]) > 0


async def test_since_when_somebody_may_not_come_in_is_when_it_was_switched_off(api: Api) -> None:
    database = api.office.database
    aino = await person(api)
    renamed = await store.update(database, PERSON, api.account_id, aino.id, role="reader")
    assert renamed.active_since == aino.active_since < renamed.updated_at
    off = await store.update(database, PERSON, api.account_id, aino.id, active=False)
    assert off.active_since == off.updated_at > aino.active_since
    key, _ = await api_keys.make(database, PERSON, api.account_id, name="robot", role="reader")
    changes = {"name": "arm", "role": "reader", "active": True}, {"name": "arm", "role": "reader", "active": False}
    on, out = [await accounts.update_api_key(database, PERSON, api.account_id, key.id, **each) for each in changes]
    assert on.active_since == key.active_since < on.updated_at
    assert out.active_since == out.updated_at
    account = await accounts.find(database, api.account_id)
    assert account is not None
    allowed = account.third_party_ca
    same = await accounts.set_third_party_ca(database, PERSON, account.id, allowed)
    other = await accounts.set_third_party_ca(database, PERSON, account.id, not allowed)
    assert same.third_party_ca_since == account.third_party_ca_since < other.third_party_ca_since


async def refusals(api: Api, times: int = 0) -> list[dict[str, Any]]:
    """What the audit says of refused sign-ins, once it tells of so many tries."""
    deadline = time.monotonic() + 60
    while True:
        async with api.office.database.acquire() as connection:
            rows = await connection.fetch(
                "SELECT account_id, actor_name, subject_kind, subject, detail::text AS detail, audit::text AS whole"
                " FROM audit WHERE action = $1 ORDER BY at",
                refused_sign_ins.ACTION,
            )
        found = [{**row, "detail": json.loads(row["detail"])} for row in rows]
        if sum(row["detail"]["times"] for row in found) >= times:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_refused_sign_ins_are_one_line_of_the_audit_that_counts_them(
    api: Api, browser: httpx.AsyncClient
) -> None:
    aino = await person(api)
    for n in range(3):
        assert (await signed_in(browser, password=f"guess number {n} of many")).status_code == 401
    rows = await refusals(api, 3)
    # Ten minutes may end in between.
    assert len(rows) < 3
    row = rows[-1]
    assert (row["account_id"], row["subject_kind"], row["subject"]) == (api.account_id, "operator", "Aino")
    assert row["actor_name"] == refused_sign_ins.NOBODY
    assert (row["detail"]["sources"], row["detail"]["more_sources"]) == (["127.0.0.1"], False)
    assert not row["detail"]["switched_off"]
    assert "guess number" not in row["whole"]
    # One that is switched off is refused with the right password too.
    await store.update(api.office.database, PERSON, api.account_id, aino.id, active=False)
    assert (await signed_in(browser)).status_code == 401
    assert (await refusals(api, 4))[-1]["detail"]["switched_off"]
    assert not any(PASSWORD in row["whole"] for row in await refusals(api))


async def test_who_is_not_on_record_leaves_nothing_on_record(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    assert (await signed_in(browser, name="Nobody")).status_code == 401
    assert (await signed_in(browser, name="", key="ak_1nothing")).status_code == 401
    # Both were looked at once the one after them is there.
    assert (await signed_in(browser, password="something else entirely")).status_code == 401
    assert [row["subject"] for row in await refusals(api, 1)] == ["Aino"]


async def test_a_key_that_is_switched_off_is_told_by_its_name(api: Api, browser: httpx.AsyncClient) -> None:
    row, key = await api_keys.make(api.office.database, PERSON, api.account_id, name="robot", role="reader")
    await accounts.update_api_key(
        api.office.database, PERSON, api.account_id, row.id, name="robot", role="reader", active=False
    )
    assert (await signed_in(browser, name="", key=key)).status_code == 401
    (found,) = await refusals(api, 1)
    assert (found["subject_kind"], found["subject"]) == ("api_key", "robot")
    assert key not in found["whole"]


async def test_a_flood_from_everywhere_is_one_row_in_ten_minutes(api: Api) -> None:
    await person(api)
    now = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
    for n in range(3 * refused_sign_ins.MOST_SOURCES):
        at = now + timedelta(seconds=n)
        await refused_sign_ins.by_name(api.office.database, "Aino", source=f"192.0.2.{n}", request_id="r", now=at)
    (row,) = await refusals(api)
    assert row["detail"]["times"] == 3 * refused_sign_ins.MOST_SOURCES
    assert row["detail"]["sources"] == [f"192.0.2.{n}" for n in range(refused_sign_ins.MOST_SOURCES)]
    assert row["detail"]["more_sources"]
    later = now + refused_sign_ins.WINDOW
    await refused_sign_ins.by_name(api.office.database, "Aino", source="192.0.2.1", request_id="r", now=later)
    assert len(await refusals(api)) == 2


async def test_a_form_of_another_site_signs_nobody_in(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    form = await browser.get("/sign-in")
    data = {"csrf": hidden(form.text, "csrf"), "name": "Aino", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await browser.post("/sign-in", data=data, headers=headers)
        assert answer.status_code == 403
    answer = await browser.post("/sign-in", data={**data, "csrf": "0" * 64}, headers=ORIGIN)
    assert answer.status_code == 403


async def test_a_change_without_the_token_of_our_forms_is_refused(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    await signed_in(browser)
    assert (await browser.post("/sign-out", data={}, headers=ORIGIN)).status_code == 403
    csrf = door.csrf_of(browser.cookies["firstlight-session"])
    answer = await browser.post("/sign-out", headers={**ORIGIN, door.CSRF_HEADER: csrf})
    assert answer.status_code == 303


async def test_signing_out_ends_the_sign_in_on_record(api: Api, browser: httpx.AsyncClient) -> None:
    await person(api)
    await signed_in(browser)
    token = browser.cookies["firstlight-session"]
    await browser.post("/sign-out", data={"csrf": door.csrf_of(token)}, headers=ORIGIN)
    browser.cookies.set("firstlight-session", token)
    assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize("idle", [True, False])
async def test_a_sign_in_ends_when_it_is_idle_and_when_it_is_old(
    api: Api, browser: httpx.AsyncClient, idle: bool
) -> None:
    found = await person(api)
    now = api.office.now()
    token = door.new_token()
    begun = now - timedelta(minutes=61) if idle else now
    await store.begin_session(
        api.office.database,
        PERSON,
        api.account_id,
        token_sha256=door.hash_of(token),
        operator_id=found.id,
        api_key_id=None,
        source="test",
        now=begun,
        expires_at=now + timedelta(hours=1) if idle else now - timedelta(seconds=1),
    )
    browser.cookies.set("firstlight-session", token)
    assert (await browser.get("/")).status_code == 303


async def test_a_new_password_and_a_removed_operator_end_what_is_signed_in(
    api: Api, browser: httpx.AsyncClient
) -> None:
    found = await person(api)
    await signed_in(browser)
    await operators.change(api.office.database, PERSON, api.account_id, found.id, password="another long password")
    assert (await browser.get("/")).status_code == 303
    assert (await signed_in(browser, password="another long password")).status_code == 303
    await store.remove(api.office.database, PERSON, api.account_id, found.id)
    assert (await browser.get("/")).status_code == 303


async def test_a_key_that_is_switched_off_ends_what_it_signed_in(api: Api, browser: httpx.AsyncClient) -> None:
    header = (await api.key("operator"))["Authorization"]
    form = await browser.get("/sign-in")
    key = header.removeprefix("Bearer ")
    await browser.post("/sign-in", data={"csrf": hidden(form.text, "csrf"), "key": key}, headers=ORIGIN)
    assert (await browser.get("/")).status_code == 200
    admin = await api.key("admin")
    rows = await api.ask("GET", "/v3/api-keys", 200, headers=admin)
    row = next(row for row in rows["data"] if row["role"] == "operator")  # type: ignore[attr-defined]
    await api.ask("PUT", f"/v3/api-keys/{row['id']}", 200, {"status": "INACTIVE"}, headers=admin)
    assert (await browser.get("/")).status_code == 303


async def test_pages_forbid_what_is_inline_and_what_is_foreign(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/sign-in")
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert " style=" not in answer.text
    assert "<script>" not in answer.text


async def test_programs_still_get_json_where_nothing_is(browser: httpx.AsyncClient) -> None:
    program = await browser.get("/nothing-there")
    assert program.json()["type"] == "not_found"
    person = await browser.get("/nothing-there", headers={"Accept": "text/html"})
    assert person.headers["Content-Type"].startswith("text/html")
    assert (await browser.get("/v3/nothing", headers={"Accept": "text/html"})).json()["code"] == 404


async def test_who_gives_a_service_to_a_ca_is_told_what_speaks_against_it(api: Api, browser: httpx.AsyncClient) -> None:
    key = await api.key("admin")
    await person(api, role="admin")
    await signed_in(browser)
    root = make_factory_ca("Plant Root")
    async with cfssl_serve(root) as peer:
        ca = await registered_at(api, peer.url, headers=key)
        place, path = f"/device-identity/certificate-authorities/{ca['id']}", f"/v3/certificate-issuers/{ca['id']}"

        async def told() -> tuple[bool, bool, bool, bool]:
            """Never verified, with the way there; not trusted, with the way there."""
            page = (await browser.get(f"{place}/services")).text
            words = ("It was never verified", f'href="{place}/verify"', "devices will be refused")
            verify, link, trust = (each in page for each in words)
            return verify, link, trust, f'href="{place}/trust?then=services"' in page

        assert await told() == (True, True, False, False)
        assert (await api.ask("POST", f"{path}/verify", 200, None, key))["successful"] is False
        assert await told() == (False, False, True, True)
        trusted = {"name": "plant", "service": "lwm2m", "certificate": root.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted, key)
        await api.ask("POST", f"{path}/verify?issue_test=false", 200, None, key)
        assert await told() == (False, False, False, False)


async def test_who_makes_a_second_account_is_told_which_cas_that_may_shut_off(
    api: Api, browser: httpx.AsyncClient
) -> None:
    await person(api, role="admin")
    await signed_in(browser)
    assert "issuers] allow" not in (await browser.get("/access/accounts/add")).text
    body = {
        "name": "Plant CA",
        "issuer_type": "CFSSL_AUTH",
        "issuer_attributes": {"host_url": "http://127.0.0.1:9"},
        "issuer_credentials": {"hmac_hex_key": "00ff"},
    }
    await api.ask("POST", "/v3/certificate-issuers", 201, body, await api.key("admin"))
    form = await browser.get("/access/accounts/add")
    assert "issuers] allow" in form.text
    assert "Plant CA" in form.text
    await browser.post("/access/accounts/add", data={"csrf": hidden(form.text, "csrf"), "name": "Oulu"}, headers=ORIGIN)
    assert "issuers] allow" not in (await browser.get("/access/accounts/add")).text
