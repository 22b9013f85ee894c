"""A screen opened and ready to be looked at, and what went wrong while it opened."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from playwright.async_api import Page

from tests.console.rig import Rig
from tests.console.screens import Screen

Theme = Literal["light", "dark"]
# Of this server: an answer of 4xx is part of some screens.
EXPECTED = "Failed to load resource"


@dataclass
class Looked:
    """An opened screen; `said` is what the browser complained of: script errors, and breaches of the policy."""

    page: Page
    said: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def opened(rig: Rig, screen: Screen, theme: Theme = "light", **settings: Any) -> AsyncIterator[Looked]:
    """The screen in this theme, after what is done on it."""
    async with rig.context(who=screen.who, color_scheme=theme, **settings) as context:
        page = await context.new_page()
        looked = Looked(page)
        page.on("console", lambda message: looked.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: looked.said.append(str(error)))
        page.on(
            "response",
            lambda answer: looked.said.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None,
        )
        await page.goto(screen.path.format_map(rig.scene.ids))
        await screen.prepare(page, rig)
        looked.said = [text for text in looked.said if EXPECTED not in text]
        yield looked


@cache
def axe() -> str:
    """axe-core as its package ships it."""
    return (files("axe_playwright_python") / "axe.min.js").read_text()


async def violations(page: Page) -> list[str]:
    """What axe-core finds with its default rules, one line each."""
    await page.evaluate(axe())
    found = await page.evaluate("() => axe.run().then((result) => result.violations)")
    return [f"{one['id']}: {node['failureSummary']} at {node['html'][:200]}" for one in found for node in one["nodes"]]
