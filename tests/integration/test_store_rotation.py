"""The master key is changed: every sealed value of the record is sealed again, or none, and no server is left blind."""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from server.admin import master_key
from server.errors import BadRequest, Conflict, TemporarilyUnavailable
from server.store import accounts, psk, sealed
from server.store.database import Database, connect
from server.store.errors import SealBroken, StoreRefused, StoreUnavailable
from server.store.psk import NewKey
from server.store.secrets import Sealer
from tests.integration.sealed_record import (
    ACTOR,
    KEYS,
    NEW,
    OLD,
    OTHER,
    everything,
    fill,
    key_names,
    opened,
    raw,
    rotate,
)


def test_every_column_that_a_migration_calls_sealed_is_sealed_again() -> None:
    folder = Path(__file__).parents[2] / "sql" / "migrations"
    found: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.sql")):
        table, waiting = "", False
        for line in file.read_text().splitlines():
            if match := re.match(r"(?:CREATE|ALTER) TABLE (\w+)", line):
                table = match[1]
            if re.match(r"\s+-- Sealed\b", line):
                waiting = True
            elif waiting and (match := re.match(r"\s+(?:ADD COLUMN )?(\w+)\s+bytea", line)):
                found.setdefault(table, set()).add(match[1])
                waiting = False
    assert found == {table: set(columns) for table, columns in sealed.COLUMNS.items()}


def test_every_table_that_the_code_seals_into_is_known() -> None:
    folder = Path(__file__).parents[2] / "server"
    users = {
        str(file.relative_to(folder))
        for file in folder.rglob("*.py")
        if ".seal(" in file.read_text() and file.name != "sealed.py"
    }
    assert users == {"store/psk.py", "store/issuers.py", "store/embedded_ca.py"}


async def test_after_a_rotation_the_new_key_alone_opens_everything(sealed_url: str) -> None:
    async with opened(sealed_url, OLD) as (database, sealer):
        before = await everything(database, sealer)
    rotated = await rotate(sealed_url, NEW, OLD)
    assert rotated.resealed == {
        "pre_shared_key": 5,
        "certificate_issuer": 1,
        "embedded_ca": 3,
        "server_credential": 2,
    }
    assert rotated.current == Sealer(NEW).current
    assert rotated.retired == (Sealer(OLD).current,)
    assert await key_names(sealed_url) == {Sealer(NEW).current}
    async with opened(sealed_url, NEW) as (database, sealer):
        assert await everything(database, sealer) == before


async def test_nothing_but_the_sealed_columns_changes(sealed_url: str) -> None:
    before = await raw(sealed_url)
    await rotate(sealed_url, NEW, OLD)
    after = await raw(sealed_url)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert [each for each in old if not is_sealed(each)] == [each for each in new if not is_sealed(each)]
            assert all(a != b for a, b in zip(old, new, strict=True) if is_sealed(a))


def is_sealed(value: object) -> bool:
    return isinstance(value, bytes) and value.startswith(b"\x01") and len(value) > 37


async def test_a_second_run_finds_nothing_to_do(sealed_url: str) -> None:
    await rotate(sealed_url, NEW, OLD)
    before = await raw(sealed_url)
    again = await rotate(sealed_url, NEW, OLD)
    assert set(again.resealed.values()) == {0}
    assert again.retired == ()
    assert await raw(sealed_url) == before


async def test_values_of_several_older_keys_become_one(sealed_url: str) -> None:
    async with opened(sealed_url, OTHER, OLD) as (database, sealer):
        account_id = (await accounts.ensure_default(database)).id
        await psk.add(database, sealer, ACTOR, account_id, [NewKey(b"late", b"k" * 16, "late")])
    rotated = await rotate(sealed_url, NEW, OLD, OTHER)
    assert set(rotated.retired) == {Sealer(OLD).current, Sealer(OTHER).current}
    async with opened(sealed_url, NEW) as (database, sealer):
        late = await psk.find(database, sealer, b"late")
        assert late is not None
        assert late.key == b"k" * 16


async def test_more_rows_than_one_batch_are_all_sealed_again(sealed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "BATCH", 2)
    assert (await rotate(sealed_url, NEW, OLD)).resealed["pre_shared_key"] == 5
    assert await key_names(sealed_url) == {Sealer(NEW).current}


