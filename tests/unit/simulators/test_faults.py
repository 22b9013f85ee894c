"""The faulty path: what it says is what it did, at the rates it was told, and the same again for the same seed."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import fields

import pytest

from simulators.faults import LONGEST_HOLD, Direction, Faults, FaultyPath, Seen, _Flow

LINE = re.compile(r"datagram (\d+) (up|down), (\d+) bytes: (.*)")
FLIPPED = re.compile(r"bit (\d) of byte (\d+) flipped")


class Wire:
    """In place of a socket: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, datagram: bytes) -> None:
        self.sent.append(datagram)

    def sendto(self, datagram: bytes, _to: object) -> None:
        self.sent.append(datagram)


class Rig:
    """A path between wires, with one flow or several."""

    def __init__(self, faults: Faults, *, seed: int = 1, flows: int = 1) -> None:
        self.lines: list[str] = []
        self.path = FaultyPath(to=("192.0.2.1", 5684), faults=faults, seed=seed, trace=self.lines.append)
        self.down = Wire()
        self.path._socket = self.down  # type: ignore[assignment]
        self.path._loop = asyncio.get_running_loop()
        self.flows = [_Flow(self.path, ("192.0.2.9", number), number) for number in range(flows)]
        self.up = [Wire() for _ in range(flows)]
        for flow, wire in zip(self.flows, self.up, strict=True):
            flow._socket = wire  # type: ignore[assignment]

    def take(self, datagram: bytes, direction: Direction = "up", flow: int = 0) -> None:
        self.path.take(self.flows[flow], direction, datagram)

    def said(self) -> dict[int, list[str]]:
        """Number of the datagram → what was said of it."""
        found: dict[int, list[str]] = {}
        for line in self.lines:
            match = LINE.fullmatch(line)
            assert match is not None, line
            found.setdefault(int(match[1]), []).append(match[4])
        return found

    async def settled(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)


def datagram(number: int) -> bytes:
    return number.to_bytes(4, "big") + bytes((number * 7 + i) % 256 for i in range(16 + number % 40))


async def run(faults: Faults, count: int, *, seed: int = 1) -> Rig:
    rig = Rig(faults, seed=seed)
    for number in range(1, count + 1):
        rig.take(datagram(number))
    counts = rig.path.counts
    due = count - counts.lost + counts.duplicated
    await rig.settled(lambda: len(rig.up[0].sent) == due)
    return rig


MIXED = Faults(loss=0.15, duplicate=0.10, reorder=0.15, truncate=0.05, flip=0.05)


async def test_without_faults_everything_passes_in_order() -> None:
    rig = await run(Faults(), 500)
    assert rig.up[0].sent == [datagram(number) for number in range(1, 501)]
    assert rig.lines == []
    assert rig.path.counts.as_json() == {name.name: 0 for name in fields(rig.path.counts)} | {
        "seen": 500,
        "forwarded": 500,
    }


async def test_what_it_says_is_what_it_did() -> None:
    """Doing to the datagrams what the lines say gives what came out on the other side."""
    rig = await run(MIXED, 3000)
    said = rig.said()
    expected: Counter[bytes] = Counter()
    for number in range(1, 3001):
        data = bytearray(datagram(number))
        words = said.get(number, [])
        if "lost" in words:
            assert words == ["lost"]
            continue
        for line in rig.lines:
            if line.startswith(f"datagram {number} up, ") and line.endswith(": truncated"):
                del data[int(line.split()[3]) :]
        for word in words:
            if flip := FLIPPED.fullmatch(word):
                data[int(flip[2])] ^= 1 << int(flip[1])
        expected[bytes(data)] += 2 if "duplicated" in words else 1
    assert Counter(rig.up[0].sent) == expected


async def test_the_counts_are_the_number_of_lines() -> None:
    rig = await run(MIXED, 3000)
    counts = rig.path.counts
    words = Counter("flipped" if FLIPPED.fullmatch(word) else word for each in rig.said().values() for word in each)
    assert words == {
        "lost": counts.lost,
        "duplicated": counts.duplicated,
        "held for the next one": counts.reordered,
        "truncated": counts.truncated,
        "flipped": counts.flipped,
    }
    assert counts.seen == 3000
    assert counts.forwarded == 3000 - counts.lost + counts.duplicated


