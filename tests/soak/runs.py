"""What the transport must stand (design 9), each run at any size: loss, storm, and servers that are
killed, restarted, and two on one record.

A run returns what happened, or raises what of it is a miss; `python -m tests.soak` runs all at full size, test_soak.py
small.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.faults import Counts, Faults, FaultyPath
from tests.integration.field import Field, opened, until
from tests.integration.service import Service, workers
from tests.soak.cluster import cluster
from tests.soak.crowd import MODES, crowd, keys, merged

# Design 9: of what is not lost, both ways.
LOSSY = Faults(loss=0.15, duplicate=0.10, reorder=0.15)
# With it no exchange of the first few devices is lost more than three times in a row: the small run ends soon.
SEED = 20261082
# Loopback addresses the devices come from, so that no limit per source stands for the total.
SOURCES = 100
# A device whose server vanished in the middle comes back sooner than the 247 s of LwM2M Core 1.2 6.1.7.7, so that a run
# has an end.
IMPATIENT = {"handshake": 20, "silence": 20}
# Longer than such a device pauses between two datagrams.
GAP = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a run saw; `misses` is empty when all is as it must be."""

    name: str
    facts: Mapping[str, Any]
    misses: Sequence[str] = ()

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{self.name}: {'MISSED ' + '; '.join(self.misses) if self.misses else 'ok'} ({facts})"


class Missed(Exception):
    """A run did not reach what it must; raised inside the block of its servers, so that they leave their records."""


def verdict(name: str, facts: Mapping[str, Any], *rules: tuple[bool, str]) -> Result:
    """The result of a run that held every rule; Missed with what it saw and which it broke."""
    result = Result(name, facts, [words for kept, words in rules if not kept])
    if result.misses:
        raise Missed(str(result))
    return result


def judged(name: str, facts: Mapping[str, Any], *also: tuple[bool, str]) -> Result:
    """Every device is done within three Bootstrap-Requests, and whatever else the run asks for."""
    return verdict(
        name,
        facts,
        (facts["completed"] == facts["devices"], f"{facts['devices'] - facts['completed']} devices failed"),
        (facts["most_attempts"] <= 3, "a device needed more than three Bootstrap-Requests"),
        *also,
    )


# -- loss -----------------------------------------------------------------------------------------------


async def loss(folder: Path, devices: int) -> Result:
    """All at once through a path that loses, doubles and reorders; RFC 6347 and 7252 timers on the devices' side."""
    half = devices // 2
    # One source address for all of them: the path's own.
    configuration = folder / "firstlight.toml"
    configuration.write_text(f"[limits]\nmax_handshakes_per_source = {devices}\n")
    async with (
        opened(folder, "--config", str(configuration), keys=keys(half)) as field,
        FaultyPath(to=field.address, faults=LOSSY, seed=SEED) as path,
    ):
        facts = await both(field, half, address=path.address, linger=10)
        shares = {
            f"{name} {way}": share for way, counts in path.each_way.items() for name, share in _shares(counts).items()
        }
        facts |= {"datagrams": path.counts.seen}
        facts |= {name: f"{100 * some / all:.1f} %" for name, (_, some, all) in shares.items()}
        later = devices - round(facts["first_attempt_ratio"] * devices)
        return judged(
            "loss",
            facts,
            # One of a few is more than 2 % and no news.
            (later <= max(1, 0.02 * devices), "fewer than 98 % were done at the first attempt"),
            *((_as_asked(*share), f"the path has {name} another share than asked") for name, share in shares.items()),
        )


def _shares(counts: Counts) -> Mapping[str, tuple[float, int, int]]:
    """What was asked of the path in one direction, how many it did that to, and of how many."""
    passed = counts.seen - counts.lost
    return {
        "lost": (LOSSY.loss, counts.lost, counts.seen),
        "doubled": (LOSSY.duplicate, counts.duplicated, passed),
        "reordered": (LOSSY.reorder, counts.reordered, passed),
    }


def _as_asked(wanted: float, some: int, all: int) -> bool:
    """Within two points (13 to 17 % of 15 %), or within five standard deviations of a few datagrams."""
    return abs(some / all - wanted) <= max(0.02, 5 * (wanted * (1 - wanted) / all) ** 0.5)


