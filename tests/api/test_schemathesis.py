"""Strange requests at every operation that OpenAPI tells of: no fault of ours, one error shape, no redirect."""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from issuers import http
from issuers.reach import IPAddress
from server.api.app import Health, serve_http
from server.metrics import Merged
from tests.api.conftest import Api

ROOT = Path(__file__).parents[2]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,error_shape"
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "4")


async def no_names(host: str, port: int) -> Sequence[IPAddress]:
    """Whoever asks a CA before its settings are kept (`check=true`) finds none, and finds that out at once."""
    raise socket.gaierror(f"{host} has no address here")


async def test_strange_requests_meet_no_fault_of_ours(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "system_resolver", no_names)
    headers = await api.key("admin")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
        async with serve_http(sock, health=Health(workers_ready=1), merged=Merged(), office=api.office):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://{host}:{port}/openapi.json"),
                *("--header", f"Authorization: {headers['Authorization']}", "--checks", CHECKS),
                # The stream of events ends with its listener.
                *("--exclude-path", "/v1/events", "--phases", "examples,coverage,fuzzing"),
                *("--max-examples", EXAMPLES, "--seed", "1", "--generation-database", "none", "--no-color"),
                *("--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"),
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_checks"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
