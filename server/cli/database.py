"""`firstlight db`: the record itself."""

from pathlib import Path
from typing import Annotated

import typer

from server import record as records
from server.admin import master_key
from server.cli import options
from server.store import prune as pruning

app = typer.Typer(help="The record: migrations, retention, master key.", no_args_is_help=True)


@app.command("migrate")
def migrate(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Bring the database to this version; `serve` does it by itself."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="meant"):
            pass
        print("The database is at this version.")

    options.run(work)


@app.command("prune")
def prune(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    sessions_days: int | None = typer.Option(
        None, min=1, help="Days that sessions are kept; from the settings when not given."
    ),
    audit_days: int | None = typer.Option(
        None, min=1, help="Days that audit rows are kept; from the settings when not given."
    ),
    failed_issuances_days: int | None = typer.Option(
        None, min=2, help="Days that issuances that came to nothing are kept; from the settings when not given."
    ),
) -> None:
    """Delete old sessions, audit rows and failed issuances, and prepare partitions; `serve` does it every day."""

    async def work() -> None:
        retention = options.load(config, {}).retention
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            pruned = await pruning.prune(
                record.database,
                sessions_days=sessions_days or retention.sessions_days,
                audit_days=audit_days or retention.audit_days,
                transcripts_days=retention.transcripts_days,
                failed_issuances_days=failed_issuances_days or retention.failed_issuances_days,
            )
        print(
            f"{pruned.months_dropped} months dropped, {pruned.sessions_deleted} sessions and "
            f"{pruned.audit_deleted} audit rows deleted, {pruned.months_made} months made ahead.\n"
            f"{pruned.failed_issuances_deleted} failed issuances deleted, {pruned.enrollment_tasks_deleted} reports of "
            f"lists of devices and {pruned.verifications_deleted} verifications."
        )

    options.run(work)


@app.command("rotate-master-key")
def rotate_master_key(
    new_key_file: Annotated[
        Path,
        typer.Option(
            readable=False, help="File with the new key alone; it must be the first of the master key file already."
        ),
    ],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Seal every secret of the record with a new master key, all or none (docs/operate.md says the steps)."""

    async def work() -> None:
        new_keys = records.keys_in(new_key_file, "--new-key-file")
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rotated = await master_key.rotate(record.database, record.sealer, options.actor(), new_keys)
        print(f"{sum(rotated.resealed.values())} values were sealed again with master key {rotated.current}.")
        for name in rotated.retired:
            print(f"Nothing needs the master key {name} any more: take it out of every master key file.")

    options.run(work)
