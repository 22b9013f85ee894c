"""How what people read is printed: as wide as their terminal, and never folded where there is none."""

from typing import TextIO

from rich.console import Console

# A pipe or a log has no width of its own; a serial number that is folded there is found by no grep.
LOG_WIDTH = 250


def terminal(file: TextIO | None = None) -> Console:
    """A console on `file`, standard output when not given.

    What is printed is plain text: names come from devices, who could write markup into them, and `urn:key:1` or
    `[[security]]` must stand there as they are.
    """
    console = Console(file=file, markup=False, emoji=False)
    return console if console.is_terminal else Console(file=file, width=LOG_WIDTH, markup=False, emoji=False)
