"""A service manager hears what it asked for, and its absence stops nothing."""

import socket
from pathlib import Path

import pytest

from server.supervisor import READY, tell


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_reaches_the_manager(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{path}" if abstract else path)
        manager.settimeout(10)
        tell(f"@{path}" if abstract else path, READY)
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "@nobody-listens-here"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    tell(address, READY)
