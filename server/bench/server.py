"""The server under measurement: one of its own, and what can be read of it from outside while it serves."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from server import config_sources, record, rig
from server.bench.figures import Mode
from server.bench.processes import Processes
from server.rig import RigFailed
from server.store.database import Database

FACTORY = "Bench Factory"
KEPT_LOG = Path("firstlight-bench.log")
# The whole fleet comes from this machine, and its devices again and again: the limits for one of each would be in the
# way. Counted they are.
SETTINGS = """
[server]
measure_queue = true
[limits]
max_handshakes_per_source = 1000000
[issuance]
daily_bootstraps = 1000000
"""
# Workers tell the parent their numbers once a second.
NUMBERS_ARRIVE = 1.5


@dataclass(frozen=True, slots=True)
class Rows:
    """What the record holds of bootstraps that are over."""

    sessions: int
    issuances: int
    certificates: int
    audited: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.sessions + self.issuances + self.certificates + self.audited


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server with a fleet it trusts; `files` are the options a simulator needs to play that fleet."""

    folder: Path
    uri: str
    http: str
    pid: int
    workers: int
    files: Sequence[str]

    def processes(self) -> Processes:
        """Its processes now."""
        return Processes.below(self.pid)

    async def numbers(self) -> Mapping[str, float]:
        """Its metrics, by series as the exposition format writes them."""
        await asyncio.sleep(NUMBERS_ARRIVE)
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(f"{self.http}/metrics")).raise_for_status().text
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    async def rows(self) -> Rows:
        """What is on record."""
        flags = {("server", "data_dir"): self.folder / "data"}
        config = config_sources.load(file=None, environment={}, flags=flags)
        async with record.postgres(config, shared=True) as url:
            database = await Database.open(url, migrate=False)
            try:
                found = await database.fetchrow("bench_rows")
            finally:
                await database.close()
        return Rows(*found)


@contextlib.asynccontextmanager
async def running(folder: Path, *, mode: Mode, workers: int, devices: int) -> AsyncIterator[Subject]:
    """Start a server in `folder` and tell it of a factory, or of keys for `devices` endpoints."""
    (folder / "bench.toml").write_text(SETTINGS)
    words = ("--config", str(folder / "bench.toml"), "--workers", str(workers))
    async with rig.server(folder, *words, kept_log=KEPT_LOG) as ready:
        if mode == "psk":
            keys = {f"swarm-{number:06d}": secrets.token_hex(16) for number in range(1, devices + 1)}
            await rig.add_keys(folder, keys)
            files = ["--psk-file", str(folder / "keys.txt")]
        else:
            await rig.trust_factory(folder, FACTORY, datetime.now(UTC))
            files = ["--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory.key")]
        await asyncio.sleep(rig.CHANGES_ARRIVE)
        root = folder / "device-root.pem"
        await rig.command("ca", "export", "device-root", "--data-dir", str(folder / "data"), "--out", str(root))
        yield Subject(
            folder=folder,
            uri=ready["coaps"],
            http=ready["http"],
            pid=int(ready["pid"]),
            workers=workers,
            files=["--mode", mode, "--server-ca", ready["server_ca_file"], "--trust", str(root), *files],
        )


def histogram_quantile(before: Mapping[str, float], after: Mapping[str, float], name: str, share: float) -> float:
    """Seconds below which `share` of what was observed between two looks lies, inside its bucket by proportion.

    Raises RigFailed when nothing was: no figure is not a good one.
    """
    prefix = f"{name}_bucket{{le="
    buckets = [
        (float(json.loads(series[len(prefix) : -1])), count - before.get(series, 0.0))
        for series, count in after.items()
        if series.startswith(prefix)
    ]
    buckets.sort()
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        raise RigFailed(f"between two looks the server observed nothing for {name}, so there is no figure to judge")
    lower = below = 0.0
    for bound, count in buckets:
        if count >= share * total:
            if bound == float("inf"):
                break
            return lower + (bound - lower) * (share * total - below) / (count - below)
        lower, below = bound, count
    return lower
