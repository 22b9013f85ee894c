"""Every command that rigs rely on, once through Typer: as a table and as JSON, and its refusals in one line."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from server.cli.commands import app
from server.store.database import Database, connect
from server.store.operations import MarkDelivered, RecordFailed
from server.store.refusals import Seenrow, record
from server.store.secrets import Sealer
from server.store.writer import Writer
from tests import pki
from tests.integration import rows
from tests.integration.service import firstlight

T = TypeVar("T")
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


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    return Cli(database_url, tmp_path)


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


# -- ca ---------------------------------------------------------------------------------------------------


def test_the_ceremony_makes_two_roots_and_shows_them(cli: Cli) -> None:
    said = cli("ca", "init")
    assert re.findall(r"^(device root|issuing CA|server root|server): CN=", said, re.MULTILINE) == [
        "device root",
        "issuing CA",
        "server root",
        "server",
    ]
    assert cli("ca", "init") == said
    shown = cli.json("ca", "show")
    assert [row["certificate"] for row in shown] == ["device root", "issuing CA", "server root", "server"]
    assert all(row["key"] == "sealed in the record" for row in shown)
    assert {row["fingerprint"] for row in shown} == set(re.findall(r"[0-9a-f]{64}", said))
    table = cli("ca", "show")
    assert table.splitlines()[0].split() == ["certificate", "subject", "until", "fingerprint", "key"]
    assert "issuing CA" in table


def test_certificates_are_exported_as_pem(cli: Cli) -> None:
    out = cli.folder / "root.pem"
    cli("ca", "export", "device-root", "--out", str(out))
    root = x509.load_pem_x509_certificate(out.read_bytes())
    issuing = x509.load_pem_x509_certificate(cli("ca", "export", "issuing").encode())
    server_root = x509.load_pem_x509_certificate(cli("ca", "export", "server-root").encode())
    issuing.verify_directly_issued_by(root)
    assert server_root.subject == server_root.issuer != root.subject


def test_the_root_key_leaves_encrypted_and_stays_away(cli: Cli) -> None:
    passphrase = cli.file("passphrase", "correct horse battery staple\n")
    out = cli.folder / "root-key.pem"
    words = ("ca", "export-root-key", "--out", str(out), "--passphrase-file", passphrase)
    assert "encrypted. Keep" in cli(*words)
    assert out.stat().st_mode & 0o777 == 0o600
    key = load_pem_private_key(out.read_bytes(), b"correct horse battery staple")
    root = x509.load_pem_x509_certificate(cli("ca", "export", "device-root").encode())
    assert key.public_key() == root.public_key()
    with pytest.raises(TypeError):
        load_pem_private_key(out.read_bytes(), None)
    assert "a key never overwrites a file" in cli.refused(*words)
    out.unlink()
    assert "and no longer here" in cli(*words, "--remove")
    assert cli.json("ca", "show")[0]["key"] == "off-line"
    out.unlink()
    assert "the root key is not here" in cli.refused(*words)
    assert not out.exists()


def test_a_ceremony_can_take_the_root_key_off_line_at_once(cli: Cli) -> None:
    out = cli.folder / "root-key.pem"
    assert "give --passphrase-file" in cli.refused("ca", "init", "--export-root-key", str(out))
    empty = cli.file("empty", "\n")
    assert "not empty" in cli.refused("ca", "init", "--export-root-key", str(out), "--passphrase-file", empty)
    assert not out.exists()
    passphrase = cli.file("passphrase", "correct horse")
    cli("ca", "init", "--export-root-key", str(out), "--passphrase-file", passphrase)
    assert out.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert cli.json("ca", "show")[0]["key"] == "off-line"


def test_what_was_issued_is_listed_and_searched(cli: Cli) -> None:
    assert "No certificate was issued yet." in cli("ca", "issued")
    opened = bootstrapped(cli)
    [row] = cli.json("ca", "issued")
    assert row == {
        "serial": f"{opened.serial:x}",
        "endpoint": "dev-1",
        "service": "LWM2M",
        "state": "delivered",
        "until": f"{rows.NOW + timedelta(days=730):%Y-%m-%d}",
        "revoked": None,
    }
    assert f"{opened.serial:x}" in cli("ca", "issued", "--endpoint", "dev-1", "--state", "delivered")
    assert cli.json("ca", "issued", "--serial", f"{opened.serial:X}") == [row]
    assert cli.json("ca", "issued", "--endpoint", "other") == []
    assert "a serial number is hexadecimal, xyz is not" in cli.refused("ca", "issued", "--serial", "xyz")


def test_the_revocation_list_is_written(cli: Cli) -> None:
    out = cli.folder / "ca.crl"
    assert "0 revoked certificates are listed" in cli("ca", "crl", "--out", str(out))
    crl = x509.load_der_x509_crl(out.read_bytes())
    issuing = x509.load_pem_x509_certificate(cli("ca", "export", "issuing").encode())
    assert crl.issuer == issuing.subject
    assert list(crl) == []


# -- trust ------------------------------------------------------------------------------------------------


def test_trusting_denying_and_removing_a_factory(cli: Cli) -> None:
    root = pki.make_factory_ca("Factory Root")
    low = pki.make_factory_ca("Factory Line", issuer=root)
    file = cli.file("factory.pem", pki.pem_chain(low, root))
    said = cli("trust", "add", file, "--service", "bootstrap")
    assert said.splitlines() == [
        f"Trusted for bootstrap: CN={name},O=Factory (SHA-256 {fingerprint})."
        for name, fingerprint in zip(("Factory Line", "Factory Root"), re.findall(r"[0-9a-f]{64}", said), strict=True)
    ]
    ours = [row for row in cli.json("trust", "list") if row["service"] == "bootstrap"]
    assert {(row["name"], row["status"]) for row in ours} == {
        ("CN=Factory Line,O=Factory", "active"),
        ("CN=Factory Root,O=Factory", "active"),
    }
    table = cli("trust", "list")
    assert table.splitlines()[0].split() == ["name", "service", "status", "until", "fingerprint"]
    which = ours[0]["id"][:8]
    assert "is denied: its devices are refused" in cli("trust", "deny", which)
    assert "is active" in cli("trust", "activate", which)
    assert "is removed" in cli("trust", "remove", which)
    assert "names no trusted certificates" in cli.refused("trust", "remove", which)
    assert "is already there" in cli.refused("trust", "add", file, "--service", "bootstrap")


def test_der_is_trusted_too_and_nonsense_is_not(cli: Cli) -> None:
    root = pki.make_factory_ca("Factory Root")
    assert "Trusted for bootstrap: Line 1" in cli(
        "trust", "add", cli.file("factory.der", root.der), "--service", "bootstrap", "--name", "Line 1"
    )
    assert "no certificate in PEM or DER" in cli.refused(
        "trust", "add", cli.file("x", "nonsense"), "--service", "bootstrap"
    )
    assert "private key" in cli.refused(
        "trust", "add", cli.file("both.pem", root.pem + root.key_pem), "--service", "bootstrap"
    )
    cli("trust", "add", cli.file("x", root.pem), "--service", "nonsense", code=2)
    cli("trust", "add", str(cli.folder / "missing.pem"), "--service", "bootstrap", code=2)


# -- psk --------------------------------------------------------------------------------------------------

KEY = "00112233445566778899aabbccddeeff"


def test_pre_shared_keys_come_and_go_and_never_show(cli: Cli) -> None:
    assert "There is no key yet" in cli("psk", "list")
    file = cli.file("key.hex", f"{KEY}\n")
    words = ("psk", "add", "urn:imei:1", "--key-file", file, "--endpoint", "urn:imei:1")
    assert "The key urn:imei:1 added for bootstrap." in cli(*words)
    assert "there is already a key with the identity urn:imei:1" in cli.refused(*words)
    assert "added for lwm2m" in cli(*words, "--service", "lwm2m")
    many = cli.file("keys.txt", f"a:{KEY}:dev-a\nb:{KEY}:dev-b\n")
    assert "2 keys added for bootstrap." in cli("psk", "add", "--from", many)
    listed = cli.json("psk", "list")
    assert [(row["identity"], row["endpoint"], row["service"]) for row in listed] == [
        ("a", "dev-a", "bootstrap"),
        ("b", "dev-b", "bootstrap"),
        ("urn:imei:1", "urn:imei:1", "bootstrap"),
        ("urn:imei:1", "urn:imei:1", "lwm2m"),
    ]
    table = cli("psk", "list")
    assert "urn:imei:1" in table
    assert KEY not in table + json.dumps(listed)
    assert "The key a is removed." in cli("psk", "remove", "a")
    assert "there is no key with the identity a" in cli.refused("psk", "remove", "a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ABEiM0RVZneImaq7zN3u/w==\n", "not all of them hexadecimal"),
        (bytes(range(240, 256)), "is written in hexadecimal"),
        (b"0011", "a key has 16 to 64 bytes, 2 were given"),
        (b"", "0 were given"),
    ],
)
def test_a_key_file_that_is_no_hexadecimal_key_is_refused(cli: Cli, content: bytes, said: str) -> None:
    file = cli.file("key", content)
    assert said in cli.refused("psk", "add", "id", "--key-file", file, "--endpoint", "dev")


def test_of_many_keys_all_are_added_or_none(cli: Cli) -> None:
    many = cli.file("keys.txt", f"a:{KEY}:dev-a\na:{KEY}:dev-b\n")
    assert "there is already a key with the identity a" in cli.refused("psk", "add", "--from", many)
    assert cli.json("psk", "list") == []
    assert "give IDENTITY --key-file F --endpoint NAME, or --from FILE" in cli.refused("psk", "add", "a")


# -- profile ----------------------------------------------------------------------------------------------

PROFILE = """
[match]
endpoint = "urn:imei:*"
[[security]]
uri = "coaps://lwm2m.example.com"
short_server_id = 1
mode = "server-key"
server_certificate_file = "ca.pem"
[[servers]]
short_server_id = 1
"""


def test_profiles_are_checked_set_shown_and_removed(cli: Cli) -> None:
    cli.file("ca.pem", pki.make_factory_ca().pem)
    file = cli.file("mine.toml", PROFILE)
    assert "is good: 1 security and 1 server entries." in cli.bare("profile", "check", file)
    assert "Profile mine is set, for endpoints urn:imei:*." in cli("profile", "set", "mine", file)
    listed = cli.json("profile", "list")
    assert [(row["name"], row["files"]) for row in listed] == [("default", "server-ca.pem"), ("mine", "ca.pem")]
    assert cli("profile", "list").splitlines()[0].split() == ["name", "files", "changed"]
    assert cli("profile", "show", "mine") == PROFILE
    assert "Profile mine is removed." in cli("profile", "remove", "mine")
    assert "there is no profile mine" in cli.refused("profile", "show", "mine")
    assert "there is no profile mine" in cli.refused("profile", "remove", "mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROFILE.replace("short_server_id = 1\nmode", "short_sever_id = 1\nmode"), "did you mean short_server_id?"),
        (PROFILE.replace("ca.pem", "missing.pem"), "missing.pem cannot be read"),
        ("[match", "is not valid TOML"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(cli: Cli, text: str, said: str) -> None:
    cli.file("ca.pem", pki.make_factory_ca().pem)
    file = cli.file("mine.toml", text)
    assert said in cli.refused("profile", "set", "mine", file)
    checked = cli.bare("profile", "check", file, code=1)
    assert said in checked
    assert checked.count("\n") == 1


# -- device -----------------------------------------------------------------------------------------------


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
    heads = [line for line in shown if " UTC  " in line]
    assert heads == [
        f"{NOW:%Y-%m-%d %H:%M:%S} UTC  bootstrap succeeded, x509 from 192.0.2.7:56830, 61 ms",
        f"{NOW - timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC  bootstrap failed, x509 from 192.0.2.7:56830, 1000 ms",
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
        row = Seenrow("192.0.2.1", "unknown_ca", "x509", "CN=stranger", 3, NOW)
        row.last_seen = NOW
        await record(database, [row])

    cli.database(knock)
    [row] = cli.json("device", "seen")
    assert (row["source"], row["reason"], row["identity"], row["count"]) == (
        "192.0.2.1",
        "unknown_ca",
        "CN=stranger",
        3,
    )
    assert "unknown_ca" in cli("device", "seen")


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


# -- db ---------------------------------------------------------------------------------------------------


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
    assert "give the server's own, with --master-key-file" in cli.refused("ca", "show")


def test_a_command_with_a_key_of_its_own_adds_nothing_that_no_server_can_open(cli: Cli) -> None:
    """Only the database was named, so the command made itself a master key in another folder."""
    cli("db", "migrate")
    file = cli.file("key", KEY)
    words = ("psk", "add", "id", "--key-file", file, "--endpoint", "dev", "--database-url", cli.url)
    said = cli.bare(*words, "--data-dir", str(cli.folder / "elsewhere"), code=1)
    assert "the record is sealed with master key" in said
    assert cli.json("psk", "list") == []


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


# -- check-config and the rest ----------------------------------------------------------------------------


def test_a_good_configuration_says_what_will_be_used(cli: Cli) -> None:
    config = cli.file("good.toml", '[server]\ncoaps = ["127.0.0.1:5684"]\nworkers = 3\n')
    assert cli.bare("check-config", "--config", config).startswith(
        "The configuration is good: 127.0.0.1:5684, 3 workers, the embedded PostgreSQL in "
    )
    assert "a PostgreSQL of yours" in cli("check-config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nworkres = 2\n", "unknown key server.workres; did you mean workers?"),
        ("[limits]\nmax_handshake = 2\n", "unknown key limits.max_handshake; did you mean max_handshakes?"),
        ("[sever]\nworkers = 2\n", "unknown section [sever]; did you mean server?"),
        ("[server]\nzzz = 2\n", "known are data_dir, coaps, coaps_tcp"),
        ("[server]\nworkers = 0\n", "server.workers must be between 1 and 64, you gave 0"),
        ("[server]\ncoaps = ['nonsense']\n", "server.coaps: must be HOST:PORT"),
        ("[secrets]\nmaster_key = 'x'\n", "secrets.master_key must not stand in a file"),
        ("[secrets]\nmaster_key_file = '/nonexistent/key'\n", "/nonexistent/key cannot be read"),
        ("[embedded_ca]\ncountry = 'Finland'\n", "give a country of two letters"),
        ("[embedded_ca]\norganization = ''\n", "give an organization of 1 to 64 printable characters"),
        ("[server\n", "is not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_named_with_the_remedy(cli: Cli, text: str, said: str) -> None:
    output = cli.bare("check-config", "--config", cli.file("bad.toml", text), code=1)
    assert output.startswith("firstlight: ")
    assert said in output
    assert output.count("\n") == 1


def test_every_group_of_commands_lists_its_own(cli: Cli) -> None:
    told = cli.bare("--help")
    for word in ("serve", "demo", "simulate", "check-config", "ca", "device", "trust", "psk", "profile", "db"):
        assert re.search(rf"\b{word}\b", told), word
    commands = {
        "ca": ("init", "show", "export", "export-root-key", "issued", "crl"),
        "device": ("list", "show", "seen", "forget", "release"),
        "trust": ("add", "list", "deny", "activate", "remove"),
        "psk": ("add", "list", "remove"),
        "profile": ("set", "check", "list", "show", "remove"),
        "db": ("migrate", "prune", "rotate-master-key"),
    }
    for group, words in commands.items():
        told = cli.bare(group, "--help")
        assert all(re.search(rf"\b{word}\b", told) for word in words), group


@pytest.mark.parametrize("word", ["simulate", "atlas"])
async def test_what_is_played_for_rigs_tells_its_own_options(word: str) -> None:
    assert f"usage: firstlight {word}" in await firstlight(word, "--help")


def test_an_unknown_command_is_refused(cli: Cli) -> None:
    assert "No such command" in cli.bare("serv", code=2)


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    cli = Cli("postgresql://nobody@127.0.0.1:1/none", tmp_path)
    assert "cannot be reached" in cli.refused("device", "list")
