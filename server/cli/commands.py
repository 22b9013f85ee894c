"""`firstlight`: every command; each opens the record, calls `server/admin/` with an actor and prints."""

import io
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.core import TyperGroup

from server.cli import (
    api_key,
    bench,
    ca,
    certificate,
    database,
    device,
    examples,
    explain,
    issuer,
    operator,
    profile,
    psk,
    run,
    service,
    status,
    transcript,
    trust,
)

app = typer.Typer(
    name="firstlight",
    help="LwM2M bootstrap server that gets every device its certificate from the CA of your choice. The commands that "
    "manage a server find it by --data-dir on its own machine, and by --url and --api-key-file from elsewhere, with "
    "--ca-file where its https certificate comes from your own CA.",
    no_args_is_help=True,
    # Off: it would load all commands at each Tab, and offer those behind --url the options of the local ones.
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"firstlight {version('firstlight')}")
        raise typer.Exit


@app.callback()
def shared(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """What every command shares."""


device.app.command("explain")(explain.explain)
device.app.command("transcript")(transcript.transcript)
app.add_typer(api_key.app, name="api-key")
app.add_typer(ca.app, name="ca")
app.add_typer(certificate.app, name="certificate")
app.add_typer(database.app, name="db")
app.add_typer(device.app, name="device")
app.add_typer(issuer.app, name="issuer")
app.add_typer(service.app, name="service")
app.add_typer(operator.app, name="operator")
app.add_typer(profile.app, name="profile")
app.add_typer(psk.app, name="psk")
app.add_typer(trust.app, name="trust")
run.register(app)
app.command("status")(status.status)
app.command("bench")(bench.bench)
app.command("replay")(transcript.replay)
examples.shown(app)


# Where a command finds what it works on: it may stand before the command too, as with other programs.
CONNECTION = frozenset(
    {"--url", "--api-key-file", "--ca-file", "--config", "--data-dir", "--database-url", "--master-key-file"},
)


def behind_the_command(words: Sequence[str], commands: typer.Typer) -> list[str]:
    """`words` with the connection options that stand before the command put behind it, where it takes them."""
    left, path, moved = list(words), [], []
    command: object = typer.main.get_command(commands)
    while isinstance(command, TyperGroup) and left:
        name, separator, _ = left[0].partition("=")
        if name in CONNECTION:
            pair = 1 if separator else 2
            moved += left[:pair]
            del left[:pair]
        elif left[0] in command.commands:
            command = command.commands[left[0]]
            path.append(left.pop(0))
        else:
            break
    # What never comes to a command is told so, or shown the help; it connects to nothing.
    return [*path, *left] if isinstance(command, TyperGroup) else [*path, *moved, *left]


def named(words: Sequence[str], commands: typer.Typer) -> tuple[str, ...]:
    """The command that `words` name: the groups that lead to it and itself."""
    path, command = [], typer.main.get_command(commands)
    for word in behind_the_command(words, commands):
        if not isinstance(command, TyperGroup) or word not in command.commands:
            break
        path.append(word)
        command = command.commands[word]
    return tuple(path)


def main() -> None:
    """The console script; `--url` is the other door to the same commands (design 3)."""
    # A name that the terminal's character set lacks is told all the same; JSON has no such.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    if any(word == "--url" or word.startswith("--url=") for word in words):
        # Only here: the way over the network has its own libraries to load.
        from server.cli.remote.commands import app as through_the_api

        known = named(words, app)
        if known != named(words, through_the_api):
            command = " ".join(known)
            print(
                f"firstlight: `{command}` has no way over the API: run it on the server's own machine, without --url "
                "and --api-key-file",
                file=sys.stderr,
            )
            raise SystemExit(1)
        through_the_api(args=behind_the_command(words, through_the_api), prog_name="firstlight")
    app(args=behind_the_command(words, app), prog_name="firstlight")
