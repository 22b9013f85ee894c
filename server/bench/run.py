"""A whole run of the bench: floor, server, memory of a session, load, and whether all of it fits together.

Two ways to load: for some seconds as many devices as `devices` at a time, which come again and again; or a storm, all
at once, each until it is done.
"""

import asyncio
import contextlib
import dataclasses
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from server import rig
from server.bench import floor, load
from server.bench.figures import ROWS_EACH, Figures, Mode
from server.bench.load import Loaded
from server.bench.processes import Usage
from server.bench.server import KEPT_LOG, Subject, histogram_quantile, running
from server.rig import RigFailed

# Devices that come before anything is measured, so that every path was taken once.
FIRST = 40
# Devices held in the middle of their session to see what one costs in memory, at the most, and for how many seconds.
HELD = 400
HOLD_SECONDS = 2.0
# Credentials a device may come with; a device that comes again at once has a new association, not a new name.
POOL = 4
# A measurement is taken in rounds, at most so many and none shorter than this. CPU time is that of the round that was
# disturbed least, as a neighbour on the same machine only ever adds to it. What is set against something else (the
# floor, one worker) is compared round by round, and the median counts: a neighbour slows down both sides of a round.
ROUNDS = 5
SHORTEST_ROUND = 2.0
QUEUE = "firstlight_queue_seconds"
CHECKS = ('firstlight_certificate_checks_total{of="device"}', 'firstlight_certificate_checks_total{of="issued"}')
# Behind a lossy path a device answers repeats of the Finish for as long as RFC 7252 repeats them.
LOSSY_LINGER = 45.0
LOSSY_TOTAL = 300.0
STORM_TOTAL = 120.0
ATTEMPTS = 3

Tell = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What to measure; `storm` devices at once instead of `seconds` of `devices` at a time, `loss` on the way."""

    mode: Mode = "x509"
    devices: int = 100
    seconds: float = 10.0
    warm_up: float = 2.0
    workers: int = 1
    storm: int | None = None
    loss: float = 0.0

    @property
    def fleet(self) -> int:
        """Devices with a credential of their own."""
        return max(FIRST, self.held, self.storm or self.devices * POOL)

    @property
    def held(self) -> int:
        """Devices held to see what a session takes."""
        return min(HELD, self.storm or self.devices * POOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures, CPU milliseconds of every round, and with several workers their cost against that of one, the median
    of rounds measured by turns.
    """

    figures: Figures
    rounds: tuple[float, ...]
    workers_ratio: float | None = None


async def run(bench: Bench, tell: Tell) -> Result:
    """Measure; `tell` hears of every step. Raises RigFailed."""
    async with contextlib.AsyncExitStack() as stack:
        subject = await _server(stack, bench, bench.workers)
        tell({"event": "serving", "workers": bench.workers, "mode": bench.mode, "coaps": subject.uri})
        session_kb = await _session_kb(subject, bench.held)
        tell({"event": "held", "devices": bench.held, "session_kb": session_kb})
        before, rows_before = await subject.numbers(), await subject.rows()
        ratio: float | None = None
        if bench.workers > 1 and bench.storm is None and not bench.loss:
            alone = await _server(stack, bench, 1)
            await _first(alone)
            (rounds, others), speeds = await _rounds(bench, (subject, alone), tell)
            ratio = round(median_ratio([_cpu_ms(each) for each in rounds], [_cpu_ms(each) for each in others]), 3)
        else:
            (rounds,), speeds = await _rounds(bench, (subject,), tell)
        loaded = _sum(rounds)
        tell({"event": "loaded", **loaded.summary})
        after = await subject.numbers()
        rows = await subject.rows()
        peak_kb = subject.processes().peak_kb()
        if rows.total - rows_before.total != ROWS_EACH * _number(loaded.summary, "completed"):
            shutil.copyfile(subject.folder / "server.log", KEPT_LOG)
            tell({"event": "log", "kept": str(KEPT_LOG)})
    counts = floor.counts_of(bench.mode)
    floors = [each.milliseconds(counts) for each in speeds]
    for each, floor_ms in zip(speeds, floors, strict=True):
        tell({"event": "floor", **dataclasses.asdict(counts), **each.as_json(), "floor_ms": round(floor_ms, 4)})
    tell(_datagrams(before, after, loaded))
    return Result(
        figures=_figures(
            loaded,
            cpu_ms=min(_cpu_ms(each) for each in rounds),
            floor_ms=statistics.median(floors),
            floor_ratio=median_ratio(floors, [_cpu_ms(each) for each in rounds]),
            session_kb=session_kb,
            peak_kb=peak_kb,
            queue_seconds=histogram_quantile(before, after, QUEUE, 0.99),
            checks=round(sum(after[name] - before[name] for name in CHECKS)),
            rows=rows.total - rows_before.total,
        ),
        rounds=tuple(round(_cpu_ms(each), 3) for each in rounds),
        workers_ratio=ratio,
    )


async def _server(stack: contextlib.AsyncExitStack, bench: Bench, workers: int) -> Subject:
    folder = stack.enter_context(rig.scratch("bench"))
    return await stack.enter_async_context(running(folder, mode=bench.mode, workers=workers, devices=bench.fleet))


async def _first(subject: Subject) -> None:
    await load.load(subject, "--count", str(FIRST), "--concurrency", "4")


