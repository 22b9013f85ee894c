"""`firstlight ca`: the embedded CA, its ceremony, and what it issued."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from server.admin import ceremony
from server.admin.files import is_stream, read_bytes, write, write_private
from server.cli import options
from server.errors import BadRequest
from server.record import Record
from server.store import certificates, embedded_ca

app = typer.Typer(help="The embedded CA: its certificates, its root key, what it issued.", no_args_is_help=True)


@app.command("init")
def init(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    export_root_key: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="File for the device root's key, encrypted; the key is then removed from the record."
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the passphrase for that key, 12 characters or more."),
    ] = None,
) -> None:
    """Make the embedded CA: device root, issuing CA, server root, server certificate; `serve` does it if needed."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="meant") as record:
            if export_root_key is not None:
                await _export(record, export_root_key, passphrase_file, remove=True)
            shown = await ceremony.show(record.database, record.sealer, record.account_id)
        for row in shown:
            print(f"{row['certificate']}: {row['subject']}, until {row['until']}, SHA-256 {row['fingerprint']}")

    options.run(work)


@app.command("show")
def show(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The certificates of the embedded CA and of the server, and where the root key is."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await ceremony.show(record.database, record.sealer, record.account_id)
        options.show(
            rows, ("certificate", "subject", "until", "fingerprint", "key"), as_json=as_json, empty="There is no CA."
        )

    options.run(work)


@app.command("export")
def export(
    which: Annotated[
        Literal["device-root", "issuing", "server-root", "server"], typer.Argument(help="The certificate to write.")
    ],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    out: Annotated[
        Path | None, typer.Option(readable=False, help="File to write; standard output when not given.")
    ] = None,
) -> None:
    """Write a certificate in PEM. Your LwM2M server must trust the device root, devices must trust the server root.

    `server` is for devices that cannot trust a CA (Leshan 1.5): they refuse the server once it gets another name.
    """

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            pem = await ceremony.export(record.database, record.sealer, record.account_id, which)
        if out is None:
            print(pem.decode(), end="")
        else:
            write(out, pem)

    options.run(work)


@app.command("export-root-key")
def export_root_key_command(
    out: Annotated[Path, typer.Option(readable=False, help="File to write, encrypted PKCS#8 in PEM.")],
    passphrase_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="File with the passphrase, 12 characters or more.")
    ],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Then remove it from the record: the root is off-line.")
    ] = False,
) -> None:
    """Write the device root's key, encrypted under a passphrase."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            await _export(record, out, passphrase_file, remove=remove)
        gone = ", and no longer here" if remove else ""
        options.said_of(out, f"The root key is in {out}, encrypted{gone}. Keep the passphrase apart.")

    options.run(work)


async def _export(record: Record, out: Path, passphrase_file: Path | None, *, remove: bool) -> None:
    if passphrase_file is None:
        raise BadRequest("a root key leaves only encrypted; give --passphrase-file")
    if is_stream(out):
        if remove:
            raise BadRequest(
                f"{out} is no file: nobody could tell whether the key was kept when it is removed here; give a file"
            )
    elif out.is_dir():
        raise BadRequest(f"{out} is a folder; give the name of a file in it")
    elif out.exists():
        raise BadRequest(f"{out} exists; a key never overwrites a file, give another name")
    passphrase = read_bytes(passphrase_file).strip()
    pem = await ceremony.encrypted_root_key(record.database, record.sealer, record.account_id, passphrase)
    write_private(out, pem.decode())
    if remove:
        await embedded_ca.remove_root_key(record.database, options.actor(), record.account_id)


@app.command("renew-server")
def renew_server(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Make the server's own certificate anew, for the same names, below the same server root."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            until = await ceremony.renew_server(record.database, record.sealer, options.actor(), datetime.now(UTC))
        print(
            f"The server's certificate is new and ends {until:%Y-%m-%d}; running servers show it within two seconds. "
            "Devices that hold the certificate itself, and not the server root, refuse it: give them the new one "
            "(`firstlight ca export server`)."
        )

    options.run(work)


StateOption = Annotated[
    Literal["issued", "delivered", "abandoned"] | None,
    typer.Option(help="Only certificates in this state.", show_default=False),
]


def none_issued(asked: str | None) -> str:
    """What is said in place of an empty list; `asked` is what narrowed it."""
    return "No certificate is like that." if asked else "No certificate was issued yet."


@app.command("issued")
def issued(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    endpoint: Annotated[str | None, typer.Option(help="Only certificates of this endpoint.")] = None,
    serial: Annotated[str | None, typer.Option(help="Only this serial number, in hexadecimal.")] = None,
    state: StateOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000000, help="Most rows to show.")] = 10000,
    as_json: options.AsJson = False,
) -> None:
    """Certificates on record, newest first, whichever CA signed them."""

    async def work() -> None:
        number = options.serial_number(serial) if serial is not None else None
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await certificates.search(
                record.database, record.account_id, endpoint=endpoint, serial=number, state=state, limit=limit
            )
        options.show(
            [
                {
                    "serial": format(row.serial, "x"),
                    "endpoint": row.endpoint,
                    "service": row.service,
                    "state": row.state,
                    "until": f"{row.not_after:%Y-%m-%d}",
                    "revoked": row.revoked_at,
                }
                for row in rows
            ],
            ("serial", "endpoint", "service", "state", "until", "revoked"),
            as_json=as_json,
            empty=none_issued(endpoint or serial or state),
        )

    options.run(work)


@app.command("crl")
def crl(
    out: Annotated[Path, typer.Option(readable=False, help="File to write, DER.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Write the embedded CA's revocation list as of now."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            der, count = await ceremony.crl(record.database, record.sealer, record.account_id, datetime.now(UTC))
        write(out, der)
        options.said_of(out, f"{count} revoked certificates are listed in {out}.")

    options.run(work)
