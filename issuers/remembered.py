"""A value that a CA was asked for once and that counts for a while: a token, a policy, a chain."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """What `fetch` gives, for `seconds`; whoever asks meanwhile waits for the same fetch, and shares its failure.

    So a CA that is away is asked once by a thousand devices, not a thousand times in a row.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._value: T | None = None
        self._until = 0.0
        self._fetching: asyncio.Task[T] | None = None

    async def get(self, instead_of: T | None = None) -> T:
        """The value, fetched anew when it is too old or is `instead_of`. Raises what `fetch` raises."""
        fresh = self._value is not None and asyncio.get_running_loop().time() < self._until
        if self._value is not None and fresh and self._value is not instead_of:
            return self._value
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._renew())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def forget(self) -> None:
        """Fetch it anew for the next one who asks."""
        self._value = None

    async def _renew(self) -> T:
        # Counted from before the answer: then it may be older than we think, never younger.
        until = asyncio.get_running_loop().time() + self._seconds
        value = await self._fetch()
        self._value, self._until = value, until
        return value

    def _fetched(self, task: "asyncio.Task[T]") -> None:
        self._fetching = None
        if not task.cancelled():
            # Everybody who waited may have gone; asyncio complains of failures that nobody looked at.
            task.exception()
