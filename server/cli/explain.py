"""`firstlight device explain`: the dry run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from server.admin import explain as admin
from server.cli import options


@dataclass(frozen=True, slots=True)
class Told:
    """A dry run as it is printed."""

    endpoint: str
    profile: str
    issuers: Mapping[str, str]
    client: str
    operations: Sequence[Mapping[str, object]]
    enrolments: Sequence[Mapping[str, str]]
    outcome: str
    findings: Sequence[Mapping[str, str]]
    version: str
    sizes_estimated: bool


def tell(told: Told, *, as_json: bool) -> None:
    """Print a dry run."""
    if as_json:
        options.show([asdict(told)], (), as_json=True, empty="")
        return
    signing = ", ".join(f"{name} signs for {service}" for service, name in told.issuers.items())
    options.console.print(
        Text(told.endpoint, "bold"),
        f" gets the profile {told.profile}; {signing or 'no certificate'}."
        f"{' It is an Izuma client.' if told.client == 'izuma' else ''}",
        sep="",
        highlight=False,
    )
    options.show(told.operations, ("step", "path", "bytes", "format", "note"), as_json=False, empty="")
    for each in told.enrolments:
        options.console.print(
            f"Then it asks at {each['path']} as {each['subject']}; the answer is {each['answer']}.",
            highlight=False,
            soft_wrap=True,
        )
    for finding in told.findings:
        options.console.print(f"{finding['severity']}: {finding['message']}", highlight=False, soft_wrap=True)
    if told.sizes_estimated:
        print("Sizes are estimates: the CA was not asked.")
    print(f"Outcome on a device that takes everything: {told.outcome}.")


def explain(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name; the device need not have come yet.")],
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
                izuma=izuma,
                now=datetime.now(UTC),
            )
        steps = [
            {"step": w.operation, "path": w.path, "bytes": w.bytes or None, "format": w.format, "note": w.note or None}
            for w in found.operations
        ]
        findings = [{"severity": f.severity, "message": f.sentence} for f in found.findings]
        told = Told(
            endpoint,
            found.profile,
            found.issuers,
            found.client,
            steps,
            [asdict(each) for each in found.enrolments],
            found.outcome,
            findings,
            found.version,
            found.estimated,
        )
        tell(told, as_json=as_json)
        return found.outcome == "succeeded" and not admin.worst(found.findings)

    if not options.run(work):
        raise typer.Exit(1)
