"""The page of figures (`docs/performance.md`): a table for each machine, one row for each kind of run on it, written by
the run itself.
"""

import os
import platform
import re
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.bench.run import Bench, Result

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_TABLE = "### "
HEADER = (
    "| run | CPU ms: best, median | PostgreSQL ms | floor ms | share | done/s | p50, p99 ms | worst device s | "
    "queue p99 ms | KB a session | failed | first attempt | day, commit, load |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and when a run was made; `load` is the number of processes that wanted to run, over the last minutes."""

    cpu: str
    cores: int
    python: str
    load: tuple[float, float, float]
    commit: str
    day: str

    @property
    def name(self) -> str:
        """What its table is headed with."""
        return f"{self.cpu}, {self.cores} cores; Python {self.python}"

    @classmethod
    def here(cls) -> "Machine":
        """This machine now, and the commit of this tree."""
        models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, check=False
        )
        return cls(
            cpu=models[0] if models else "unknown",
            cores=os.cpu_count() or 0,
            python=platform.python_version(),
            load=os.getloadavg(),
            commit=found.stdout.decode().strip() or "unknown",
            day=f"{datetime.now(UTC):%Y-%m-%d}",
        )


def renewed(page: str, bench: Bench, result: Result, machine: Machine) -> str:
    """`page` with the row of this kind of run in the table of this machine; ValueError without the marks.

    What another machine measured stays: only rows of one table can be set against each other.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page has no place for figures, marked by {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    within, _, after = rest.partition(END)
    tables = _tables(within)
    kind = kind_of(bench)
    tables.setdefault(machine.name, {})[kind] = _row(kind, result, machine)
    written = "\n\n".join(
        "\n".join((f"{_TABLE}{name}", "", HEADER, *(rows[each] for each in sorted(rows))))
        for name, rows in tables.items()
    )
    return f"{before}{BEGIN}\n{written}\n{END}{after}"


def _tables(within: str) -> dict[str, dict[str, str]]:
    """The rows on the page by machine and kind of run."""
    tables: dict[str, dict[str, str]] = {}
    for part in f"\n{within}".split(f"\n{_TABLE}")[1:]:
        name, *lines = part.splitlines()
        rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
        tables[name] = {kind: row for kind, row in rows.items() if kind not in ("run", "---")}
    return tables


def kind_of(bench: Bench) -> str:
    """What a run measured, in a few words."""
    words = [bench.mode, f"{bench.workers} worker{'s' if bench.workers > 1 else ''}"]
    words.append(f"storm of {bench.storm}" if bench.storm is not None else f"{bench.devices} at a time")
    if bench.loss:
        words.append(f"loss {bench.loss:.0%}")
    return ", ".join(words)


def _row(kind: str, result: Result, machine: Machine) -> str:
    figures = result.figures
    cpu = f"{min(result.rounds):.2f}, {statistics.median(result.rounds):.2f}"
    if result.workers_ratio is not None:
        cpu += f" ({result.workers_ratio:.2f} × one worker)"
    cells = (
        kind,
        cpu,
        f"{figures.postgres_cpu_ms_per_bootstrap:.2f}",
        f"{figures.floor_ms:.2f}",
        f"{figures.floor_ratio:.2f}",
        f"{figures.bootstraps_per_second:.0f}",
        f"{figures.p50_ms:.0f}, {figures.p99_ms:.0f}",
        f"{figures.worst_device_s:.1f}",
        f"{figures.queue_p99_ms:.0f}",
        f"{figures.session_kb:.0f}" if figures.session_kb > 0 else "not measured",
        f"{figures.failed} of {figures.failed + figures.completed}",
        f"{figures.first_attempt_ratio:.1%}",
        f"{machine.day}, {machine.commit}, {machine.load[0]:.1f}",
    )
    return f"| {' | '.join(cells)} |"
