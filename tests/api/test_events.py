"""`/v1/events`: whoever listens misses nothing, in whatever order rows are committed, and hears nothing twice."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from server.api import events
from server.api.events import Feed
from server.store.listings import Kind
from tests.api.conftest import Api

ADD = {
    "session": (
        "INSERT INTO session (id, account_id, endpoint, started_at, ended_at, profile, credential, address, outcome,"
        " sentence, steps) VALUES ($1, $2, 'urn:dev:1', $3, $4, 'default', 'x509', 'a', 'succeeded', '', '[]')"
    ),
    "audit": (
        "INSERT INTO audit (id, account_id, at, actor_kind, actor_name, request_id, action, subject_kind, subject,"
        " detail) SELECT $1, $2, $4, 'device', 'urn:dev:1', '', 'bootstrap.succeeded', 'device', 'urn:dev:1', '{}'"
        " WHERE $3::timestamptz IS NOT NULL"
    ),
}
# After the installation's own first start.
BEGAN = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
KINDS = pytest.mark.parametrize("kind", events.KINDS)


async def add(api: Api, kind: Kind, seconds: float, *, lasted: float = 0.1) -> UUID:
    """A row whose time is so many seconds after the listener began."""
    row_id, at = uuid4(), BEGAN + timedelta(seconds=seconds)
    async with api.office.database.acquire() as connection:
        await connection.execute(ADD[kind], row_id, api.account_id, at - timedelta(seconds=lasted), at)
    return row_id


async def heard(feed: Feed) -> list[UUID]:
    return [UUID(str(row["id"])) async for row in feed.new()]


class Clock:
    """The time of the listener's node, in seconds after it began."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)


def listening(api: Api, kind: Kind, clock: Clock | None = None, *, until: float = 1000.0) -> Feed:
    """A listener who begins at `BEGAN` and looks from `until` on."""
    clock = clock or Clock()
    feed = Feed(api.office.database, api.account_id, kind, clock)
    clock.seconds = until
    return feed


@KINDS
async def test_a_row_whose_commit_came_late_is_heard(api: Api, kind: Kind) -> None:
    feed = listening(api, kind)
    newer = await add(api, kind, 5.0)
    assert await heard(feed) == [newer]
    # Another worker's, or another node's.
    older = await add(api, kind, 4.2)
    assert await heard(feed) == [older]
    assert await heard(feed) == []


@KINDS
async def test_two_rows_of_one_millisecond_are_heard(api: Api, kind: Kind) -> None:
    feed = listening(api, kind)
    first = await add(api, kind, 1.0002)
    assert await heard(feed) == [first]
    second = await add(api, kind, 1.0004)
    assert await heard(feed) == [second]


@KINDS
async def test_more_rows_than_one_piece_holds_are_heard(api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_AT_ONCE", 3)
    feed = listening(api, kind)
    # Those that began first ended last.
    rows = [await add(api, kind, 100.0 - 5 * number, lasted=200.0 - 10 * number) for number in range(10)]
    assert sorted(await heard(feed)) == sorted(rows)
    assert await heard(feed) == []


@KINDS
async def test_what_was_before_is_not_heard_and_what_was_sent_is_not_kept_for_ever(api: Api, kind: Kind) -> None:
    await add(api, kind, -1.0)
    feed = listening(api, kind)
    assert await heard(feed) == []
    for number in range(20):
        await add(api, kind, 10.0 * number)
        assert len(await heard(feed)) == 1
    assert len(feed._sent) == 1


@KINDS
async def test_a_clock_that_is_set_back_makes_no_listener_deaf(api: Api, kind: Kind) -> None:
    clock = Clock()
    feed = listening(api, kind, clock, until=600.0)
    before = await add(api, kind, 600.0)
    assert await heard(feed) == [before]
    clock.seconds = 10.0
    after = await add(api, kind, 10.0)
    assert await heard(feed) == [after]
    clock.seconds = 20.0
    assert await heard(feed) == []
    later = await add(api, kind, 19.5)
    assert await heard(feed) == [later]


@KINDS
async def test_a_row_of_a_clock_far_ahead_neither_comes_early_nor_hides_another(api: Api, kind: Kind) -> None:
    clock = Clock()
    feed = listening(api, kind, clock, until=5.0)
    ahead = await add(api, kind, 600.0)
    here = await add(api, kind, 4.0)
    assert await heard(feed) == [here]
    clock.seconds = 9.0
    next_one = await add(api, kind, 8.5)
    assert await heard(feed) == [next_one]
    clock.seconds = 600.0
    assert await heard(feed) == [ahead]
