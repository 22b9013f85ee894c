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


# What an element says grows by a word that no line holds, and the menu is open; text of scripts and of closed lists
# aside.
STRETCH = """() => {
  document.querySelector('#navigation')?.classList.add('open');
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  for (const text of found)
    if (text.data.trim() && !text.parentElement.closest('script, style, option, textarea'))
      text.data = text.data.trimEnd() + 'W'.repeat(150);
}"""
WIDER = """() => [document.documentElement, document.body, ...document.querySelectorAll('main, dialog[open]')]
  .filter((one) => one.scrollWidth > Math.min(one.clientWidth, document.documentElement.clientWidth))
  .map((one) => `${one.localName} is ${one.scrollWidth} wide`)"""


async def wider(page: Page, width: int) -> list[str]:
    """What of the page does not fit into a window of this width."""
    await page.set_viewport_size({"width": width, "height": 740})
    found: list[str] = await page.evaluate(WIDER)
    return found


async def stretched(page: Page) -> None:
    """Every text of the page as long as no name, number or address will be, whatever the chance of a run."""
    await page.evaluate(STRETCH)
