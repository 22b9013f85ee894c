"""Every command that rigs rely on, once through Typer: as a table and as JSON, and its refusals in one line."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import pki
from tests.integration.commands import KEY, Cli
from tests.integration.service import firstlight

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
    assert "no trusted certificates named" in cli.refused("trust", "remove", which)
    assert "is already there" in cli.refused("trust", "add", file, "--service", "bootstrap")


def test_one_that_is_trusted_for_both_services_is_told_apart_by_its_ids(cli: Cli) -> None:
    """The fingerprint, which the list shows too, is the same; names are not, as the API has it."""
    file = cli.file("both.pem", pki.make_factory_ca("Both").pem)
    for service in ("bootstrap", "lwm2m"):
        cli("trust", "add", file, "--service", service)
    rows = [row for row in cli.json("trust", "list") if row["name"].startswith("CN=Both,O=Factory")]
    ids = {row["service"]: row["id"] for row in rows}
    said = cli.refused("trust", "deny", rows[0]["fingerprint"])
    assert "names 2 trusted certificates" in said
    assert "give the beginning of the id" in said
    assert f"{ids['bootstrap']} (CN=Both,O=Factory, service bootstrap)" in said
    assert f"{ids['lwm2m']} (CN=Both,O=Factory 2, service lwm2m)" in said
    assert "is denied" in cli("trust", "deny", ids["bootstrap"])
    assert {row["service"]: row["status"] for row in cli.json("trust", "list") if row["id"] in ids.values()} == {
        "bootstrap": "denied",
        "lwm2m": "active",
    }
    for named in ids.values():
        cli("trust", "remove", named)


def test_of_a_file_of_several_certificates_all_are_trusted_or_none_and_that_is_said(cli: Cli) -> None:
    first, second = pki.make_factory_ca("First"), pki.make_factory_ca("Second")
    cli("trust", "add", cli.file("second.pem", second.pem), "--service", "bootstrap")
    both = cli.file("both.pem", first.pem + second.pem)
    said = cli.refused("trust", "add", both, "--service", "bootstrap")
    assert "the certificate CN=Second,O=Factory is already there" in said
    assert said.endswith("; none of the 2 certificates of the file was added\n")
    device = cli.file("device.pem", first.pem + pki.make_device_certificate(first, "meter-1").pem)
    said = cli.refused("trust", "add", device, "--service", "lwm2m")
    assert said.startswith("firstlight: CN=meter-1: this is no CA's certificate")
    assert said.endswith("; none of the 2 certificates of the file was added\n")
    assert not [row for row in cli.json("trust", "list") if row["name"].startswith("CN=First,")]


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


def test_pre_shared_keys_come_and_go_and_never_show(cli: Cli) -> None:
    assert "There is no key yet" in cli("psk", "list")
    file = cli.file("key.hex", f"{KEY}\n")
    words = ("psk", "add", "urn:imei:1", "--key-file", file, "--endpoint", "urn:imei:1")
    assert "The key urn:imei:1 is added for bootstrap." in cli(*words)
    assert "there is already a key with the identity urn:imei:1" in cli.refused(*words)
    assert "is added for lwm2m" in cli(*words, "--service", "lwm2m")
    many = cli.file("keys.txt", f"a:{KEY}:dev-a\nb:{KEY}:dev-b\n")
    assert "2 keys are added for bootstrap." in cli("psk", "add", "--from", many)
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
    assert "The key a is removed: who comes with it is refused from now on" in cli("psk", "remove", "a")
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
    told = cli.refused("psk", "add", "id", "--key-file", file, "--endpoint", "dev")
    assert told.startswith(f"firstlight: {file}")
    assert said in told


def test_of_many_keys_all_are_added_or_none(cli: Cli) -> None:
    many = cli.file("keys.txt", f"a:{KEY}:dev-a\na:{KEY}:dev-b\n")
    assert "line 2: the identity a stands in line 1 already" in cli.refused("psk", "add", "--from", many)
    assert cli.json("psk", "list") == []
    half = cli.file("half.txt", f"a:{KEY}:dev-a\nb:{KEY}\n")
    assert f"{half}: line 2: a line is identity:key:endpoint" in cli.refused("psk", "add", "--from", half)
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
    checked = cli.bare("profile", "check", file)
    assert "is good: 1 security and 1 server entries." in checked
    assert "Warning: [[security]] 1: the server certificate is that of a CA, but without certificate_usage" in checked
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
        (
            PROFILE.replace("ca.pem", "missing.pem"),
            "missing.pem, which mine.toml names, cannot be read (No such file or directory); files that a",
        ),
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


# -- check-config and the rest ----------------------------------------------------------------------------


def test_a_good_configuration_says_what_will_be_used(cli: Cli) -> None:
    config = cli.file("good.toml", '[server]\ncoaps = ["127.0.0.1:5684"]\nworkers = 3\n')
    assert cli.bare("check-config", "--config", config).startswith(
        "The configuration is good: 127.0.0.1:5684, 3 workers, the embedded PostgreSQL in "
    )
    assert "a PostgreSQL of yours" in cli("check-config")
    name = cli.file("name.toml", '[server]\nhttp = "localhost:8080"\nnames = ["bootstrap.example.com", "192.0.2.1"]\n')
    assert "is good" in cli.bare("check-config", "--config", name)
    behind = cli.file("behind.toml", '[server]\nhttp = "0.0.0.0:8080"\ninsecure_http = true\n')
    assert "is good" in cli.bare("check-config", "--config", behind)
    # Port 0 is another one each time, UDP is not TCP, one family not the other; the data folder is made at the start.
    text = """[server]
