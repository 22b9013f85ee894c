"""What a fuzz target is, and how an input is noted before it is used: then even a crash of the process tells it."""

from mmap import mmap
from random import Random
from struct import Struct
from typing import Protocol

# Of the note that the watching process shares: inputs used, number of the case, length of the last input.
_HEAD = Struct("!QQI")
NOTE_SIZE = 1 << 17
SHOWN = NOTE_SIZE - _HEAD.size


class Finding(AssertionError):
    """A promise of the code under test that an input broke."""


class Inputs:
    """The inputs of the case under way, and how many there were in all."""

    def __init__(self, note: mmap) -> None:
        self._note = note
        self.case = 0
        self.used = 0
        self.of_this_case: list[bytes] = []

    def begin(self, case: int) -> None:
        """Another case."""
        self.case = case
        self.of_this_case.clear()

    def take(self, data: bytes) -> bytes:
        """Note an input, which is used right after."""
        self.used += 1
        self.of_this_case.append(data)
        shown = data[:SHOWN]
        self._note[: _HEAD.size + len(shown)] = _HEAD.pack(self.used, self.case, len(shown)) + shown
        return data


def read_note(note: mmap) -> tuple[int, int, bytes]:
    """Inputs used, number of the case and the last input, as noted last."""
    used, case, length = _HEAD.unpack(note[: _HEAD.size])
    return used, case, note[_HEAD.size : _HEAD.size + length]


class Target(Protocol):
    """One place where bytes of others come in."""

    async def case(self, random: Random, inputs: Inputs) -> None:
        """One case: use one or more inputs, each through `inputs.take`; whatever it raises is a finding."""
