"""The operator's CA is killed in the middle of many bootstraps and comes back: no device is lost, nothing signed twice.

CFSSL cannot tell what became of a request, so a lost answer may cost one more signature, and no more than that; the
answers lost are counted by a proxy before it. GlobalSign's stand-in can be asked; its own log has every signature.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from tests.integration.field import Field, opened, until
from tests.integration.service import environment
from tests.issuers.peers.cfssl import PAGE_KEY, Peer, cfssl_serve
from tests.issuers.peers.proxy import CountingProxy, counting_proxy
from tests.pki import make_factory_ca
from tests.soak.runs import Result, verdict

PREFIX = "own-ca-"
SIGN = "/authsign"
SIGNED = "signed certificate with serial number"
NAME = "plant"
# Lost before the kill, so that some are lost for certain.
LOST = 3


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a run: devices done of those that came, signatures made, certificates on record, answers lost."""

    devices: int
    done: int
    signatures: int
    recorded: int
    lost: int
    failures: Mapping[str, int]

    @property
    def extra(self) -> int:
        """Signatures that no certificate on record accounts for."""
        return self.signatures - self.recorded


def _judged(name: str, fate: Fate, most_extra: int) -> Result:
    facts = {"devices": fate.devices, "completed": fate.done, "signatures": fate.signatures, "lost answers": fate.lost}
    return verdict(
        name,
        facts,
        (fate.done == fate.devices, f"{fate.devices - fate.done} devices failed: {dict(fate.failures)}"),
        (fate.lost >= LOST, "too few answers were lost to prove anything"),
        (0 <= fate.extra <= most_extra, f"{fate.extra} signatures that no certificate on record accounts for"),
    )


# -- CFSSL ------------------------------------------------------------------------------------------------


async def cfssl(folder: Path, devices: int) -> Result:
    """Kill the real cfssl when a third of the devices have their certificates; it is back when nobody asks any more.

    It may sign at most once more for each answer that was lost.
    """
    ca = make_factory_ca("Plant Root")
    async with contextlib.AsyncExitStack() as stack:
        field = await stack.enter_async_context(opened(folder))
        first = await stack.enter_async_context(cfssl_serve(ca))
        proxy = await stack.enter_async_context(counting_proxy(first.port))
        (folder / "root.pem").write_bytes(ca.pem)
        (folder / "hmac.txt").write_text(PAGE_KEY)
        await _activate(
            field,
            *("--type", "CFSSL_AUTH", "--set", f"host_url={proxy.url}", "--set", "cfssl_profile=CA"),
            *("--secret-file", f"hmac_hex_key={folder / 'hmac.txt'}"),
        )
        before = first.log.count(SIGNED)
        crowd = await stack.enter_async_context(_crowd(field, devices))
        await _kill_cfssl(proxy, first, devices)
        log = first.log
        await _nobody_asks(field)
        second = await stack.enter_async_context(cfssl_serve(ca, port=first.port))
        await proxy.open()
        told = await crowd
        signatures = log.count(SIGNED) - before + second.log.count(SIGNED)
        fate = await _fate(field, told, signatures, proxy.lost_answers(SIGN))
        return _judged("cfssl", fate, fate.lost)


async def _kill_cfssl(proxy: CountingProxy, peer: Peer, devices: int) -> None:
    before = proxy.requests(SIGN)

    async def under_way() -> bool:
        return proxy.requests(SIGN) - before >= devices // 3

    async def lost_some() -> bool:
        return proxy.lost_answers(SIGN) >= LOST

    await until(under_way)
    proxy.lose_answers_to = SIGN
    await until(lost_some)
    proxy.close()
    await peer.kill()
    proxy.lose_answers_to = ""


# -- GlobalSign's stand-in --------------------------------------------------------------------------------


async def globalsign(folder: Path, devices: int) -> Result:
    """Kill the stand-in, with requests taken whose answers nobody hears; it is back on the same log.

    It may sign not once more than there are devices.
    """
    home = folder / "atlas"
    async with contextlib.AsyncExitStack() as stack:
        field = await stack.enter_async_context(opened(folder))
        process, ready = await atlas(home)
        (folder / "root.pem").write_bytes((home / "root.pem").read_bytes())
        try:
            await _activate(
                field,
                *registration(home, ready["base_url"]),
            )
            before = len(_issued(home))
            crowd = await stack.enter_async_context(_crowd(field, devices))

            async def under_way() -> bool:
                return len(_issued(home)) - before >= devices // 3

            await until(under_way)
            fault = {"at": "POST /certificates", "do": "reset", "times": LOST, "after": True}
            await _control(ready["control"], "POST", "/faults", fault)

            async def lost_some() -> bool:
                return (await _control(ready["control"], "GET", "/state", {}))["faults"] == 0

            await until(lost_some)
            process.kill()
            await process.wait()
            await _nobody_asks(field)
            process, _ = await atlas(home, ready["base_url"])
            told = await crowd
            return _judged("globalsign", await _fate(field, told, len(_issued(home)) - before, LOST), 0)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