data_dir = 'none'
coaps = ['127.0.0.1:0', '127.0.0.1:0', '0.0.0.0:8443', '[::]:8443']
coaps_tcp = '127.0.0.1:8443'
ready_file = 'none/ready.json'
"""
    assert "is good" in cli.bare("check-config", "--config", cli.file("many.toml", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nworkres = 2\n", "unknown key server.workres; did you mean workers?"),
        ("[limits]\nmax_handshake = 2\n", "unknown key limits.max_handshake; did you mean max_handshakes?"),
        ("[sever]\nworkers = 2\n", "unknown section [sever]; did you mean server?"),
        ("[server]\nzzz = 2\n", "known are data_dir, coaps, coaps_tcp"),
        ("[server]\nworkers = 0\n", "server.workers must be between 1 and 64, you gave 0"),
        ("[server]\ncoaps = ['nonsense']\n", "server.coaps: must be HOST:PORT"),
        ("[server]\ncoaps = []\n", "server.coaps: no address to listen on"),
        ("[server]\ncoaps = 'localhost:5684'\n", "server.coaps: must be an IP address with a port"),
        ("[server]\ncoaps_tcp = 'localhost:5684'\n", "server.coaps_tcp: must be an IP address with a port"),
        (
            "[server]\ncoaps = ['127.0.0.1:5684', '127.0.0.1:05684']\n",
            "server.coaps: 127.0.0.1:05684 is taken by server.coaps, 127.0.0.1:5684, already; leave one out",
        ),
        (
            "[server]\ncoaps_tcp = '0.0.0.0:8080'\n",
            "server.http: 127.0.0.1:8080 is taken by server.coaps_tcp, 0.0.0.0:8080, already",
        ),
        (
            "[server]\nready_file = 'none/ready'\n",
            "server.ready_file: none/ready cannot be written (there is no folder none)",
        ),
        ("[server]\nready_file = '/dev'\n", "/dev cannot be written (it is a folder)"),
        ("[server]\nready_file = '/dev/null'\n", "server.ready_file: /dev/null is a pipe or a device"),
        ("[embedded_ca]\njournal_file = '/dev/null/x'\n", "/dev/null/x cannot be written (/dev/null is no folder)"),
        ("[database]\nurl = 'mysql://u:CANARY@db/x'\n", "database.url is no URL of a PostgreSQL; write postgresql:"),
        ("[database]\nurl_file = '/dev/null'\n", "/dev/null, the file of database.url_file, holds no URL"),
        ("[database]\nurl_file = '/dev/null/url'\n", "/dev/null/url cannot be read"),
        ("[server]\nhttp = '0.0.0.0:8080'\n", "server.http: 0.0.0.0:8080 is not a loopback address"),
        ("[server]\nnames = ['not a name']\n", "server.names: 'not a name' is no host name"),
        ("[server]\nlwm2m_uri = 'http://here'\n", "server.lwm2m_uri or server.lwm2m_server_certificate_file makes no"),
        ("[server]\nlwm2m_server_certificate_file = '/dev/null'\n", "server.lwm2m_server_certificate_file makes no"),
        ("[limits]\nblock_size = 100\n", "limits.block_size must be a power of two, you gave 100"),
        ("[secrets]\nca_passphrase_file = 'x'\n", "unknown key secrets.ca_passphrase_file"),
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
    assert "CANARY" not in output
    assert output.count("\n") == 1


def test_a_password_file_that_is_no_text_is_refused(cli: Cli) -> None:
    file = cli.file("password", b"\xff\xfe not a word")
    assert "is no text in UTF-8" in cli.refused("operator", "add", "Aino", "--role", "admin", "--password-file", file)


def test_every_group_of_commands_lists_its_own(cli: Cli) -> None:
    groups = {
        "api-key": ["add", "list", "remove"],
        "ca": ["init", "show", "export", "export-root-key", "renew-server", "issued", "crl"],
        "certificate": ["list", "show", "revoke"],
        "db": ["migrate", "prune", "rotate-master-key"],
        "device": ["list", "show", "renew", "seen", "release", "forget", "explain", "transcript"],
        "issuer": ["add", "set", "list", "show", "verify", "activate", "deactivate", "remove"],
        "service": ["add", "list", "remove"],
        "operator": ["add", "list", "password", "remove"],
        "profile": ["set", "check", "list", "show", "remove"],
        "psk": ["add", "list", "remove"],
        "trust": ["add", "list", "deny", "activate", "remove"],
    }
    alone = ["serve", "check-config", "demo", "simulate", "atlas", "status", "bench", "replay"]

    def listed(*words: str) -> list[str]:
        return re.findall(r"^│ ([a-z][a-z-]*) {2}", cli.bare(*words, "--help"), re.MULTILINE)

    assert listed() == [*alone, *groups]
    assert {group: listed(group) for group in groups} == groups


@pytest.mark.parametrize("word", ["simulate", "atlas"])
async def test_what_is_played_for_rigs_tells_its_own_options(word: str) -> None:
    assert f"usage: firstlight {word}" in await firstlight(word, "--help")


@pytest.mark.parametrize("word", ["simulate", "atlas"])
async def test_an_option_that_is_played_by_nobody_is_refused_in_the_words_that_were_typed(word: str) -> None:
    needed = {"simulate": ("--server", "coaps://127.0.0.1:1", "--mode", "x509"), "atlas": ("--dir", "unused")}
    said = await firstlight(word, *needed[word], "--no-such-option", code=2)
    assert f"firstlight {word}: error: unrecognized arguments: --no-such-option" in said


def test_what_names_nothing_is_told_with_what_shows_the_names(cli: Cli) -> None:
    for words, shows in (
        (("device", "forget", "nobody"), "`firstlight device list` shows"),
        (("device", "renew", "nobody"), "`firstlight device list` shows"),
        (("psk", "remove", "nobody"), "`firstlight psk list` shows"),
        (("profile", "remove", "nobody"), "`firstlight profile list` shows"),
        (("api-key", "remove", "nobody"), "`firstlight api-key list` shows"),
        (("certificate", "show", "nobody"), "`firstlight certificate list` shows"),
        (("ca", "issued", "--serial", "nobody"), "`firstlight certificate list` shows"),
        (("service", "add", "lwm2m"), "give another one"),
    ):
        assert shows in cli.refused(*words), words
    for group in ("ca", "certificate"):
        cli(group, "issued" if group == "ca" else "list", "--state", "nonsense", code=2)
    assert "give a transcript that this user may read" in cli.bare("replay", str(cli.folder / "none"), code=1)
    assert "`firstlight device transcript` writes one" in cli.bare("replay", cli.file("t.json", "{}"), code=1)


def test_it_says_which_version_it_is(cli: Cli) -> None:
    assert cli.bare("--version") == f"firstlight {version('firstlight')}\n"


def test_an_unknown_command_is_refused(cli: Cli) -> None:
    assert "No such command" in cli.bare("serv", code=2)


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    cli = Cli("postgresql://nobody@127.0.0.1:1/none", tmp_path)
    assert "cannot be reached" in cli.refused("device", "list")
