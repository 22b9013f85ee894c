"""Who was not admitted: counted by source, reason and identity, in a bounded place, and written when it can be."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from server import seen as module
from server.metrics import Metrics
from server.seen import LOGGED_PER_FLUSH, MOST, Seen
from server.store import refusals
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.refusals import SeenRow

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Record:
    """In place of the database: keeps what is written, or is away."""

    def __init__(self) -> None:
        self.written: list[SeenRow] = []
        self.unlisted = 0
        self.writes = 0
        self.away = False

    async def record(self, _database: object, rows: Sequence[SeenRow], *, unlisted: int, now: datetime) -> None:
        self.writes += 1
        if self.away:
            raise StoreUnavailable("away")
        self.written += rows
        self.unlisted += unlisted


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    made = Record()
    monkeypatch.setattr(refusals, "record", made.record)
    monkeypatch.setattr(module, "FLUSH_EVERY", 0.01)
    return made


def clock() -> Iterator[datetime]:
    at = NOW
    while True:
        yield at
        at += timedelta(seconds=1)


def make() -> Seen:
    times = clock()
    return Seen(database=Database(None, {}), now=lambda: next(times), metrics=Metrics())


async def flushed(seen: Seen, record: Record, writes: int = 1) -> list[SeenRow]:
    running = asyncio.create_task(seen.run())
    try:
        async with asyncio.timeout(30):
            while record.writes < writes:
                await asyncio.sleep(0.005)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return record.written


async def test_the_same_knock_is_one_row_with_its_count_and_last_time(record: Record) -> None:
    seen = make()
    for _ in range(3):
        seen.note("192.0.2.1:5684", "unknown_ca", "x509", "CN=stranger")
    [row] = await flushed(seen, record)
    assert (row.source, row.reason, row.credential, row.identity, row.count) == (
        "192.0.2.1",
        "unknown_ca",
        "x509",
        "CN=stranger",
        3,
    )
    assert row.last_seen > NOW


@pytest.mark.parametrize(
    ("address", "source"),
    [("192.0.2.1:5684", "192.0.2.1"), ("[2001:db8::1]:5684", "[2001:db8::1]"), ("2001:db8::1", "2001:db8::1")],
)
async def test_the_port_is_no_part_of_a_source(record: Record, address: str, source: str) -> None:
    """A device comes from another port each time; it is the same one that knocks."""
    seen = make()
    seen.note(address, "r", "psk", "i")
    assert [row.source for row in await flushed(seen, record)] == [source]


async def test_source_reason_and_identity_each_make_a_row(record: Record) -> None:
    seen = make()
    for source, reason, identity in (("a:1", "r", "i"), ("b:1", "r", "i"), ("a:1", "s", "i"), ("a:1", "r", "j")):
        seen.note(source, reason, "psk", identity)
    assert len(await flushed(seen, record)) == 4


async def test_a_long_identity_is_cut_and_then_still_one_row(record: Record) -> None:
    seen = make()
    for end in ("a", "b"):
        seen.note("a:1", "r", "psk", "i" * 200 + end)
    [row] = await flushed(seen, record)
    assert (row.identity, row.count) == ("i" * 200, 2)


async def test_a_scan_takes_no_more_than_its_room(record: Record) -> None:
    seen = make()
    for number in range(MOST + 50):
        seen.note("a:1", "r", "psk", f"identity {number}")
    seen.note("a:1", "r", "psk", "identity 0")
    assert seen.overflowed == 50
    rows = await flushed(seen, record)
    assert len(rows) == MOST
    assert rows[0].count == 2
    # How many more there were is told.
    assert (record.unlisted, seen.overflowed) == (50, 0)


async def test_a_scan_is_no_flood_of_the_log(record: Record) -> None:
    seen = make()
    with capture_logs() as lines:
        for number in range(100):
            seen.note("a:1", "r", "psk", f"identity {number}")
    assert [line["event"] for line in lines] == ["device_not_admitted"] * LOGGED_PER_FLUSH
    await flushed(seen, record)
    with capture_logs() as lines:
        seen.note("a:1", "r", "psk", "later")
    assert len(lines) == 1
    assert "detail" not in lines[0]


async def test_while_the_record_is_away_it_goes_on_and_says_what_was_lost(record: Record) -> None:
    seen = make()
    record.away = True
    seen.note("a:1", "r", "psk", "lost")
    with capture_logs() as lines:
        assert await flushed(seen, record) == []
    assert [(line["event"], line["count"]) for line in lines] == [("refusals_not_recorded", 1)]
    record.away = False
    seen.note("a:1", "r", "psk", "kept")
    assert [row.identity for row in await flushed(seen, record, writes=2)] == ["kept"]
    assert record.unlisted == 1


async def test_nothing_seen_writes_nothing(record: Record) -> None:
    seen = make()
    running = asyncio.create_task(seen.run())
    for _ in range(10):
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert record.writes == 0
