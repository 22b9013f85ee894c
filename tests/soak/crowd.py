"""Swarms beside the server: started as a child each, heard to their last line."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from tests.integration.field import Field
from tests.integration.service import environment

# Only a run that hangs gets here: twice the longest that a device may take.
PATIENCE = 900.0
MODES = ("x509", "psk")


class Crowd:
    """One swarm under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def summary(self) -> Mapping[str, Any]:
        """Wait for the last device; what the swarm says of them all."""
        assert self._process.stdout is not None
        last = b"{}"
        async with asyncio.timeout(PATIENCE):
            async for line in self._process.stdout:
                last = line
            await self._process.wait()
        told = cast("Mapping[str, Any]", json.loads(last))
        assert "devices" in told, f"the swarm ended with code {self._process.returncode} and {last!r}"
        return told


@contextlib.asynccontextmanager
async def crowd(
    field: Field, mode: str, devices: int, *, address: tuple[str, int] | None = None, **options: float
) -> AsyncIterator[Crowd]:
    """`devices` of one kind that go to `address`, or straight to the server; `options` are the swarm's own."""
    host, port = address or field.address
    words = ["--server", f"coaps://{host}:{port}", "--count", str(devices), "--mode", mode]
    words += ["--server-ca", field.service.ready["server_ca_file"], "--endpoint-prefix", prefix(mode)]
    words += ["--psk-file", str(field.folder / "keys.txt")] if mode == "psk" else factory(field)
    words += ["--out", str(field.folder / f"{mode}.jsonl")]
    for name, value in options.items():
        words += [f"--{name}", f"{value:g}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "simulators", "swarm", *words),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        yield Crowd(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def prefix(mode: str) -> str:
    """How the names of these devices begin."""
    return f"soak-{mode}-"


def keys(devices: int) -> Mapping[str, str]:
    """Pre-shared keys of so many devices, by identity, which is their endpoint name too."""
    return {f"{prefix('psk')}{number:06d}": f"{number:032x}" for number in range(1, devices + 1)}


def factory(field: Field) -> list[str]:
    """Options that let the swarm make its certificates as the factory that the server trusts."""
    files = {"--factory-ca": (field.folder / "factory.pem", field.factory.pem)}
    files["--factory-key"] = (field.folder / "factory.key", field.factory.key_pem)
    for file, content in files.values():
        file.write_bytes(content)
    return [word for name, (file, _) in files.items() for word in (name, str(file))]


def merged(told: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What several swarms of one run say together."""
    devices = sum(each["devices"] for each in told)
    first = sum(each["first_attempt_ratio"] * each["devices"] for each in told)
    failures: dict[str, int] = {}
    for each in told:
        for reason, count in each["failures"].items():
            failures[reason] = failures.get(reason, 0) + count
    return {
        "devices": devices,
        "completed": sum(each["completed"] for each in told),
        "failures": failures,
        "most_attempts": max(each["most_attempts"] for each in told),
        "first_attempt_ratio": round(first / devices, 4),
        "shed": sum(each["shed"] for each in told),
        "worst_device_s": max(each["worst_device_s"] for each in told),
    }