def registration(home: Path, base_url: str) -> tuple[str, ...]:
    """What `issuer add` is told of the stand-in."""
    return (
        *("--type", "GLOBAL_SIGN", "--set", f"base_url={base_url}"),
        *("--set", f"tls_roots=@{home / 'tls-root.pem'}"),
        *("--secret-file", f"api_key={home / 'api-key'}", "--secret-file", f"api_secret={home / 'api-secret'}"),
        *("--secret-file", f"client_certificate={home / 'client.pem'}"),
        *("--secret-file", f"private_key={home / 'client-key.pem'}"),
    )


def _issued(home: Path) -> list[str]:
    """Serial numbers that the stand-in has signed, by its own log."""
    lines = (home / "issued.jsonl").read_text().splitlines(keepends=True)
    entries = (json.loads(line) for line in lines if line.endswith("\n"))
    return [entry["serial"] for entry in entries if entry["event"] == "issued"]


async def atlas(home: Path, base_url: str = "", *words: str) -> tuple[asyncio.subprocess.Process, Mapping[str, str]]:
    """The stand-in on `home`, where it was when `base_url` is given; and what it says of itself."""
    listen = base_url.removeprefix("https://").removesuffix("/v2") or "127.0.0.1:0"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "simulators", "atlas", "--dir", str(home), "--listen", listen, *words),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def _control(url: str, method: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        return cast("dict[str, Any]", (await client.request(method, url + path, json=body)).json())


# -- both -------------------------------------------------------------------------------------------------


async def _activate(field: Field, *words: str) -> None:
    command = field.service.command
    await command("trust", "add", str(field.folder / "root.pem"), "--service", "lwm2m", "--name", "plant root")
    await command("issuer", "add", NAME, *words)
    await command("issuer", "activate", NAME)
    # The root of the embedded CA, the factory and this one: every worker has them, and what came after, on a new
    # revision at the latest.
    await field.known(anchors=3, profiles=1)
    number = 0

    async def at_work() -> bool:
        nonlocal number
        number += 1
        report, _ = await field.bootstrap(f"first-{number}")
        assert report.ok, report.reason
        return "Firstlight" not in report.issuer

    await until(at_work)


async def _nobody_asks(field: Field) -> None:
    async def shut() -> bool:
        return bool(field.service.events("issuer_not_ready"))

    await until(shut)


@contextlib.asynccontextmanager
async def _crowd(field: Field, devices: int) -> AsyncIterator["asyncio.Task[Mapping[str, Any]]"]:
    """So many devices at once, each as patient as real ones are; the task ends with what the swarm says."""
    (field.folder / "factory.pem").write_bytes(field.factory.pem)
    (field.folder / "factory.key").write_bytes(field.factory.key_pem)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "simulators", "swarm", "--server", field.service.server_uri),
        *("--server-ca", field.service.ready["server_ca_file"], "--factory-ca", str(field.folder / "factory.pem")),
        *("--factory-key", str(field.folder / "factory.key"), "--trust", str(field.folder / "root.pem")),
        *("--count", str(devices), "--endpoint-prefix", PREFIX, "--attempts", "60", "--total", "900"),
        *("--concurrency", str(max(20, devices // 5))),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )

    async def told() -> Mapping[str, Any]:
        output, _ = await process.communicate()
        return cast("Mapping[str, Any]", json.loads(output.splitlines()[-1]))

    task = asyncio.create_task(told())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(task, return_exceptions=True)


async def _fate(field: Field, told: Mapping[str, Any], signatures: int, lost: int) -> Fate:
    lines = (await field.service.command("certificate", "list", "--json")).splitlines()
    recorded = [row for row in map(json.loads, lines) if row["endpoint"].startswith(PREFIX)]
    return Fate(
        devices=told["devices"],
        done=told["completed"],
        signatures=signatures,
        recorded=len(recorded),
        lost=lost,
        failures=told["failures"],
    )


RUNS: Mapping[str, Callable[[Path, int], Awaitable[Result]]] = {"cfssl": cfssl, "globalsign": globalsign}
FULL = {"cfssl": 500, "globalsign": 500}
