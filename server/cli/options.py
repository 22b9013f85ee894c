"""What every command shares: which record it opens, who acts, how it prints, how an error looks."""

import asyncio
import contextlib
import getpass
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

import typer
from rich.table import Table

from issuers.errors import IssuerError
from lwm2m.text import escaped
from server import config_sources, journal, logs, record
from server.admin.files import is_stream
from server.config import Config
from server.errors import BadRequest, ConfigurationError, ServiceError
from server.record import Record
from server.store.audit import Actor
from server.store.errors import SealBroken, StoreUnavailable
from server.terminal import terminal

# In the help they stand below what a command has of its own.
WHICH_SERVER = "Which server"
# Here and below: what cannot be read is told by whoever reads it, with what to do; Typer says that it is so, no more.
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        readable=False,
        help="TOML file with the server's settings.",
        show_default=False,
        rich_help_panel=WHICH_SERVER,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        readable=False,
        help="Data folder of the server; firstlight-data when no setting names one.",
        show_default=False,
        rich_help_panel=WHICH_SERVER,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="URL of your own PostgreSQL, used instead of the embedded one.",
        show_default=False,
        rich_help_panel=WHICH_SERVER,
    ),
]
MasterKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--master-key-file",
        readable=False,
        help="File with the key that encrypts secrets in the record; master.key in the data folder when not given.",
        show_default=False,
        rich_help_panel=WHICH_SERVER,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]

T = TypeVar("T")

FirstStart = Literal["meant", "told", "refused"]
"""What a command does where there is no record: begin one, as it is meant to; begin one for what it adds, and tell so;
or nothing, because there is nothing to read or to change and the folder is most often mistyped."""

EXPECTED = (ConfigurationError, ServiceError, StoreUnavailable, SealBroken, IssuerError)
"""What a command may fail with: one line for people, no traceback."""

console = terminal()


def load(
    config: Path | None, flags: Mapping[tuple[str, str], object], environment: Mapping[str, str] | None = None
) -> Config:
    """The configuration of this command."""
    return config_sources.load(file=config, environment=os.environ if environment is None else environment, flags=flags)


def actor() -> Actor:
    """The person at this terminal."""
    return Actor(kind="cli", name=_user(), request_id=uuid.uuid4().hex)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run us as a number that has no name.
        return f"uid {os.getuid()}"


@contextlib.asynccontextmanager
async def opened(
    config: Path | None,
    data_dir: Path | None,
    database_url: str | None,
    master_key_file: Path | None = None,
    *,
    first_start: FirstStart = "refused",
) -> AsyncIterator[Record]:
    """The record a command works on: the running server's, or the embedded PostgreSQL started for this command."""
    create = first_start != "refused"
    loaded = load(
        config,
        {
            ("server", "data_dir"): data_dir,
            ("database", "url"): database_url,
            ("secrets", "master_key_file"): master_key_file,
        },
    )
    # PostgreSQL takes seconds, and its first start would leave files behind a mistake.
    record.check_master_keys(loaded)
    async with (
        record.postgres(loaded, shared=True, create=create) as url,
        record.opened(loaded, url, create=create) as found,
    ):
        yield found
        if found.made and first_start == "told":
            where = "the database" if record.database_url(loaded) else str(loaded.server.data_dir)
            print(
                f"firstlight: {where} held no record, so a new one was made there; if you meant that of a server, give "
                "its --config, --data-dir or --database-url",
                file=sys.stderr,
            )


def run(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run `work`; an expected failure becomes one line on standard error and exit 1."""
    logs.configure("console", "warning")
    try:
        return asyncio.run(work())
    except EXPECTED as error:
        fail(with_option(str(error), getattr(error, "field", "")))


def expected(work: Callable[[], T]) -> T:
    """`run` for what waits for nothing."""
    try:
        return work()
    except EXPECTED as error:
        fail(str(error))


# How a command gives what a request has in these places.
_OPTIONS: Mapping[str, str] = {"issuer_attributes": "--set {}=VALUE", "issuer_credentials": "--secret-file {}=FILE"}


def with_option(message: str, field: str) -> str:
    """`message`, and the option that gives `field` where it says that this is missing."""
    place, _, name = field.partition(".")
    if name and place in _OPTIONS and "is missing" in message:
        return f"{message} (`{_OPTIONS[place].format(name)}`)"
    return message


def fail(message: str, status: int = 1) -> NoReturn:
    """Say in one line what is wrong and leave with `status`."""
    journal.writer(sys.stderr, os.environ.get("JOURNAL_STREAM")).error(_printed(f"firstlight: {message}"))
    raise typer.Exit(status)


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, or as JSON lines; `empty` says what to do when there are none."""
    if as_json:
        for row in rows:
            print(json.dumps(row, default=_written))
        return
    if not rows:
        console.print(_printed(empty), highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table)


def said_of(out: Path, message: str) -> None:
    """Say what was written to `out`, never into it."""
    print(message, file=sys.stderr if is_stream(out) else sys.stdout)


def moment(text: str | None) -> datetime | None:
    """A time as the API writes it."""
    return None if text is None else datetime.fromisoformat(text)


def serial_number(text: str) -> int:
    """A serial number as an operator writes it: hexadecimal, with the colons of openssl and browsers or without."""
    try:
        return int(text.replace(":", ""), 16)
    except ValueError:
        raise BadRequest(
            f"a serial number is hexadecimal, {text} is not; `firstlight certificate list` shows them"
        ) from None


def _written(value: object) -> str:
    """What JSON has no word for; times as the API writes them, so that both doors say the same."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    return str(value)


def second(value: datetime) -> str:
    """A time for people, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case datetime():
            return second(value)
        case _:
            return _printed(str(value))


def _printed(text: str) -> str:
    """What a device, a CA or another server said, as a terminal may have it."""
    return escaped(text, kept="\n")
