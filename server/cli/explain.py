"""`firstlight device explain`: the dry run."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from server.admin import explain as admin
from server.cli import options


def explain(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name; it need not have been here.")],
    pct: Annotated[int | None, typer.Option(help="Preferred content format the device would send.")] = None,
    version: Annotated[str, typer.Option(help="LwM2M version of the device: 1.0, 1.1 or 1.2.")] = "1.1",
    trusted_certificate: Annotated[
        str, typer.Option(help="Fingerprint or id of the factory CA it would come with.")
    ] = "",
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """What would this device get? Nothing is signed, written or sent; exit 1 when something would stop it."""

    async def work() -> bool:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            found = await admin.explain(
                record.database,
                record.sealer,
                record.account_id,
                endpoint,
                pct=pct,
                version=version,
                trusted_certificate=trusted_certificate,
                now=datetime.now(UTC),
            )
        steps = [
            {"step": w.operation, "path": w.path, "bytes": w.bytes or None, "format": w.format, "note": w.note or None}
            for w in found.operations
        ]
        findings = [{"severity": f.severity, "message": f.sentence} for f in found.findings]
        if as_json:
            row = {
                "endpoint": found.endpoint,
                "profile": found.profile,
                "issuers": found.issuers,
                "operations": steps,
                "outcome": found.outcome,
                "findings": findings,
            }
            options.show([row], (), as_json=True, empty="")
        else:
            signing = ", ".join(f"{name} signs for {service}" for service, name in found.issuers.items())
            options.console.print(
                f"[bold]{endpoint}[/bold] gets the profile {found.profile}; {signing or 'no certificate'}.",
                highlight=False,
            )
            options.show(steps, ("step", "path", "bytes", "format", "note"), as_json=False, empty="")
            for finding in findings:
                options.console.print(f"{finding['severity']}: {finding['message']}", highlight=False, soft_wrap=True)
            print(f"Outcome on a device that takes everything: {found.outcome}.")
        return found.outcome == "succeeded" and not admin.worst(found.findings)

    if not options.run(work):
        raise typer.Exit(1)
