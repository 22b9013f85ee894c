"""A record with one of everything that is sealed, opened as processes open it, and what of it a test looks at."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

from server.admin import ceremony, master_key
from server.config import EmbeddedCaConfig
from server.store import accounts, embedded_ca, issuers, psk, sealed
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.psk import NewKey
from server.store.secrets import Sealer

OLD, NEW, OTHER = bytes(32), bytes(range(32)), b"\x07" * 32
ACTOR = Actor(kind="cli", name="somebody", request_id="r1")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CREDENTIALS = {"password": "correct horse"}
KEYS = {f"dev-{number}": number.to_bytes(2, "big") * 8 for number in range(5)}


@contextlib.asynccontextmanager
async def opened(url: str, *keys: bytes) -> AsyncIterator[tuple[Database, Sealer]]:
    """The record as a process opens it."""
    sealer = Sealer(list(keys))
    database = await Database.open(url, migrate=False, application_name=sealed.announcement(sealer))
    try:
        await sealed.check(database, sealer)
        yield database, sealer
    finally:
        await database.close()


async def fill(database: Database, sealer: Sealer) -> UUID:
    """One of everything that is sealed, in two accounts; returns the id of the default one."""
    account_id = (await accounts.ensure_default(database)).id
    config = EmbeddedCaConfig()
    async with database.transaction() as connection:
        made = ceremony.make_server_credential(config, ["localhost"], NOW)
        await embedded_ca.ensure_server_credential(connection, database, sealer, made)
    other = await accounts.add(database, ACTOR, "other")
    for each in (account_id, other.id):
        await ceremony.make_ca(database, sealer, ACTOR, each, config, NOW)
    await embedded_ca.remove_root_key(database, ACTOR, other.id)
    await psk.add(database, sealer, ACTOR, account_id, [NewKey(name.encode(), key, name) for name, key in KEYS.items()])
    await issuers.add(
        database, sealer, ACTOR, account_id, type="CFSSL", name="one", attributes={}, credentials=CREDENTIALS
    )
    await issuers.add(database, sealer, ACTOR, other.id, type="CFSSL", name="two", attributes={}, credentials=None)
    return account_id


async def everything(database: Database, sealer: Sealer) -> Mapping[str, object]:
    """Each secret of the record in the clear, as the service reads it."""
    account_id = (await accounts.ensure_default(database)).id
    server = await embedded_ca.server_credential(database, sealer)
    keys = {name: await psk.find(database, sealer, name.encode()) for name in KEYS}
    return {
        "server": server.private_key.private_numbers(),
        "server root": server.root_key.private_numbers(),
        "issuing": {
            each.account_id: each.issuing_key.private_numbers()
            for each in await embedded_ca.issuing_material(database, sealer)
        },
        "root": (await embedded_ca.root_key(database, sealer, account_id)).private_numbers(),
        "credentials": [dict(each.credentials(sealer)) for each in await issuers.listed(database, account_id)],
        "keys": {name: found.key for name, found in keys.items() if found is not None},
    }


async def raw(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that holds sealed values, byte for byte."""
    connection = await connect(url)
    try:
        return {
            table: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608
            for table in sealed.COLUMNS
        }
    finally:
        await connection.close()


async def key_names(url: str) -> set[str]:
    """The keys that anything in the record is sealed with."""
    connection = await connect(url)
    try:
        return {
            Sealer.key_id(value).hex()
            for table, columns in sealed.COLUMNS.items()
            for column in columns
            for (value,) in await connection.fetch(f"SELECT {column} FROM {table}")  # noqa: S608
            if value is not None
        }
    finally:
        await connection.close()


async def rotate(url: str, *keys: bytes) -> sealed.Rotated:
    """The first key becomes the one that everything is sealed with."""
    async with opened(url, *keys) as (database, sealer):
        return await master_key.rotate(database, sealer, ACTOR, (keys[0],))
