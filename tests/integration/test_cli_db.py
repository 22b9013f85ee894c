"""The commands on the record: migrated, pruned, sealed anew, and the audit of what they do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.cli.commands import app
from server.store.database import Database, connect
from server.store.secrets import Sealer
from tests.integration.commands import KEY, Cli, bootstrapped


def test_migrating_and_pruning(cli: Cli) -> None:
    assert "The database is at this version." in cli("db", "migrate")
    bootstrapped(cli)
    said = cli("db", "prune", "--sessions-days", "1", "--audit-days", "1")
    assert said.startswith("0 months dropped, 0 sessions and 0 audit rows deleted, ")

    async def age(database: Database) -> None:
        async with database.acquire() as connection:
            await connection.execute("UPDATE session SET started_at = now() - interval '91 days'")

    cli.database(age)
    assert ", 2 sessions and " in cli("db", "prune")
    cli("db", "prune", "--sessions-days", "0", code=2)

    async def fail(database: Database) -> None:
        async with database.acquire() as connection:
            await connection.execute(
                "UPDATE issuance SET state = 'failed', error_class = 'Unavailable', settled = true,"
                " answers_until = NULL, opened_at = now() - interval '800 days',"
                " updated_at = now() - interval '20 days'"
            )

    cli.database(fail)
    assert "\n0 failed issuances deleted, 0 reports of lists of devices and 0 verifications.\n" in cli("db", "prune")
    assert "\n0 failed issuances deleted, " in cli("db", "prune", "--failed-issuances-days", "21")
    assert "\n1 failed issuances deleted, " in cli("db", "prune", "--failed-issuances-days", "19")
    cli("db", "prune", "--failed-issuances-days", "1", code=2)


def test_an_empty_database_is_migrated(empty_database_url: str, tmp_path: Path) -> None:
    cli = Cli(empty_database_url, tmp_path)
    cli("db", "migrate")
    assert cli.json("ca", "show")


def test_the_master_key_is_changed_step_by_step(cli: Cli) -> None:
    """docs/operate.md, "Change the master key"."""
    cli("psk", "add", "id", "--key-file", cli.file("key", KEY), "--endpoint", "dev")
    master = cli.data / "master.key"
    old, new = master.read_text().strip(), "ab" * 32
    new_file = cli.file("new.key", new)
    words = ("db", "rotate-master-key", "--new-key-file", new_file)
    assert "write the new key as the first line" in cli.refused(*words)
    master.write_text(f"{new}\n{old}\n")
    said = cli(*words)
    names = [Sealer(bytes.fromhex(key)).current for key in (new, old)]
    assert said.splitlines() == [
        f"5 values were sealed again with master key {names[0]}.",
        f"Nothing needs the master key {names[1]} any more: take it out of every master key file.",
    ]
    master.write_text(f"{new}\n")
    assert cli.json("ca", "show")
    assert cli(*words) == f"0 values were sealed again with master key {names[0]}.\n"
    master.write_text(f"{old}\n")
    assert "give the server's own: its --config or --data-dir" in cli.refused("ca", "show")


def test_a_command_with_a_key_of_its_own_adds_nothing_that_no_server_can_open(cli: Cli) -> None:
    """Only the database was named, so the command made itself a master key in another folder."""
    cli("db", "migrate")
    file = cli.file("key", KEY)
    words = ("psk", "add", "id", "--key-file", file, "--endpoint", "dev", "--database-url", cli.url)
    elsewhere = cli.folder / "elsewhere"
    said = cli.bare(*words, "--data-dir", str(elsewhere), code=1)
    assert f"{elsewhere / 'master.key'} is missing, and the record is sealed with master key" in said
    assert "put the server's own there, from its backup, or give the --config or --data-dir of that server" in said
    # Another one in its place would be in the way.
    assert not (elsewhere / "master.key").exists()
    assert cli.json("psk", "list") == []


# Each with all that it needs, so that nothing but the missing record can be in its way; what makes one is not here.
LOOKING: list[tuple[str, ...]] = [
    ("api-key", "list"),
    ("api-key", "remove", "x"),
    ("ca", "show"),
    ("ca", "export", "server-root"),
    ("ca", "issued"),
    ("ca", "renew-server"),
    ("ca", "crl", "--out", "crl.der"),
    ("certificate", "list"),
    ("certificate", "show", "01"),
    ("certificate", "revoke", "01"),
    ("db", "prune"),
    ("device", "list"),
    ("device", "show", "x"),
    ("device", "seen"),
    ("device", "explain", "x"),
    ("device", "forget", "x"),
    ("device", "release", "x"),
    ("device", "release", "--all"),
    ("device", "renew", "x"),
    ("device", "transcript", "x"),
    ("device", "transcript", "--out", "transcripts"),
    ("issuer", "list"),
    ("issuer", "show", "x"),
    ("issuer", "set", "x", "--description", "y"),
    ("issuer", "verify", "x"),
    ("issuer", "activate", "x"),
    ("issuer", "deactivate"),
    ("issuer", "remove", "x"),
    ("operator", "list"),
    ("operator", "remove", "x"),
    ("profile", "list"),
    ("profile", "show", "x"),
    ("profile", "remove", "x"),
    ("psk", "list"),
    ("psk", "remove", "x"),
    ("service", "list"),
    ("service", "remove", "x"),
    ("status",),
    ("trust", "list"),
    ("trust", "deny", "x"),
    ("trust", "activate", "x"),
    ("trust", "remove", "x"),
]


def lacking(said: str, where: str) -> None:
    assert said.startswith(f"firstlight: {where} holds no record: no server was ever started on it")
    assert "nothing was made; give the --config, --data-dir or --database-url of the server" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_a_command_that_looks_or_changes_makes_no_record_in_a_mistyped_folder(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    for folder in (tmp_path / "mistyped", there):
        result = CliRunner().invoke(app, [*words, "--data-dir", str(folder)], prog_name="firstlight")
        assert result.exit_code == 1, result.output
        lacking(result.stderr, str(folder))
    assert [*tmp_path.iterdir()] == [there]
    assert [*there.iterdir()] == []


def test_nor_does_it_in_a_mistyped_database(empty_database_url: str, database_url: str, tmp_path: Path) -> None:
    for url in (empty_database_url, database_url):
        cli = Cli(url, tmp_path)
        lacking(cli.refused("device", "list"), "the database")
        assert not cli.data.exists()

    async def tables() -> int:
        connection = await connect(empty_database_url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
        finally:
            await connection.close()

    assert asyncio.run(tables()) == 0


def test_a_command_that_adds_where_no_record_is_says_that_it_made_one(tmp_path: Path) -> None:
    """A word wrong in --data-dir looked like success, while the server went on without the change."""
    tmp_path.chmod(0o755)
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})

    def run(*words: str) -> str:
        result = runner.invoke(app, [*words, "--data-dir", str(tmp_path / "mistyped")], prog_name="firstlight")
        assert result.exit_code == 0, result.output
        return result.stderr

    said = run("api-key", "add", "night shift")
    assert said.startswith(f"firstlight: {tmp_path / 'mistyped'} held no record, so a new one was made there; ")
    assert said.count("\n") == 1
    assert run("api-key", "list") == ""


@pytest.mark.parametrize("words", [("db", "migrate"), ("ca", "init")])
def test_a_command_that_is_for_making_a_record_makes_one_without_a_word(
    database_url: str, tmp_path: Path, words: tuple[str, str]
) -> None:
    result = CliRunner().invoke(app, [*words, "--database-url", database_url, "--data-dir", str(tmp_path / "data")])
    assert (result.exit_code, result.stderr) == (0, "")
    assert Cli(database_url, tmp_path).json("ca", "show")


def test_what_is_done_at_a_terminal_is_in_the_audit(cli: Cli) -> None:
    cli("psk", "add", "id", "--key-file", cli.file("key", KEY), "--endpoint", "dev")

    async def look() -> list[Any]:
        connection = await connect(cli.url)
        try:
            return list(await connection.fetch("SELECT * FROM audit WHERE actor_kind = 'cli'"))
        finally:
            await connection.close()

    [row] = asyncio.run(look())
    assert row["action"] == "pre_shared_key.added"
    assert row["actor_name"]
    assert KEY not in str(tuple(row))
