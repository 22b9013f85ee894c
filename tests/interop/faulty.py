"""A path that loses, doubles and reorders, for programs whose repeats are their own and cannot be hurried.

The same seed does the same to the n-th datagram of either direction, but which one is the n-th depends on who repeats
first, and so on the machine. So a seed is taken only if it does enough and never too much, whatever the datagrams are:
each way it loses one of the first three, as many as the shortest handshake has, and of any nine in a row at most two.
A flight of up to four is then whole after three sends at the latest, which is within the repeats of nearly every
program. One that gives up early gets seeds that lose at most one of any nine: whatever is said again arrives.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count, islice

from simulators.faults import DRAWS, Direction, Faults, FaultyPath, _Flow
from tests.integration.field import Field
from tests.unit.transport.rig import each_record

FAULTS = Faults(loss=0.15, duplicate=0.1, reorder=0.15)
RUNS = 6
SOON, IN_A_ROW = 3, 9
PATIENT, IMPATIENT = 2, 1
# Datagrams each way of which this is known; a handshake and an exchange need fewer.
AHEAD = 30
HANDSHAKE, HELLO_VERIFY_REQUEST = 22, 3


def losses(seed: int, direction: Direction) -> list[bool]:
    """Which datagrams of its only flow a path will lose."""
    dice = FaultyPath(to=("127.0.0.1", 0), seed=seed).chance(0, direction)
    return [dice.random() < FAULTS.loss for _ in range(AHEAD * DRAWS)][::DRAWS]


def is_fit(seed: int, at_most: int) -> bool:
    """Whether it disturbs, and bearably."""
    ways = losses(seed, "up"), losses(seed, "down")
    return all(any(way[:SOON]) and all(sum(way[at:][:IN_A_ROW]) <= at_most for at in range(AHEAD)) for way in ways)


class Path(FaultyPath):
    """It also notes each record the server sent in plain text: flow, number, whether it is a HelloVerifyRequest."""

    def __init__(self, field: Field, seed: int) -> None:
        super().__init__(to=field.address, faults=FAULTS, seed=seed)
        self.sent: list[tuple[_Flow, int, bool]] = []

    def take(self, flow: _Flow, direction: Direction, datagram: bytes) -> None:
        if direction == "down":
            for record in each_record(datagram):
                if record[3:5] == b"\0\0":
                    verifies = record[0] == HANDSHAKE and record[13] == HELLO_VERIFY_REQUEST
                    self.sent.append((flow, int.from_bytes(record[5:11], "big"), verifies))
        super().take(flow, direction, datagram)

    def repeated(self) -> list[int]:
        """Numbers used twice (RFC 6347 4.1.2.6), but for copies of a HelloVerifyRequest: a copied hello has one."""
        numbers = {(flow, number) for flow, number, verifies in self.sent if verifies}
        again = []
        for flow, number, verifies in self.sent:
            if not verifies and (flow, number) in numbers:
                again.append(number)
            numbers.add((flow, number))
        return again


async def each_arrives(
    field: Field, comes: Callable[[tuple[str, int], int], Awaitable[None]], *, at_most: int = PATIENT
) -> None:
    """`comes(address, number)` is a device that comes in over a path of its own; all do, and each lost something."""
    seeds = islice((seed for seed in count() if is_fit(seed, at_most)), RUNS)
    paths = [Path(field, seed) for seed in seeds]

    async def one(number: int, path: Path) -> None:
        async with path:
            await comes(path.address, number)

    async with asyncio.TaskGroup() as group:
        for number, path in enumerate(paths):
            group.create_task(one(number, path))
    for path in paths:
        assert all(way.lost for way in path.each_way.values()), path.each_way
        assert path.repeated() == []
    for fault in ("duplicated", "reordered"):
        assert sum(getattr(path.counts, fault) for path in paths), fault
