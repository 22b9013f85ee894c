"""`firstlight certificate`: what was issued, shown and withdrawn."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.admin import certificates as admin
from server.admin.files import write
from server.cli import options
from server.cli.ca import issued
from server.errors import BadRequest
from server.record import Record
from server.store import certificates
from server.store.certificates import CertificateRow

app = typer.Typer(help="Issued certificates, whichever CA signed them.", no_args_is_help=True)
app.command("list")(issued)

Serial = Annotated[str, typer.Argument(help="Serial number, hexadecimal.")]
Reason = Literal[
    "unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"
]


async def _find(record: Record, serial: str) -> CertificateRow:
    number = options.serial_number(serial)
    rows = await certificates.search(record.database, record.account_id, serial=number, limit=2)
    if len(rows) != 1:
        raise BadRequest(f"{serial} names {len(rows) or 'no'} certificates; `firstlight certificate list` shows them")
    return rows[0]


@app.command("show")
def show_certificate(
    serial: Serial,
    out: Annotated[
        Path | None,
        typer.Option(readable=False, help="File to write (PEM, leaf first); standard output when not given."),
    ] = None,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """The chain of a certificate in PEM, leaf first, without the root."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await _find(record, serial)
        pem = b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in row.chain
        ).decode()
        if out is not None:
            write(out, pem.encode())
        else:
            print(pem, end="")

    options.run(work)


@app.command("revoke")
def revoke(
    serial: Serial,
    reason: Annotated[Reason, typer.Option(help="Reason code of RFC 5280, 5.3.1.")] = "unspecified",
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Revoke a certificate at its CA, then on record."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await _find(record, serial)
            await admin.revoke(
                record.database,
                record.sealer,
                record.config,
                options.actor(),
                record.account_id,
                row.issuance_id,
                reason=reason,
                now=datetime.now(UTC),
            )
        print(f"Certificate {row.serial:x} of {row.endpoint} is revoked.")

    options.run(work)
