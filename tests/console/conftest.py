"""One server and one browser for all tests of the console, on one event loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.console import rig as rigs
from tests.console.rig import PATIENCE_MS, Rig

HERE = Path(__file__).parent
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is here shares the loop that the browser lives on."""
    for item in items:
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig() -> AsyncIterator[Rig]:
    """The server and the browser."""
    if rigs.chromium() is None:
        pytest.skip("chromium is missing: run tests/install-debian-packages")
    async with rigs.rig() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(rig: Rig) -> AsyncIterator[Page]:
    """A page of an administrator, on the start page."""
    async with rig.page() as opened:
        yield opened
