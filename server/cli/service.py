"""`firstlight service`: which CA signs for what."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from server.admin import issuer_forms
from server.admin import issuers as admin
from server.admin import profiles as profile_admin
from server.cli import options
from server.cli.doubts import with_doubts
from server.cli.issuer import activated
from server.doubt import Doubt
from server.knowledge import OWN_CA
from server.standing import doubts_of
from server.store import issuers

app = typer.Typer(help="Services: which CA signs for what; LWM2M is always there.", no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Name of the service.")]


def removed(reference: str, doubts: Iterable[Doubt]) -> str:
    """What is said of a service that is gone."""
    return with_doubts(f"The service {reference} is removed.", doubts, reference)


@app.command("add")
def add_service(
    reference: Reference,
    issuer: Annotated[str | None, typer.Option(help="Name of the issuer; the embedded CA when not given.")] = None,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Make a service of your own, for certificates besides the LwM2M one."""

    async def work() -> None:
        issuer_forms.check_reference(reference)
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            row = await admin.by_word(record.database, record.account_id, issuer) if issuer is not None else None
            made = await issuers.add_configuration(
                record.database, options.actor(), record.account_id, reference, row.id if row is not None else None
            )
            doubts = await doubts_of(record.database, record.account_id, made, datetime.now(UTC))
        print(activated(row.name if row is not None else f"The {OWN_CA}", reference, doubts))

    options.run(work)


@app.command("list")
def list_services(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The services, and who signs for each."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            names = {row.id: row.name for row in await issuers.listed(record.database, record.account_id)}
            rows = await issuers.configured(record.database, record.account_id)
        options.show(
            [
                {
                    "id": row.id.hex,
                    "service": row.reference,
                    "issuer": names[row.issuer_id] if row.issuer_id is not None else OWN_CA,
                    "since": row.updated_at,
                }
                for row in rows
            ],
            ("service", "issuer", "since"),
            as_json=as_json,
            empty="",
        )

    options.run(work)


@app.command("remove")
def remove_service(
    reference: Reference,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a service of your own."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            found = await admin.service(record.database, record.account_id, reference)
            await issuers.remove_configuration(record.database, options.actor(), record.account_id, found.id)
            doubts = await profile_admin.without_service(record.database, record.account_id, reference)
        print(removed(reference, doubts))

    options.run(work)
