"""The unit for systemd says what the program does: its options, its times, its folders."""

import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import typer

from server import workers
from server.api.app import STREAMS_END_WITHIN
from server.cli.commands import app
from server.cli.run import UNCONFIGURED
from server.config import Config
from server.config_sources import load
from server.store import cluster, postgres
from server.worker import RECORD_PATIENCE

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs" / "firstlight.service"
OPERATE = (ROOT / "docs" / "operate.md").read_text()


def settings() -> dict[str, str]:
    """The assignments of the unit; each key stands once."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if line[:1].isalpha()]
    found = {key: value for key, _, value in lines}
    assert len(found) == len(lines)
    return found


def test_the_command_has_the_options_that_are_given() -> None:
    program, command, *words = shlex.split(settings()["ExecStart"])
    assert program.endswith("/bin/firstlight")
    group = typer.main.get_command(app)
    known = {name for parameter in group.commands[command].params for name in parameter.opts}  # type: ignore[attr-defined]
    given = {word for word in words if word.startswith("--")}
    assert given == {"--config", "--ready-file"}
    assert given <= known


def test_a_drain_ends_before_systemd_kills() -> None:
    needed = (
        max(Config().server.drain_seconds + workers.STOP_PATIENCE, RECORD_PATIENCE)
        + STREAMS_END_WITHIN
        + postgres.FAST_PATIENCE
        + postgres.IMMEDIATE_PATIENCE
    )
    assert needed < float(settings()["TimeoutStopSec"])
    # SIGTERM to PostgreSQL would end the record before the sessions.
    assert (settings()["KillMode"], settings()["KillSignal"]) == ("mixed", "SIGTERM")


def test_what_no_start_heals_is_not_started_again() -> None:
    unit = settings()
    assert (unit["Restart"], int(unit["RestartPreventExitStatus"])) == ("on-failure", UNCONFIGURED)


def test_the_fence() -> None:
    unit = settings()
    assert unit["User"] == unit["Group"] == cluster.SERVICE_USER
    assert f"/var/lib/{unit['StateDirectory']}" == str(cluster.SYSTEM_FOLDER)
    assert f"/run/{unit['RuntimeDirectory']}/ready.json" in unit["ExecStart"]
    assert (unit["NoNewPrivileges"], unit["ProtectSystem"], unit["CapabilityBoundingSet"]) == ("yes", "strict", "")
    assert unit["LimitCORE"] == "0"
    # A worker holds this many connections at the most, and some files besides.
    assert int(unit["LimitNOFILE"]) > Config().limits.max_associations * 2
    assert "MemoryDenyWriteExecute" not in unit


def test_the_configuration_of_the_page_is_one(tmp_path: Path) -> None:
    section = OPERATE.partition("## As a service")[2].partition("\n## ")[0]
    toml = section.partition("```toml\n")[2].partition("```")[0]
    file = tmp_path / "firstlight.toml"
    file.write_text(toml)
    config = load(file=file, environment={}, flags={})
    assert str(config.server.data_dir) == f"/var/lib/{settings()['StateDirectory']}"
    assert tomllib.loads(toml)["secrets"]["master_key_file"] == "/etc/firstlight/master.key"
    assert f"`server.drain_seconds` is above {Config().server.drain_seconds:g}," in section
    assert "UDP 5684" in section
    assert {address.rpartition(":")[2] for address in Config().server.coaps} == {"5684"}


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    # Where there is none, the tests above have looked at what depends on us.
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        unit = tmp_path / UNIT.name
        unit.write_text(UNIT.read_text().replace("/opt/firstlight/bin/firstlight", "/bin/true"))
        said = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
        assert UNIT.name not in said.stderr, said.stderr


def test_the_installed_distribution_carries_the_licence() -> None:
    files = distribution("firstlight").files or []
    [licence] = [file for file in files if file.name == "LICENSE"]
    assert Path(str(licence.locate())).read_text() == (ROOT / "LICENSE").read_text()
