"""A real server, a real browser, and somebody signed in: what every test of the console stands on."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from playwright.async_api import Browser, BrowserContext, Page, StorageState, async_playwright

from tests.console.scene import Scene, played
from tests.integration.service import Service, running

# As root Chromium has no sandbox of its own; the rest keeps it from talking to anybody but us.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# An administrator and a reader of the default account, and the administrator of one where nothing is yet.
Who = Literal["administrator", "reader", "newcomer", "nobody"]
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
# A machine that does much besides is slow, not wrong.
PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Rig:
    """One server and one browser; `state` is what a browser keeps that an administrator signed in with."""

    service: Service
    browser: Browser
    client: httpx.AsyncClient
    key: str
    # What browsers keep that are signed in, by who it is.
    states: Mapping[Who, StorageState]
    scene: Scene

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.service.ready["http"]

    @contextlib.asynccontextmanager
    async def context(self, *, who: Who = "administrator", **settings: Any) -> AsyncIterator[BrowserContext]:
        """A browser of its own, signed in as `who`."""
        made = await self.browser.new_context(
            base_url=self.url,
            storage_state=self.states.get(who),
            **{
                "viewport": DESK,
                "locale": "en-GB",
                "timezone_id": "Europe/Helsinki",
                "reduced_motion": "reduce",
                **settings,
            },
        )
        made.set_default_timeout(PATIENCE_MS)
        try:
            yield made
        finally:
            await made.close()

    @contextlib.asynccontextmanager
    async def page(self, path: str = "/", **settings: Any) -> AsyncIterator[Page]:
        """A page of its own, opened at `path`."""
        async with self.context(**settings) as context:
            page = await context.new_page()
            await page.goto(path)
            yield page

    async def ask(self, method: str, path: str, json: object = None, code: int = 200) -> dict[str, Any]:
        """The API's answer to the administrator's key."""
        answer = await self.client.request(method, path, json=json)
        assert answer.status_code == code, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}


def chromium() -> str | None:
    """Debian's Chromium, if it is installed."""
    return shutil.which("chromium")


async def sign_in(page: Page, key: str) -> None:
    """With an API key, as a person would."""
    await page.goto("/sign-in")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in with the key").click()
    await page.wait_for_url(lambda url: "/sign-in" not in url)


@contextlib.asynccontextmanager
async def rig(*extra: str) -> AsyncIterator[Rig]:
    """All of it, and nothing left afterwards; `extra` are words for `firstlight serve`."""
    program = chromium()
    assert program, "chromium is missing: run tests/install-debian-packages"
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            settings = Path(folder) / "firstlight.toml"
            # With two accounts loopback is closed to CAs unless the installation opens it.
            settings.write_text('[issuers]\nallow = ["127.0.0.0/8"]\n')
            service = await stack.enter_async_context(running(Path(folder), "--config", str(settings), *extra))
            key = Path(service.ready["api_key_file"]).read_text().strip()
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=service.ready["http"], headers={"Authorization": f"Bearer {key}"}, trust_env=False
                )
            )
            scene = await stack.enter_async_context(played(service, client))
            playwright = await stack.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(
                executable_path=program, args=[*FLAGS], env={**os.environ, "HOME": folder}
            )
            stack.push_async_callback(browser.close)
            keys: dict[Who, str] = {"administrator": key, "reader": scene.reader_key, "newcomer": scene.newcomer_key}
            states = {}
            for who, each in keys.items():
                async with await browser.new_context(base_url=service.ready["http"]) as context:
                    await sign_in(await context.new_page(), each)
                    states[who] = await context.storage_state()
            yield Rig(service, browser, client, key, states, scene)
