"""What a run of the bench found, and what design 9 asks of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

Mode = Literal["x509", "psk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The last line of `firstlight bench --json`.

    CPU is user and system time of all processes per completed bootstrap, PostgreSQL's apart, ours of the round that was
    disturbed least; times of a device run from its first ClientHello to the Finish. `session_kb` is the memory of one
    session held in its middle, not measured (0 or less) where so few were held that the server needed no more of it.
    `floor_ms` is the median of the rounds, `floor_ratio` the median of the floor's share in our own CPU time round by
    round. `checks_performed` counts certificates judged with their path (the device's own and the one issued),
    `rows_committed` the rows a bootstrap must leave: session, issuance, certificate and audit.
    """

    cpu_ms_per_bootstrap: float
    postgres_cpu_ms_per_bootstrap: float
    bootstraps_per_second: float
    p50_ms: float
    p99_ms: float
    completed: int
    failed: int
    first_attempt_ratio: float
    worst_device_s: float
    queue_p99_ms: float
    peak_rss_mb: float
    session_kb: float
    floor_ms: float
    floor_ratio: float
    checks_performed: int
    rows_committed: int

    def as_json(self) -> dict[str, float | int]:
        """By name."""
        return asdict(self)


# The rows of a bootstrap in the record: session, issuance, certificate, audit.
ROWS_EACH = 4
# Certificates judged in a bootstrap: the one issued, and by certificate the device's own.
CHECKS_EACH: dict[Mode, int] = {"x509": 2, "psk": 1}
CPU_MS: dict[Mode, float] = {"x509": 2.8, "psk": 1.8}
SESSION_KB: dict[Mode, float] = {"x509": 110.0, "psk": 95.0}
FLOOR_RATIO = 0.30
QUEUE_P99_MS = 1000.0
STORM_SECONDS = 120.0
# Of the devices behind a lossy path, and seconds for the last of them.
LOSSY_FIRST_ATTEMPT = 0.98
LOSSY_SECONDS = 300.0
WORKERS_RATIO = 1.1


def contradictions(figures: Figures, mode: Mode, *, lossy: bool) -> Iterator[str]:
    """What does not fit together: a figure is worth nothing when checks or rows are missing.

    A device that comes again is checked again. Behind a lossy path one may be done and the server never hear of it; one
    that gave up may be served all the same.
    """
    rows, checks = figures.completed * ROWS_EACH, figures.completed * CHECKS_EACH[mode]
    if not lossy and (figures.rows_committed < rows or (figures.rows_committed != rows and not figures.failed)):
        yield f"{figures.completed} bootstraps leave {rows} rows in the record, {figures.rows_committed} were found"
    at_first = figures.first_attempt_ratio == 1 and not lossy
    if figures.checks_performed < checks or (figures.checks_performed != checks and at_first):
        yield f"{figures.completed} bootstraps need {checks} checks, {figures.checks_performed} were made"


def missed(
    figures: Figures, mode: Mode, *, storm: bool, lossy: bool, workers_ratio: float | None = None
) -> Iterator[str]:
    """Every must of design 9 that `figures` do not reach, in words; a storm and a lossy path have rows of their own."""
    if figures.failed:
        yield f"{figures.failed} devices failed, none may"
    if lossy:
        if figures.first_attempt_ratio < LOSSY_FIRST_ATTEMPT:
            yield f"{figures.first_attempt_ratio:.1%} of the devices did it at the first attempt; must: 98 %"
        if figures.worst_device_s > LOSSY_SECONDS:
            yield f"the last device took {figures.worst_device_s:g} s; must: {LOSSY_SECONDS:g} s"
        return
    if storm:
        if figures.worst_device_s > STORM_SECONDS:
            yield f"the last device took {figures.worst_device_s:g} s; must: {STORM_SECONDS:g} s"
        if figures.queue_p99_ms > QUEUE_P99_MS:
            yield f"datagrams waited {figures.queue_p99_ms:g} ms in the kernel (p99); must: {QUEUE_P99_MS:g} ms"
        return
    if figures.cpu_ms_per_bootstrap > CPU_MS[mode]:
        yield f"{figures.cpu_ms_per_bootstrap:g} ms of CPU for a bootstrap; must: {CPU_MS[mode]:g} ms"
    if figures.session_kb <= 0:
        yield (
            "the memory of a live session was not measured: so few devices needed no more of it; raise --devices; "
            f"must: {SESSION_KB[mode]:g} KB"
        )
    if figures.session_kb > SESSION_KB[mode]:
        yield f"{figures.session_kb:g} KB for a live session; must: {SESSION_KB[mode]:g} KB"
    if mode == "x509" and figures.floor_ratio < FLOOR_RATIO:
        yield f"the floor is {figures.floor_ratio:.2f} of our CPU time; must: {FLOOR_RATIO:.2f}"
    if workers_ratio is not None and workers_ratio > WORKERS_RATIO:
        yield f"the workers cost {workers_ratio:.2f} times the CPU of one for a bootstrap; must: {WORKERS_RATIO:g}"
