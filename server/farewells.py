"""When an association ends after its Bootstrap-Finish: soon, or later while an EST certificate is due (design 9)."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from server.visit import Visit

# Seconds until a device asks for the last block of its certificate again, should that be lost: the longest it waits
# before it says a thing for the fourth time (RFC 7252 4.8: 3 s, doubled twice), and a little more.
ASKED_AGAIN = 13.0


class Closable(Protocol):
    """A conversation that can be ended."""

    visit: Visit
    # When the device was last heard.
    heard: float

    def close(self) -> None:
        """Say goodbye."""

    def on_lost(self, listener: object, callback: Callable[[str], None]) -> None:
        """Call `callback` when it has ended; the newest of each `listener` alone."""


@dataclass(slots=True)
class _Waiting:
    due: frozenset[str]
    finished: float
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Farewells:
    """The associations of one worker that have had their Finish; `most` of them may wait for a certificate."""

    def __init__(self, *, soon: float, late: float, most: int, clock: Callable[[], float]) -> None:
        self._soon = soon
        self._late = late
        self._most = most
        self._clock = clock
        # In the order of their Finish; those with nothing due are on their way out.
        self._waiting: dict[Closable, _Waiting] = {}
        self._leaving: dict[Closable, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def due(self) -> int:
        """How many still come for a certificate."""
        return sum(not waiting.due <= conversation.visit.delivered for conversation, waiting in self._waiting.items())

    def finished(self, conversation: Closable, due: Collection[str]) -> None:
        """The device has its Finish; it still comes for the certificates of the services `due`."""
        self._forget(conversation)
        missing = frozenset(due) - conversation.visit.delivered
        while missing and len(self._waiting) >= self._most and self.relieve():
            pass
        kept = self._waiting if missing else self._leaving
        waiting = kept[conversation] = _Waiting(missing, self._clock())
        conversation.on_lost(self, lambda _reason: self._forget(conversation))
        self._arm(conversation, waiting)

    def returned(self, conversation: Closable) -> None:
        """The device bootstraps once more on its association: the next Finish decides anew."""
        self._forget(conversation)

    def enrolling(self, conversation: Closable) -> None:
        """A request for a certificate has come: the association stays while it is served."""
        conversation.visit.enrolling += 1
        waiting = self._of(conversation)
        if waiting is not None:
            self._disarm(waiting)

    def enrolled(self, conversation: Closable) -> None:
        """The request has been served, with or without success."""
        conversation.visit.enrolling -= 1
        waiting = self._of(conversation)
        if waiting is not None:
            self._arm(conversation, waiting)

    def relieve(self) -> bool:
        """Close the association that waits longest for a certificate nobody asks for; whether there was one."""
        for conversation in self._waiting:
            if not conversation.visit.enrolling:
                self._forget(conversation)
                conversation.close()
                return True
        return False

    def _arm(self, conversation: Closable, waiting: _Waiting) -> None:
        if conversation.visit.enrolling:
            return
        self._disarm(waiting)
        self._wait(conversation, waiting, self._left(conversation, waiting))

    def _wait(self, conversation: Closable, waiting: _Waiting, seconds: float) -> None:
        waiting.timer = asyncio.get_running_loop().call_later(seconds, self._go, conversation, waiting)

    def _go(self, conversation: Closable, waiting: _Waiting) -> None:
        """Close it, unless the device still repeats itself."""
        left = self._left_to_repeat(conversation, waiting)
        if left > 0:
            self._wait(conversation, waiting, left)
        else:
            conversation.close()

    def _left_to_repeat(self, conversation: Closable, waiting: _Waiting) -> float:
        """A device that answers the Finish in a message of its own repeats that until it is acknowledged, each time
        after twice as long (RFC 7252 4.2), and some call the bootstrap failed when it never is (Leshan).
        """
        if waiting.due:
            return 0.0
        # The next repeat comes once all the time since the Finish has passed again, and its first wait (3 s at most).
        repeats = 2 * conversation.heard - waiting.finished + self._soon
        return min(repeats, waiting.finished + self._late) - self._clock()

    def _left(self, conversation: Closable, waiting: _Waiting) -> float:
        if not waiting.due:
            # It acknowledged all it came for.
            return self._soon
        if waiting.due <= conversation.visit.delivered:
            # Sent, which nothing acknowledges: it may have to ask for the last of it again.
            return max(min(ASKED_AGAIN, self._late), self._soon)
        # It may ask again for what it did not get.
        return max(waiting.finished + self._late - self._clock(), self._soon)

    @staticmethod
    def _disarm(waiting: _Waiting) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None

    def _of(self, conversation: Closable) -> _Waiting | None:
        return self._waiting.get(conversation) or self._leaving.get(conversation)

    def _forget(self, conversation: Closable) -> None:
        waiting = self._waiting.pop(conversation, None) or self._leaving.pop(conversation, None)
        if waiting is not None:
            self._disarm(waiting)