async def test_the_change_is_in_the_audit_without_any_key(sealed_url: str) -> None:
    await rotate(sealed_url, NEW, OLD)
    connection = await connect(sealed_url)
    try:
        [row] = await connection.fetch("SELECT * FROM audit WHERE action = 'master_key.rotated'")
    finally:
        await connection.close()
    assert (row["actor_kind"], row["actor_name"], row["account_id"]) == ("cli", "somebody", None)
    assert row["subject"] == Sealer(NEW).current
    detail = json.loads(row["detail"])
    assert detail["retired"] == [Sealer(OLD).current]
    assert detail["resealed"]["pre_shared_key"] == 5
    assert not any(key.hex() in str(tuple(row)) for key in (OLD, NEW))


async def test_every_worker_hears_of_it(sealed_url: str) -> None:
    connection = await connect(sealed_url)
    try:
        before = await connection.fetchval("SELECT number FROM revision")
        await rotate(sealed_url, NEW, OLD)
        assert await connection.fetchval("SELECT number FROM revision") > before
    finally:
        await connection.close()


# -- nobody is left blind ---------------------------------------------------------------------------------


async def test_a_connected_server_that_seals_with_the_old_key_stops_it(sealed_url: str) -> None:
    before = await raw(sealed_url)
    async with opened(sealed_url, OLD, NEW) as (server, server_sealer):
        with pytest.raises(Conflict) as raised:
            await rotate(sealed_url, NEW, OLD)
        assert Sealer(OLD).current in raised.value.message
        assert "first line of its master key file" in raised.value.message
        assert await raw(sealed_url) == before
        await everything(server, server_sealer)
    await rotate(sealed_url, NEW, OLD)


