"""`firstlight db`: the record itself."""

import typer

from server.cli import options
from server.store import prune as pruning

app = typer.Typer(help="The record: migrations and retention.", no_args_is_help=True)


@app.command("migrate")
def migrate(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Bring the database to this version; `serve` does it by itself."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file):
            pass
        print("The database is at this version.")

    options.run(work)


@app.command("prune")
def prune(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    sessions_days: int | None = typer.Option(None, min=1, help="Keep sessions this long; default from the settings."),
    audit_days: int | None = typer.Option(None, min=1, help="Keep the audit this long; default from the settings."),
) -> None:
    """Let old sessions and audit rows go, and make partitions ahead; `serve` does it every day."""

    async def work() -> None:
        retention = options.load(config, {}).retention
        async with options.opened(config, data_dir, database_url) as record:
            pruned = await pruning.prune(
                record.database,
                sessions_days=sessions_days or retention.sessions_days,
                audit_days=audit_days or retention.audit_days,
            )
        print(
            f"{pruned.months_dropped} months dropped, {pruned.sessions_deleted} sessions and "
            f"{pruned.audit_deleted} audit rows deleted, {pruned.months_made} months made ahead."
        )

    options.run(work)
