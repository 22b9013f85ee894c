"""`firstlight device`: who came, how it went, who was not admitted."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from server import est_unused
from server.admin import devices as device_admin
from server.admin import renewals
from server.cli import options
from server.errors import NotFound
from server.sentences import for_refusal
from server.store import certificate_enrollments, certificates, devices, est_offers, issuances, refusals, sessions
from server.store.accounts import LWM2M
from server.store.certificate_enrollments import CertificateEnrollment
from server.store.devices import device_id
from server.store.refusals import Unlisted
from server.store.sessions import SessionRow

app = typer.Typer(help="Devices: how their bootstraps went, and who was not admitted.", no_args_is_help=True)

# A device that is expected, and nothing more (POST /v3/devices/).
NEVER_HERE = "never here"

SEEN = ("source", "reason", "credential", "identity", "count", "first_seen", "last_seen")
# What does as the remedy of a refusal says, where a command can.
COMMANDS: Mapping[str, str] = {
    "unknown_ca": "firstlight trust add FILE --service bootstrap",
    "denied": "firstlight trust activate NAME",
    "unknown_identity": "firstlight psk add IDENTITY --key-file FILE",
    "wrong_key": "firstlight psk remove IDENTITY, then psk add",
    "peer_alert": "firstlight ca export server-root",
}

StateOption = Annotated[
    Literal["bootstrapped", "failed"] | None, typer.Option(help="Only devices whose last bootstrap ended so.")
]


def none_listed(asked: str) -> str:
    """What is said in place of an empty list; `asked` is what narrowed it."""
    if asked:
        return "No device is like that; `firstlight device list` shows all."
    return "No device was here yet. Let one in with `firstlight trust add` or `psk add`, then `simulate`."


def show_seen(rows: Sequence[Mapping[str, Any]], *, more: bool, unlisted: Unlisted | None, as_json: bool) -> None:
    """Who was not admitted, and below it, once for each reason, what that means and what to do.

    Then what is not shown: `more` that a longer list would have, and what is in no list.
    """
    shown = len(rows)
    if as_json:
        told = [(row, for_refusal(row["reason"])) for row in rows]
        rows = [{**row, "meaning": meaning, "next_step": remedy} for row, (meaning, remedy) in told]
    options.show(rows, SEEN, as_json=as_json, empty="Nobody was turned away.")
    if rows and not as_json:
        print()
        for reason in dict.fromkeys(str(row["reason"]) for row in rows):
            meaning, remedy = for_refusal(reason)
            command = f" (`{COMMANDS[reason]}`)" if reason in COMMANDS else ""
            print(f"{reason}: {meaning}; {remedy}{command}.")
    # Beside JSON it is no row of the list.
    into = sys.stderr if as_json else sys.stdout
    if more:
        print(f"The newest {shown} are shown; there are more: --limit.", file=into)
    if unlisted is not None:
        print(
            f"{unlisted.count:,} refusals from {options.second(unlisted.first_at)} to "
            f"{options.second(unlisted.last_at)} are not listed: more came than are kept.",
            file=into,
        )


@app.command("list")
def list_devices(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    state: StateOption = None,
    after: Annotated[str, typer.Option(help="Only names after this one, in order.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Most rows to show.")] = 100,
    as_json: options.AsJson = False,
) -> None:
    """Devices in the order of their names."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await devices.listed(record.database, record.account_id, state=state, after=after, limit=limit)
        options.show(
            [
                {
                    "endpoint": row.endpoint,
                    "state": row.state,
                    "profile": row.profile,
                    "first_seen": row.first_seen,
                    "last_seen": row.last_seen,
                }
                for row in rows
            ],
            ("endpoint", "state", "profile", "first_seen", "last_seen"),
            as_json=as_json,
            empty=none_listed(state or after),
        )

    options.run(work)


