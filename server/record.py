"""Opens the record for a process: which PostgreSQL, which master keys, and what exists from the first start."""

import contextlib
import os
import secrets as random_secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from server import logs
from server.admin import first_start
from server.admin.files import write_private
from server.config import Config
from server.errors import ConfigurationError
from server.store import cluster, embedded_ca, sealed
from server.store.database import Database
from server.store.errors import NoRecord, StoreRefused
from server.store.postgres import EmbeddedPostgres
from server.store.secrets import Sealer

log = logs.get("record")

MASTER_KEY_BYTES = 32
MASTER_KEY_FILE = "master.key"
_OTHER_KEY = "put the server's own there, from its backup, or for a new record what `openssl rand -hex 32` prints"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The opened record."""

    database: Database
    database_url: str = field(repr=False)
    sealer: Sealer = field(repr=False)
    master_keys: tuple[bytes, ...] = field(repr=False)
    account_id: UUID
    config: Config = field(repr=False)
    # Nothing was there before: this opening was its first start.
    made: bool


def database_url(config: Config) -> str | None:
    """The configured URL, from the setting or its file; None = embedded."""
    if config.database.url_file is not None:
        return _read(config.database.url_file, "database.url_file").strip()
    return config.database.url


def master_keys(config: Config, *, create: bool) -> tuple[bytes, ...]:
    """The master key from the environment, its file, or `master.key` in the data folder, made at the first start.

    Several lines are several keys, the first seals, all open (rotation).
    """
    if config.secrets.master_key is not None:
        return _keys(config.secrets.master_key, "environment variable FIRSTLIGHT_SECRETS_MASTER_KEY")
    file = config.secrets.master_key_file or config.server.data_dir / MASTER_KEY_FILE
    if not file.exists() and create and config.secrets.master_key_file is None:
        write_private(file, random_secrets.token_hex(MASTER_KEY_BYTES) + "\n")
        log.info("master_key_made", file=str(file))
    return keys_in(file, "secrets.master_key_file")


def _own_key_file(config: Config) -> Path | None:
    """The file in the data folder that is made where no master key is configured; None where one is."""
    given = config.secrets.master_key is not None or config.secrets.master_key_file is not None
    return None if given else config.server.data_dir / MASTER_KEY_FILE


def check_master_keys(config: Config) -> None:
    """ConfigurationError when the master keys that are there are none; that of a first start is not made yet."""
    own = _own_key_file(config)
    if own is None or os.path.exists(own):
        master_keys(config, create=False)


def keys_in(file: Path, setting: str) -> tuple[bytes, ...]:
    """The master keys of a file, one a line; ConfigurationError naming the `setting` that names the file."""
    return _keys(_read(file, setting), str(file))


def _read(file: Path, setting: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        remedy = (
            "run this as the user whose server it is, or give one" if isinstance(error, PermissionError) else "give one"
        )
        raise ConfigurationError(
            f"{file} cannot be read ({error.strerror}); it is the file of {setting}: {remedy} that exists and that "
            "this user may read"
        ) from error


def _keys(text: str, source: str) -> tuple[bytes, ...]:
    keys: list[bytes] = []
    for line in text.split():
        try:
            key = bytes.fromhex(line)
        except ValueError:
            key = b""
        if len(key) != MASTER_KEY_BYTES:
            raise ConfigurationError(
                f"{source}: a master key is {MASTER_KEY_BYTES * 2} hexadecimal characters, a line of {len(line)} "
                f"characters stands there; {_OTHER_KEY}"
            )
        keys.append(key)
    if not keys:
        raise ConfigurationError(
            f"{source}: holds no master key, which is {MASTER_KEY_BYTES * 2} hexadecimal characters; {_OTHER_KEY}"
        )
    return tuple(keys)


@contextlib.asynccontextmanager
async def postgres(config: Config, *, shared: bool = False, create: bool = True) -> AsyncIterator[str]:
    """The URL of a PostgreSQL that answers: the configured one, or the embedded one, started here and stopped after.

    `shared`: a command, which uses the embedded server of whoever runs one already. NoRecord where no embedded one was
    made yet and none is to be (`create`).
    """
    url = database_url(config)
    if url is not None:
        yield url
        return
    if not create and not cluster.is_there(config.server.data_dir):
        raise NoRecord(str(config.server.data_dir))
    embedded = EmbeddedPostgres(config.server.data_dir, shared=shared)
    url = await embedded.start()
    try:
        yield url
    finally:
        await embedded.stop()


@contextlib.asynccontextmanager
async def opened(config: Config, url: str, *, create: bool) -> AsyncIterator[Record]:
    """The record behind `url`, migrated and with all that exists from the first start, which `create` lets this be.

    Else NoRecord where there is none.
    """
    file = _own_key_file(config)
    missing = file is not None and not file.exists()
    # A record that is there has a key, and none that is made now opens it.
    keys = (
        master_keys(config, create=create) if create or not missing else (random_secrets.token_bytes(MASTER_KEY_BYTES),)
    )
    sealer = Sealer(keys)
    database = await Database.open(url, create=create, application_name=sealed.announcement(sealer))
    try:
        try:
            await sealed.check(database, sealer)
        except StoreRefused as error:
            if file is None or not missing:
                raise
            # The one that was just made is of no use, and would be in the way of the server's own.
            file.unlink(missing_ok=True)
            raise StoreRefused(
                f"{file} is missing, and {str(error).partition(',')[0]}: put the server's own there, from its backup, "
                "or give the --config or --data-dir of that server; nothing that is sealed can be opened without it"
            ) from error
        made = not await embedded_ca.has_server_credential(database)
        if made and not create:
            raise NoRecord("the database")
        account_id = await first_start.ensure(database, sealer, config)
        # Of two first starters with keys of their own one was first.
        await sealed.check(database, sealer)
        yield Record(
            database=database,
            database_url=url,
            sealer=sealer,
            master_keys=keys,
            account_id=account_id,
            config=config,
            made=made,
        )
    finally:
        await database.close()
