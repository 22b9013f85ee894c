"""A sealed value opens where it was sealed and nowhere else: not in another row, account or column (design 7)."""

import pytest

from server.store import accounts, audit, embedded_ca, issuers, psk
from server.store.errors import SealBroken
from tests.integration.sealed_record import CREDENTIALS, KEYS, OLD, opened


async def test_a_pre_shared_key_moved_to_another_row_does_not_open(sealed_url: str) -> None:
    async with opened(sealed_url, OLD) as (database, sealer):
        async with database.acquire() as connection:
            await connection.execute(
                "UPDATE pre_shared_key SET key = (SELECT key FROM pre_shared_key WHERE identity = 'dev-1')"
                " WHERE identity = 'dev-2'"
            )
        with pytest.raises(SealBroken, match="moved from another row"):
            await psk.find(database, sealer, b"dev-2")
        assert await psk.find(database, sealer, b"dev-1") is not None


async def test_a_row_moved_to_another_account_does_not_open(sealed_url: str) -> None:
    """Whoever can write to the database cannot give a tenant another tenant's keys."""
    async with opened(sealed_url, OLD) as (database, sealer):
        async with database.acquire() as connection:
            await connection.execute(
                "UPDATE pre_shared_key SET account_id = (SELECT id FROM account WHERE name = 'other')"
                " WHERE identity = 'dev-1'"
            )
            await connection.execute(
                "UPDATE certificate_issuer SET account_id = (SELECT id FROM account WHERE name = 'other')"
                " WHERE name = 'one'"
            )
        with pytest.raises(SealBroken):
            await psk.find(database, sealer, b"dev-1")
        [moved] = [each for each in await issuers.all_issuers(database) if each.name == "one"]
        with pytest.raises(SealBroken):
            moved.credentials(sealer)


async def test_a_key_moved_to_another_column_does_not_open(sealed_url: str) -> None:
    async with opened(sealed_url, OLD) as (database, sealer):
        async with database.acquire() as connection:
            await connection.execute("UPDATE embedded_ca SET issuing_key = root_key WHERE root_key IS NOT NULL")
            await connection.execute("UPDATE server_credential SET key = root_key")
        with pytest.raises(SealBroken):
            await embedded_ca.issuing_material(database, sealer)
        with pytest.raises(SealBroken):
            await embedded_ca.server_credential(database, sealer)


async def test_an_entry_of_the_audit_names_no_secret(sealed_url: str) -> None:
    async with opened(sealed_url, OLD) as (database, _):
        account_id = (await accounts.ensure_default(database)).id
        shown = repr(await audit.entries(database, account_id))
    assert not any(key.hex() in shown for key in KEYS.values())
    assert CREDENTIALS["password"] not in shown
