"""`firstlight issuer`: the CAs of your own."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from server.admin import issuers as admin
from server.admin.files import read_text
from server.cli import options
from server.cli.doubts import with_doubts
from server.doubt import Doubt
from server.errors import BadRequest
from server.knowledge import OWN_CA
from server.record import Record
from server.standing import doubts_of, unproven
from server.store import issuer_chains, issuers, readiness, verifications
from server.store.accounts import LWM2M
from server.store.issuer_chains import UNUSED, Use
from server.store.issuers import IssuerRow
from server.store.readiness import Readiness
from server.store.verifications import Verification

app = typer.Typer(help="Certificate issuers: your own CAs.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="name", help="Name of the issuer, or the beginning of its id.")]
Service = Annotated[str, typer.Option(help="Service whose certificates it signs.")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE, such as host_url=https://ca.example.com; may be repeated."),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret-file", help="NAME=FILE, such as hmac_hex_key=key.txt; may be repeated."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Ask the CA first whether it works; keep nothing when it does not.")
]


REGISTERED = (
    "{name} is registered ({id}). Trust its CA certificate for lwm2m (`firstlight trust add`), "
    "then `firstlight issuer verify {name}` and `firstlight issuer activate {name}`."
)
COLUMNS = ("name", "type", "services", "state", "description")


def activated(name: str, service: str, doubts: Iterable[Doubt]) -> str:
    """What is said of a CA that devices depend on from now on, its doubts included."""
    return with_doubts(f"{name} signs for {service}.", doubts, name)


def removed(name: str) -> str:
    """What is said of one that is gone."""
    return f"{name} is removed; what it issued stays valid, and can be revoked only at the CA itself."


def _trial(record: Record, check: bool) -> admin.Trial | None:
    return admin.Trial(record.config, datetime.now(UTC)) if check else None


def _pairs(texts: list[str] | None, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise BadRequest(f"{what} is NAME=VALUE, you gave {text!r}")
        found[name] = value
    return found


def read_attributes(texts: list[str] | None) -> dict[str, str]:
    """Attributes; `@FILE` as a value stands for the file's content, for PEM texts."""
    given = _pairs(texts, "--set")
    return {
        name: read_text(Path(value[1:])).strip() if value.startswith("@") else value for name, value in given.items()
    }


def read_secrets(texts: list[str] | None) -> dict[str, str]:
    """Credentials come as files alone: a command line is seen by everybody on the machine."""
    return {name: read_text(Path(file)).strip() for name, file in _pairs(texts, "--secret-file").items()}


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name in lists.")],
    type: Annotated[str, typer.Option(help="CFSSL_AUTH or GLOBAL_SIGN.")],
    attributes: Attributes = None,
    secrets: Secrets = None,
    description: Annotated[str, typer.Option(help="A note for people.")] = "",
    check: Check = False,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Register a CA; it signs nothing until `issuer activate`."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file, first_start="told") as record:
            row = await admin.register(
                record.database,
                record.sealer,
                options.actor(),
                record.account_id,
                type=type,
                name=name,
                description=description,
                attributes=read_attributes(attributes),
                credentials=read_secrets(secrets),
                trial=_trial(record, check),
            )
        print(REGISTERED.format(name=row.name, id=row.id.hex))

    options.run(work)


