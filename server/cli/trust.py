"""`firstlight trust`: whose devices may come, and what issued certificates must lead to."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from server.admin import trust as admin
from server.cli import options
from server.store import trust

app = typer.Typer(help="Trusted certificates: factory CAs and the CAs of LwM2M servers.", no_args_is_help=True)

EMPTY = "Nothing is trusted yet; add your factory's CA: `firstlight trust add CA.pem --service bootstrap`."

ServiceOption = Annotated[
    Literal["bootstrap", "lwm2m"],
    typer.Option(help="bootstrap: factory CAs whose devices may come; lwm2m: CAs that issued certificates lead to."),
]
Which = Annotated[str, typer.Argument(help="Name, or the beginning of its id or fingerprint.")]


def told(service: str, name: str, fingerprint: str, der: bytes) -> str:
    """What was done, and that it is for one device where that is so."""
    why = admin.why_alone(der) if service == "bootstrap" else ""
    alone = f" It lets in the one device that has this very certificate ({why})." if why else ""
    return f"Trusted for {service}: {name} (SHA-256 {fingerprint}).{alone}"


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="PEM, one certificate or a chain.")],
    service: ServiceOption,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    name: Annotated[str, typer.Option(help="What it is called; its subject when not given.")] = "",
    enrollment_mode: Annotated[
        bool, typer.Option("--enrollment-mode", help="Shared by several accounts; devices are claimed one by one.")
    ] = False,
) -> None:
    """Trust the certificates of a file; at work in a running server within two seconds."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url) as record:
            added = await admin.add_pem(
                record.database,
                options.actor(),
                record.account_id,
                file.read_bytes(),
                service=service,
                name=name,
                enrollment_mode=enrollment_mode,
            )
        for row in added:
            print(told(service, row.name, row.fingerprint.hex(), row.certificate))

    options.run(work)


@app.command("list")
def list_trusted(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """All trusted and denied certificates."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url) as record:
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


def _switch(which: str, active: bool, where: tuple[Path | None, Path | None, str | None]) -> None:
    async def work() -> None:
        async with options.opened(*where) as record:
            row = await admin.find(record.database, record.account_id, which)
            await trust.set_active(record.database, options.actor(), record.account_id, row.id, active)
        print(f"{row.name} is {'active' if active else 'denied: its devices are refused'}.")

    options.run(work)


@app.command("deny")
def deny(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Refuse every device of a factory."""
    _switch(which, False, (config, data_dir, database_url))


@app.command("activate")
def activate(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Take the devices of a denied factory again."""
    _switch(which, True, (config, data_dir, database_url))


@app.command("remove")
def remove(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Remove a trusted certificate; its devices are unknown from then on."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url) as record:
            row = await admin.find(record.database, record.account_id, which)
            await trust.remove(record.database, options.actor(), record.account_id, row.id)
        print(f"{row.name} is removed.")

    options.run(work)