async def test_a_server_that_has_just_ended_is_waited_for(sealed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections are seen a moment longer."""
    looks = contextlib.AsyncExitStack()
    await looks.enter_async_context(opened(sealed_url, OLD, NEW))

    async def ends(_seconds: float) -> None:
        await looks.aclose()

    monkeypatch.setattr(sealed, "_pause", ends)
    await rotate(sealed_url, NEW, OLD)
    assert await key_names(sealed_url) == {Sealer(NEW).current}


async def test_a_connected_server_that_seals_with_the_new_key_goes_on(sealed_url: str) -> None:
    async with opened(sealed_url, NEW, OLD) as (server, server_sealer):
        before = await everything(server, server_sealer)
        await rotate(sealed_url, NEW, OLD)
        assert await everything(server, server_sealer) == before
        account_id = (await accounts.ensure_default(server)).id
        await psk.add(server, server_sealer, ACTOR, account_id, [NewKey(b"late", b"k" * 16, "late")])
    assert await key_names(sealed_url) == {Sealer(NEW).current}


async def test_settings_that_do_not_seal_with_the_new_key_stop_it(sealed_url: str) -> None:
    async with opened(sealed_url, OLD, NEW) as (database, sealer):
        with pytest.raises(BadRequest, match="write the new key as the first line"):
            await master_key.rotate(database, sealer, ACTOR, (NEW,))
        for given in ((), (NEW, OLD)):
            with pytest.raises(BadRequest, match="give the new one alone"):
                await master_key.rotate(database, sealer, ACTOR, given)
    assert await key_names(sealed_url) == {Sealer(OLD).current}


async def test_a_process_with_another_key_is_refused_before_it_seals_anything(sealed_url: str) -> None:
    with pytest.raises(StoreRefused) as raised:
        async with opened(sealed_url, OTHER):
            pass
    assert Sealer(OLD).current in str(raised.value)
    assert Sealer(OTHER).current in str(raised.value)
    await rotate(sealed_url, NEW, OLD)
    with pytest.raises(StoreRefused, match="give the server's own"):
        async with opened(sealed_url, OLD):
            pass


async def test_a_new_record_takes_any_key(database_url: str) -> None:
    async with opened(database_url, OTHER) as (database, sealer):
        await fill(database, sealer)


async def test_a_process_that_comes_in_the_middle_waits_and_is_refused_then(
    sealed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It connected after the rotation looked around, and would have sealed with the old key after it."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    real = sealed._reseal

    async def slow(connection: Any, *arguments: Any) -> int:
        reached.set()
        await go_on.wait()
        return await real(connection, *arguments)

    monkeypatch.setattr(sealed, "_reseal", slow)

    async def late() -> None:
        async with opened(sealed_url, OLD):
            pass

    async with asyncio.timeout(30):
        rotation = asyncio.create_task(rotate(sealed_url, NEW, OLD))
        await reached.wait()
        comer = asyncio.create_task(late())
        connection = await connect(sealed_url)
        try:
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                await asyncio.sleep(0.02)
        finally:
            await connection.close()
        assert not comer.done()
        go_on.set()
        await rotation
        with pytest.raises(StoreRefused):
            await comer


async def test_reading_goes_on_and_adding_waits_while_it_runs(sealed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    real = sealed._reseal

    async def slow(connection: Any, *arguments: Any) -> int:
        reached.set()
        await go_on.wait()
        return await real(connection, *arguments)

    monkeypatch.setattr(sealed, "_reseal", slow)
    async with asyncio.timeout(30), opened(sealed_url, NEW, OLD) as (server, sealer):
        account_id = (await accounts.ensure_default(server)).id
        rotation = asyncio.create_task(rotate(sealed_url, NEW, OLD))
        await reached.wait()
        assert (await everything(server, sealer))["keys"] == KEYS
        adding = asyncio.create_task(psk.add(server, sealer, ACTOR, account_id, [NewKey(b"late", b"k" * 16, "late")]))
        async with server.acquire() as connection:
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                await asyncio.sleep(0.02)
        assert not adding.done()
        go_on.set()
        await asyncio.gather(rotation, adding)
    assert await key_names(sealed_url) == {Sealer(NEW).current}


# -- all or nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", list(sealed.COLUMNS))
async def test_a_connection_that_dies_in_the_middle_changes_nothing(
    sealed_url: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await raw(sealed_url)
    real = sealed._reseal

    async def killed(connection: Any, database: Database, sealer: Sealer, name: str, retired: set[str]) -> int:
        done = await real(connection, database, sealer, name, retired)
        if name == table:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            killer = await connect(sealed_url)
            await killer.execute("SELECT pg_terminate_backend($1)", pid)
            await killer.close()
        return done

    monkeypatch.setattr(sealed, "_reseal", killed)
    with pytest.raises(StoreUnavailable):
        await rotate(sealed_url, NEW, OLD)
    assert await raw(sealed_url) == before
    monkeypatch.undo()
    async with opened(sealed_url, OLD) as (database, sealer):
        await everything(database, sealer)
    await rotate(sealed_url, NEW, OLD)
    assert await key_names(sealed_url) == {Sealer(NEW).current}


async def test_a_process_that_dies_in_the_middle_changes_nothing(
    sealed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await raw(sealed_url)
    real = Sealer.seal
    sealed_so_far = 0

    def dies(self: Sealer, *arguments: Any) -> bytes:
        nonlocal sealed_so_far
        sealed_so_far += 1
        if sealed_so_far == 8:
            raise KeyboardInterrupt
        return real(self, *arguments)

    async with opened(sealed_url, NEW, OLD) as (database, sealer):
        monkeypatch.setattr(Sealer, "seal", dies)
        with pytest.raises(KeyboardInterrupt):
            await sealed.rotate(database, sealer, ACTOR)
    monkeypatch.undo()
    assert sealed_so_far == 8
    assert await raw(sealed_url) == before


@pytest.mark.parametrize("damage", ["moved", "changed", "foreign"])
async def test_one_value_that_does_not_open_stops_it_and_is_named(sealed_url: str, damage: str) -> None:
    async with opened(sealed_url, NEW, OLD) as (database, sealer):
        account_id = (await accounts.ensure_default(database)).id
        async with database.acquire() as connection:
            first, second = await connection.fetch("SELECT id, key FROM pre_shared_key ORDER BY id LIMIT 2")
            value = {
                "moved": second["key"],
                "changed": first["key"][:-1] + bytes([first["key"][-1] ^ 1]),
                "foreign": Sealer(OTHER).seal(b"k" * 16, "pre_shared_key", "key", account_id, first["id"]),
            }[damage]
            await connection.execute("UPDATE pre_shared_key SET key = $2 WHERE id = $1", first["id"], value)
        before = await raw(sealed_url)
        with pytest.raises(SealBroken) as raised:
            await sealed.rotate(database, sealer, ACTOR)
    assert str(first["id"]) in str(raised.value)
    assert "nothing was changed" in str(raised.value)
    assert await raw(sealed_url) == before


async def test_a_change_that_holds_a_table_is_not_waited_for_for_ever(
    sealed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await connect(sealed_url)
    try:
        async with holder.transaction():
            await holder.execute("INSERT INTO account (id, name) VALUES ($1, 'third')", uuid4())
            await holder.execute("LOCK TABLE pre_shared_key IN ROW EXCLUSIVE MODE")
            async with opened(sealed_url, NEW, OLD) as (database, sealer):
                quick = {**database.queries, "sealed_patience": "SET LOCAL lock_timeout = '50ms'"}
                monkeypatch.setattr(database, "queries", quick)
                with pytest.raises(TemporarilyUnavailable, match="nothing was changed"):
                    await sealed.rotate(database, sealer, ACTOR)
    finally:
        await holder.close()
    assert await key_names(sealed_url) == {Sealer(OLD).current}
