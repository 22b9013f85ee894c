"""Rows by key for many callers at once: what was asked while a statement ran goes into the next one together.

The reading counterpart of the group-commit writer: no timer, and under load one round trip answers a crowd. A query
of this kind takes one array a key column, and its rows begin with `place`, which key they belong to, from 1.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from server.store.errors import StoreUnavailable

Fetch = Callable[..., Awaitable[list[Any]]]

# Keys a statement: a crowd larger than that is better served in two.
BATCH_LIMIT = 200

_Asked = tuple[tuple[object, ...], "asyncio.Future[list[Any]]"]


class Lookup:
    """One query for which callers come together; `fetch` runs it with the columns of their keys."""

    __slots__ = ("_fetch", "_task", "_waiting")

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._waiting: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None

    def rows(self, *key: object) -> Awaitable[list[Any]]:
        """The rows of `key`; raises what the statement raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((key, answer))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                await self._answer(batch)
        finally:
            self._task = None
            for _, answer in self._waiting:
                answer.cancel()

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            found = await self._fetch(*zip(*[key for key, _ in batch], strict=True))
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                # One key that cannot be asked for fails its own caller only.
                for alone in batch:
                    await self._answer([alone])
                return
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        rows: list[list[Any]] = [[] for _ in batch]
        for row in found:
            rows[row["place"] - 1].append(row)
        for (_, answer), own in zip(batch, rows, strict=True):
            if not answer.done():
                answer.set_result(own)
