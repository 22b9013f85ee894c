"""What a failed test or a missed run leaves in `tests-artefacts/`: its devices' transcripts and its servers' logs.

A server whose block ends with an exception leaves them itself (`service.leaving`), while its record still stands; those
of a fixture go on running, and conftest.py leaves what they have when one of their tests fails.
"""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).parents[1] / "tests-artefacts"
PATIENCE = 60.0


class Rig(Protocol):
    """A server under test; `record` are the options by which a command finds what it recorded."""

    log: Path

    @property
    def record(self) -> Sequence[str]: ...


_RIGS: list[Rig] = []


def watch(rig: Rig) -> None:
    """A server starts; from here on it is among those that leave what they have when a test fails."""
    if rig not in _RIGS:
        _RIGS.append(rig)


def forget(rig: Rig) -> None:
    """It is gone."""
    with contextlib.suppress(ValueError):
        _RIGS.remove(rig)


def watched() -> Sequence[Rig]:
    """Those that started and are not gone."""
    return tuple(_RIGS)


def leave(test: str, rigs: Sequence[Rig], command: Sequence[str], environment: dict[str, str]) -> None:
    """Leave what `rigs` have, and say where; one whose record cannot be read leaves its log, and why."""
    place = FOLDER / re.sub(r"[^\w.=-]+", "_", test)[-120:]
    for number, rig in enumerate(rigs):
        folder = place / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        if rig.log.exists():
            shutil.copy(rig.log, folder / "server.log")
        words = [*command, "device", "transcript", "--out", str(folder), *rig.record]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=environment)
            refused = done.stderr if done.returncode else ""
        except (OSError, subprocess.SubprocessError) as error:
            refused = str(error)
        if refused:
            (folder / "no-transcripts.txt").write_text(refused)
    if rigs:
        print(f"What the servers of {test} recorded is in {place}", file=sys.stderr, flush=True)
