"""Every screen of the console once: what axe looks at, what the policy is checked on, what is photographed.

A view adds its screens here, dialogs and error states included.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from playwright.async_api import Page

from tests.console.rig import Rig

Prepare = Callable[[Page, Rig], Awaitable[None]]


async def _nothing(page: Page, rig: Rig) -> None:
    """The screen is what the address shows."""


@dataclass(frozen=True)
class Screen:
    """One screen: an address, and what a person does there before it is looked at."""

    name: str
    path: str
    prepare: Prepare = _nothing
    signed_in: bool = True


async def wrong_password(page: Page, rig: Rig) -> None:
    """The sign-in after a wrong key."""
    await page.get_by_label("API key").fill("ak_1wrong")
    await page.get_by_role("button", name="Sign in with the key").click()
    await page.get_by_role("alert").wait_for()


async def curl_open(page: Page, rig: Rig) -> None:
    """The calls of the page shown."""
    await page.get_by_text("The same with curl").click()


SCREENS: tuple[Screen, ...] = (
    Screen("sign-in", "/sign-in", signed_in=False),
    Screen("sign-in-refused", "/sign-in", wrong_password, signed_in=False),
    Screen("start", "/"),
    Screen("server", "/device-identity/server", curl_open),
    Screen("nothing-there", "/nothing-there"),
)