@app.command("set")
def change(
    which: Which,
    attributes: Attributes = None,
    secrets: Secrets = None,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    description: Annotated[str | None, typer.Option(help="A new description.")] = None,
    check: Check = False,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Change a CA: each value given replaces the old one, an empty value removes it."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, which)
            await admin.change(
                record.database,
                record.sealer,
                options.actor(),
                row,
                name=name,
                description=description,
                attributes=read_attributes(attributes),
                credentials=read_secrets(secrets),
                trial=_trial(record, check),
            )
        print(f"{name or row.name} is changed.")

    options.run(work)


@app.command("list")
def list_issuers(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """The CAs, and the services each signs for."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await issuers.listed(record.database, record.account_id)
            configured = await issuers.configured(record.database, record.account_id)
            known = await readiness.listed(record.database, record.account_id)
            verified = await verifications.latest(record.database, record.account_id)
            now = datetime.now(UTC)
            used = await issuer_chains.used(record.database, record.account_id, now)
        shown: list[dict[str, object]] = [
            {
                "id": row.id.hex,
                "name": row.name,
                "type": row.type,
                "services": ", ".join(c.reference for c in configured if c.issuer_id == row.id) or "none",
                "state": _state(row, known.get(row.id), verified.get(row.id), used.get(row.id, UNUSED), now),
                "description": row.description,
            }
            for row in rows
        ]
        own = ", ".join(c.reference for c in configured if c.issuer_id is None) or "none"
        shown.insert(
            0, {"id": None, "name": OWN_CA, "type": "EMBEDDED", "services": own, "state": "ready", "description": ""}
        )
        options.show(shown, COLUMNS, as_json=as_json, empty="")

    options.run(work)


def _state(row: IssuerRow, known: Readiness | None, verified: Verification | None, use: Use, now: datetime) -> str:
    if known is not None and known.throttled_until is not None and known.is_throttled(now):
        return f"slowed down until {options.second(known.throttled_until)}: {known.error_text}"
    if known is None or known.since is None:
        finished = verified.finished_at if verified is not None else None
        return told(unproven(row, verified, use), finished, verified.message if verified is not None else "")
    word = "not asked" if known.open_until is not None else in_a_row(known.failures)
    return f"{word} since {options.second(known.since)}: {known.error_text}"


def told(word: str, finished: datetime | None, message: str) -> str:
    """The state of a CA that nothing is known against but, perhaps, what its last verification said."""
    if word == "verification failed" and finished is not None:
        return f"{word} {options.second(finished)}: {message}"
    return word or "ready"


def in_a_row(failures: int) -> str:
    """How often a CA failed without a success between."""
    return f"{failures} failure{'' if failures == 1 else 's'} in a row"


@app.command("show")
def show_issuer(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """A CA with its attributes; credentials are never shown."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, which)
        shown: dict[str, object] = {
            "id": row.id.hex,
            "name": row.name,
            "type": row.type,
            "description": row.description,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
        if as_json:
            options.show([{**shown, "attributes": dict(row.attributes)}], (), as_json=True, empty="")
            return
        pairs = [*shown.items(), *row.attributes.items()]
        options.show(
            [{"setting": name, "value": value} for name, value in pairs], ("setting", "value"), as_json=False, empty=""
        )

    options.run(work)


@app.command("verify")
def verify(
    which: Which,
    issue_test: Annotated[
        bool,
        typer.Option(
            "--issue-test/--no-issue-test", help="Also have it sign a test certificate, which may cost quota."
        ),
    ] = True,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a CA, step by step, whether devices could get their certificates from it; exit 1 when not."""

    async def work() -> bool:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, which)
            found = await admin.verify(
                record.database,
                record.sealer,
                record.config,
                options.actor(),
                row,
                issue_test=issue_test,
                now=datetime.now(UTC),
            )
        options.show(
            [{"step": step.name, "outcome": step.outcome, "message": step.message} for step in found.steps],
            ("step", "outcome", "message"),
            as_json=as_json,
            empty="",
        )
        if not as_json:
            print(f"{row.name}: {found.message}")
        return found.successful

    if not options.run(work):
        raise typer.Exit(1)


async def _activate(record: Record, reference: str, which: str | None) -> str:
    """Have a CA sign for a service; what is to be said of it."""
    found = await admin.service(record.database, record.account_id, reference)
    row = await admin.by_word(record.database, record.account_id, which) if which is not None else None
    moved = await issuers.set_configuration(
        record.database, options.actor(), record.account_id, found.id, row.id if row is not None else None
    )
    doubts = await doubts_of(record.database, record.account_id, moved, datetime.now(UTC))
    return activated(row.name if row is not None else f"The {OWN_CA}", reference, doubts)


@app.command("activate")
def activate(
    which: Which,
    service: Service = LWM2M,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Have a CA sign for a service from now on; requests under way stay with the CA they were sent to."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            said = await _activate(record, service, which)
        print(said)

    options.run(work)


@app.command("deactivate")
def deactivate(
    service: Service = LWM2M,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Go back to the embedded CA for a service."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            said = await _activate(record, service, None)
        print(said)

    options.run(work)


@app.command("remove")
def remove(
    which: Which,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Remove a CA that is active for no service."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            row = await admin.by_word(record.database, record.account_id, which)
            await issuers.remove(record.database, options.actor(), record.account_id, row.id)
        print(removed(row.name))

    options.run(work)
