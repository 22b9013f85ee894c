"""`trust` and `profile` through the API."""

import base64
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from cryptography.hazmat.primitives import serialization

from server.admin import profiles as profile_admin
from server.admin import trust as admin
from server.admin.files import read_bytes
from server.cli import options
from server.cli import profile as local_profile
from server.cli import trust as local
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Row, Url, doubts_in

trust = typer.Typer(help="Trusted certificates: factory CAs and the CAs of LwM2M servers.", no_args_is_help=True)
profile = typer.Typer(help="Profiles: what is written to which device.", no_args_is_help=True)

TRUSTED, PROFILES = "/v3/trusted-certificates", "/v1/profiles"


@trust.command("add")
def add(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Certificate in PEM or DER; a PEM file may hold several."),
    ],
    service: local.ServiceOption,
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
    name: Annotated[str, typer.Option(help="Name in lists; its subject when not given.")] = "",
    is_denied: local.Denied = False,
    enrollment_mode: Annotated[
        bool,
        typer.Option(
            "--enrollment-mode", help="Several accounts share it; each claims its devices by an enrolment list."
        ),
    ] = False,
) -> None:
    """Trust the certificates of a file, all or none; a running server uses them within two seconds."""
    certificates = options.expected(lambda: admin.parse(read_bytes(file)))
    door = Door(url, api_key_file, ca_file)
    pem = [each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates]
    wanted = {
        # Without one the server finds it: another client may add one of the same subject at the same time.
        "name": name or None,
        "service": service,
        "status": "INACTIVE" if is_denied else "ACTIVE",
        "enrollment_mode": enrollment_mode,
    }
    if len(pem) == 1:
        added = [door.ask("POST", TRUSTED, {**wanted, "certificate": pem[0]})]
    else:
        added = door.ask("POST", "/v1/trusted-certificates-batch", {**wanted, "certificates": "".join(pem)})["data"]
    for row in added:
        if is_denied:
            print(local.told_denied(service, row["name"], row["certificate_fingerprint"]))
            continue
        print(local.told(service, row["name"], row["certificate_fingerprint"], doubts_in(row)))


@trust.command("list")
def list_trusted(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """All trusted and denied certificates."""
    rows = [
        {
            "id": row["id"],
            "name": row["name"],
            "service": row["service"],
            "status": "active" if row["status"] == "ACTIVE" else "denied",
            "until": row["validity"][:10],
            "fingerprint": row["certificate_fingerprint"],
        }
        for row in Door(url, api_key_file, ca_file).rows(TRUSTED)
    ]
    columns = ("name", "service", "status", "until", "fingerprint")
    options.show(rows, columns, as_json=as_json, empty=local.EMPTY)


def _one(door: Door, which: str) -> Row:
    return door.one(TRUSTED, which, "trusted certificates", "trust", "certificate_fingerprint")


@trust.command("deny")
def deny(which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Refuse every device of a factory."""
    door = Door(url, api_key_file, ca_file)
    row = door.ask("PUT", f"{TRUSTED}/{_one(door, which)['id']}", {"status": "INACTIVE"})
    print(local.denied(row["name"], row["service"], doubts_in(row)))


@trust.command("activate")
def activate(which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Take the devices of a denied factory again."""
    door = Door(url, api_key_file, ca_file)
    row = door.ask("PUT", f"{TRUSTED}/{_one(door, which)['id']}", {"status": "ACTIVE"})
    print(local.activated(row["name"], doubts_in(row)))


@trust.command("remove")
def remove(which: local.Which, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Remove a trusted certificate; its devices are unknown from then on."""
    door = Door(url, api_key_file, ca_file)
    row = _one(door, which)
    doubts = doubts_in(door.get(f"/v1/trusted-certificates/{row['id']}/dependents"))
    door.ask("DELETE", f"{TRUSTED}/{row['id']}")
    print(local.removed(row["name"], row["service"], doubts))


@profile.command("set")
def set_profile(
    name: local_profile.Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file (docs/profiles.md).")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca_file: CaFile = None,
) -> None:
    """Store a profile and the files it names; a running server uses it within two seconds."""
    text, files, read = options.expected(lambda: profile_admin.read(name, file))
    body = {"toml": text, "files": {named: base64.b64encode(content).decode() for named, content in files.items()}}
    answer = Door(url, api_key_file, ca_file).ask("PUT", f"{PROFILES}/{quote(name, safe='')}", body)
    print(local_profile.was_set(name, read.endpoint, doubts_in(answer)))


@profile.command("list")
def list_profiles(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """The profiles by name."""
    rows = [
        {"name": row["name"], "files": ", ".join(sorted(row["files"])), "changed": options.moment(row["updated_at"])}
        for row in Door(url, api_key_file, ca_file).rows(PROFILES)
    ]
    options.show(rows, ("name", "files", "changed"), as_json=as_json, empty=local_profile.EMPTY)


@profile.command("show")
def show(name: local_profile.Name, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """The text of a profile as it was given."""
    print(Door(url, api_key_file, ca_file).get(f"{PROFILES}/{quote(name, safe='')}")["toml"], end="")


@profile.command("remove")
def remove_profile(name: local_profile.Name, url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None) -> None:
    """Remove a profile; its devices get the next one that matches, or are refused."""
    door = Door(url, api_key_file, ca_file)
    devices = door.get("/v3/devices/", limit=2, include="total_count", profile__eq=name)["total_count"]
    door.ask("DELETE", f"{PROFILES}/{quote(name, safe='')}")
    print(local_profile.removed(name, devices))