@pytest.mark.parametrize(
    ("faults", "count", "share"),
    [
        (Faults(loss=0.15), "lost", 0.15),
        (Faults(duplicate=0.10), "duplicated", 0.10),
        (Faults(reorder=0.15), "reordered", 0.15),
        (Faults(reorder=0.5), "reordered", 0.5),
        (Faults(truncate=0.02), "truncated", 0.02),
        (Faults(flip=0.3), "flipped", 0.3),
        (Faults(loss=1.0), "lost", 1.0),
        (Faults(loss=0.5, reorder=0.3), "reordered", 0.15),
    ],
)
async def test_each_fault_comes_as_often_as_it_was_asked_for(faults: Faults, count: str, share: float) -> None:
    """Within five standard deviations of 20,000 datagrams, which for a given seed is no matter of luck."""
    rig = Rig(faults, seed=7)
    for number in range(20_000):
        rig.take(datagram(number))
    spread = 5 * (20_000 * share * (1 - share)) ** 0.5
    assert abs(getattr(rig.path.counts, count) - 20_000 * share) <= spread


async def test_fifteen_percent_are_thirteen_to_seventeen_each_way() -> None:
    rig = Rig(Faults(loss=0.15, duplicate=0.10, reorder=0.15), seed=7)
    for number in range(20_000):
        rig.take(datagram(number), "up")
        rig.take(datagram(number), "down")
    for counts in rig.path.each_way.values():
        passed = counts.seen - counts.lost
        assert counts.seen == 20_000
        assert 0.13 <= counts.lost / counts.seen <= 0.17
        assert 0.08 <= counts.duplicated / passed <= 0.12
        assert 0.13 <= counts.reordered / passed <= 0.17
    both = rig.path.counts
    assert (both.seen, both.lost) == (40_000, sum(counts.lost for counts in rig.path.each_way.values()))


async def test_reordering_is_as_frequent_where_datagrams_are_rare() -> None:
    rig = Rig(Faults(reorder=0.15), seed=7)
    for number in range(20_000):
        rig.take(datagram(number))
        # As after a long silence: nothing came that could overtake it.
        rig.flows[0].release("up")
    spread = 5 * (20_000 * 0.15 * 0.85) ** 0.5
    assert abs(rig.path.counts.reordered - 3000) <= spread
    assert len(rig.up[0].sent) == 20_000


async def test_a_reordered_datagram_is_overtaken_by_exactly_one() -> None:
    """The next one that is not held back itself; what waits for the same one keeps its order."""
    rig = await run(Faults(reorder=0.2), 2000)
    held = {number for number, words in rig.said().items() if "held for the next one" in words}
    expected: list[int] = []
    waiting: list[int] = []
    for number in range(1, 2001):
        if number in held:
            waiting.append(number)
        else:
            expected += [number, *waiting]
            waiting.clear()
    assert [int.from_bytes(each[:4], "big") for each in rig.up[0].sent] == expected + waiting
    assert held


async def test_a_held_datagram_leaves_by_itself_when_nothing_follows() -> None:
    rig = Rig(Faults(reorder=1.0))
    rig.take(b"alone")
    assert rig.up[0].sent == []
    await rig.settled(lambda: rig.up[0].sent == [b"alone"])
    assert LONGEST_HOLD < 1


async def test_a_delay_keeps_order_and_is_counted() -> None:
    rig = await run(Faults(delay=0.02), 100)
    assert rig.up[0].sent == [datagram(number) for number in range(1, 101)]
    assert rig.path.counts.delayed == 100


async def test_a_jitter_delays_each_differently() -> None:
    rig = await run(Faults(delay_jitter=0.05), 200)
    assert Counter(rig.up[0].sent) == Counter(datagram(number) for number in range(1, 201))
    assert rig.up[0].sent != [datagram(number) for number in range(1, 201)]


async def test_an_empty_datagram_is_neither_cut_nor_flipped() -> None:
    rig = Rig(Faults(truncate=1.0, flip=1.0))
    rig.take(b"")
    assert rig.up[0].sent == [b""]
    assert rig.lines == []


# -- seeds ------------------------------------------------------------------------------------------------


