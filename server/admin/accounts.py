"""Accounts: each has its own embedded CA, default profile, keys and devices from its first moment."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.admin import api_keys, ceremony
from server.admin.first_start import default_profile_text
from server.config import Config
from server.profile import DEFAULT_NAME
from server.store import accounts, embedded_ca, profiles
from server.store.accounts import Account
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer


async def make(
    database: Database, sealer: Sealer, config: Config, actor: Actor, name: str, now: datetime
) -> tuple[Account, str]:
    """Make an account and its first administrator key, which nobody can show again. Conflict.

    A crash half way leaves an account without devices; the default account's administrators can give it a key.
    """
    account = await accounts.add(database, actor, name)
    await ceremony.make_ca(database, sealer, actor, account.id, config.embedded_ca, now)
    root = x509.load_der_x509_certificate((await embedded_ca.server_credential(database, sealer)).root_certificate)
    text, files = default_profile_text(config, root.public_bytes(serialization.Encoding.PEM))
    async with database.transaction() as connection:
        await profiles.ensure(connection, database, account.id, DEFAULT_NAME, text, files)
    _, key = await api_keys.make(database, actor, account.id, name="first administrator", role="admin")
    return account, key
