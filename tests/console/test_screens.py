"""Every screen, in both themes: nothing for axe-core to find, no breach of the policy, room on a small screen."""

import pytest

from tests.console.looking import opened, stretched, violations, wider
from tests.console.rig import Rig
from tests.console.screens import SCREENS, Screen

# What nobody asks the API for: errors, and a key that is shown once.
WITHOUT_CALL = {"not-allowed", "nothing-there"}


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
async def test_axe_finds_nothing_in_either_theme_and_360_pixels_are_enough(rig: Rig, screen: Screen) -> None:
    async with opened(rig, screen, "light") as looked:
        page = looked.page
        if screen.who != "nobody" and screen.name not in WITHOUT_CALL:
            # Every page shows its call as curl.
            assert await page.locator("main > .curl").count() == 1
        assert await violations(page) == []
        await page.emulate_media(color_scheme="dark")
        assert await violations(page) == []
        assert await wider(page, 360) == []
        # Neither a smaller screen, nor the longest serial number or name that may stand in a text, makes it wider.
        assert await wider(page, 320) == []
        await stretched(page)
        assert await wider(page, 320) == []
        assert await wider(page, 360) == []
        # What the browser complained of: faults of scripts, and breaches of the content security policy.
        assert looked.said == []
