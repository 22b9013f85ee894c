"""What pages of others can do with a console that somebody is signed in to: nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import expect

from tests.console.rig import Rig

FORM = """<!doctype html><title>a prize</title>
<form method="post" action="{url}/access/keys/add">
<input name="name" value="of a stranger"><input name="role" value="admin">
<button>Win</button></form>"""
FRAME = '<!doctype html><title>a prize</title><iframe src="{url}/devices" width="800" height="600"></iframe>'


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(rig: Rig) -> AsyncIterator[int]:
    """The port of a site of somebody else's: `/form` posts to the console, `/frame` frames it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        body = (FORM if b"/form" in line else FRAME).format(url=rig.url).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def keys(rig: Rig) -> set[str]:
    return {row["name"] for row in (await rig.ask("GET", "/v3/api-keys?limit=1000"))["data"]}


async def test_a_form_of_another_site_is_not_even_sent_the_cookie(rig: Rig, stranger: int) -> None:
    async with rig.page("/devices") as page:
        await page.goto(f"http://localhost:{stranger}/form")
        await page.get_by_role("button", name="Win").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        # Whoever is signed in still is.
        await page.goto("/devices")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Devices")
    assert "of a stranger" not in await keys(rig)


async def test_a_form_of_another_port_of_this_host_is_refused(rig: Rig, stranger: int) -> None:
    async with rig.page("/devices") as page:
        await page.goto(f"http://127.0.0.1:{stranger}/form")
        await page.get_by_role("button", name="Win").click()
        await expect(page.get_by_role("alert")).to_contain_text("an old one or not ours")
    assert "of a stranger" not in await keys(rig)


async def test_no_page_can_be_framed(rig: Rig, stranger: int) -> None:
    async with rig.context() as context:
        page = await context.new_page()
        said = list[str]()
        page.on("console", lambda message: said.append(message.text))
        # The same site, so that the cookie goes along: it is the policy that holds.
        await page.goto(f"http://127.0.0.1:{stranger}/frame")
        await expect(page.locator("iframe")).to_be_visible()
        await page.wait_for_load_state("networkidle")
        assert any("frame-ancestors" in text for text in said), said
        for frame in page.frames[1:]:
            assert "Devices" not in await frame.content()
