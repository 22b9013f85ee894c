"""Many devices wait for a CA that takes two seconds; what the other devices notice of it (design 9).

Those who wait have a service of their own and its CA. The others get their certificates from the embedded CA, few at a
time: before the crowd comes, and while it waits.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.field import Field, opened, profile, until
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.issuers.peers.proxy import counting_proxy
from tests.pki import make_factory_ca
from tests.soak.crowd import crowd, keys, prefix
from tests.soak.own_ca import atlas, registration
from tests.soak.runs import SOURCES, Result, verdict

SECONDS = 2
SERVICE = "Slow"
# The others: so many at a time, for so many seconds.
OTHERS = {"concurrency": 4, "seconds": 20}
# After the last of the crowd has asked: its arrival, keys and requests are work, and not what is measured.
SETTLED = 10.0
# Unchanged, as far as two crowds on one machine can be told apart: twice as long, or a tenth of a second.
TIMES, AT_LEAST_MS = 2.0, 100.0


async def waiting(folder: Path, devices: int) -> Result:
    """CFSSL, each of whose answers takes 2 s: it serves eight devices a second, and the others stay waiting."""
    ca = make_factory_ca("Plant Root")
    async with cfssl_serve(ca) as peer, counting_proxy(peer.port) as proxy:
        proxy.slow_by = SECONDS
        (folder / "hmac.txt").write_text(PAGE_KEY)
        given = (
            *("--type", "CFSSL_AUTH", "--set", f"host_url={proxy.url}", "--set", "cfssl_profile=CA"),
            *("--secret-file", f"hmac_hex_key={folder / 'hmac.txt'}"),
        )
        (folder / "root.pem").write_bytes(ca.pem)
        return await _beside("waiting", folder, devices, given, "p99_ms", settled=SETTLED)


async def polling(folder: Path, devices: int) -> Result:
    """HVCA, which takes a request at once and issues 2 s later: a crowd that is served as fast as we can.

    It takes the processor like any other crowd, so what is held is that the others go on: none fails, and half of them
    notice nothing.
    """
    home = folder / "atlas"
    process, ready = await atlas(home, "", "--issue-delay", str(SECONDS))
    try:
        # At once: a fast machine has served the crowd within seconds.
        return await _beside("polling", folder, devices, registration(home, ready["base_url"]), "p50_ms", settled=0.0)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _beside(name: str, folder: Path, devices: int, ca: Sequence[str], held: str, *, settled: float) -> Result:
    """`devices` wait for the CA `ca`; the others' times with and without them, of which `held` must not change."""
    profiles = {"waiting": profile(f"{prefix('psk')}*", security=f'service = "{SERVICE}"')}
    async with opened(folder, profiles=profiles, keys=keys(devices)) as field:
        command = field.service.command
        await command("issuer", "add", "slow", *ca)
        await command("service", "add", SERVICE)
        await command("issuer", "activate", "slow", "--service", SERVICE)
        alone = await _others(field)
        async with crowd(field, "psk", devices, sources=SOURCES, attempts=1000, total=3600):
            await until(lambda: _asked(field, devices))
            await asyncio.sleep(settled)
            served = _served(field)
            beside = await _others(field)
            left = devices - _served(field)
        facts = {
            "devices": devices,
            "waiting": f"{devices - served} to {left}",
            "others": beside["completed"],
            "p50_ms alone": alone["p50_ms"],
            "p50_ms beside": beside["p50_ms"],
            "p99_ms alone": alone["p99_ms"],
            "p99_ms beside": beside["p99_ms"],
        }
        most = max(TIMES * alone[held], AT_LEAST_MS)
        return verdict(
            name,
            facts,
            (alone["failed"] == beside["failed"] == 0, "some of the others failed"),
            (served < devices, "the crowd was served before the others came"),
            (beside[held] <= most, "the others waited longer beside them"),
        )


def _served(field: Field) -> int:
    events = field.service.events("bootstrap_succeeded")
    return sum(event["endpoint"].startswith(prefix("psk")) for event in events)


async def _others(field: Field) -> Mapping[str, Any]:
    async with crowd(field, "x509", 200, sources=SOURCES, **OTHERS) as others:
        return await others.summary()


async def _asked(field: Field, devices: int) -> bool:
    """Whether every device has asked once: what follows is waiting and coming back."""
    events = field.service.events("bootstrap_requested")
    return sum(event["endpoint"].startswith(prefix("psk")) for event in events) >= devices


RUNS: Mapping[str, Callable[[Path, int], Awaitable[Result]]] = {"waiting": waiting, "polling": polling}
FULL = {"waiting": 2000, "polling": 2000}
