"""`api-key` and `psk` through the API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from server.admin.psk import MOST_AT_ONCE
from server.cli import api_key, options
from server.cli import psk as local
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Row, Url
from server.store.accounts import Role
from server.transport.engine import printable

api_keys = typer.Typer(help="Keys of the management API.", no_args_is_help=True)
psk = typer.Typer(help="Pre-shared keys; a stored key can be replaced, never read.", no_args_is_help=True)

API_KEYS, PRE_SHARED_KEYS = "/v3/api-keys", "/v1/pre-shared-keys"
# The API has the original's words for roles.
ROLES: dict[Role, str] = {"admin": "administrator", "operator": "operator", "reader": "read-only"}
OURS = {theirs: ours for ours, theirs in ROLES.items()}


def with_role(row: Row, name: str) -> Mapping[str, object]:
    """A key or an operator as the lists show it; `name` is what the API calls its name."""
    return {
        "id": row["id"],
        "name": row[name],
        # Of a newer server it may be one that this program has no word for.
        "role": OURS.get(row["role"], row["role"]),
        "status": "active" if row["status"] == "ACTIVE" else "off",
        "created_at": options.moment(row["created_at"]),
    }


@api_keys.command("add")
def add_api_key(
    name: Annotated[str, typer.Argument(help="Name in lists.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    role: Annotated[
        Role,
        typer.Option(
            help="reader: look; operator: also profiles, PSKs, devices, verify, renew, revoke; admin: everything."
        ),
    ] = "operator",
) -> None:
    """Make a key and print it: it is shown this once."""
    print(Door(url, api_key_file, ca_file).ask("POST", API_KEYS, {"name": name, "role": ROLES[role]})["key"])


@api_keys.command("list")
def list_api_keys(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """The keys by name and role."""
    rows = [with_role(row, "name") for row in Door(url, api_key_file, ca_file).rows(API_KEYS)]
    options.show(rows, ("name", "role", "status", "created_at"), as_json=as_json, empty=api_key.EMPTY)


@api_keys.command("remove")
def remove_api_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
) -> None:
    """Remove a key; it stops working at once."""
    door = Door(url, api_key_file, ca_file)
    door.ask("DELETE", f"{API_KEYS}/{door.one(API_KEYS, name, 'API keys', 'api-key')['id']}")
    print(f"The key {name} is removed.")


@psk.command("add")
def add(
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
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
    service: local.ServiceOption = "bootstrap",
) -> None:
    """Add one key, or all keys of a file or none; a running server uses them within two seconds."""
    keys = options.expected(lambda: local.given(identity, key_file, endpoint, many))
    door = Door(url, api_key_file, ca_file)
    bodies = [{"identity": key.identity.decode(), "key": key.key.hex(), "endpoint_name": key.endpoint} for key in keys]
    if len(bodies) == 1:
        door.ask("POST", PRE_SHARED_KEYS, {**bodies[0], "service": service})
    elif len(bodies) > MOST_AT_ONCE:
        options.fail(
            f"a server takes at most {MOST_AT_ONCE:,} keys at once over the API, and {len(bodies):,} were given: none "
            "was added; give them in several files, or run the command on the server's own machine without --url"
        )
    else:
        door.ask("POST", f"{PRE_SHARED_KEYS}-batch", {"keys": bodies, "service": service})
    print(local.added(keys, service))


@psk.command("list")
def list_keys(
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    limit: Annotated[int, typer.Option(min=1, max=100000, help="Most rows to show.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Identities and their endpoints, never the keys."""
    rows = [
        {
            "identity": row["identity"],
            "endpoint": row["endpoint_name"],
            "service": row["service"],
            "added": options.moment(row["created_at"]),
        }
        for row in Door(url, api_key_file, ca_file).rows(PRE_SHARED_KEYS, most=limit)
    ]
    options.show(rows, ("identity", "endpoint", "service", "added"), as_json=as_json, empty=local.EMPTY)


@psk.command("remove")
def remove(
    identity: Annotated[str, typer.Argument(help="PSK identity, as text.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    service: local.ServiceOption = "bootstrap",
) -> None:
    """Remove a key; the device is unknown from then on."""
    door = Door(url, api_key_file, ca_file)
    door.ask("DELETE", f"{PRE_SHARED_KEYS}/{quote(identity, safe='')}", service=service)
    print(local.removed(printable(identity.encode()), service))
