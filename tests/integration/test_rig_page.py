"""What docs/test-rigs.md tells a test engineer to write does its work, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

from server.store import cluster

PAGE = (Path(__file__).parents[2] / "docs" / "test-rigs.md").read_text()


def blocks(language: str) -> list[str]:
    """The blocks of code of the page in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(folder: Path, *command: str) -> str:
    """What `command` says in `folder`, with this `firstlight` in the path and nothing of this run's settings."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRSTLIGHT_", "PYTEST_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PATH": path, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def clusters(folder: Path) -> list[Path]:
    """PostgreSQL's folders outside of their data folders, of servers in `folder`; root has them."""
    if not cluster.SYSTEM_FOLDER.exists():
        return []
    places = [file for file in cluster.SYSTEM_FOLDER.glob(f"*/{cluster.BELONGS_TO}") if os.access(file, os.R_OK)]
    return [place.parent for place in places if place.read_text().startswith(f"{folder.resolve()}/")]


def test_the_script_for_a_shell(tmp_path: Path) -> None:
    [script] = blocks("sh")
    said = run(tmp_path, "sh", "-c", script)
    assert said.count("1 of 1 devices bootstrapped") == 2
    assert list(tmp_path.iterdir()) == []
    assert clusters(tmp_path) == []


def test_the_fixture_for_pytest(tmp_path: Path) -> None:
    fixture, test = blocks("python")
    (tmp_path / "conftest.py").write_text(fixture)
    (tmp_path / "test_device.py").write_text(test)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    # Without the plugins of these tests, as a test engineer's project has others.
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    assert "1 passed" in run(tmp_path, *command)
    assert clusters(tmp_path) == []
