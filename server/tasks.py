"""Tasks that end together."""

import asyncio
from collections.abc import Collection
from typing import Any


async def end(tasks: Collection[asyncio.Task[Any]], patience: float | None = None) -> None:
    """Wait `patience` seconds for them, if any, cancel what is left and see it end; what they raise nobody hears."""
    if tasks and patience is not None:
        await asyncio.wait(tasks, timeout=patience)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
