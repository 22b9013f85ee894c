"""`firstlight api-key`: who may use the management API."""

from typing import Annotated, Literal

import typer

from server.admin import api_keys as admin
from server.cli import options
from server.store import accounts

app = typer.Typer(help="Keys of the management API.", no_args_is_help=True)

EMPTY = "There is no key; the first start makes one into the file api-key of the data folder."


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name in lists.")],
    role: Annotated[
        Literal["admin", "operator", "reader"],
        typer.Option(
            help="reader: look; operator: also profiles, PSKs, devices, verify, renew, revoke; admin: everything."
        ),
    ] = "operator",
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Make a key and print it: it is shown this once."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            _, key = await admin.make(record.database, options.actor(), record.account_id, name=name, role=role)
        print(key)

    options.run(work)


@app.command("list")
def list_keys(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The keys by name and role."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await accounts.api_keys(record.database, record.account_id)
        options.show(
            [
                {
                    "id": row.id.hex,
                    "name": row.name,
                    "role": row.role,
                    "status": "active" if row.active else "off",
                    "created_at": row.created_at,
                }
                for row in rows
            ],
            ("name", "role", "status", "created_at"),
            as_json=as_json,
            empty=EMPTY,
        )

    options.run(work)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a key; it stops working at once."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            await accounts.remove_api_key(record.database, options.actor(), record.account_id, name)
        print(f"The key {name} is removed.")

    options.run(work)
