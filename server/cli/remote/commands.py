"""The commands that have the other door; those of a machine of one's own (`serve`, `db`, `ca`) have none."""

import typer

from server.cli import examples
from server.cli.remote import devices, issuers, keys, operators, status, trusted

app = typer.Typer(
    name="firstlight",
    help="Commands through the API of a server (--url, --api-key-file).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.api_keys, name="api-key")
app.add_typer(devices.certificates, name="certificate")
app.add_typer(devices.app, name="device")
app.add_typer(issuers.app, name="issuer")
app.add_typer(operators.app, name="operator")
app.add_typer(issuers.services, name="service")
app.add_typer(trusted.profile, name="profile")
app.add_typer(keys.psk, name="psk")
app.add_typer(trusted.trust, name="trust")
app.command("status")(status.status)
examples.shown(app)
