"""A running server among peers that misbehave: devices beside them are served, and its memory comes back."""

import asyncio
import re
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import httpx

from simulators.dtls import PskCredential
from tests.fuzz.peer import Peer
from tests.fuzz.target import Finding
from tests.integration.field import Field, opened, until
from tests.integration.service import workers
from tests.pki import make_device_certificate, make_factory_ca
from tests.unit.transport.client import PSK_SUITES, Client

SUITES = "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256"
# Handshakes that lead nowhere are over soon, and associations that say nothing too.
LIMITS = "[limits]\nhandshake_seconds = 5\nidle_seconds = 5\nsession_seconds = 10\n"
KEY = "00112233445566778899aabbccddeeff"
# The identity of the peers that have a key, and of the devices beside them: also their endpoint names.
PSK_PEER, PSK_DEVICE = "fuzz-psk", "honest-psk"
# At a time; half of them have a certificate, half a key.
PEERS = 8
# At a time, and how often each is refused in a round.
STRANGERS, REFUSALS = 12, 16
# Of the rounds, one in so many goes before the memory is measured: what is allocated once is there then.
WARM_UP = 4
GROWTH = 0.1
# Bytes: an SSL object with its buffers and what hangs on it, which one refused handshake would leave behind.
LEAK = 80_000


@dataclass(slots=True)
class Outcome:
    """What the peers did between the two measurements of the memory, in bytes, of the worker at rest."""

    datagrams: int = 0
    refused: int = 0
    bootstraps: int = 0
    before: int = 0
    after: int = 0

    @property
    def telling(self) -> bool:
        """Whether a leak of each refused handshake's objects would have shown."""
        return self.refused * LEAK > 2 * GROWTH * self.before

    @property
    def grown(self) -> bool:
        """Whether the memory did not come back."""
        return self.after > self.before * (1 + GROWTH)

    def __str__(self) -> str:
        return (
            f"{self.datagrams} datagrams, {self.refused} handshakes failed, {self.bootstraps} devices served, "
            f"{self.before / 1e6:.1f} MB after the warm-up and {self.after / 1e6:.1f} MB at the end"
        )


@asynccontextmanager
async def field(folder: Path) -> AsyncIterator[Field]:
    """A server for it; at its end nothing was logged that is a fault."""
    (folder / "firstlight.toml").write_text(LIMITS)
    keys = dict.fromkeys((PSK_PEER, PSK_DEVICE), KEY)
    async with opened(folder, "--config", str(folder / "firstlight.toml"), keys=keys) as started:
        yield started


async def besieged(field: Field, rounds: int, seed: object) -> Outcome:
    """So many rounds, two at least; raises Finding when a device was not served or the memory did not come back."""
    siege = _Siege(field, seed)
    outcome = Outcome()
    warm_up = max(1, rounds // WARM_UP)
    failed = 0
    for number in range(max(2, rounds)):
        if number == warm_up:
            outcome.before = await _at_rest(field)
            failed = await _failed(field)
            outcome.datagrams = outcome.bootstraps = 0
        outcome.datagrams += await siege.round(number)
        outcome.bootstraps += 1
    outcome.after = await _at_rest(field)
    outcome.refused = await _failed(field) - failed
    if not outcome.telling:
        raise Finding(f"too little happened to tell a leak: {outcome}")
    if outcome.grown:
        raise Finding(f"the memory does not come back: {outcome}")
    return outcome


async def run_live(folder: Path, rounds: int, seed: object, say: Callable[[str], None]) -> bool:
    """A server of its own, the rounds, and a line that tells of them; whether nothing was found."""
    started = time.monotonic()
    try:
        async with field(folder) as running:
            outcome = await besieged(running, rounds, seed)
    except AssertionError:
        say(f"live: {rounds} rounds in {time.monotonic() - started:.0f} s, a finding\n{traceback.format_exc(limit=-8)}")
        return False
    say(f"live: {rounds} rounds in {time.monotonic() - started:.0f} s, {outcome}, no finding")
    return True


class _Siege:
    """The peers of one server, and the factories they come from."""

    def __init__(self, field: Field, seed: object) -> None:
        self._field = field
        self._seed = seed
        self._names: Iterator[int] = count(1)
        key = bytes.fromhex(KEY)
        stranger = make_device_certificate(make_factory_ca("Nobody's Factory"), "stranger")
        self._strangers = [
            lambda: Client(suites=SUITES, certificate=stranger),
            lambda: Client(suites=PSK_SUITES, identity=PSK_PEER.encode(), key=bytes(16)),
            lambda: Client(suites=PSK_SUITES, identity=b"nobody's key", key=key),
            lambda: Client(suites=SUITES),
        ]

    async def round(self, number: int) -> int:
        """All peers at once and one honest device beside them, which needs one attempt; how many datagrams came."""
        peers = [asyncio.create_task(self._misbehave(number, peer)) for peer in range(PEERS)]
        peers += [asyncio.create_task(self._be_refused(number, stranger)) for stranger in range(STRANGERS)]
        try:
            await self._serve(number)
            return sum(await asyncio.gather(*peers))
        finally:
            for task in peers:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*peers, return_exceptions=True)

    async def _serve(self, number: int) -> None:
        if number % 2:
            credential = PskCredential(PSK_DEVICE.encode(), bytes.fromhex(KEY))
            report, _ = await self._field.bootstrap(PSK_DEVICE, credential=credential)
        else:
            report, _ = await self._field.bootstrap(f"honest-{number}")
        if (report.ok, report.attempts) != (True, 1):
            raise Finding(f"a device was not served at its first attempt, in round {number}: {report.reason}")

    async def _misbehave(self, number: int, place: int) -> int:
        """One that would be admitted, for a while: its hellos, its handshakes and what it says then are not right."""
        if place % 2:
            name, client = PSK_PEER, Client(suites=PSK_SUITES, identity=PSK_PEER.encode(), key=bytes.fromhex(KEY))
        else:
            name = f"fuzz-{next(self._names)}"
            client = Client(suites=SUITES, certificate=make_device_certificate(self._field.factory, name))
        peer = Peer(self._field.address, client, Random(f"{self._seed}/{number}/{place}"))
        try:
            await peer.hellos()
            for rate in (0.3, 0.6):
                await peer.handshake(rate)
            await peer.talk(name)
        finally:
            peer.close()
        return peer.used

    async def _be_refused(self, number: int, place: int) -> int:
        """Strangers from a new address each time, who say nothing wrong and prove nothing that counts."""
        used = 0
        client = self._strangers[place % len(self._strangers)]()
        for _ in range(REFUSALS):
            peer = Peer(self._field.address, client, Random(f"{self._seed}/{number}/{place}"))
            try:
                await peer.handshake(0.0)
            finally:
                peer.close()
            used += peer.used
        return used


async def _at_rest(field: Field) -> int:
    """Wait until nobody is there any more; the memory of the worker in bytes."""

    async def nobody() -> bool:
        left = ("firstlight_associations ", "firstlight_handshaking ", "firstlight_sessions ")
        return all(line.endswith(" 0.0") for line in await _metrics(field) if line.startswith(left))

    await until(nobody)
    [worker] = workers(int(field.service.ready["pid"]))
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096


async def _failed(field: Field) -> int:
    """How many handshakes have failed so far."""
    lines = "\n".join(await _metrics(field))
    return int(float(re.findall(r'^firstlight_dtls_handshakes_total\{outcome="failed"\} (.*)$', lines, re.M)[0]))


async def _metrics(field: Field) -> list[str]:
    async with httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
        return (await client.get("/metrics")).text.splitlines()
