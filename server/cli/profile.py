"""`firstlight profile`: what is written to which device."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from server.admin import profiles as admin
from server.cli import options
from server.cli.doubts import with_doubts
from server.doubt import Doubt
from server.errors import NotFound
from server.profile import DEFAULT_NAME
from server.store import profiles

app = typer.Typer(help="Profiles: what is written to which device.", no_args_is_help=True)

EMPTY = "There is no profile; set one: `firstlight profile set default FILE.toml`."

Name = Annotated[str, typer.Argument(help="Name of the profile.")]


def was_set(name: str, endpoint: str, doubts: Iterable[Doubt]) -> str:
    """What is said of a profile that was stored, its doubts included."""
    return with_doubts(f"Profile {name} is set, for endpoints {endpoint}.", doubts, name)


def removed(name: str, devices: int) -> str:
    """What is said of one that is gone; `devices` had it last."""
    said = f"Profile {name} is removed."
    if name == DEFAULT_NAME:
        said = f"{said} No start makes it anew: a device that no other profile matches is refused until one is set."
    if devices:
        whose = "1 device had it last: it gets" if devices == 1 else f"{devices:,} devices had it last: they get"
        said = f"{said} {whose} the next profile that matches, or none and no bootstrap."
    return said


@app.command("set")
def set_profile(
    name: Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file (docs/profiles.md).")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Store a profile and the files it names; a running server uses it within two seconds."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            profile, doubts = await admin.store(record.database, options.actor(), record.account_id, name, file)
        print(was_set(name, profile.endpoint, doubts))

    options.run(work)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file.")],
) -> None:
    """Say what is wrong with a profile, without storing it."""

    async def work() -> None:
        _, _, profile = admin.read(file.stem, file)
        counts = f"{len(profile.plan.securities)} security and {len(profile.plan.servers)} server entries"
        print(with_doubts(f"{file} is good: {counts}.", admin.plan_doubts(profile, datetime.now(UTC)), profile.name))

    options.run(work)


@app.command("list")
def list_profiles(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The profiles by name."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await profiles.listed(record.database, record.account_id)
        options.show(
            [{"name": row.name, "files": ", ".join(sorted(row.files)), "changed": row.updated_at} for row in rows],
            ("name", "files", "changed"),
            as_json=as_json,
            empty=EMPTY,
        )

    options.run(work)


@app.command("show")
def show(
    name: Name,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """The text of a profile as it was given."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await profiles.find(record.database, record.account_id, name)
        if row is None:
            raise NotFound(f"there is no profile {name}; `firstlight profile list` shows them")
        print(row.toml, end="")

    options.run(work)


@app.command("remove")
def remove(
    name: Name,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a profile; its devices get the next one that matches, or are refused."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            devices = await admin.devices_of(record.database, record.account_id, name)
            await profiles.remove(record.database, options.actor(), record.account_id, name)
        print(removed(name, devices))

    options.run(work)
