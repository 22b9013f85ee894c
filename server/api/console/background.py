"""Work that a page starts and does not wait for."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from issuers.errors import IssuerError
from server import logs
from server.errors import ServiceError
from server.store.errors import SealBroken, StoreUnavailable

log = logs.get("console")


class Background:
    """Tasks of one server; they end with it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Do `work`; how it fails is in the log, what it found on record."""
        task = asyncio.create_task(self._do(name, work))
        # The loop alone would forget it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what still runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _do(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except (ServiceError, IssuerError, SealBroken, StoreUnavailable) as error:
            log.warning("background_failed", work=name, reason=str(error))
        except Exception:
            log.exception("background_failed", work=name)