@app.command("show")
def show_device(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    sessions_shown: Annotated[
        int, typer.Option("--sessions", min=1, max=100, help="Number of bootstraps to show, newest first.")
    ] = 3,
    as_json: options.AsJson = False,
) -> None:
    """A device's last bootstraps, step by step, and its certificates."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            database, account_id = record.database, record.account_id
            device = await devices.find(database, account_id, endpoint)
            past = await sessions.of_endpoint(database, account_id, endpoint, limit=sessions_shown)
            wishes = await issuances.of_endpoint(database, account_id, endpoint)
            issued = await certificates.search(database, account_id, endpoint=endpoint, limit=10)
            offer = await est_offers.find(database, account_id, endpoint)
        now = datetime.now(UTC)
        if device is None:
            raise NotFound(
                f"{endpoint} was never here; `firstlight device seen` lists who knocked and was not admitted"
            )
        if as_json:
            options.show(
                [
                    {
                        "endpoint": endpoint,
                        "state": device.state,
                        "profile": device.profile,
                        "learned": est_unused.learned_json(device, offer, now),
                        "est_offer": asdict(offer) if offer is not None else None,
                        "sessions": [_session(session) for session in past],
                        "issuances": [
                            {
                                "id": wish.id.hex,
                                "state": wish.state,
                                "service": wish.service,
                                "opened_at": wish.opened_at,
                            }
                            for wish in wishes
                        ],
                        "certificates": [
                            {"serial": format(row.serial, "x"), "state": row.state, "not_after": row.not_after}
                            for row in issued
                        ],
                    }
                ],
                (),
                as_json=True,
                empty="",
            )
            return
        options.console.print(
            Text(endpoint, "bold"),
            f"  {device.state or NEVER_HERE}, profile {device.profile or 'none'}",
            sep="",
            highlight=False,
        )
        for row in issued:
            revoked = f", revoked {options.second(row.revoked_at)}" if row.revoked_at else ""
            options.console.print(
                f"  certificate {row.serial:x}, {row.state}, until {row.not_after:%Y-%m-%d}{revoked}",
                highlight=False,
                soft_wrap=True,
            )
        if about_est := est_unused.told(offer, now):
            options.console.print(f"  {about_est}", highlight=False, soft_wrap=True)
        for session in past:
            _print_session(session)

    options.run(work)


def _session(session: SessionRow) -> Mapping[str, object]:
    return {
        "id": session.id.hex,
        "kind": session.kind,
        "started_at": session.started_at,
        "ended_at": session.ended_at,
        "profile": session.profile,
        "credential": session.credential,
        "address": session.address,
        "outcome": session.outcome,
        "cause": session.cause,
        "sentence": session.sentence,
        "steps": session.steps,
    }


def _print_session(session: SessionRow) -> None:
    took = (
        f"{(session.ended_at - session.started_at).total_seconds() * 1000:.0f} ms" if session.ended_at else "not ended"
    )
    options.console.print(
        Text(f"\n{options.second(session.started_at)}", "bold"),
        f"  {session.kind} {session.outcome}, {session.credential} from {session.address}, {took}",
        sep="",
        highlight=False,
        soft_wrap=True,
    )
    print_steps(session.sentence, session.steps)


def print_steps(sentence: str, steps: Sequence[Mapping[str, Any]]) -> None:
    """How a bootstrap ended, and its steps as a table."""
    if sentence:
        options.console.print(f"  {sentence}", highlight=False, soft_wrap=True)
    options.show(
        [
            {
                "at ms": step.get("at"),
                "step": step["op"],
                "path": step["path"],
                "answer": step.get("code", "none"),
                "bytes": step.get("bytes"),
                "format": step.get("format"),
                "took ms": step.get("ms"),
                "note": step.get("note"),
            }
            for step in steps
        ],
        ("at ms", "step", "path", "answer", "bytes", "format", "took ms", "note"),
        as_json=False,
        empty="  Nothing was sent to the device.",
    )


ReleasedArgument = Annotated[str | None, typer.Argument(help="Endpoint Client Name.", show_default=False)]
AllOption = Annotated[bool, typer.Option("--all", help="Instead: all devices that wait, as after an outage of a CA.")]


def one_or_all(endpoint: str | None, everything: bool) -> str | None:
    """The device to release, None = all that wait."""
    if everything == (endpoint is not None):
        options.fail("give the name of a device, or --all for every device that waits", 2)
    return endpoint


def released(endpoint: str | None, requests: int) -> str:
    """What is said when a device is, or all are."""
    if endpoint is None and not requests:
        return "No device waits."
    what = "request" if requests == 1 else "requests"
    who = f"{endpoint} is" if endpoint is not None else "All devices that waited are"
    return f"{who} released from {requests} {what}; what they left at the CA is not settled by it."


@app.command("renew")
def renew(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    service: Annotated[str, typer.Option(help="Service of the certificate to renew.")] = LWM2M,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the result.")] = 60.0,
    as_json: options.AsJson = False,
) -> None:
    """Ask a registered device to renew its certificate, and wait for the result."""

    async def work() -> CertificateEnrollment:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            database, account_id = record.database, record.account_id
            if await devices.find(database, account_id, endpoint) is None:
                raise NotFound(f"{endpoint} was never here; `firstlight device list` shows who was")
            renewal = await renewals.renew(
                database,
                options.actor(),
                account_id,
                devices.device_id(account_id, endpoint),
                service,
                seconds=record.config.registration.renewal_seconds,
            )
            deadline = time.monotonic() + wait
            while renewal.result is None and time.monotonic() < deadline:
                await asyncio.sleep(renewals.LOOK_EVERY)
                renewal = await certificate_enrollments.find(database, account_id, renewal.id)
        return renewal

    renewal = options.run(work)
    row = {
        "id": renewal.id.hex,
        "endpoint": renewal.endpoint,
        "certificate": renewal.certificate_name,
        "result": renewal.result or "under way",
        "detail": renewal.detail,
    }
    options.show([row], tuple(row), as_json=as_json, empty="")
    if renewal.result == "failure":
        raise typer.Exit(1)


@app.command("seen")
def seen(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="Most rows to show.")] = 100,
    as_json: options.AsJson = False,
) -> None:
    """Who came and was refused, newest first: what each reason means and what to do."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            rows = await refusals.listed(record.database, limit=limit + 1)
            unlisted = await refusals.not_listed(record.database)
        shown = [{column: getattr(row, column) for column in SEEN} for row in rows[:limit]]
        show_seen(shown, more=len(rows) > limit, unlisted=unlisted, as_json=as_json)

    options.run(work)


