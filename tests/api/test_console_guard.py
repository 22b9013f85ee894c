"""The guard of every route of the console: signed in, from a page of ours, with its token, in a role that may."""

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute

from server.api.console import ROUTERS, door
from server.store.accounts import Role
from tests.api.conftest import Api
from tests.api.test_console_door import ORIGIN, hidden

# In and out.
OPEN = {"/sign-in", "/sign-out"}
ID = "0" * 32


def routes(method: str) -> Iterator[str]:
    """The addresses of the console that take this method, each with an id that nothing has."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and method in route.methods:
                yield re.sub(r"\{[^}]*\}", ID, route.path)


async def signed_in(api: Api, role: Role) -> httpx.AsyncClient:
    """A browser of somebody with this role."""
    key = (await api.key(role))["Authorization"].removeprefix("Bearer ")
    api.client.headers.pop("Authorization", None)
    form = await api.client.get("/sign-in")
    answer = await api.client.post("/sign-in", data={"csrf": hidden(form.text, "csrf"), "key": key}, headers=ORIGIN)
    assert answer.status_code == 303
    return api.client


def token(browser: httpx.AsyncClient) -> str:
    return door.csrf_of(browser.cookies["firstlight-session"])


async def test_no_change_is_taken_from_another_place_or_without_the_token_of_a_page(api: Api) -> None:
    browser = await signed_in(api, "admin")
    paths = [path for path in routes("POST") if path not in OPEN]
    assert len(paths) > 25
    # A page on another port of this very machine is sent the cookie by browsers: SameSite knows no ports.
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://firstlight:9999"},
        {"Origin": "http://firstlight:9999"},
        {"Origin": "null"},
    ):
        for path in paths:
            answer = await browser.post(path, data={"csrf": token(browser)}, headers=headers)
            assert answer.status_code == 403, f"{path} {headers}: {answer.status_code}"
    for path in paths:
        for data in ({}, {"csrf": "0" * 64}):
            answer = await browser.post(path, data=data, headers=ORIGIN)
            assert answer.status_code == 403, f"{path} {data}: {answer.status_code}"


async def test_a_reader_changes_nothing_by_any_route_and_nobody_gets_in_without_a_sign_in(api: Api) -> None:
    browser = await signed_in(api, "reader")
    for path in routes("POST"):
        if path in OPEN:
            continue
        answer = await browser.post(path, data={"csrf": token(browser)}, headers=ORIGIN)
        assert answer.status_code == 403, f"{path}: {answer.status_code}"
        assert "needs the role" in answer.text, path
    browser.cookies.clear()
    for method in ("GET", "POST"):
        for path in routes(method):
            if path in OPEN or path.startswith("/static/"):
                continue
            answer = await browser.request(method, path, headers=ORIGIN)
            assert answer.status_code == 303, f"{method} {path}: {answer.status_code}"
            assert answer.headers["Location"].startswith("/sign-in"), path


async def test_every_answer_forbids_frames_scripts_of_others_and_copies(api: Api) -> None:
    browser = await signed_in(api, "admin")
    # Not what goes on for as long as somebody looks.
    paths = [path for path in routes("GET") if path != "/live"]
    for path in (*paths, "/sign-in", "/nothing-there", "/docs"):
        answer = await browser.get(path, headers={"Accept": "text/html"})
        assert answer.status_code < 500, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        if path.startswith("/static/"):
            continue
        policy = answer.headers["Content-Security-Policy"]
        for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action"):
            assert rule in policy, f"{path}: {policy}"
        if path != "/docs":
            assert answer.headers["Cache-Control"] == "no-store", path
            assert "unsafe" not in policy, path


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_each_cookie_is_out_of_reach_and_ends(api: Api, scheme: str) -> None:
    api.client.base_url = httpx.URL(f"{scheme}://firstlight")
    key = (await api.key("admin"))["Authorization"].removeprefix("Bearer ")
    del api.client.headers["Authorization"]
    form = await api.client.get("/sign-in")
    answer = await api.client.post(
        "/sign-in",
        data={"csrf": hidden(form.text, "csrf"), "key": key},
        headers={**ORIGIN, "Origin": f"{scheme}://firstlight"},
    )
    given = [*form.headers.get_list("Set-Cookie"), *answer.headers.get_list("Set-Cookie")]
    assert len(given) >= 2
    for cookie in given:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= attributes, cookie
        # Neither other hosts of the domain nor, with https, the wire see it; all of them end.
        assert not any(each.startswith("domain") for each in attributes), cookie
        assert any(each.startswith("max-age") for each in attributes), cookie
        assert ("secure" in attributes, cookie.startswith("__Host-")) == (scheme == "https", scheme == "https"), cookie
