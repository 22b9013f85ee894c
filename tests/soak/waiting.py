"""Many devices wait for a CA that takes two seconds; what the other devices notice of it (design 9).

Those who wait have a service of their own, whose CA is the stand-in for GlobalSign's HVCA. The others get their
certificates from the embedded CA, few at a time: before the crowd comes, and while it waits.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.integration.field import Field, opened, profile, until
from tests.soak.crowd import crowd, keys, prefix
from tests.soak.own_ca import atlas, registration
from tests.soak.runs import SOURCES, Result

SECONDS = 2
SERVICE = "Slow"
# The others: so many at a time, for so many seconds.
OTHERS = {"concurrency": 4, "seconds": 20}
# After the last of the crowd has asked: its arrival, keys and requests are work, and not what is measured.
SETTLED = 10.0
# Unchanged, as far as two crowds on one machine can be told apart: twice as long, or half a second.
TIMES, AT_LEAST_MS = 2.0, 500.0


async def waiting(folder: Path, devices: int) -> Result:
    """`devices` wait for the slow CA; the others' p99 with and without them."""
    home = folder / "atlas"
    profiles = {"waiting": profile(f"{prefix('psk')}*", security=f'service = "{SERVICE}"')}
    async with opened(folder, profiles=profiles, keys=keys(devices)) as field:
        process, ready = await atlas(home, "", "--issue-delay", str(SECONDS))
        try:
            command = field.service.command
            await command("issuer", "add", "slow", *registration(home, ready["base_url"]))
            await command("service", "add", SERVICE)
            await command("issuer", "activate", "slow", "--service", SERVICE)
            alone = await _others(field)
            async with crowd(field, "psk", devices, sources=SOURCES, attempts=1000, total=3600):
                await until(lambda: _asked(field, devices))
                await asyncio.sleep(SETTLED)
                beside = await _others(field)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
    facts = {
        "devices": devices,
        "others": beside["completed"],
        "p99_ms alone": alone["p99_ms"],
        "p99_ms beside": beside["p99_ms"],
    }
    most = max(TIMES * alone["p99_ms"], AT_LEAST_MS)
    rules = (
        (alone["failed"] == beside["failed"] == 0, "some of the others failed"),
        (beside["p99_ms"] <= most, "the others waited longer beside them"),
    )
    return Result("waiting", facts, [words for kept, words in rules if not kept])


async def _others(field: Field) -> Mapping[str, Any]:
    async with crowd(field, "x509", 200, sources=SOURCES, **OTHERS) as others:
        return await others.summary()


async def _asked(field: Field, devices: int) -> bool:
    """Whether every device has asked once: what follows is waiting and coming back."""
    events = field.service.events("bootstrap_requested")
    return sum(event["endpoint"].startswith(prefix("psk")) for event in events) >= devices


RUNS: Mapping[str, Callable[[Path, int], Awaitable[Result]]] = {"waiting": waiting}
FULL = {"waiting": 2000}
