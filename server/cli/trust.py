"""`firstlight trust`: whose devices may come, and what issued certificates must lead to."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from server.admin import trust as admin
from server.admin import withdrawals
from server.admin.files import read_bytes
from server.cli import options
from server.cli.doubts import with_doubts
from server.doubt import Doubt
from server.store import trust

app = typer.Typer(help="Trusted certificates: factory CAs and the CAs of LwM2M servers.", no_args_is_help=True)

EMPTY = "Nothing is trusted yet; add your factory's CA: `firstlight trust add CA.pem --service bootstrap`."

ServiceOption = Annotated[
    Literal["bootstrap", "lwm2m"],
    typer.Option(help="bootstrap: factory CAs whose devices may come; lwm2m: CAs that issued certificates lead to."),
]
Denied = Annotated[
    bool,
    typer.Option(
        "--denied", help="Put it on record to be refused, with all that is below it; may be a device's own certificate."
    ),
]
Which = Annotated[str, typer.Argument(metavar="name", help="Name, or the beginning of its id or fingerprint.")]


def told(service: str, name: str, fingerprint: str, doubts: Iterable[Doubt]) -> str:
    """What was done, and what is to be known of it."""
    return with_doubts(f"Trusted for {service}: {name} (SHA-256 {fingerprint}).", doubts, name)


def told_denied(service: str, name: str, fingerprint: str) -> str:
    """What was done where a certificate is on record to be refused."""
    back = f"`firstlight trust remove {quote(name)}` takes it back"
    return f"Denied for {service}: {name} (SHA-256 {fingerprint}); {back}."


def activated(name: str, doubts: Iterable[Doubt]) -> str:
    """What is said of one that counts again."""
    return with_doubts(f"{name} is active.", doubts, name)


def denied(name: str, service: str, doubts: Iterable[Doubt]) -> str:
    """What follows from a denial."""
    what = "its devices are refused" if service == "bootstrap" else "nothing that leads to it is delivered"
    again = f"`firstlight trust activate {quote(name)}` takes it back"
    return with_doubts(f"{name} is denied: {what}; {again}.", doubts, name)


def removed(name: str, service: str, doubts: Iterable[Doubt]) -> str:
    """What follows from a removal."""
    what = "its devices are unknown from now on" if service == "bootstrap" else "nothing leads to it any more"
    return with_doubts(f"{name} is removed: {what}.", doubts, name)


@app.command("add")
def add(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Certificate in PEM or DER; a PEM file may hold several."),
    ],
    service: ServiceOption,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    name: Annotated[str, typer.Option(help="Name in lists; its subject when not given.")] = "",
    is_denied: Denied = False,
    enrollment_mode: Annotated[
        bool,
        typer.Option(
            "--enrollment-mode", help="Several accounts share it; each claims its devices by an enrolment list."
        ),
    ] = False,
) -> None:
    """Trust the certificates of a file, all or none; a running server uses them within two seconds."""

    async def work() -> None:
        now = datetime.now(UTC)
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            added = await admin.add_pem(
                record.database,
                options.actor(),
                record.account_id,
                read_bytes(file),
                service=service,
                now=now,
                name=name,
                active=not is_denied,
                enrollment_mode=enrollment_mode,
            )
        for row in added:
            if is_denied:
                print(told_denied(service, row.name, row.fingerprint.hex()))
                continue
            print(told(service, row.name, row.fingerprint.hex(), admin.doubts(row.certificate, service, now)))

    options.run(work)


@app.command("list")
def list_trusted(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """All trusted and denied certificates."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await trust.listed(record.database, record.account_id)
        options.show(
            [
                {
                    "id": row.id.hex,
                    "name": row.name,
                    "service": row.service,
                    "status": "active" if row.active else "denied",
                    "until": f"{row.not_after:%Y-%m-%d}",
                    "fingerprint": row.fingerprint.hex(),
                }
                for row in rows
            ],
            ("name", "service", "status", "until", "fingerprint"),
            as_json=as_json,
            empty=EMPTY,
        )

    options.run(work)


@app.command("deny")
def deny(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Refuse every device of a factory."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.find(record.database, record.account_id, which)
            depends = await withdrawals.dependents(record.database, record.account_id, row)
            await trust.set_active(record.database, options.actor(), record.account_id, row.id, False)
        print(denied(row.name, row.service, depends.doubts(row, removed=False)))

    options.run(work)


@app.command("activate")
def activate(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Take the devices of a denied factory again."""

    async def work() -> None:
        now = datetime.now(UTC)
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.find(record.database, record.account_id, which)
            admin.check_activation(row, now)
            await trust.set_active(record.database, options.actor(), record.account_id, row.id, True)
        print(activated(row.name, admin.doubts(row.certificate, row.service, now)))

    options.run(work)


@app.command("remove")
def remove(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a trusted certificate; its devices are unknown from then on."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.find(record.database, record.account_id, which)
            depends = await withdrawals.dependents(record.database, record.account_id, row)
            await trust.remove(record.database, options.actor(), record.account_id, row.id)
        print(removed(row.name, row.service, depends.doubts(row, removed=True)))

    options.run(work)
