"""`firstlight psk`: pre-shared keys, of devices that come and of the LwM2M servers they go to."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from server.admin import psk as admin
from server.cli import options
from server.errors import BadRequest
from server.store import psk
from server.store.psk import NewKey
from server.transport.engine import printable

app = typer.Typer(help="Pre-shared keys; a stored key can be replaced, never read.", no_args_is_help=True)

EMPTY = "There is no key yet; add one: `firstlight psk add IDENTITY --key-file F --endpoint NAME`."

ServiceOption = Annotated[
    Literal["bootstrap", "lwm2m"],
    typer.Option(help="bootstrap: the key a device comes with; lwm2m: the one a profile of mode psk writes to it."),
]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read as text; a key is written in hexadecimal characters") from error


@contextlib.contextmanager
def _in(file: Path) -> Iterator[None]:
    """What is wrong with the content of `file` is told with its name."""
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"{file}: {error.message}") from None


def given(identity: str | None, key_file: Path | None, endpoint: str | None, many: Path | None) -> list[NewKey]:
    """The keys that the options name; BadRequest."""
    if many is not None:
        text = _text(many)
        with _in(many):
            return admin.parse_lines(text)
    if identity is None or key_file is None or endpoint is None:
        raise BadRequest("give IDENTITY --key-file F --endpoint NAME, or --from FILE")
    text = _text(key_file)
    with _in(key_file):
        admin.parse_key(text)
    return [admin.new_key(identity, text, endpoint)]


def added(keys: Sequence[NewKey], service: str) -> str:
    """What is said when they are."""
    what = f"{len(keys)} keys" if len(keys) != 1 else f"The key {printable(keys[0].identity)}"
    return f"{what} {'is' if len(keys) == 1 else 'are'} added for {service}."


def removed(identity: str, service: str) -> str:
    """What follows when one is gone."""
    if service == "lwm2m":
        return f"The key {identity} is removed: no profile writes it any more, and a device that holds it keeps it."
    return f"The key {identity} is removed: who comes with it is refused from now on, also where it is connected."


@app.command("add")
def add(
    identity: Annotated[str | None, typer.Argument(help="PSK identity, as text.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the key in hexadecimal.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Endpoint Client Name of the one device that may use it.")
    ] = None,
    many: Annotated[
        Path | None,
        typer.Option(
            "--from", exists=True, dir_okay=False, help="File with many keys: one identity:hexkey:endpoint per line."
        ),
    ] = None,
    service: ServiceOption = "bootstrap",
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Add one key, or all keys of a file or none; a running server uses them within two seconds."""

    async def work() -> None:
        keys = given(identity, key_file, endpoint, many)
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            await psk.add(record.database, record.sealer, options.actor(), record.account_id, keys, service=service)
        print(added(keys, service))

    options.run(work)


@app.command("list")
def list_keys(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    limit: Annotated[int, typer.Option(min=1, max=100000, help="Most rows to show.")] = 1000,
    as_json: options.AsJson = False,
) -> None:
    """Identities and their endpoints, never the keys."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await psk.listed(record.database, record.account_id, limit=limit)
        options.show(
            [
                {
                    "identity": printable(row.identity),
                    "endpoint": row.endpoint,
                    "service": row.service,
                    "added": row.created_at,
                }
                for row in rows
            ],
            ("identity", "endpoint", "service", "added"),
            as_json=as_json,
            empty=EMPTY,
        )

    options.run(work)


@app.command("remove")
def remove(
    identity: Annotated[str, typer.Argument(help="PSK identity, as text.")],
    service: ServiceOption = "bootstrap",
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a key; the device is unknown from then on."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            await psk.remove(record.database, options.actor(), record.account_id, identity.encode(), service=service)
        print(removed(identity, service))

    options.run(work)
