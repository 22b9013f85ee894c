"""`firstlight`: every command; each opens the record, calls `server/admin/` with an actor and prints."""

import sys

import typer

from server.cli import (
    api_key,
    bench,
    ca,
    certificate,
    database,
    device,
    explain,
    issuer,
    operator,
    profile,
    psk,
    run,
    transcript,
    trust,
)

app = typer.Typer(
    name="firstlight",
    help="LwM2M bootstrap server that gets every device its certificate from the CA you chose. With --url URL and "
    "--api-key-file FILE the commands that manage it work through the API of a server somewhere else.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
device.app.command("explain")(explain.explain)
device.app.command("transcript")(transcript.transcript)
app.add_typer(api_key.app, name="api-key")
app.add_typer(ca.app, name="ca")
app.add_typer(certificate.app, name="certificate")
app.add_typer(database.app, name="db")
app.add_typer(device.app, name="device")
app.add_typer(issuer.app, name="issuer")
app.add_typer(issuer.services, name="service")
app.add_typer(operator.app, name="operator")
app.add_typer(profile.app, name="profile")
app.add_typer(psk.app, name="psk")
app.add_typer(trust.app, name="trust")
run.register(app)
app.command("bench")(bench.bench)
app.command("replay")(transcript.replay)


def main() -> None:
    """The console script; `--url` is the other door to the same commands (design 3)."""
    words = sys.argv[1:]
    if any(word == "--url" or word.startswith("--url=") for word in words):
        # Only here: the way over the network has its own libraries to load.
        from server.cli.remote.commands import app as through_the_api

        through_the_api(args=words, prog_name="firstlight")
    app(args=words, prog_name="firstlight")
