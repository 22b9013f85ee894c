"""What an operator gets wrong is said in one line with the remedy, and the command ends with something else than 0."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.service import FIRSTLIGHT, Service, environment, firstlight, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
ANYWHERE = ("--coaps", "127.0.0.1:0", "--http", "127.0.0.1:0")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("bad-input")
    folder.chmod(0o755)
    async with running(folder) as started:
        yield started


def one_line(output: str) -> str:
    """The one line that says what is wrong; log lines of a server that was on its way up may stand before it."""
    *before, last = output.strip().splitlines()
    assert last.startswith("firstlight: "), output
    assert "Traceback" not in output
    assert not any(line.startswith("firstlight: ") for line in before), output
    return last


async def refused(*words: str, code: int = 1) -> str:
    """Run a command that must fail; its one line."""
    return one_line(await firstlight(*words, code=code))


# -- the configuration ----------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server\n", "is not valid TOML"),
        ("\xff\xfe", "is not valid TOML"),
        ("[server]\nworkres = 2\n", "did you mean workers?"),
        ("[sever]\nworkers = 2\n", "did you mean server?"),
        ("[server]\nworkers = 0\n", "server.workers"),
        ("[server]\nworkers = 'two'\n", "server.workers"),
        ("[limits]\nmtu = 100\n", "limits.mtu"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("server = 1\n", "must be a table"),
    ],
)
async def test_a_broken_config_file_starts_nothing(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(text.encode("latin-1"))
    line = await refused("serve", "--data-dir", str(tmp_path / "data"), *ANYWHERE, "--config", str(file), code=78)
    assert said in line
    assert "broken.toml" in line
    assert not (tmp_path / "data").exists()


async def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    line = await refused("serve", "--config", str(tmp_path / "nothere.toml"), code=78)
    assert "nothere.toml" in line
    assert "--config" in line


async def test_an_unknown_environment_variable_names_the_nearest() -> None:
    process = await asyncio.create_subprocess_exec(
        *FIRSTLIGHT,
        "check-config",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**environment(), "FIRSTLIGHT_SERVER_WORKRES": "2"},
    )
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert "did you mean workers?" in one_line(output.decode())


async def test_a_setting_that_check_config_refuses_ends_a_service_for_good(tmp_path: Path) -> None:
    """Its manager does not try again (EX_CONFIG), and the journal has the line among the errors."""
    file = tmp_path / "journal"
    with file.open("wb") as stream:
        status = os.fstat(stream.fileno())
        process = await asyncio.create_subprocess_exec(
            *FIRSTLIGHT,
            *("serve", "--data-dir", str(tmp_path / "data"), "--http", "192.0.2.1:8080"),
            stderr=stream,
            env={**environment(), "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
        )
        assert await process.wait() == 78
    [line] = file.read_text().splitlines()
    assert line.startswith("<3>firstlight: server.http: ")
    assert not (tmp_path / "data").exists()


async def test_an_address_that_is_not_here_is_said_before_anything_is_made(tmp_path: Path) -> None:
    """It may come up later, so that a service manager tries again."""
    # Of the documentation (RFC 5737), so nobody's.
    for words in (
        ("--coaps", "192.0.2.1:5684", "--http", "127.0.0.1:0"),
        ("--coaps", "127.0.0.1:0", "--coaps-tcp", "192.0.2.1:5684", "--http", "127.0.0.1:0"),
    ):
        assert "cannot be bound" in await refused("serve", "--data-dir", str(tmp_path / "data"), *words)
        assert not (tmp_path / "data").exists()


async def test_a_port_that_only_root_may_have_is_told_with_what_allows_it(tmp_path: Path) -> None:
    without = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
    for words in (("--coaps", "127.0.0.1:1", "--http", "127.0.0.1:0"), ("--coaps", "127.0.0.1:0", "--http", "[::1]:1")):
        process = await asyncio.create_subprocess_exec(
            *(*without, *FIRSTLIGHT, "serve", "--data-dir", str(tmp_path / "data"), *words),
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        _, said = await process.communicate()
        assert process.returncode == 1
        assert "(Permission denied); take a port above 1023, or give this user the capability" in one_line(
            said.decode()
        )


async def test_a_data_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("")
    for folder in (file, file / "below"):
        said = await refused("serve", *ANYWHERE, "--data-dir", str(folder), code=78)
        assert f"server.data_dir: {file} is no folder; give one" in said
        assert f"{folder} is no folder; give a --data-dir" in await refused("device", "list", "--data-dir", str(folder))


async def test_a_master_key_that_is_none_is_said_before_anything_is_made(tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    for content, why in (("nonsense", "a line of 8 characters stands there"), ("", "holds no master key")):
        key.write_text(content)
        for command, code in ((("serve", *ANYWHERE), 78), (("device", "list"), 1)):
            said = await refused(*command, "--data-dir", str(tmp_path), code=code)
            assert why in said
            assert "put the server's own there, from its backup" in said
            assert list(tmp_path.iterdir()) == [key]


async def test_a_stand_in_for_a_ca_names_the_folder_that_it_cannot_have(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("")
    said = await firstlight("atlas", "--dir", str(file / "below"), code=2)
    assert said.count("\n") == 1
    assert f"{file / 'below'} cannot be used: Not a directory; give" in said


async def test_a_database_that_is_not_there_is_said_by_every_command(tmp_path: Path) -> None:
    commands: Sequence[Sequence[str]] = (
        ("serve", "--data-dir", str(tmp_path / "data"), *ANYWHERE),
        ("db", "migrate"),
        ("db", "prune"),
        ("trust", "list"),
        ("psk", "list"),
        ("profile", "list"),
        ("device", "list"),
        ("device", "seen"),
        ("ca", "show"),
    )
    for line in await asyncio.gather(*(refused(*command, "--database-url", NOWHERE) for command in commands)):
        assert "the database cannot be reached" in line
        assert "check database.url" in line
    assert "check database.url" in await refused("device", "list", "--database-url", "mysql://somewhere/else")


async def test_the_password_in_a_database_url_is_not_said_again() -> None:
    line = await refused("device", "list", "--database-url", "postgresql://nobody:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in line


# -- a running server ----------------------------------------


async def test_a_port_in_use_and_a_ready_file_nowhere_stop_the_start(service: Service, tmp_path: Path) -> None:
    words = ("serve", "--data-dir", str(tmp_path / "data"))
    taken = service.server_uri.removeprefix("coaps://")
    line = await refused(*words, "--coaps", taken, "--http", "127.0.0.1:0")
    assert taken in line
    http = service.ready["http"].removeprefix("http://").rstrip("/")
    assert http in await refused(*words, "--coaps", "127.0.0.1:0", "--http", http)
    nowhere = tmp_path / "nowhere" / "ready.json"
    assert str(nowhere) in await refused(*words, *ANYWHERE, "--ready-file", str(nowhere), code=78)
    # PostgreSQL takes seconds, and a first start would leave a record.
    assert not (tmp_path / "data").exists()


async def test_a_server_uri_that_no_device_could_use_stops_the_first_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    service = Service(tmp_path)
    try:
        words = ("serve", "--data-dir", str(service.data), *ANYWHERE, "--lwm2m-uri", "http://example.com")
        line = await refused(*words, code=78)
        assert "lwm2m_uri" in line
        assert "must start with coaps://" in line
    finally:
        await service.remove()


async def test_the_wrong_master_key_is_said_and_opens_nothing(service: Service, tmp_path: Path) -> None:
    key = tmp_path / "other.key"
    key.write_text(os.urandom(32).hex())
    key.chmod(0o600)
    pair = tmp_path / "keys.txt"
    pair.write_text(f"sealed:{'ab' * 16}:sealed\n")
    line = await refused(
        *("psk", "add", "--from", str(pair), "--data-dir", str(service.data), "--master-key-file", str(key))
    )
    assert "master key" in line


BAD_FILES = (b"no certificate, no key, no profile\n", bytes(range(256)), b"")


@pytest.mark.parametrize(
    "command",
    [
        ("trust", "add", "FILE", "--service", "bootstrap"),
        ("psk", "add", "someone", "--key-file", "FILE", "--endpoint", "someone"),
        ("profile", "set", "some", "FILE"),
    ],
    ids=lambda command: command[0],
)
async def test_a_file_that_holds_something_else_changes_nothing(
    service: Service, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "given"
    before = await service.command(command[0], "list", "--json")
    for content in BAD_FILES:
        file.write_bytes(content)
        words = [str(file) if word == "FILE" else word for word in command]
        one_line(await service.command(*words, code=1))
    assert await service.command(command[0], "list", "--json") == before


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("identity-and-no-more\n", "line 1"),
        (f"good:{'ab' * 16}:good\nbad:xyz:bad\n", "line 2"),
        (f"twice:{'ab' * 16}:one\ntwice:{'cd' * 16}:two\n", "twice"),
    ],
)
async def test_a_list_of_keys_is_taken_whole_or_not_at_all(
    service: Service, tmp_path: Path, lines: str, said: str
) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(lines)
    line = one_line(await service.command("psk", "add", "--from", str(file), code=1))
    assert said in line
    assert "ab" * 16 not in line
    assert await service.command("psk", "list", "--json") == ""


async def test_a_profile_says_all_that_is_known_of_a_wrong_key(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "profile.toml"
    file.write_text('[match]\nendpont = "*"\n')
    assert "did you mean endpoint?" in await refused("profile", "check", str(file))
    assert "did you mean endpoint?" in one_line(await service.command("profile", "set", "p", str(file), code=1))


@pytest.mark.parametrize(
    "words",
    [
        ("device", "show", "nobody"),
        ("device", "forget", "nobody"),
        ("trust", "deny", "nobody"),
        ("psk", "remove", "nobody"),
        ("profile", "show", "nobody"),
        ("profile", "remove", "nobody"),
    ],
    ids=" ".join,
)
async def test_what_is_not_there_is_said_by_name(service: Service, words: tuple[str, ...]) -> None:
    assert "nobody" in one_line(await service.command(*words, code=1))
