"""`issuer` and `service` through the API."""

import base64
from datetime import datetime
from typing import Annotated, Any

import typer

from server.admin import profiles as profile_admin
from server.cli import issuer as local
from server.cli import options
from server.cli import service as local_service
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Row, Url, doubts_in
from server.doubt import Doubt
from server.knowledge import OWN_CA
from server.store.accounts import LWM2M

app = typer.Typer(help="Certificate issuers: your own CAs.", no_args_is_help=True)
services = typer.Typer(help="Services: which CA signs for what; LWM2M is always there.", no_args_is_help=True)

ISSUERS, SERVICES = "/v3/certificate-issuers", "/v3/certificate-issuer-configurations"


def _issuer(door: Door, which: str) -> Row:
    return door.one(ISSUERS, which, "certificate issuers", "issuer")


def _service(door: Door, reference: str) -> Row:
    found = list(door.rows(SERVICES, reference__eq=reference))
    if not found:
        options.fail(f"there is no service {reference}; `firstlight service list` shows them")
    return found[0]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name in lists.")],
    type: Annotated[str, typer.Option(help="CFSSL_AUTH or GLOBAL_SIGN.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    attributes: local.Attributes = None,
    secrets: local.Secrets = None,
    description: Annotated[str, typer.Option(help="A note for people.")] = "",
    check: local.Check = False,
) -> None:
    """Register a CA; it signs nothing until `issuer activate`."""
    body = {
        "name": name,
        "issuer_type": type,
        "description": description,
        "issuer_attributes": options.expected(lambda: local.read_attributes(attributes)),
        "issuer_credentials": options.expected(lambda: local.read_secrets(secrets)),
    }
    row = Door(url, api_key_file, ca_file).ask("POST", ISSUERS, body, check=check)
    print(local.REGISTERED.format(name=row["name"], id=row["id"]))


@app.command("set")
def change(
    which: local.Which,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    attributes: local.Attributes = None,
    secrets: local.Secrets = None,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    description: Annotated[str | None, typer.Option(help="A new description.")] = None,
    check: local.Check = False,
) -> None:
    """Change a CA: each value given replaces the old one, an empty value removes it."""
    door = Door(url, api_key_file, ca_file)
    row = _issuer(door, which)
    body = {
        "name": name,
        "description": description,
        "issuer_attributes": options.expected(lambda: local.read_attributes(attributes)),
        "issuer_credentials": options.expected(lambda: local.read_secrets(secrets)),
    }
    door.ask("PUT", f"{ISSUERS}/{row['id']}", body, check=check)
    print(f"{name or row['name']} is changed.")


@app.command("list")
def list_issuers(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """The CAs, and the services each signs for."""
    door = Door(url, api_key_file, ca_file)
    states = {row["id"]: row for row in door.rows("/v1/issuers")}
    own = [row["reference"] for row in door.rows(SERVICES) if row["certificate_issuer_id"] is None]
    shown: list[dict[str, Any]] = [
        {
            "id": row["id"],
            "name": row["name"],
            "type": row["issuer_type"],
            "services": ", ".join(states[row["id"]]["services"]) or "none",
            "state": _state(states[row["id"]]),
            "description": row["description"],
        }
        for row in door.rows(ISSUERS)
    ]
    first = {"id": None, "name": OWN_CA, "type": "EMBEDDED", "services": ", ".join(own) or "none", "state": "ready"}
    options.show([{**first, "description": ""}, *shown], local.COLUMNS, as_json=as_json, empty="")


def _state(row: Row) -> str:
    if row["slowed_until"]:
        return f"slowed down until {_second(row['slowed_until'])}: {row['error']}"
    if row["since"] is None:
        # A server of before knows neither.
        last = row.get("last_verification") or {}
        return local.told(row.get("unproven") or "", options.moment(last.get("finished_at")), last.get("message", ""))
    word = local.in_a_row(row["failures"]) if row["ready"] else "not asked"
    return f"{word} since {_second(row['since'])}: {row['error']}"


def _second(text: str) -> str:
    return options.second(datetime.fromisoformat(text))


@app.command("show")
def show_issuer(
    which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False
) -> None:
    """A CA with its attributes; credentials are never shown."""
    row = _issuer(Door(url, api_key_file, ca_file), which)
    shown = {name: row[name] for name in ("id", "name", "issuer_type", "description", "created_at")}
    shown["type"] = shown.pop("issuer_type")
    if as_json:
        options.show([{**shown, "attributes": row["issuer_attributes"]}], (), as_json=True, empty="")
        return
    pairs = [*shown.items(), *row["issuer_attributes"].items()]
    rows = [{"setting": name, "value": value} for name, value in pairs]
    options.show(rows, ("setting", "value"), as_json=False, empty="")


@app.command("verify")
def verify(
    which: local.Which,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    issue_test: Annotated[
        bool,
        typer.Option(
            "--issue-test/--no-issue-test", help="Also have it sign a test certificate, which may cost quota."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Ask a CA, step by step, whether devices could get their certificates from it; exit 1 when not."""
    door = Door(url, api_key_file, ca_file)
    row = _issuer(door, which)
    found = door.ask("POST", f"{ISSUERS}/{row['id']}/verify", issue_test=str(issue_test).lower())
    reports = door.rows(f"/v1/issuers/{row['id']}/verifications", most=1, order="DESC")
    steps: list[Row] = next((report["steps"] for report in reports), [])
    named = [{"step": step["name"], "outcome": step["outcome"], "message": step["message"]} for step in steps]
    options.show(named, ("step", "outcome", "message"), as_json=as_json, empty="")
    if not as_json:
        print(f"{row['name']}: {found['message']}")
    if not found["successful"]:
        raise typer.Exit(1)


def _activate(door: Door, reference: str, issuer_id: str | None) -> list[Doubt]:
    """Have a CA sign for a service; what speaks against it."""
    service = _service(door, reference)
    return doubts_in(door.ask("PUT", f"{SERVICES}/{service['id']}", {"certificate_issuer_id": issuer_id}))


@app.command("activate")
def activate(
    which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, service: local.Service = LWM2M
) -> None:
    """Have a CA sign for a service from now on; requests under way stay with the CA they were sent to."""
    door = Door(url, api_key_file, ca_file)
    row = _issuer(door, which)
    print(local.activated(row["name"], service, _activate(door, service, row["id"])))


@app.command("deactivate")
def deactivate(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, service: local.Service = LWM2M) -> None:
    """Go back to the embedded CA for a service."""
    _activate(Door(url, api_key_file, ca_file), service, None)
    print(f"The {OWN_CA} signs for {service}.")


@app.command("remove")
def remove(which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Remove a CA that is active for no service."""
    door = Door(url, api_key_file, ca_file)
    row = _issuer(door, which)
    door.ask("DELETE", f"{ISSUERS}/{row['id']}")
    print(local.removed(row["name"]))


@services.command("add")
def add_service(
    reference: local_service.Reference,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    issuer: Annotated[str | None, typer.Option(help="Name of the issuer; the embedded CA when not given.")] = None,
) -> None:
    """Make a service of your own, for certificates besides the LwM2M one."""
    door = Door(url, api_key_file, ca_file)
    row = _issuer(door, issuer) if issuer is not None else None
    made = door.ask("POST", SERVICES, {"reference": reference, "certificate_issuer_id": row["id"] if row else None})
    print(local.activated(row["name"] if row else f"The {OWN_CA}", reference, doubts_in(made)))


@services.command("list")
def list_services(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """The services, and who signs for each."""
    door = Door(url, api_key_file, ca_file)
    names = {row["id"]: row["name"] for row in door.rows(ISSUERS)}
    rows = [
        {
            "id": row["id"],
            "service": row["reference"],
            "issuer": names.get(row["certificate_issuer_id"], OWN_CA),
            "since": options.moment(row["updated_at"]),
        }
        for row in door.rows(SERVICES)
    ]
    options.show(rows, ("service", "issuer", "since"), as_json=as_json, empty="")


@services.command("remove")
def remove_service(
    reference: local_service.Reference, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None
) -> None:
    """Remove a service of your own."""
    door = Door(url, api_key_file, ca_file)
    door.ask("DELETE", f"{SERVICES}/{_service(door, reference)['id']}")
    known = [
        (row["name"], row["toml"], {name: base64.b64decode(content) for name, content in row["files"].items()})
        for row in door.rows("/v1/profiles")
    ]
    print(local_service.removed(reference, profile_admin.naming_service(known, reference)))
