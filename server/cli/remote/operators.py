"""`operator` through the API, whose word for them is the original's: users."""

from typing import Annotated

import typer

from server.cli import operator as local
from server.cli import options
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Row, Url
from server.cli.remote.keys import ROLES, with_role
from server.store.accounts import Role

app = typer.Typer(help="Operators of the console.", no_args_is_help=True)

USERS = "/v3/users"

Name = Annotated[str, typer.Argument(help="Name of the operator.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    role: Annotated[
        Role,
        typer.Option(
            help="reader: look; operator: also profiles, PSKs, devices, verify, renew, revoke; admin: everything."
        ),
    ] = "operator",
    password_file: local.PasswordFile = None,
) -> None:
    """Make an operator; the password is asked for, or read from a file."""
    body = {"username": name, "role": ROLES[role], "password": local.given_password(password_file)}
    Door(url, api_key_file, ca_file).ask("POST", USERS, body)
    print(local.added(name))


@app.command("list")
def list_operators(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """The operators by name and role."""
    rows = [with_role(row, "username") for row in Door(url, api_key_file, ca_file).rows(USERS)]
    options.show(rows, ("name", "role", "status", "created_at"), as_json=as_json, empty=local.EMPTY)


@app.command("password")
def change_password(
    name: Name, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, password_file: local.PasswordFile = None
) -> None:
    """Give an operator a new password; whoever is signed in with the old one signs in again."""
    password = local.given_password(password_file)
    door = Door(url, api_key_file, ca_file)
    door.ask("PUT", f"{USERS}/{_operator(door, name)['id']}", {"password": password})
    print(local.password_changed(name))


@app.command("remove")
def remove(name: Name, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Remove an operator; its sign-ins end at once."""
    door = Door(url, api_key_file, ca_file)
    door.ask("DELETE", f"{USERS}/{_operator(door, name)['id']}")
    print(local.removed(name))


def _operator(door: Door, name: str) -> Row:
    for row in door.rows(USERS):
        if row["username"] == name:
            return row
    return options.fail(f"there is no operator {name}; `firstlight operator list` shows them")
