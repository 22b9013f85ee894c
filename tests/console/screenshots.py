"""`make screenshots`: every screen, light, dark and narrow, as PNG."""

import asyncio
import sys
from pathlib import Path

from tests.console import rig as rigs
from tests.console.looking import opened
from tests.console.rig import DESK, PHONE
from tests.console.screens import SCREENS

WAYS = {
    "light": ("light", DESK),
    "dark": ("dark", DESK),
    "narrow": ("light", PHONE),
}


async def photograph(folder: Path, only: str = "") -> None:
    """Make `folder` full of screens whose name begins with `only`."""
    folder.mkdir(parents=True, exist_ok=True)
    async with rigs.rig() as rig:
        for screen in SCREENS:
            if not screen.name.startswith(only):
                continue
            for way, (theme, viewport) in WAYS.items():
                async with opened(rig, screen, theme, viewport=viewport) as looked:
                    dialog = looked.page.locator("dialog[open]")
                    # A page that is taller than its window is shown whole; behind a dialog it is not.
                    whole = await dialog.count() == 0
                    await looked.page.screenshot(path=folder / f"{screen.name}-{way}.png", full_page=whole)
            print(screen.name, flush=True)


if __name__ == "__main__":
    asyncio.run(photograph(Path(sys.argv[1]), *sys.argv[2:3]))
