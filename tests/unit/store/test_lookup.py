import asyncio

import pytest

from server.store.errors import StoreUnavailable
from server.store.lookup import BATCH_LIMIT, Lookup


class Table:
    """Squares of numbers, one statement at a time, as a query of this kind would give them."""

    def __init__(self) -> None:
        self.statements: list[tuple[int, ...]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, numbers: tuple[int, ...]) -> list[dict[str, int]]:
        self.statements.append(numbers)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        if -1 in numbers:
            raise ValueError("no such number")
        return [{"place": place, "square": n * n} for place, n in enumerate(numbers, 1) if n]


async def squares(lookup: Lookup, *numbers: int) -> list[object]:
    answers = [asyncio.ensure_future(lookup.rows(n)) for n in numbers]
    found = await asyncio.gather(*answers, return_exceptions=True)
    return [one if isinstance(one, BaseException) else [row["square"] for row in one] for one in found]


async def test_who_asks_while_a_statement_runs_is_answered_by_the_next_one() -> None:
    table = Table()
    lookup = Lookup(table.fetch)
    first = asyncio.ensure_future(lookup.rows(2))
    await asyncio.sleep(0)
    crowd = asyncio.create_task(squares(lookup, 3, 0, 4, 3))
    await asyncio.sleep(0)
    table.go.set()
    assert [row["square"] for row in await first] == [4]
    assert await crowd == [[9], [], [16], [9]]
    assert table.statements == [(2,), (3, 0, 4, 3)]


async def test_a_crowd_is_cut_into_statements_of_a_bounded_size() -> None:
    table = Table()
    table.go.set()
    assert len(await squares(Lookup(table.fetch), *range(BATCH_LIMIT + 1))) == BATCH_LIMIT + 1
    assert [len(one) for one in table.statements] == [BATCH_LIMIT, 1]


async def test_a_key_that_cannot_be_asked_for_fails_its_own_caller_only() -> None:
    table = Table()
    table.go.set()
    good, bad, also_good = await squares(Lookup(table.fetch), 1, -1, 3)
    assert (good, also_good) == ([1], [9])
    assert isinstance(bad, ValueError)


async def test_a_record_that_is_away_is_asked_once_for_all() -> None:
    table = Table()
    table.error = StoreUnavailable("away")
    table.go.set()
    assert all(isinstance(one, StoreUnavailable) for one in await squares(Lookup(table.fetch), 1, 2, 3))
    assert len(table.statements) == 1


async def test_it_goes_on_after_a_failure_and_after_a_caller_that_left() -> None:
    table = Table()
    lookup = Lookup(table.fetch)
    left = asyncio.ensure_future(lookup.rows(5))
    await asyncio.sleep(0)
    left.cancel()
    table.error = StoreUnavailable("away")
    table.go.set()
    with pytest.raises(asyncio.CancelledError):
        await left
    await asyncio.sleep(0)
    table.error = None
    assert await squares(lookup, 6) == [[36]]
