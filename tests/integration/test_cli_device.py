"""The commands on devices: listed, shown step by step, forgotten and released."""

from datetime import timedelta

from server.store import audit, issuances
from server.store.audit import Actor
from server.store.database import Database
from server.store.issuance_operations import RecordFailed
from server.store.refusals import SeenRow, record
from server.store.writer import Writer
from tests.integration import rows
from tests.integration.commands import NOW, SENTENCE, STEPS, Cli, bootstrapped

PERSON = Actor(kind="cli", name="kim", request_id="")


def test_devices_are_listed_and_shown_step_by_step(cli: Cli) -> None:
    assert "No device was here yet." in cli("device", "list")
    opened = bootstrapped(cli)
    [row] = cli.json("device", "list")
    assert (row["endpoint"], row["state"], row["profile"]) == ("dev-1", "bootstrapped", "default")
    assert cli("device", "list").splitlines()[0].split() == [
        "endpoint",
        "state",
        "profile",
        "first",
        "seen",
        "last",
        "seen",
    ]
    assert cli.json("device", "list", "--state", "failed") == []
    assert cli.json("device", "list", "--after", "dev-1") == []

    shown = [line.rstrip() for line in cli("device", "show", "dev-1").splitlines()]
    assert shown[0] == "dev-1  bootstrapped, profile default"
    assert shown[1] == f"  certificate {opened.serial:x}, delivered, until {rows.NOW + timedelta(days=730):%Y-%m-%d}"
    heads = [line for line in shown if "Z  " in line]
    assert heads == [
        f"{NOW:%Y-%m-%d %H:%M:%S}Z  bootstrap succeeded, x509 from 192.0.2.7:56830, 61 ms",
        f"{NOW - timedelta(minutes=1):%Y-%m-%d %H:%M:%S}Z  bootstrap failed, x509 from 192.0.2.7:56830, 1000 ms",
    ]
    assert f"  {SENTENCE}" in shown
    tables = [line.split() for line in shown[shown.index(f"  {SENTENCE}") + 1 :]]
    assert tables[0] == ["at", "ms", "step", "path", "answer", "bytes", "format", "took", "ms", "note"]
    assert tables[1] == ["0", "discover", "/", "none", "–", "–", "12", "says", "nothing"]
    assert tables[3] == ["21", "write", "/0/1", "2.04", "1211", "tlv", "30", "–"]
    assert tables[4] == ["51", "finish", "/bs", "4.06", "–", "–", "9", "–"]


def test_a_device_shows_as_json_with_everything(cli: Cli) -> None:
    opened = bootstrapped(cli)
    [shown] = cli.json("device", "show", "dev-1")
    assert shown["learned"] == '{"leaf_only": true}'
    assert [each["outcome"] for each in shown["sessions"]] == ["succeeded", "failed"]
    assert (shown["sessions"][1]["sentence"], shown["sessions"][1]["steps"]) == (SENTENCE, STEPS)
    assert [(each["id"], each["state"]) for each in shown["issuances"]] == [(opened.id.hex, "delivered")]
    assert shown["certificates"][0]["serial"] == f"{opened.serial:x}"
    [last] = cli.json("device", "show", "dev-1", "--sessions", "1")
    assert len(last["sessions"]) == 1


def test_an_unknown_device_is_said_with_where_to_look(cli: Cli) -> None:
    assert "nobody was never here; `firstlight device seen` lists" in cli.refused("device", "show", "nobody")


def test_who_was_not_admitted_is_listed(cli: Cli) -> None:
    assert "Nobody was turned away." in cli("device", "seen")

    async def knock(database: Database) -> None:
        row = SeenRow("192.0.2.1", "unknown_ca", "x509", "CN=stranger", 3, NOW)
        row.last_seen = NOW
        await record(database, [row], unlisted=5678, now=NOW)

    cli.database(knock)
    [row] = cli.json("device", "seen")
    assert (row["source"], row["reason"], row["identity"], row["count"]) == (
        "192.0.2.1",
        "unknown_ca",
        "CN=stranger",
        3,
    )
    assert row["meaning"] == "no trusted certificate issued its certificate"
    assert row["next_step"] == "trust the CA of its factory, if it is one of yours"

    async def others(database: Database) -> None:
        rows = [
            SeenRow("192.0.2.2", "unknown_ca", "x509", "CN=another", 1, NOW),
            SeenRow("192.0.2.2", "unknown_identity", "psk", "pump-1", 1, NOW),
            SeenRow("192.0.2.3", "no_profile", "psk", "pump-2", 1, NOW),
        ]
        await record(database, rows, unlisted=0, now=NOW)

    cli.database(others)
    shown = " ".join(cli("device", "seen").split())
    assert f"5,678 refusals from {NOW:%Y-%m-%d %H:%M:%S}Z to" in shown
    assert "are shown; there are more" not in shown
    assert "The newest 3 are shown; there are more: --limit." in cli("device", "seen", "--limit", "3")
    assert len(cli.json("device", "seen", "--limit", "3")) == 3
    # Each reason once, however many came for it, with the command where there is one.
    assert shown.count("no trusted certificate issued its certificate") == 1
    for line in (
        "unknown_ca: no trusted certificate issued its certificate; trust the CA of its factory, if it is one of yours "
        "(`firstlight trust add FILE --service bootstrap`).",
        "unknown_identity: nobody stored a pre-shared key of this identity; add the key, if the device is yours "
        "(`firstlight psk add IDENTITY --key-file FILE`).",
        "no_profile: no profile is for it; store one with `firstlight profile set` whose [match] takes this endpoint.",
    ):
        assert line in shown


