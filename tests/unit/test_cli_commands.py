"""The words of the command line before any command sees them."""

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from server.cli.commands import app, behind_the_command, main, named
from server.cli.examples import EXAMPLES
from server.cli.remote.commands import app as through_the_api


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--url U --api-key-file F issuer list --json", "issuer list --url U --api-key-file F --json"),
        ("--url U --ca-file C issuer list --api-key-file F", "issuer list --url U --ca-file C --api-key-file F"),
        ("issuer --data-dir=D list", "issuer list --data-dir=D"),
        ("--data-dir D trust add f.pem --service lwm2m", "trust add --data-dir D f.pem --service lwm2m"),
        ("--config F serve --workers 2", "serve --config F --workers 2"),
        ("issuer list --url U", "issuer list --url U"),
        # A value may look like a command, an argument like an option.
        ("--data-dir issuer device explain issuer -- --url", "device explain --data-dir issuer issuer -- --url"),
        ("--url", ""),
        ("--data-dir D issuer --help", "issuer --help"),
        ("--data-dir D isuer list", "isuer list"),
        ("--verbose issuer list", "--verbose issuer list"),
    ],
)
def test_connection_options_may_stand_before_the_command(given: str, read: str) -> None:
    assert behind_the_command(given.split(), app) == read.split()


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("ca show --url U --api-key-file F", "ca show"),
        ("--url U device renew meter-1 --api-key-file F", "device renew"),
        ("serve --url=U", "serve"),
    ],
)
def test_a_command_of_the_servers_own_machine_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, command: str
) -> None:
    monkeypatch.setattr("sys.argv", ["firstlight", *given.split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"firstlight: `{command}` ")
    assert "server's own machine" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("commands", [app, through_the_api])
def test_help_is_printed_as_it_is_written(commands: typer.Typer) -> None:
    """`:key:` in an option's help became a picture, in the very form that lines of a file have to have."""

    def helps(command: object) -> Iterator[str]:
        assert isinstance(command, TyperGroup | TyperCommand)
        yield command.help or ""
        if isinstance(command, TyperGroup):
            for one in command.commands.values():
                yield from helps(one)
        for parameter in command.params:
            yield getattr(parameter, "help", None) or ""

    written = list(helps(typer.main.get_command(commands)))
    assert len(written) > 100
    assert [text for text in written if Text.from_markup(text, emoji=True).plain != text] == []


@pytest.mark.parametrize("commands", [app, through_the_api])
def test_every_command_and_option_says_what_it_is(commands: typer.Typer) -> None:
    def silent(command: object, path: str) -> Iterator[str]:
        assert isinstance(command, TyperGroup | TyperCommand)
        if not command.help:
            yield path
        for parameter in command.params:
            if not getattr(parameter, "help", None):
                yield f"{path} {parameter.name}"
        for name, one in command.commands.items() if isinstance(command, TyperGroup) else ():
            yield from silent(one, f"{path} {name}")

    assert list(silent(typer.main.get_command(commands), "firstlight")) == []


def test_what_is_no_command_is_named_by_none() -> None:
    assert named(["isuer", "list", "--url", "U"], app) == ()


@pytest.mark.parametrize("commands", [app, through_the_api])
def test_what_cannot_be_read_is_told_by_us_with_what_to_do(commands: typer.Typer) -> None:
    """Typer says "is not readable" and leaves it at that; what has to exist it names before anything is done."""

    def files(command: object, path: str) -> Iterator[tuple[str, Any]]:
        assert isinstance(command, TyperGroup | TyperCommand)
        for name, one in command.commands.items() if isinstance(command, TyperGroup) else ():
            yield from files(one, f"{path} {name}")
        for parameter in command.params:
            kind = getattr(parameter, "type_descriptor", None)
            if kind is not None and kind.annotation is Path:
                yield f"{path} {parameter.name}", kind.parameter_info

    found = list(files(typer.main.get_command(commands), "firstlight"))
    assert len(found) > 20
    assert [name for name, of in found if of.readable and not of.exists] == []


def test_every_command_on_the_record_is_told_the_same_way_where_it_is() -> None:
    """A record is opened with its master key whatever is asked of it: one in a file of its own has to be named."""
    way = ["config", "data_dir", "database_url", "master_key_file"]
    told = [names for names in options_of(app) if "data_dir" in names]
    assert len(told) > 40
    assert [names for names in told if [name for name in names if name in way] != way] == []


def options_of(commands: typer.Typer) -> Iterator[list[str]]:
    """The parameters of every command."""

    def below(command: object) -> Iterator[list[str]]:
        assert isinstance(command, TyperGroup | TyperCommand)
        for one in command.commands.values() if isinstance(command, TyperGroup) else ():
            yield from below(one)
        yield [parameter.name or "" for parameter in command.params]

    return below(typer.main.get_command(commands))


def test_every_example_is_a_command_with_options_that_it_has() -> None:
    for words, example in EXAMPLES.items():
        command: object = typer.main.get_command(app)
        for word in words.split():
            assert isinstance(command, TyperGroup)
            command = command.commands[word]
        assert isinstance(command, TyperCommand)
        assert example.startswith(f"{words} "), words
        named = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in shlex.split(example) if word.startswith("--")} - named == set(), words
        assert command.epilog == f"Example: firstlight {example}"


def test_what_says_where_the_server_is_stands_below_what_a_command_has_of_its_own() -> None:
    for words in (["trust", "add", "--help"], ["psk", "list", "--help"]):
        for commands in (app, through_the_api):
            shown = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(commands, words).output
            own, _, where = shown.partition("Which server")
            assert "--service" in own or "--limit" in own
            assert "--data-dir" in where or "--url" in where


def test_every_command_through_the_api_is_told_the_same_way_where_to_go() -> None:
    way = ["url", "api_key_file", "ca_file"]
    for group in through_the_api.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            names = inspect.signature(command.callback).parameters
            assert [name for name in names if name in way] == way, (group.name, command.name)


@pytest.mark.parametrize("words", [("issuer", "show"), ("issuer", "set"), ("trust", "deny"), ("psk", "remove")])
def test_what_is_missing_is_named_as_the_help_names_it(words: tuple[str, str]) -> None:
    said = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(words)).stderr
    name = "identity" if words[0] == "psk" else "name"
    assert f"{' '.join(words)} [OPTIONS] {{{name}}}\n" in said
    assert f"Missing argument '{name}'" in said
