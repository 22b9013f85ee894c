"""A running server among peers that misbehave: devices beside them are served, nothing is logged, nothing is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
import pytest_asyncio

from tests.fuzz.__main__ import SEED
from tests.fuzz.live import Peer
from tests.integration.field import Field, opened, until
from tests.integration.test_serve import workers
from tests.pki import make_device_certificate

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Handshakes that lead nowhere are over soon, and associations that say nothing too.
LIMITS = "[limits]\nhandshake_seconds = 5\nidle_seconds = 5\nsession_seconds = 10\n"
PEERS = 8
ROUNDS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "firstlight.toml").write_text(LIMITS)
    async with opened(folder, "--config", str(folder / "firstlight.toml")) as started:
        yield started


def numbers() -> Iterator[int]:
    number = 0
    while True:
        yield (number := number + 1)


NUMBERS = numbers()


async def misbehave(field: Field, random: Random) -> int:
    """One peer for a while; how many datagrams it sent."""
    name = f"fuzz-{next(NUMBERS)}"
    peer = Peer(field.address, make_device_certificate(field.factory, name), random)
    try:
        await peer.hellos()
        for rate in (0.3, 0.6):
            await peer.handshake(rate)
        await peer.talk(name)
    finally:
        peer.close()
    return peer.used


async def one_round(field: Field, number: int) -> int:
    """All peers at once and one honest device beside them, which needs one attempt."""
    peers = [asyncio.create_task(misbehave(field, Random(f"{SEED}/{number}/{peer}"))) for peer in range(PEERS)]
    report, _ = await field.bootstrap(f"honest-{number}")
    used = sum(await asyncio.gather(*peers))
    assert (report.ok, report.attempts) == (True, 1), report.reason
    return used


async def at_rest(field: Field) -> int:
    """Wait until nobody is there any more; the memory of the worker in bytes."""

    async def nobody() -> bool:
        async with httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        left = ("firstlight_associations ", "firstlight_handshaking ", "firstlight_sessions ")
        return all(line.endswith(" 0.0") for line in lines if line.startswith(left))

    await until(nobody)
    [worker] = workers(int(field.service.ready["pid"]))
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096


async def test_a_live_bootstrap_finishes_and_the_memory_comes_back(field: Field) -> None:
    await one_round(field, 0)
    before = await at_rest(field)
    used = 0
    for number in range(1, ROUNDS):
        used += await one_round(field, number)
    # A peer that did nothing would leave the memory alone too.
    assert used > 100 * PEERS
    assert await at_rest(field) <= before * 1.1
