"""Parties that take turns: which of them has the next effect on the world is chosen, and every choice can be made.

An effect is one call of the record or of a CA. Who is about to have one waits for its turn, so nothing happens but what
was chosen, and the same choices make the same course. Whoever is stopped never gets another turn: its process is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

ACTING: ContextVar["Party | None"] = ContextVar("ACTING", default=None)
# Turns of the loop in which whoever had an effect goes on to the next; nothing else makes it wait.
BREATHS = 8


class Party:
    """Something that has effects, one a turn; `stops`: after so many it is gone; `after`: only then it begins.

    The effects in `free` take no turn: they are nobody else's business. Those in `heard` take a second one, in which
    the answer reaches whoever asked.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, object]],
        *,
        after: "Party | None" = None,
        stops: int | None = None,
        free: Collection[str] = (),
        heard: Collection[str] = (),
    ) -> None:
        self.name = name
        self._after = after
        self._left = stops
        self._free = free
        self._heard = heard
        self._waiting: list[tuple[str, bool, asyncio.Future[None]]] = []
        self._under_way = 0
        self._moved = asyncio.Event()
        before = ACTING.set(self)
        # It goes on to its first effect.
        self._task = asyncio.get_running_loop().create_task(work())
        ACTING.reset(before)
        self._task.add_done_callback(lambda _: self._moved.set())

    async def has(self, effect: str, perform: Callable[[], Awaitable[T]]) -> T:
        """One effect, in its turn."""
        if effect not in self._free:
            await self._turn(effect)
        self._under_way += 1
        try:
            answer = await perform()
        finally:
            self._under_way -= 1
            self._moved.set()
        if effect in self._heard:
            await self._turn(f"hears {effect}", effect=False)
        return answer

    async def _turn(self, name: str, *, effect: bool = True) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, effect, told))
        self._moved.set()
        await told

    async def at_rest(self) -> None:
        """Wait until it waits for its turn, or is over."""
        while True:
            for _ in range(BREATHS):
                await asyncio.sleep(0)
            if not self._under_way and (self._waiting or self._task.done()):
                return
            self._moved.clear()
            await self._moved.wait()

    @property
    def is_over(self) -> bool:
        """Whether it has no effect any more."""
        return self._left == 0 or self._task.done()

    @property
    def is_able(self) -> bool:
        """Whether its turn may come."""
        return bool(self._waiting) and not self.is_over and (self._after is None or self._after.is_over)

    @property
    def is_hearing(self) -> bool:
        """Whether in its turn it hears an answer, and nothing happens to the world."""
        return self.is_able and not self._next[1]

    @property
    def _next(self) -> tuple[str, bool, asyncio.Future[None]]:
        # Of several that it does side by side always the same, in whichever order they came to it.
        return min(self._waiting, key=lambda turn: turn[0])

    def go(self) -> str:
        """Its turn; what it was."""
        name, effect, told = self._next
        self._waiting.remove(self._next)
        told.set_result(None)
        if self._left is not None and effect:
            self._left -= 1
        return f"{self.name}: {name}"

    async def end(self) -> None:
        """Its process is gone, or it was done long ago; raises what it raised."""
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class TakesTurns:
    """`of`, whose `effects` whoever acts has in turns; each is named by what it is called with."""

    def __init__(self, of: object, **effects: Callable[..., str]) -> None:
        self._of = of
        self._effects = effects

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._of, name)
        if name not in self._effects:
            return call

        def effect(*given: object) -> Awaitable[object]:
            party, perform = ACTING.get(), partial(call, *given)
            return perform() if party is None else party.has(self._effects[name](*given), perform)  # type: ignore[no-any-return]

        return effect


@dataclass(slots=True)
class Course:
    """One way through the choices: those `given`, then the first each time; and what happened."""

    given: Sequence[int] = ()
    choices: list[tuple[int, int]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return " · ".join(self.happened)

    def choose(self, count: int) -> int:
        """One of `count`."""
        place = len(self.choices)
        chosen = self.given[place] if place < len(self.given) else 0
        self.choices.append((chosen, count))
        return chosen

    def next(self) -> "Course | None":
        """Another course, that nobody took; None = all were taken."""
        for place in reversed(range(len(self.choices))):
            chosen, count = self.choices[place]
            if chosen + 1 < count:
                return Course([earlier for earlier, _ in self.choices[:place]] + [chosen + 1])
        return None


async def take_turns(
    course: Course, parties: Sequence[Party], over: Callable[[Party], Awaitable[None]], *, switches: int
) -> None:
    """Let `parties` have their effects as `course` chooses, until all are over; `over` hears of each that is.

    Who could go on is made to wait for another at most `switches` times: what can go wrong goes wrong with few, and all
    courses with few can be taken (Musuvathi and Qadeer, "Iterative context bounding", 2007).
    """
    left, moved = list(parties), parties
    latest: Party | None = None
    while True:
        for party in moved:
            await party.at_rest()
        for party in [party for party in left if party.is_over]:
            left.remove(party)
            await over(party)
        able = sorted((party for party in left if party.is_able), key=lambda party: party is not latest)
        if not able:
            return
        ways = [[party] for party in able]
        # Two that hear in one moment: the one goes on before the other, but not far.
        hearing = [party for party in able if party.is_hearing]
        ways += [[one, other] for one in hearing for other in hearing if one is not other]
        goes_on = able[0] is latest
        chosen = course.choose(len(ways) if switches or not goes_on else 1)
        switches -= bool(chosen and goes_on)
        moved = ways[chosen]
        course.happened.append(" & ".join([party.go() for party in moved]))
        latest = moved[-1]
