"""Every screen, in both themes: nothing for axe-core to find, no breach of the policy, room on a small screen."""

import pytest

from tests.console.looking import Theme, opened, violations
from tests.console.rig import PHONE, Rig
from tests.console.screens import SCREENS, Screen


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
async def test_axe_finds_nothing_and_no_policy_is_broken(rig: Rig, screen: Screen, theme: Theme) -> None:
    async with opened(rig, screen, theme) as looked:
        assert await violations(looked.page) == []
        assert looked.said == []


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
async def test_a_screen_of_360_pixels_needs_no_scrolling_sideways(rig: Rig, screen: Screen) -> None:
    async with opened(rig, screen, viewport=PHONE) as looked:
        width = await looked.page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]
