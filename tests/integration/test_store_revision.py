"""Changes reach every worker: the row is the truth, NOTIFY only wakes earlier (design 7)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from server.store import accounts, profiles, psk, trust
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.psk import NewKey
from server.store.revision import Revisions, current
from server.store.secrets import Sealer
from tests import pki

ACTOR = Actor(kind="cli", name="somebody", request_id="r")
PATIENCE = 30.0
# So long that nothing but a NOTIFY can be what woke it.
NEVER = 3600.0

Change = Callable[[Database], Awaitable[object]]


@contextlib.asynccontextmanager
async def following(database: Database, url: str, *, poll_every: float, since: int) -> AsyncIterator[Any]:
    numbers = Revisions(database, url, poll_every=poll_every).follow(since)
    try:
        yield numbers
    finally:
        await numbers.aclose()


async def add_account(database: Database) -> None:
    await accounts.add(database, ACTOR, uuid4().hex)


async def listening(url: str) -> None:
    """Wait until a LISTEN of somebody is at work in this database."""
    connection = await connect(url)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            ):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def drop_listeners(url: str) -> None:
    connection = await connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
    finally:
        await connection.close()


async def silenced(url: str) -> None:
    """Changes go on counting, but nobody is notified any more: as behind a pooler, or when the message is lost."""
    connection = await connect(url)
    try:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION bump_revision() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN UPDATE revision SET number = number + 1, changed_at = now(); RETURN NULL; END $$"
        )
    finally:
        await connection.close()


async def test_a_notify_wakes_without_waiting_for_the_poll(database: Database, database_url: str) -> None:
    before = await current(database)
    async with following(database, database_url, poll_every=NEVER, since=before) as numbers:
        heard = asyncio.ensure_future(anext(numbers))
        await listening(database_url)
        await add_account(database)
        async with asyncio.timeout(PATIENCE):
            assert await heard > before


async def test_when_the_notify_is_lost_the_poll_finds_the_change(database: Database, database_url: str) -> None:
    await silenced(database_url)
    before = await current(database)
    async with following(database, database_url, poll_every=0.05, since=before) as numbers:
        heard = asyncio.ensure_future(anext(numbers))
        await listening(database_url)
        await add_account(database)
        async with asyncio.timeout(PATIENCE):
            assert await heard > before


async def test_a_change_before_the_first_look_is_found(database: Database, database_url: str) -> None:
    """Between reading the record and following it nothing is lost: the number read first is where it begins."""
    before = await current(database)
    await add_account(database)
    async with following(database, database_url, poll_every=NEVER, since=before) as numbers, asyncio.timeout(PATIENCE):
        assert await anext(numbers) == await current(database)


async def test_a_change_while_nobody_listened_is_found_after_the_reconnect(
    database: Database, database_url: str
) -> None:
    """The listening connection dies, the change falls into the gap, and the new LISTEN looks by itself."""
    await silenced(database_url)
    before = await current(database)
    revisions = Revisions(database, database_url, poll_every=0.3)
    numbers = revisions.follow(before)
    try:
        heard = asyncio.ensure_future(anext(numbers))
        await listening(database_url)
        await drop_listeners(database_url)
        await add_account(database)
        async with asyncio.timeout(PATIENCE):
            assert await heard > before
    finally:
        await numbers.aclose()


async def test_without_a_beginning_the_present_number_comes_first(database: Database, database_url: str) -> None:
    numbers = Revisions(database, database_url, poll_every=NEVER).follow()
    try:
        async with asyncio.timeout(PATIENCE):
            assert await anext(numbers) == await current(database)
    finally:
        await numbers.aclose()


async def test_a_record_that_does_not_change_says_nothing(database: Database, database_url: str) -> None:
    before = await current(database)
    async with following(database, database_url, poll_every=0.01, since=before) as numbers:
        heard = asyncio.ensure_future(anext(numbers))
        await listening(database_url)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not heard.done()
        await add_account(database)
        async with asyncio.timeout(PATIENCE):
            assert await heard > before


async def test_two_followers_hear_of_the_same_change(database: Database, database_url: str) -> None:
    before = await current(database)
    async with (
        following(database, database_url, poll_every=0.05, since=before) as one,
        following(database, database_url, poll_every=0.05, since=before) as two,
    ):
        heard = [asyncio.ensure_future(anext(each)) for each in (one, two)]
        await add_account(database)
        async with asyncio.timeout(PATIENCE):
            assert min(await asyncio.gather(*heard)) > before


async def test_a_change_that_is_rolled_back_is_none(database: Database) -> None:
    before = await current(database)

    async def change() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO account (id, name) VALUES ($1, 'x')", uuid4())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await change()
    assert await current(database) == before


async def make_key(database: Database) -> None:
    account = await accounts.ensure_default(database)
    await psk.add(database, Sealer(bytes(32)), ACTOR, account.id, [NewKey(b"id", b"k" * 16, "dev")])


async def make_trust(database: Database) -> None:
    account = await accounts.ensure_default(database)
    await trust.add(database, ACTOR, account.id, service="bootstrap", certificate=pki.make_factory_ca().der)


async def make_profile(database: Database) -> None:
    account = await accounts.ensure_default(database)
    await profiles.put(database, ACTOR, account.id, "p", "", {})


async def by_hand(database: Database) -> None:
    """A person at psql, who knows of no revision."""
    async with database.acquire() as connection:
        await connection.execute("INSERT INTO account (id, name) VALUES ($1, 'by hand')", uuid4())


@pytest.mark.parametrize("change", [add_account, make_key, make_trust, make_profile, by_hand])
async def test_every_change_that_workers_must_know_moves_the_number(database: Database, change: Change) -> None:
    await accounts.ensure_default(database)
    before = await current(database)
    await change(database)
    assert await current(database) > before


async def test_what_devices_do_does_not_move_it(database: Database) -> None:
    """A bootstrap must not make every worker read everything anew."""
    async with database.acquire() as connection:
        for table in ("session", "device", "issuance", "certificate", "audit", "refusal", "known_key", "est_offer"):
            found = await connection.fetchval(
                "SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
                " WHERE t.tgrelid = $1::regclass AND p.proname = 'bump_revision'",
                table,
            )
            assert found == 0, table