@app.command("release")
def release(
    endpoint: ReleasedArgument = None,
    everything: AllOption = False,
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Let a device have a new certificate although the outcome of an earlier request is unknown."""
    one = one_or_all(endpoint, everything)

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            database, actor, count = record.database, options.actor(), 0
            if one is not None:
                count = len(await issuances.release(database, actor, record.account_id, one))
            else:
                while rows := await issuances.release_all(database, actor, record.account_id):
                    count += len(rows)
        print(released(one, count))

    options.run(work)


@app.command("forget")
def forget(
    endpoint: Annotated[str, typer.Argument(help="Endpoint Client Name.")],
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    everything: Annotated[
        bool, typer.Option("--remove", help="Remove the device and free its public keys; certificates stay on record.")
    ] = False,
    revoke: Annotated[bool, typer.Option(help="With --remove: revoke its certificates first.")] = False,
) -> None:
    """Forget what was learned of a device, for instance after new firmware."""

    async def work() -> None:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            database, account_id = record.database, record.account_id
            if everything:
                await device_admin.forget(
                    database,
                    record.sealer,
                    record.config,
                    options.actor(),
                    account_id,
                    device_id(account_id, endpoint),
                    revoke=revoke,
                    now=datetime.now(UTC),
                )
            else:
                await devices.forget(database, options.actor(), account_id, endpoint)
        print(f"{endpoint} is {'removed' if everything else 'forgotten'}.")

    options.run(work)
