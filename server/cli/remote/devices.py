"""`device` and `certificate` through the API."""

import json
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.text import Text

from server import transcripts
from server.admin.files import write
from server.cli import certificate as local
from server.cli import device as local_device
from server.cli import explain as local_explain
from server.cli import options
from server.cli.ca import StateOption, none_issued
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Row, Url
from server.store.refusals import Unlisted

app = typer.Typer(help="Devices: how their bootstraps went, and who was not admitted.", no_args_is_help=True)
certificates = typer.Typer(help="Issued certificates, whichever CA signed them.", no_args_is_help=True)

DEVICES, CERTIFICATES = "/v3/devices/", "/v1/certificates"
Endpoint = Annotated[str, typer.Argument(help="Endpoint Client Name.")]


def _device(door: Door, endpoint: str) -> Row:
    found = list(door.rows(DEVICES, endpoint_name__eq=endpoint))
    if not found:
        options.fail(f"{endpoint} was never here; `firstlight device seen` lists who knocked and was not admitted")
    return found[0]


@app.command("list")
def list_devices(
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    state: local_device.StateOption = None,
    after: Annotated[str, typer.Option(help="Only names after this one, in order.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Most rows to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Devices in the order of their names."""
    found = Door(url, api_key_file, ca_file).rows(DEVICES, sort="endpoint_name", last_outcome__eq=state)
    wanted = islice((row for row in found if row["endpoint_name"] > after), limit)
    rows = [
        {
            "endpoint": row["endpoint_name"],
            "state": row["last_outcome"],
            "profile": row["profile"],
            "first_seen": options.moment(row["created_at"]),
            "last_seen": options.moment(row["updated_at"]),
        }
        for row in wanted
    ]
    columns = ("endpoint", "state", "profile", "first_seen", "last_seen")
    options.show(rows, columns, as_json=as_json, empty=local_device.none_listed(state or after))


@app.command("show")
def show_device(
    endpoint: Endpoint,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    sessions_shown: Annotated[
        int, typer.Option("--sessions", min=1, max=100, help="Number of bootstraps to show, newest first.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """A device's last bootstraps, step by step, and its certificates."""
    door = Door(url, api_key_file, ca_file)
    device = _device(door, endpoint)
    past = door.rows("/v1/sessions", most=sessions_shown, order="DESC", endpoint_name__eq=endpoint)
    sessions = [door.get(f"/v1/sessions/{row['id']}") for row in past]
    held = list(door.rows(CERTIFICATES, most=10, order="DESC", endpoint_name__eq=endpoint))
    known = door.get_if_known(f"/v1/devices/{device['id']}/learned")
    if as_json:
        learned = (
            {"learned": json.dumps(known["learned"]), "est_offer": known["est_offer"]}
            if known is not None
            else {"learned": None, "est_offer": None}
        )
        options.show([{**device, **learned, "sessions": sessions, "certificates": held}], (), as_json=True, empty="")
        return
    outcome = device["last_outcome"] or local_device.NEVER_HERE
    options.console.print(
        Text(endpoint, "bold"), f"  {outcome}, profile {device['profile'] or 'none'}", sep="", highlight=False
    )
    for row in held:
        revoked = f", revoked {_second(row['revoked_at'])}" if row["revoked_at"] else ""
        serial = f"{int(row['serial'], 16):x}"
        options.console.print(
            f"  certificate {serial}, {row['state']}, until {row['not_after'][:10]}{revoked}",
            highlight=False,
            soft_wrap=True,
        )
    about_est = f"how it stands with EST is not told by {door.version}" if known is None else known["est"]
    if about_est:
        options.console.print(f"  {about_est}", highlight=False, soft_wrap=True)
    for session in sessions:
        options.console.print(
            Text(f"\n{_second(session['created_at'])}", "bold"),
            f"  {session['outcome']}, {session['credential']} from {session['address']}",
            sep="",
            highlight=False,
            soft_wrap=True,
        )
        local_device.print_steps(session["sentence"], session["steps"])


def _second(text: str) -> str:
    return options.second(datetime.fromisoformat(text))


@app.command("transcript")
def transcript(
    endpoint: Endpoint,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    session: Annotated[
        UUID | None, typer.Option(help="Id of a session, instead of the newest.", show_default=False)
    ] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Print text for people instead of JSON.")] = False,
) -> None:
    """The last attempt of a device, datagram by datagram and without key material, for `replay`."""
    door = Door(url, api_key_file, ca_file)
    path = f"/v1/devices/{_device(door, endpoint)['id']}/transcripts"
    newest = next((str(row["id"]) for row in door.rows(path, most=1, order="DESC")), None)
    wanted = session.hex if session is not None else newest
    if wanted is None:
        options.fail(f"no transcript of {endpoint} is on record; by default failed attempts leave one")
    document = door.get(f"{path}/{wanted}")
    print("\n".join(transcripts.text(document)) if as_text else json.dumps(document, indent=1))


@app.command("seen")
def seen(
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Who came and was refused, newest first: what each reason means and what to do."""
    # A list of the API has two rows at least.
    found = Door(url, api_key_file, ca_file).get("/v1/seen", limit=max(limit, 2))
    times = ("first_seen", "last_seen")
    rows = [
        {**{name: row[name] for name in local_device.SEEN}, **{name: options.moment(row[name]) for name in times}}
        for row in found["data"]
    ]
    missing = found["not_listed"]
    unlisted = missing and Unlisted(
        missing["count"], *(datetime.fromisoformat(missing[name]) for name in ("first_at", "last_at"))
    )
    more = found["has_more"] or len(rows) > limit
    local_device.show_seen(rows[:limit], more=more, unlisted=unlisted, as_json=as_json)


@app.command("release")
def release(
    url: Url,
    api_key_file: ApiKeyFile,
    endpoint: local_device.ReleasedArgument = None,
    everything: local_device.AllOption = False,
    ca_file: CaFile = None,
) -> None:
    """Let a device have a new certificate although the outcome of an earlier request is unknown."""
    one, count = local_device.one_or_all(endpoint, everything), 0
    door, asked = Door(url, api_key_file, ca_file), {"all": True} if one is None else {"endpoint_name": one}
    while rows := door.ask("POST", "/v1/devices/release", asked)["certificate_ids"]:
        count += len(rows)
        if one is not None:
            break
    print(local_device.released(one, count))


@app.command("forget")
def forget(
    endpoint: Endpoint,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    everything: Annotated[
        bool, typer.Option("--remove", help="Remove the device and free its public keys; certificates stay on record.")
    ] = False,
    revoke: Annotated[bool, typer.Option(help="With --remove: revoke its certificates first.")] = False,
) -> None:
    """Forget what was learned of a device, for instance after new firmware."""
    door = Door(url, api_key_file, ca_file)
    if everything:
        door.ask("DELETE", f"{DEVICES}{_device(door, endpoint)['id']}/?revoke={str(revoke).lower()}")
    else:
        door.ask("POST", "/v1/devices/forget", {"endpoint_name": endpoint})
    print(f"{endpoint} is {'removed' if everything else 'forgotten'}.")


@app.command("explain")
def explain(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name; the device need not have come yet.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    pct: Annotated[
        int | None,
        typer.Option(help="Preferred content format (pct) that the device sends, a CoAP number such as 112."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="LwM2M version 1.0, 1.1 or 1.2; when not given, what the device registered with, or 1.1."),
    ] = None,
    trusted_certificate: Annotated[str, typer.Option(help="Fingerprint or id of the factory CA of the device.")] = "",
    izuma: Annotated[bool, typer.Option("--izuma", help="The device is an Izuma client.")] = False,
    as_json: AsJson = False,
) -> None:
    """What would this device get? Nothing is signed, written or sent; exit 1 when something would stop it."""
    query = {
        "endpoint_name": endpoint,
        "pct": pct,
        "version": version,
        "trusted_certificate": trusted_certificate,
        "izuma": str(izuma).lower(),
    }
    found = Door(url, api_key_file, ca_file).get("/v1/dry-run", **query)
    steps = [
        {
            "step": step["operation"],
            "path": step["path"],
            "bytes": step["bytes"] or None,
            "format": step["format"],
            "note": step["note"] or None,
        }
        for step in found["operations"]
    ]
    told = local_explain.Told(
        endpoint,
        found["profile"],
        found["issuers"],
        found["client"],
        steps,
        found["enrolments"],
        found["outcome"],
        found["findings"],
        found["version"],
        found["sizes_estimated"],
    )
    local_explain.tell(told, as_json=as_json)
    if found["outcome"] != "succeeded" or any(finding["severity"] == "error" for finding in found["findings"]):
        raise typer.Exit(1)


@certificates.command("list")
def list_certificates(
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    endpoint: Annotated[str | None, typer.Option(help="Only certificates of this endpoint.")] = None,
    serial: Annotated[str | None, typer.Option(help="Only this serial number, in hexadecimal.")] = None,
    state: StateOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000000, help="Most rows to show.")] = 10000,
    as_json: AsJson = False,
) -> None:
    """Certificates on record, newest first, whichever CA signed them."""
    query = {"endpoint_name__eq": endpoint, "serial__eq": serial, "state__eq": state}
    rows = [
        {
            "serial": f"{int(row['serial'], 16):x}",
            "endpoint": row["endpoint_name"],
            "service": row["service"],
            "state": row["state"],
            "until": row["not_after"][:10],
            "revoked": options.moment(row["revoked_at"]),
        }
        for row in Door(url, api_key_file, ca_file).rows(CERTIFICATES, most=limit, order="DESC", **query)
    ]
    columns = ("serial", "endpoint", "service", "state", "until", "revoked")
    options.show(rows, columns, as_json=as_json, empty=none_issued(endpoint or serial or state))


def _certificate(door: Door, serial: str) -> Row:
    found = list(door.rows(CERTIFICATES, most=2, serial__eq=serial))
    if len(found) != 1:
        options.fail(f"{serial} names {len(found) or 'no'} certificates; `firstlight certificate list` shows them")
    return found[0]


@certificates.command("show")
def show_certificate(
    serial: local.Serial,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    out: Annotated[
        Path | None,
        typer.Option(readable=False, help="File to write (PEM, leaf first); standard output when not given."),
    ] = None,
) -> None:
    """The chain of a certificate in PEM, leaf first, without the root."""
    door = Door(url, api_key_file, ca_file)
    pem = str(door.get(f"{CERTIFICATES}/{_certificate(door, serial)['id']}")["chain"])
    if out is not None:
        options.expected(lambda: write(out, pem.encode()))
    else:
        print(pem, end="")


@certificates.command("revoke")
def revoke(
    serial: local.Serial,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    reason: Annotated[local.Reason, typer.Option(help="Reason code of RFC 5280, 5.3.1.")] = "unspecified",
) -> None:
    """Revoke a certificate at its CA, then on record."""
    door = Door(url, api_key_file, ca_file)
    row = _certificate(door, serial)
    door.ask("POST", f"{CERTIFICATES}/{row['id']}/revoke", {"reason": reason})
    print(f"Certificate {int(row['serial'], 16):x} of {row['endpoint_name']} is revoked.")
