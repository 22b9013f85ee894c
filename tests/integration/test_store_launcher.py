"""The launcher between us and PostgreSQL: its end with ours, its log, what it could not run."""

import os
import subprocess
import sys
from pathlib import Path

from server.store import postgres

LAUNCHER = [sys.executable, "-I", "-S", str(postgres.LAUNCHER)]


def test_a_log_that_has_grown_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(4 * 1024 * 1024 + 1))
    subprocess.run([*LAUNCHER, str(os.getpid()), "15", "", str(tmp_path), str(log), "/bin/echo", "new"], check=True)
    assert log.read_text() == "new\n"
    assert (tmp_path / "log.1").stat().st_size > 4 * 1024 * 1024


def test_the_launcher_ends_when_its_parent_is_already_gone(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*LAUNCHER, "1", "15", "", str(tmp_path), "", "/bin/echo", "ran"], capture_output=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == b""


def test_the_launcher_says_what_it_could_not_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = subprocess.run(
        [*LAUNCHER, str(os.getpid()), "15", "", str(tmp_path), str(log), "/no/such/program"], check=False
    )
    assert ended.returncode == 126
    # As PostgreSQL's own programs say it: what is told of a failed start is looked for by that word.
    assert log.read_text().split()[:2] == ["FATAL:", "/no/such/program:"]