async def both(field: Field, each: int, **options: Any) -> dict[str, Any]:
    """`each` devices with a certificate and as many with a key, all at once."""
    async with crowd(field, MODES[0], each, **options) as first, crowd(field, MODES[1], each, **options) as second:
        return merged(list(await asyncio.gather(first.summary(), second.summary())))


# -- storm ----------------------------------------------------------------------------------------------


async def storm(folder: Path, devices: int) -> Result:
    """All at once, each done within 120 s."""
    async with opened(folder) as field, crowd(field, "x509", devices, sources=SOURCES, total=120) as devices_at_once:
        return judged("storm", merged([await devices_at_once.summary()]))


# -- deaths ---------------------------------------------------------------------------------------------


async def kill(folder: Path, devices: int) -> Result:
    """One of two workers is killed in the middle; its successor has the same socket."""
    async with opened(folder, "--workers", "2") as field, steady(field, devices) as arriving:
        await part_done(field.service, devices // 4)
        os.kill(workers(int(field.service.ready["pid"]))[0], signal.SIGKILL)
        facts = merged([await arriving.summary()])
        died = len(field.service.events("worker_died"))
        return judged("kill", facts | {"workers_died": died}, (died == 1, "no worker died"))


async def restart(folder: Path, devices: int) -> Result:
    """SIGTERM under load, and the server starts again on the same port; nothing it began is lost."""
    async with opened(folder) as field:
        field.service.coaps = field.service.server_uri.removeprefix("coaps://")
        async with steady(field, devices) as arriving:
            await part_done(field.service, devices // 4)
            stopped = await field.service.stop()
            await field.service.start()
            facts = merged([await arriving.summary()])
        # A stop waits until the last Finish is on record.
        await field.service.stop()
        started = len(field.service.events("bootstrap_requested"))
        ended = len(field.service.events("bootstrap_succeeded")) + len(field.service.events("bootstrap_failed"))
        return judged(
            "restart",
            facts | {"exit_code": stopped},
            (stopped == 0, f"the server ended with code {stopped}"),
            (started == ended, f"{started} bootstraps began and {ended} ended"),
        )


async def nodes(folder: Path, devices: int) -> Result:
    """Two nodes on one record behind a balancer, and one is killed for good; the other takes its devices."""
    async with cluster(folder) as (field, other, address), steady(field, devices, address=address) as arriving:
        await part_done(field.service, devices // 8)
        await part_done(other, devices // 8)
        await other.kill()
        facts = merged([await arriving.summary()])
        shared = [len(node.events("bootstrap_succeeded")) for node in (field.service, other)]
        return judged("nodes", facts | {"by_node": shared}, (shared[1] < devices // 2, "the death came too late"))


async def rolling(folder: Path, devices: int) -> Result:
    """Two nodes on one record are stopped and started again one after the other, as for an upgrade."""
    codes: list[int] = []
    async with cluster(folder) as (field, other, address), steady(field, devices, address=address) as arriving:
        for node in (field.service, other):
            await part_done(node, devices // 10)
            codes.append(await node.stop())
            # So that every flow it had finds it gone and is moved: nginx forwards nothing back on one that met the gap.
            await asyncio.sleep(GAP)
            await node.start()
        facts = merged([await arriving.summary()])
        return judged("rolling", facts, (codes == [0, 0], f"the nodes ended with codes {codes}"))


def steady(field: Field, devices: int, **options: Any) -> Any:
    """Devices that keep arriving, so that whatever happens to the server meets some in every state."""
    return crowd(field, "x509", devices, concurrency=max(1, devices // 5), sources=SOURCES, **IMPATIENT, **options)


async def part_done(service: Service, devices: int) -> None:
    """Wait until a server has finished so many bootstraps."""

    async def enough() -> bool:
        return len(service.events("bootstrap_succeeded")) >= devices

    await until(enough)


RUNS: Mapping[str, Callable[[Path, int], Awaitable[Result]]] = {
    "loss": loss,
    "storm": storm,
    "kill": kill,
    "restart": restart,
    "rolling": rolling,
    "nodes": nodes,
}
FULL = {
    "loss": 2000,
    "storm": 5000,
    "kill": 1000,
    "restart": 1000,
    "rolling": 1000,
    "nodes": 1000,
}
