"""A path on which nothing happens, and all that passed is kept."""

from typing import Any

from simulators.faults import Direction, FaultyPath, _Flow


class Tape(FaultyPath):
    """The datagrams of each direction, in order."""

    def __init__(self, **path: Any) -> None:
        super().__init__(**path)
        self.kept: dict[Direction, list[bytes]] = {"up": [], "down": []}

    def take(self, flow: _Flow, direction: Direction, datagram: bytes) -> None:
        self.kept[direction].append(datagram)
        super().take(flow, direction, datagram)

    def largest(self, direction: Direction) -> int:
        """Bytes of the largest datagram."""
        return max(map(len, self.kept[direction]))
