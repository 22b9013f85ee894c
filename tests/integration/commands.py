"""`firstlight` on one record, in this process."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from typer.testing import CliRunner

from server.cli.commands import app
from server.store.database import Database
from server.store.issuance_operations import MarkDelivered
from server.store.writer import Writer
from tests.integration import rows

T = TypeVar("T")
# A pre-shared key.
KEY = "00112233445566778899aabbccddeeff"
NOW = datetime.now(UTC).replace(microsecond=0)
STEPS = [
    {"op": "discover", "path": "/", "at": 0, "ms": 12, "note": "says nothing"},
    {"op": "delete", "path": "/0", "code": "2.02", "at": 13, "ms": 8},
    {"op": "write", "path": "/0/1", "code": "2.04", "bytes": 1211, "format": "tlv", "at": 21, "ms": 30},
    {"op": "finish", "path": "/bs", "code": "4.06", "at": 51, "ms": 9},
]
SENTENCE = "the device answered the Finish with 4.06: mend the profile"


class Cli:
    """`firstlight` on one record."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.data = folder / "data"
        self._runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})

    def bare(self, *words: str, code: int = 0) -> str:
        """A command as it stands; what it said, on standard error when it was to fail."""
        result = self._runner.invoke(app, list(words), prog_name="firstlight")
        assert result.exit_code == code, (words, result.output, result.exception)
        return result.stderr if code else result.stdout

    def __call__(self, *words: str, code: int = 0) -> str:
        """A command on the record."""
        return self.bare(*words, "--database-url", self.url, "--data-dir", str(self.data), code=code)

    def json(self, *words: str) -> list[dict[str, Any]]:
        """The lines of a command with --json."""
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def refused(self, *words: str) -> str:
        """The one line that a command says when it refuses."""
        said = self(*words, code=1)
        assert said.startswith("firstlight: ")
        assert said.count("\n") == 1
        return said

    def file(self, name: str, content: str | bytes) -> str:
        """A file of this test."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def database(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Something done to the record beside the commands."""

        async def opened() -> T:
            database = await Database.open(self.url, migrate=False)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(opened())

    def account_id(self) -> UUID:
        async def look(database: Database) -> UUID:
            return UUID(str((await database.fetchrow("account_default"))["id"]))

        return self.database(look)


def bootstrapped(cli: Cli, endpoint: str = "dev-1") -> rows.OpenIssuance:
    """A device on record that failed once and succeeded a minute later."""
    cli("db", "migrate")
    account_id = cli.account_id()

    async def write(database: Database) -> rows.OpenIssuance:
        writer = Writer(cli.url, database.queries)
        await writer.start()
        opened = rows.intent(endpoint, account_id=account_id)
        good = rows.session(opened, account_id=account_id, at=NOW)
        bad = rows.session(rows.intent(endpoint, account_id=account_id), account_id=account_id)
        await writer.write(opened)
        await writer.write(rows.issued(opened))
        await writer.write(MarkDelivered(opened.id))
        await writer.write(replace(good, steps=json.dumps(STEPS[1:3])))
        await writer.write(
            replace(
                bad,
                started_at=NOW - timedelta(minutes=1),
                ended_at=NOW - timedelta(seconds=59),
                outcome="failed",
                cause="finish_inconsistent",
                sentence=SENTENCE,
                issuance_id=None,
                steps=json.dumps(STEPS),
            )
        )
        await writer.write(rows.device(opened, account_id=account_id, at=NOW))
        await writer.close()
        return opened

    return cli.database(write)
