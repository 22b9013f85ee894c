"""`firstlight device transcript` and `firstlight replay`: the flight recorder, read and run again."""

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

import typer

from lwm2m.replay import replay as run_again
from server import transcripts
from server.admin.files import make_folder, write
from server.cli import options
from server.errors import BadRequest, NotFound
from server.record import Record
from server.store import transcripts as store


def transcript(
    endpoint: Annotated[str | None, typer.Argument(help="Endpoint Client Name.", show_default=False)] = None,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    session: Annotated[
        UUID | None, typer.Option(help="Id of a session, instead of the newest.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="Folder to write every transcript into, of this device or of all.",
            show_default=False,
        ),
    ] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Print text for people instead of JSON.")] = False,
) -> None:
    """The last attempt of a device, datagram by datagram and without key material, for `replay`."""

    async def every(folder: Path) -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            count = await _write_all(record, endpoint, folder)
        print(f"{count} transcripts are in {folder}.")

    async def one(name: str) -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            found = await store.find(record.database, record.account_id, name, session)
        if found is None:
            raise NotFound(
                f"no transcript of {name} is on record; by default failed attempts leave one "
                "(settings [recorder] attempts and outcomes)"
            )
        document = transcripts.shown(found)
        print("\n".join(transcripts.text(document)) if as_text else json.dumps(document, indent=1))

    if out is not None:
        if session is not None or as_text:
            options.fail("--out writes every transcript, as JSON: leave out --session and --text, or --out")
        options.run(lambda: every(out))
    elif endpoint is not None:
        options.run(lambda: one(endpoint))
    else:
        options.fail("name a device, or give --out for all of them")


# Of a device in the name of a file, whose 255 bytes hold the session too: an endpoint name may have as many, thrice
# as many when they are escaped.
LONGEST_NAME = 200


async def _write_all(record: Record, endpoint: str | None, folder: Path) -> int:
    make_folder(folder)
    count = 0
    rows = await store.listed(record.database, record.account_id, endpoint)
    while rows:
        for row in rows:
            found = await store.find(record.database, record.account_id, row.endpoint, row.session_id)
            if found is not None:
                name = file_name(row.endpoint, row.session_id)
                write(folder / name, f"{json.dumps(transcripts.shown(found), indent=1)}\n".encode())
                count += 1
        rows = await store.listed(record.database, record.account_id, endpoint, after=rows[-1])
    return count


def file_name(endpoint: str, session_id: UUID) -> str:
    """Of a transcript: the device's name, as far as a file's name has room for it, and the session, which is one."""
    return f"{quote(endpoint, safe='')[:LONGEST_NAME]}-{session_id.hex}.json"


def replay(
    file: Annotated[Path, typer.Argument(readable=False, help="A transcript, from `device transcript` or the API.")],
    as_json: options.AsJson = False,
) -> None:
    """Run a transcript against this version; where it acts differently, show it and exit 1."""
    try:
        read = transcripts.read(file.read_text(encoding="utf-8"))
    except OSError as error:
        options.fail(f"{file} cannot be read ({error.strerror}); give a transcript that this user may read")
    except (BadRequest, UnicodeDecodeError) as error:
        options.fail(f"{file}: {error}; `firstlight device transcript` writes one")
    differences = run_again(read.recording)
    options.show(
        [
            {"at_ms": round(found.at * 1000, 1), "recorded": found.recorded, "this_version": found.now}
            for found in differences
        ],
        ("at_ms", "recorded", "this_version"),
        as_json=as_json,
        empty=f"This version does the same: {len(read.recording.entries)} events of {read.about.get('endpoint')}, "
        f"recorded by {read.version}" + (f" ({read.dropped} more were not kept)." if read.dropped else "."),
    )
    if differences:
        raise typer.Exit(1)
