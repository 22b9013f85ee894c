"""The transport of the whole server: sockets of both families, small datagrams, and a worker that dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from simulators.brief import Behaviour
from simulators.device import Device
from tests.integration.field import IMPATIENT, Field, opened, until
from tests.integration.raw_peer import RawPeer, raw_peer
from tests.integration.service import workers
from tests.integration.tape import Tape

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTS = ("127.0.0.1", "127.0.0.2", "::1")
MTU = 300
PEERS = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("transport")
    (folder / "firstlight.toml").write_text(f"[limits]\nmtu = {MTU}\n")
    names = [word for host in HOSTS for word in ("--name", host)]
    sockets = ("--coaps", "0.0.0.0:0", "--coaps", "[::]:0", "--workers", "2")
    async with opened(folder, *sockets, *names, "--config", str(folder / "firstlight.toml")) as started:
        yield started


@pytest.mark.parametrize("host", HOSTS)
async def test_a_device_bootstraps_at_whichever_address_of_a_wildcard_it_asks(field: Field, host: str) -> None:
    wildcard = "[::]" if ":" in host else "0.0.0.0"
    asked = next(uri for uri in field.service.ready["coaps_all"] if wildcard in uri)
    port = int(asked.rpartition(":")[2])
    # Its socket is connected: an answer from another address would never reach it.
    server = replace(field.server, host=host, port=port, address=(host, port))
    async with Device(f"at-{host}", field.certificate(f"at-{host}"), server, patience=IMPATIENT) as device:
        report = await device.bootstrap()
    assert report.ok, report.reason


@pytest.mark.parametrize("kind", ["tlv", "senml-cbor"])
async def test_a_whole_bootstrap_keeps_a_small_mtu(field: Field, kind: str) -> None:
    """Certificates in the handshake, and chain and key written to the device: all in datagrams of 300 bytes."""
    name = f"small-{kind}"
    async with Tape(to=field.address) as path:
        server = replace(field.server, address=path.address)
        pct = {"tlv": None, "senml-cbor": 112}[kind]
        behaviour = Behaviour(mtu=MTU, pct=pct)
        async with Device(name, field.certificate(name), server, behaviour=behaviour, patience=IMPATIENT) as device:
            report = await device.bootstrap()
    assert report.ok, report.reason
    assert max(path.largest("up"), path.largest("down")) <= MTU


async def test_the_death_of_a_worker_moves_nobody_else(field: Field) -> None:
    """docs/transport.md 25: the socket of the dead one stays open in the parent, so no flow moves to the other."""
    async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
        names = [f"stays-{number}" for number in range(PEERS)]
        peers = [await stack.enter_async_context(raw_peer(field, field.certificate(name))) for name in names]

        async def associations() -> int:
            lines = (await client.get("/metrics")).text.splitlines()
            return next(int(float(line.split()[1])) for line in lines if line.startswith("firstlight_associations "))

        async def all_counted() -> bool:
            return await associations() >= PEERS

        await until(all_counted)
        parent = int(field.service.ready["pid"])
        [victim, other] = workers(parent)
        os.kill(victim, signal.SIGKILL)

        async def replaced() -> bool:
            ready = (await client.get("/readyz")).status_code == 200
            return ready and len(workers(parent)) == 2 and victim not in workers(parent)

        await until(replaced)
        assert other in workers(parent)

        async def answered(peer: RawPeer) -> bool:
            return bool((await peer.ask(peer.request(2, "/bspack"))).code.dotted == "5.01")

        # Whoever was with the survivor has its answer; the others meet silence.
        asked = [asyncio.create_task(answered(peer)) for peer in peers]

        async def as_many_as_are_counted() -> bool:
            return sum(task.done() for task in asked) == await associations()

        await until(as_many_as_are_counted)
        assert all(task.result() for task in asked if task.done())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    report, _ = await field.bootstrap("afterwards")
    assert report.ok, report.reason
