"""`firstlight status`: does anything need a person? What the start page of the console says, in a terminal."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer

from lwm2m.text import escaped
from server.cli import options
from server.errors import NotFound
from server.store import accounts

Shown = Mapping[str, Any]
"""A finding as the API shows it."""


def tell(findings: Sequence[Shown], checked_at: str | None, *, as_json: bool, unready: Sequence[str] = ()) -> NoReturn:
    """Print what needs a person, the worst first, and leave with 1 when a fault is among it.

    `unready` is why devices would not be served now.
    """
    if as_json:
        for finding in findings:
            print(json.dumps(finding))
    for problem in unready:
        print(f"NOT READY  {escaped(problem)}", file=sys.stderr if as_json else sys.stdout)
    if not as_json:
        for finding in findings:
            _show(finding)
        moment = options.moment(checked_at)
        if not findings and not unready and moment is not None:
            print(f"All clear, checked at {options.second(moment)}.")
    raise typer.Exit(1 if unready or any(finding["severity"] == "fault" for finding in findings) else 0)


def _show(finding: Shown) -> None:
    since = options.moment(finding["since"])
    print(f"{finding['severity'].upper():<9}  {escaped(finding['title'])}")
    cause = escaped(finding["cause"])
    print(f"{'':<11}{cause[:1].upper()}{cause[1:]}{f', since {options.second(since)}' if since is not None else ''}.")
    print(f"{'':<11}Next: {escaped(finding['next_step'])}.")


def status(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what needs a person: since when, why, what to do. Exit 1 when it is a fault.

    By the record alone; with --url also what only the running server knows: whether its workers serve, load, faults.
    """
    # Only here: other commands need neither the statistics nor what the API shows of them.
    from server.api.statistics import attention_shown
    from server.attention import Attendant
    from server.metrics import Merged
    from server.statistics import Statistics

    async def work() -> dict[str, Any]:
        async with options.opened(config, data_dir, database_url, master_key_file) as record:
            account = await accounts.find(record.database, record.account_id)
            if account is None:
                raise NotFound("the default account is not on record")
            attendant = Attendant(
                database=record.database,
                sealer=record.sealer,
                statistics=Statistics(record.database, Merged(), _now),
                now=_now,
                workers=lambda: (0, 0),
            )
            return attention_shown(await attendant.look(account))

    found = options.run(work)
    tell(found["findings"], found["checked_at"], as_json=as_json)


def _now() -> datetime:
    return datetime.now(UTC)
