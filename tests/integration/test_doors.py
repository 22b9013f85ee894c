"""The two doors against a storm (design 9): what is under way goes on, what is new waits outside and gets in later."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.integration.field import Field, opened, until
from tests.integration.raw_peer import RawPeer, raw_peer

pytestmark = pytest.mark.asyncio(loop_scope="module")

HANDSHAKES = 4
SESSIONS = 2
# No handshake ends by itself while a test looks.
LIMITS = f"""
[limits]
max_handshakes = {HANDSHAKES}
max_sessions = {SESSIONS}
handshake_seconds = 600
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("doors")
    (folder / "firstlight.toml").write_text(LIMITS)
    async with opened(folder, "--config", str(folder / "firstlight.toml")) as started:
        yield started


async def counted(field: Field, series: str) -> float:
    """The value of a series now."""
    async with httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} "))


@contextlib.asynccontextmanager
async def peers(field: Field, name: str, count: int, *, up: bool = True) -> AsyncIterator[list[RawPeer]]:
    async with contextlib.AsyncExitStack() as stack:
        names = [f"{name}-{number}" for number in range(count)]
        yield [await stack.enter_async_context(raw_peer(field, field.certificate(each), up=up)) for each in names]


async def test_beyond_the_limit_of_handshakes_a_hello_is_dropped_and_comes_in_when_there_is_room(field: Field) -> None:
    async with peers(field, "before", 1) as [friend], peers(field, "half", HANDSHAKES, up=False) as half_open:
        for peer in half_open:
            await peer.knock()
        outside = asyncio.create_task(field.bootstrap("outside"))

        async def dropped() -> bool:
            return await counted(field, 'firstlight_drops_total{reason="handshakes_full"}') > 0

        await until(dropped)
        # It costs nothing but the look at its cookie, and whoever is inside notices nothing.
        assert await counted(field, "firstlight_handshaking") == HANDSHAKES
        assert (await friend.ask(friend.bootstrap_request("ep=before-0"))).code.dotted == "2.04"
        assert not outside.done()
        for peer in half_open:
            await peer.handshake()
        report, _ = await outside
    assert (report.ok, report.attempts) == (True, 1), report.reason


async def test_beyond_the_limit_of_sessions_a_request_is_put_off_for_a_time_of_its_own(field: Field) -> None:
    async def nobody_inside() -> bool:
        return await counted(field, "firstlight_sessions") == 0

    # The session of a device that left is over once its end is on record.
    await until(nobody_inside)
    async with peers(field, "inside", SESSIONS) as inside, peers(field, "waits", 1) as [waiting]:
        for number, peer in enumerate(inside):
            # They answer nothing of what follows, and so stay.
            assert (await peer.ask(peer.bootstrap_request(f"ep=inside-{number}"))).code.dotted == "2.04"
        ages: set[int] = set()
        for _ in range(12):
            answer = await waiting.ask(waiting.bootstrap_request("ep=waits-0"))
            assert answer.code.dotted == "5.03"
            ages.add(int(answer.opt.max_age))
        # Five seconds and up to as many again at random: those turned away together do not return together.
        assert ages <= set(range(5, 11))
        assert len(ages) > 1

        async def told() -> bool:
            return await counted(field, "firstlight_shed_total") == 12

        await until(told)
        inside[0].close()

        async def let_in() -> bool:
            answer = await waiting.ask(waiting.bootstrap_request("ep=waits-0"))
            return bool(answer.code.dotted == "2.04")

        await until(let_in)
