"""`serve`, `demo`, `simulate`, `atlas` and `check-config`."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from server import demo as demonstration
from server import record
from server.cli import options
from server.errors import ConfigurationError, InTheClear

# EX_CONFIG of sysexits.h: what `check-config` refuses no later start heals; a service manager is not to try again.
UNCONFIGURED = 78

SIMULATE_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command("serve")(serve_command)
    app.command("check-config")(check_config)
    app.command("demo")(demo)
    app.command("simulate", context_settings=SIMULATE_SETTINGS)(simulate)
    app.command("atlas", context_settings=SIMULATE_SETTINGS)(atlas)


def serve_command(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
    coaps: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT for DTLS over UDP; may be repeated; port 0 picks one; default 0.0.0.0:5684 and [::]:5684."
        ),
    ] = None,
    coaps_tcp: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT for TLS over TCP without framing, for Izuma clients; may be repeated; off when not given."
        ),
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT for console, API, health and metrics; default 127.0.0.1:8080.")
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(readable=False, help="JSON file that is written when the server is up and removed when it stops."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of CoAP worker processes; default 1.")] = None,
    single_process: Annotated[
        bool | None, typer.Option("--single-process", help="Run without child processes, for test rigs.")
    ] = None,
    lwm2m_uri: Annotated[str | None, typer.Option(help="URI of your LwM2M server, for the default profile.")] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name or address in the server's certificate; may be repeated."),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console (default) or json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info (default), warning or error.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl+C."""
    # Only here and below: the web framework and the DTLS engine take longer to load than most commands to run.
    from server import config_check, serve

    try:
        loaded = options.load(
            config,
            {
                ("server", "data_dir"): data_dir,
                ("database", "url"): database_url,
                ("secrets", "master_key_file"): master_key_file,
                ("server", "coaps"): coaps or None,
                ("server", "coaps_tcp"): coaps_tcp or None,
                ("server", "http"): http,
                ("server", "ready_file"): ready_file,
                ("server", "workers"): workers,
                ("server", "single_process"): single_process,
                ("server", "lwm2m_uri"): lwm2m_uri,
                ("server", "names"): name or None,
                ("log", "format"): log_format,
                ("log", "level"): log_level,
            },
        )
        config_check.check(loaded)
    except ConfigurationError as error:
        options.fail(str(error), UNCONFIGURED)
    try:
        serve.main(loaded, os.environ.get("NOTIFY_SOCKET"), os.environ.get("JOURNAL_STREAM"))
    except InTheClear as error:
        # Its name was looked up when it was bound.
        options.fail(str(error), UNCONFIGURED)
    except options.EXPECTED as error:
        options.fail(str(error))


def check_config(
    config: options.ConfigFile = None,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    master_key_file: options.MasterKeyFile = None,
) -> None:
    """Check the configuration as `serve` reads it, and open nothing; say what is wrong, or what will be used."""
    from server import config_check

    try:
        loaded = options.load(
            config,
            {
                ("server", "data_dir"): data_dir,
                ("database", "url"): database_url,
                ("secrets", "master_key_file"): master_key_file,
            },
        )
        config_check.check(loaded)
        where = (
            "a PostgreSQL of yours"
            if record.database_url(loaded)
            else f"the embedded PostgreSQL in {loaded.server.data_dir}"
        )
    except ConfigurationError as error:
        options.fail(str(error))
    listening = ", ".join((*loaded.server.coaps, *loaded.server.coaps_tcp))
    workers = "1 worker" if loaded.server.workers == 1 else f"{loaded.server.workers} workers"
    print(f"The configuration is good: {listening}, {workers}, {where}.")


def demo(
    devices: Annotated[
        int, typer.Option(min=1, max=5000, help="Number of simulated devices, of every kind of client.")
    ] = 50,
    out: Annotated[Path, typer.Option(readable=False, help="Folder for the files of each device.")] = Path("out"),
    anchor: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="PEM file of the CA that the devices' chains must lead to; the server's device root when not given.",
        ),
    ] = None,
    ca: Annotated[
        demonstration.Ca,
        typer.Option(help="CA that signs: cfssl starts a real CFSSL, globalsign a stand-in for GlobalSign's service."),
    ] = "embedded",
    as_json: options.AsJson = False,
) -> None:
    """Start a server, let simulated devices bootstrap over real DTLS, check what they hold, stop everything."""
    raise typer.Exit(demonstration.main(devices=devices, out=out, anchor=anchor, as_json=as_json, ca=ca))


def simulate(context: typer.Context) -> None:
    """Simulate devices that bootstrap; `firstlight simulate --help` shows the options."""
    _relay("simulate", context)


def atlas(context: typer.Context) -> None:
    """Simulate GlobalSign's Atlas HVCA, for tests; `firstlight atlas --help` shows the options."""
    _relay("atlas", context)


def _relay(word: str, context: typer.Context) -> NoReturn:
    """Run a command of the simulators as a child: what they cost is theirs, and they share no code with the server."""
    command = [sys.executable, "-P", "-m", "simulators", word, *context.args]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    raise typer.Exit(child.wait())
