"""`firstlight operator`: who may sign in to the console by name and password."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from server.admin import operators as admin
from server.admin.files import read_text
from server.cli import options
from server.store import operators

app = typer.Typer(help="Operators of the console.", no_args_is_help=True)

PasswordFile = Annotated[
    Path | None,
    typer.Option(readable=False, help="File with the password; asked for when it is not given.", show_default=False),
]

EMPTY = "There is no operator; `firstlight operator add NAME` makes one."


def added(name: str) -> str:
    """What is said when there is one more."""
    return f"{name} may sign in to the console."


def password_changed(name: str) -> str:
    """What is said of a new password."""
    return f"{name} has a new password."


def removed(name: str) -> str:
    """What is said when there is one less."""
    return f"{name} may no longer sign in."


def given_password(file: Path | None) -> str:
    """The password of a `file`, or the one that a person types."""
    if file is None:
        if not sys.stdin.isatty():
            options.fail("there is no terminal to ask for the password; give it with --password-file")
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return options.expected(lambda: read_text(file)).strip()


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    role: Annotated[
        Literal["admin", "operator", "reader"],
        typer.Option(
            help="reader: look; operator: also profiles, PSKs, devices, verify, renew, revoke; admin: everything."
        ),
    ] = "operator",
    password_file: PasswordFile = None,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Make an operator; the password is asked for, or read from a file."""
    password = given_password(password_file)

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            await admin.add(
                record.database, options.actor(), record.account_id, name=name, role=role, password=password
            )
        print(added(name))

    options.run(work)


@app.command("list")
def list_operators(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The operators by name and role."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await operators.listed(record.database, record.account_id)
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


@app.command("password")
def change_password(
    name: Annotated[str, typer.Argument(help="Name of the operator.")],
    password_file: PasswordFile = None,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Give an operator a new password; whoever is signed in with the old one signs in again."""
    password = given_password(password_file)

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, name)
            await admin.change(record.database, options.actor(), record.account_id, row.id, password=password)
        print(password_changed(name))

    options.run(work)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name of the operator.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove an operator; its sign-ins end at once."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, name)
            await operators.remove(record.database, options.actor(), record.account_id, row.id)
        print(removed(name))

    options.run(work)