async def test_the_same_seed_does_the_same_again() -> None:
    first, second = await run(MIXED, 800, seed=3), await run(MIXED, 800, seed=3)
    assert first.lines == second.lines
    assert Counter(first.up[0].sent) == Counter(second.up[0].sent)


async def test_another_seed_does_something_else() -> None:
    assert (await run(MIXED, 800, seed=3)).lines != (await run(MIXED, 800, seed=4)).lines


async def test_one_probability_does_not_shift_the_others() -> None:
    """Which datagrams are lost stays the same when bits are flipped too."""
    plain, mixed = await run(Faults(loss=0.2), 800), await run(Faults(loss=0.2, flip=0.5, duplicate=0.3), 800)

    def lost(rig: Rig) -> set[int]:
        return {number for number, words in rig.said().items() if "lost" in words}

    assert lost(plain) == lost(mixed)
    assert lost(plain)


async def test_what_happens_to_a_flow_does_not_depend_on_the_others() -> None:
    """The n-th datagram of the m-th device, in either direction, whoever sends in between."""

    def fates(rig: Rig, order: list[tuple[int, Direction]]) -> dict[tuple[int, Direction], list[bool]]:
        found: dict[tuple[int, Direction], list[bool]] = {}
        for flow, direction in order:
            before = rig.path.counts.lost
            rig.take(b"x", direction, flow)
            found.setdefault((flow, direction), []).append(rig.path.counts.lost > before)
        return found

    flows: list[tuple[int, Direction]] = [(0, "up"), (0, "down"), (1, "up"), (1, "down")]
    alternating = fates(Rig(Faults(loss=0.5), flows=2), flows * 200)
    in_blocks = fates(Rig(Faults(loss=0.5), flows=2), [each for each in flows for _ in range(200)])
    assert alternating == in_blocks
    assert len({tuple(each) for each in alternating.values()}) == 4


# -- hooks ------------------------------------------------------------------------------------------------


async def test_a_hook_comes_after_its_datagram_and_holds_the_rest_back() -> None:
    rig, done = Rig(Faults()), asyncio.Event()
    seen: list[Seen] = []

    async def hook(what: Seen) -> None:
        seen.append(what)
        await done.wait()

    rig.path.after(2, hook)
    for number in range(1, 6):
        rig.take(datagram(number))
    await rig.settled(lambda: bool(seen))
    assert seen == [Seen(2, "up", datagram(2))]
    assert rig.up[0].sent == [datagram(1), datagram(2)]
    assert rig.path.counts.seen == 2
    done.set()
    await rig.settled(lambda: len(rig.up[0].sent) == 5)
    assert rig.up[0].sent == [datagram(number) for number in range(1, 6)]


async def test_a_hook_comes_for_a_lost_datagram_too_and_both_directions_count() -> None:
    rig = Rig(Faults(loss=1.0))
    numbers: list[int] = []
    rig.path.after(2, lambda what: numbers.append(what.number))
    rig.take(b"a", "up")
    rig.take(b"b", "down")
    rig.take(b"c", "up")
    assert numbers == [2]


async def test_a_datagram_that_has_passed_can_have_no_hook() -> None:
    rig = Rig(Faults())
    rig.take(b"a")
    with pytest.raises(ValueError, match="datagram 1 has passed, 1 were seen"):
        rig.path.after(1, lambda _: None)


async def test_a_failing_hook_is_reported_and_lets_the_rest_pass() -> None:
    rig = Rig(Faults())
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def hook(_: Seen) -> None:
        raise RuntimeError("broken")

    rig.path.after(1, hook)
    rig.take(b"a")
    rig.take(b"b")
    await rig.settled(lambda: len(rig.up[0].sent) == 2)
    assert reported == ["a hook of a faulty path failed"]


# -- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss", "duplicate", "reorder", "truncate", "flip"])
@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_probability_is_a_share(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is a probability"):
        Faults(**{name: value})


@pytest.mark.parametrize("name", ["delay", "delay_jitter"])
def test_a_delay_is_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Faults(**{name: -1.0})


def test_a_path_that_was_not_started_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        FaultyPath(to=("192.0.2.1", 5684)).address  # noqa: B018
