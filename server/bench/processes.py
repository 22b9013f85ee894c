"""CPU time and memory of a server's processes, its PostgreSQL apart, as the kernel counts them (proc(5))."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of CPU, user and system, of every process since it began; those that ended and were waited for too."""

    ours: float
    postgres: float

    def since(self, before: "Usage") -> "Usage":
        """What was used between two looks."""
        return Usage(self.ours - before.ours, self.postgres - before.postgres)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    name: str
    # Its own clock ticks and those of the children it has waited for.
    ticks: int


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one server at one moment: its own, and PostgreSQL's (the postmaster and all below it)."""

    ours: tuple[_Process, ...]
    postgres: tuple[_Process, ...]

    @classmethod
    def below(cls, root: int, proc: Path = PROC) -> "Processes":
        """Those of the server whose parent process is `root`."""
        children: dict[int, list[_Process]] = {}
        found: dict[int, _Process] = {}
        for process in _all(proc):
            found[process.pid] = process
            children.setdefault(process.parent, []).append(process)
        ours: list[_Process] = []
        postgres: list[_Process] = []

        def walk(process: _Process, into: list[_Process]) -> None:
            into.append(process)
            for child in children.get(process.pid, ()):
                walk(child, postgres if child.name == _POSTGRES else into)

        if root in found:
            walk(found[root], ours)
        return cls(tuple(ours), tuple(postgres))

    def usage(self) -> Usage:
        """Their CPU time."""
        second = os.sysconf("SC_CLK_TCK")
        return Usage(
            sum(process.ticks for process in self.ours) / second,
            sum(process.ticks for process in self.postgres) / second,
        )

    def resident_kb(self, proc: Path = PROC) -> int:
        """Memory of our own processes now."""
        return self._sum_of("VmRSS", proc)

    def peak_kb(self, proc: Path = PROC) -> int:
        """The most that each of our own processes ever had."""
        return self._sum_of("VmHWM", proc)

    def _sum_of(self, field: str, proc: Path) -> int:
        total = 0
        for process in self.ours:
            lines = (proc / str(process.pid) / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
        return total


def _all(proc: Path) -> Iterator[_Process]:
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            # It ended while we looked; whoever waited for it has its time.
            continue
        # The name stands in brackets and may hold any character.
        name, rest = stat.partition("(")[2].rpartition(")")[::2]
        fields = rest.split()
        yield _Process(int(folder.name), int(fields[1]), name, sum(map(int, fields[11:15])))