async def _session_kb(subject: Subject, count: int) -> float:
    """Memory of one session in its middle: what `count` of them take beyond what the server took before."""
    await _first(subject)
    before = subject.processes().resident_kb()
    held = await load.load(subject, "--count", str(count), "--hold", f"{HOLD_SECONDS:g}")
    if held.held_kb is None or held.summary["failed"]:
        raise RigFailed(f"the sessions that were to be held failed: {held.summary['failures']}")
    return round((held.held_kb - before) / count, 1)


async def _rounds(
    bench: Bench, subjects: Sequence[Subject], tell: Tell
) -> tuple[list[list[Loaded]], list[floor.Speeds]]:
    """Load the servers by turns, so that all meet the same neighbours: the rounds of each, and the speeds that the
    machine had at both ends of each round. A storm is one round.
    """
    count = 1 if bench.storm is not None else max(1, min(ROUNDS, int(bench.seconds / SHORTEST_ROUND)))
    part = dataclasses.replace(bench, seconds=bench.seconds / count)
    rounds: list[list[Loaded]] = [[] for _ in subjects]
    speeds: list[floor.Speeds] = []
    before = await asyncio.to_thread(floor.measure)
    for _ in range(count):
        for mine, subject in zip(rounds, subjects, strict=True):
            mine.append(await _loaded(part, subject))
            if not mine[-1].bootstraps:
                # 0 for the cost of a round would pass for the best of all.
                raise RigFailed(
                    "no device completed its bootstrap in a round; failures, each with its number: "
                    f"{mine[-1].summary['failures'] or 'none'}"
                )
        tell({"event": "round", "cpu_ms": [round(_cpu_ms(mine[-1]), 3) for mine in rounds]})
        after = await asyncio.to_thread(floor.measure)
        speeds.append(before.between(after))
        before = after
    return rounds, speeds


async def _loaded(bench: Bench, subject: Subject) -> Loaded:
    if bench.storm is not None:
        total = LOSSY_TOTAL if bench.loss else STORM_TOTAL
        options = ["--count", str(bench.storm), "--attempts", str(ATTEMPTS), "--total", f"{total:g}"]
    else:
        options = [
            *("--count", str(bench.devices * POOL), "--concurrency", str(bench.devices)),
            *("--seconds", f"{bench.seconds:g}", "--warm-up", f"{bench.warm_up:g}"),
        ]
    if not bench.loss:
        return await load.load(subject, *options)
    async with load.faults(subject, bench.loss) as uri:
        return await load.load(subject, *options, "--linger", f"{LOSSY_LINGER:g}", uri=uri)


def _sum(parts: Sequence[Loaded]) -> Loaded:
    """Several rounds as one: what counts is added up, of what is a time of one device the worst is kept."""
    summary = dict(parts[0].summary)
    for part in parts[1:]:
        for name, value in part.summary.items():
            mine = summary[name]
            if not isinstance(mine, int | float) or not isinstance(value, int | float):
                continue
            if name in ("completed", "failed", "devices", "measured", "seconds", "attempts", "handshakes", "shed"):
                summary[name] = mine + value
            elif name == "first_attempt_ratio":
                summary[name] = min(mine, value)
            elif name == "bootstraps_per_second":
                summary[name] = round((mine + value) / 2, 1)
            else:
                summary[name] = max(mine, value)
    return Loaded(
        usage=Usage(sum(part.usage.ours for part in parts), sum(part.usage.postgres for part in parts)),
        bootstraps=sum(part.bootstraps for part in parts),
        summary=summary,
        held_kb=None,
    )


def median_ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median of round by round."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _cpu_ms(loaded: Loaded) -> float:
    return 1000 * loaded.usage.ours / loaded.bootstraps


def _datagrams(before: Mapping[str, float], after: Mapping[str, float], loaded: Loaded) -> Mapping[str, object]:
    """Datagrams of one bootstrap as they were counted, beside the constants of the floor."""
    completed = _number(loaded.summary, "completed")
    told: dict[str, object] = {"event": "datagrams"}
    for direction in ("received", "sent", "dropped"):
        series = f'firstlight_datagrams_total{{direction="{direction}"}}'
        told[direction] = round((after[series] - before[series]) / max(completed, 1), 2)
    return told


def _figures(
    loaded: Loaded,
    *,
    cpu_ms: float,
    floor_ms: float,
    floor_ratio: float,
    session_kb: float,
    peak_kb: int,
    queue_seconds: float,
    checks: int,
    rows: int,
) -> Figures:
    summary = loaded.summary
    return Figures(
        cpu_ms_per_bootstrap=round(cpu_ms, 3),
        postgres_cpu_ms_per_bootstrap=round(1000 * loaded.usage.postgres / loaded.bootstraps, 3),
        bootstraps_per_second=_number(summary, "bootstraps_per_second"),
        p50_ms=_number(summary, "p50_ms"),
        p99_ms=_number(summary, "p99_ms"),
        completed=int(_number(summary, "completed")),
        failed=int(_number(summary, "failed")),
        first_attempt_ratio=_number(summary, "first_attempt_ratio"),
        worst_device_s=_number(summary, "worst_device_s"),
        queue_p99_ms=round(1000 * queue_seconds, 2),
        peak_rss_mb=round(peak_kb / 1024, 1),
        session_kb=session_kb,
        floor_ms=round(floor_ms, 3),
        floor_ratio=round(floor_ratio, 3),
        checks_performed=checks,
        rows_committed=rows,
    )


def _number(summary: Mapping[str, object], name: str) -> float:
    value = summary[name]
    if not isinstance(value, int | float):
        raise RigFailed(f"the swarm's {name} is no number: {value!r}")
    return value
