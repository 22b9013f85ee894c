"""What a failed test of a whole server leaves in `tests-artefacts/`: its devices' transcripts and the server's log."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).parents[1] / "tests-artefacts"
PATIENCE = 60.0


class Rig(Protocol):
    """A server under test."""

    data: Path
    log: Path


_RIGS: list[Rig] = []


def watch(rig: Rig) -> None:
    """A server starts; what it has on record is left if a test fails while it runs."""
    if rig not in _RIGS:
        _RIGS.append(rig)


def forget(rig: Rig) -> None:
    """It is gone."""
    with contextlib.suppress(ValueError):
        _RIGS.remove(rig)


def leave(test: str, command: Sequence[str], environment: dict[str, str], folder: Path = FOLDER) -> None:
    """Leave what every watched server has; a server that does not answer any more leaves its log."""
    for number, rig in enumerate(_RIGS):
        place = folder / re.sub(r"[^\w.=-]+", "_", test)[-120:] / str(number)
        place.mkdir(parents=True, exist_ok=True)
        if rig.log.exists():
            shutil.copy(rig.log, place / "server.log")
        words = [*command, "device", "transcript", "--out", str(place), "--data-dir", str(rig.data)]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE, env=environment)