def test_what_was_learned_is_forgotten_and_a_device_removed(cli: Cli) -> None:
    bootstrapped(cli)
    assert "dev-1 is forgotten." in cli("device", "forget", "dev-1")
    assert cli.json("device", "show", "dev-1")[0]["learned"] == "{}"
    assert "dev-1 is removed." in cli("device", "forget", "dev-1", "--remove")
    cli.refused("device", "show", "dev-1")
    cli.refused("device", "forget", "dev-1")
    assert len(cli.json("ca", "issued")) == 1


def test_a_device_that_waits_for_a_person_is_released(cli: Cli) -> None:
    cli("db", "migrate")
    account_id = cli.account_id()
    assert "no request for dev-1 waits" in cli.refused("device", "release", "dev-1")

    async def lose(database: Database) -> None:
        writer = Writer(cli.url, database.queries)
        await writer.start()
        opened = rows.intent("dev-1", account_id=account_id)
        await writer.write(opened)
        await writer.write(RecordFailed(opened.id, opened.owner, "unknown", "OutcomeUnknown", "the answer was lost"))
        await writer.close()

    cli.database(lose)
    assert "dev-1 is released from 1 request" in cli("device", "release", "dev-1")
    cli.refused("device", "release", "dev-1")


def test_all_devices_that_wait_for_a_person_are_released_at_once(cli: Cli) -> None:
    """A CA that signs and answers nobody leaves as many as came in the meantime."""
    cli("db", "migrate")
    account_id = cli.account_id()
    assert cli("device", "release", "--all") == "No device waits.\n"

    async def lose(database: Database) -> None:
        writer = Writer(cli.url, database.queries)
        await writer.start()
        for name in ("dev-1", "dev-1", "dev-2", "dev-3"):
            opened = rows.intent(name, account_id=account_id)
            await writer.write(opened)
            await writer.write(
                RecordFailed(opened.id, opened.owner, "unknown", "OutcomeUnknown", "the answer was lost")
            )
            await issuances.leave_unknown(database, opened.owner, opened.id)
        looked_into = rows.intent("dev-4", account_id=account_id)
        await writer.write(looked_into)
        await writer.write(RecordFailed(looked_into.id, looked_into.owner, "unknown", "OutcomeUnknown", "lost"))
        await writer.close()

    cli.database(lose)
    for wrong in (("dev-1", "--all"), ()):
        assert "--all for every device that waits" in cli("device", "release", *wrong, code=2)

    async def some_at_a_time(database: Database) -> None:
        assert len(await issuances.release_all(database, PERSON, account_id, most=1)) == 2

    cli.database(some_at_a_time)
    assert "All devices that waited are released from 2 requests" in cli("device", "release", "--all")
    assert cli("device", "release", "--all") == "No device waits.\n"

    async def told(database: Database) -> None:
        entries = [e for e in await audit.entries(database, account_id) if e.action == "issuance.released"]
        assert sorted(entry.subject for entry in entries) == ["dev-1", "dev-2", "dev-3"]

    cli.database(told)


def test_every_transcript_is_written_however_many_there_are(cli: Cli) -> None:
    account_id = cli.account_id()

    async def attempts(database: Database) -> None:
        async with database.acquire() as connection:
            # Several at a time, also where one page ends and the next begins.
            await connection.execute(
                "INSERT INTO transcript (session_id, account_id, started_at, endpoint, cause, content) "
                "SELECT gen_random_uuid(), $1, now() - make_interval(mins => n / 600), 'dev-' || n, 'reset', $2::json "
                "FROM generate_series(1, 1203) AS n",
                account_id,
                '{"entries": [], "dropped": 7}',
            )

    cli.database(attempts)
    folder = cli.folder / "transcripts"
    assert cli("device", "transcript", "--out", str(folder)) == f"1203 transcripts are in {folder}.\n"
    names = {file.name.rpartition("-")[0] for file in folder.iterdir()}
    assert names == {f"dev-{number}" for number in range(1, 1204)}
    assert cli("device", "transcript", "dev-7", "--text").endswith(
        "7 more datagrams and events were not kept (settings [recorder] kilobytes)\n"
    )


def test_transcripts_that_are_asked_for_in_two_ways_are_refused(cli: Cli) -> None:
    for words in (("--text",), ("--session", "0" * 32)):
        said = cli.refused("device", "transcript", "--out", str(cli.folder / "out"), *words)
        assert "leave out --session and --text, or --out" in said
    assert "name a device, or give --out for all of them" in cli.refused("device", "transcript")
