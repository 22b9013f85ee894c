"""What goes on, for the start page: a history in bins for each account that somebody looks at.

The record is the source, so that every node's bootstraps count and a restart forgets nothing: one statement for a slice
of a few seconds, shared by everybody who looks, and none when nobody does. What the record does not hold (peers refused
in the handshake, sessions under way, the time of a commit) comes from the snapshots of the workers.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from server.metrics import BUCKETS, Merged
from server.store import statistics
from server.store.database import Database
from server.store.statistics import Count

# Upper bounds of durations in milliseconds, each a quarter more: what is read off is within that of the truth.
BOUNDS = tuple(round(1.25**power, 2) for power in range(56))
SHORT, LONG = timedelta(seconds=5), timedelta(minutes=1)
# How far back the short and the long bins go.
SHORT_SPAN, LONG_SPAN = timedelta(minutes=15), timedelta(hours=24)
# A row is read this long after its time, when its commit and those of the other nodes are surely visible.
LAG = timedelta(seconds=1.5)
# Whoever looks again sooner sees the same.
FRESH = timedelta(seconds=1.8)
SAMPLED_EVERY = 5.0
# The past is read in pieces of this length, for so many seconds at the most.
PIECE, PATIENCE = timedelta(hours=1), 3.0

WINDOWS: Mapping[str, timedelta] = {"15m": SHORT_SPAN, "1h": timedelta(hours=1), "24h": LONG_SPAN}
# The steps a plot of a window has.
STEPS: Mapping[str, timedelta] = {
    "15m": timedelta(seconds=15),
    "1h": timedelta(minutes=1),
    "24h": timedelta(minutes=20),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Failures that are alike. `family` is the profile, "" when none was chosen: devices of a profile are made alike.

    `asked`: a CA was asked in them, or would have been were it not away; then `issuer_id` None is the embedded CA.
    """

    cause: str
    family: str
    issuer_id: UUID | None
    asked: bool


@dataclass(slots=True)
class Bin:
    """What came to pass in one bin; durations are counts by `BOUNDS`."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: Counter[int] = field(default_factory=Counter)
    issuing: dict[UUID | None, Counter[int]] = field(default_factory=dict)
    failures: Counter[Group] = field(default_factory=Counter)
    last: dict[Group, datetime] = field(default_factory=dict)
    # When each CA issued last.
    issued: dict[UUID | None, datetime] = field(default_factory=dict)
    # When the last bootstrap succeeded.
    succeeded_at: datetime | None = None

    def add(self, count: Count) -> None:
        """Take one row of the record's counts."""
        if count.what == "cause":
            group = Group(count.cause or "", count.family or "", count.issuer_id, count.asked)
            self.failures[group] += count.number
            if count.last is not None:
                self.last[group] = max(count.last, self.last.get(group, count.last))
            return
        self.counts[count.what] += count.number
        if count.what == "succeeded":
            self.seconds[count.bucket] += count.number
            self.succeeded_at = _later(self.succeeded_at, count.last)
        elif count.what == "issued":
            self.issuing.setdefault(count.issuer_id, Counter())[count.bucket] += count.number
            if count.last is not None:
                self.issued[count.issuer_id] = max(count.last, self.issued.get(count.issuer_id, count.last))

    def merge(self, other: "Bin") -> None:
        """Add another bin's counts."""
        self.counts.update(other.counts)
        self.seconds.update(other.seconds)
        self.failures.update(other.failures)
        for issuer_id, buckets in other.issuing.items():
            self.issuing.setdefault(issuer_id, Counter()).update(buckets)
        for group, at in other.last.items():
            self.last[group] = max(at, self.last.get(group, at))
        self.succeeded_at = _later(self.succeeded_at, other.succeeded_at)
        for issuer_id, at in other.issued.items():
            self.issued[issuer_id] = max(at, self.issued.get(issuer_id, at))


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals of the workers at one moment."""

    at: datetime
    # By reason.
    refusals: Mapping[str, int]
    started: int
    succeeded: int
    shed: int
    internal_errors: int
    commits: tuple[float, ...]

    @property
    def refused(self) -> int:
        """Peers that no handshake admitted."""
        return sum(self.refusals.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A window of an account's history, summed up and in steps; `steps` are (begin, what came to pass)."""

    at: datetime
    window: str
    whole: Bin
    steps: Sequence[tuple[datetime, Bin]]
    step: timedelta
    # Over the last minute.
    per_minute: int
    # Of this installation, whosever devices they are.
    refused: int
    sessions: int
    handshaking: int

    @property
    def ended(self) -> int:
        """Bootstraps that came to an end."""
        return sum(self.whole.counts[what] for what in ("succeeded", "failed", "refused"))

    @property
    def success_ratio(self) -> float | None:
        """Share of the ended bootstraps that succeeded; None when none ended."""
        return self.whole.counts["succeeded"] / self.ended if self.ended else None

    @property
    def funnel(self) -> list[tuple[str, int]]:
        """From a peer that proved its address to a device that confirmed; each step counts what reached it."""
        counts = self.whole.counts
        return [
            ("seen", self.ended + self.refused),
            ("admitted", self.ended - counts["refused"]),
            ("requested", counts["requested"]),
            ("issued", counts["issued"]),
            ("delivered", counts["delivered"]),
            ("confirmed", counts["succeeded"]),
        ]


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """The duration in milliseconds that `share` of the counted stay below, as near as `BOUNDS` tell."""
    total = sum(buckets.values())
    if not total:
        return None
    reached = 0
    for bucket in sorted(buckets):
        before, reached = reached, reached + buckets[bucket]
        if reached >= share * total:
            low = BOUNDS[bucket - 1] if bucket else 0.0
            high = BOUNDS[min(bucket, len(BOUNDS) - 1)]
            return low + (high - low) * (share * total - before) / buckets[bucket]
    return BOUNDS[-1]


class History:
    """The bins of one account, filled from the record when somebody looks."""

    def __init__(self, database: Database, account_id: UUID) -> None:
        self._database = database
        self._account_id = account_id
        self._short: dict[datetime, Bin] = {}
        self._long: dict[datetime, Bin] = {}
        self._until: datetime | None = None
        self._lock = asyncio.Lock()

    async def catch_up(self, now: datetime) -> datetime:
        """Read what came to pass since the last time; the moment up to which the bins are whole."""
        async with self._lock:
            until = now.astimezone(UTC) - LAG
            since = self._until
            if since is not None and until < since - LAG:
                # The clock was set back: what was read is of times that are still to come.
                self._short.clear()
                self._long.clear()
                since = None
            if since is not None and until - since < FRESH:
                return since
            if since is None or until - since > SHORT_SPAN:
                start = _floor(until - SHORT_SPAN, LONG)
                await self._read_back(until - LONG_SPAN if since is None else max(since, until - LONG_SPAN), start)
                since = start
            await self._read(since, until, SHORT)
            self._until = until
            self._forget(until)
            return until

    async def _read_back(self, since: datetime, until: datetime) -> None:
        """The hours before, the nearest first; a day of millions is shown as far as it is read in a few seconds."""
        started = time.monotonic()
        while since < until and time.monotonic() - started < PATIENCE:
            start = max(since, until - PIECE)
            await self._read(start, until, LONG)
            until = start

    async def _read(self, since: datetime, until: datetime, bin: timedelta) -> None:
        for count in await statistics.counted(
            self._database, self._account_id, since=since, until=until, bin=bin, bounds=BOUNDS
        ):
            self._long.setdefault(_floor(count.at, LONG), Bin()).add(count)
            if bin is SHORT:
                self._short.setdefault(count.at, Bin()).add(count)

    def _forget(self, now: datetime) -> None:
        for bins, span in ((self._short, SHORT_SPAN + LONG), (self._long, LONG_SPAN + LONG)):
            for at in [at for at in bins if at < now - span]:
                del bins[at]

    def failures_since(self, since: datetime) -> Counter[Group]:
        """What failed from the minute of `since` on, as far as it was read."""
        failures: Counter[Group] = Counter()
        for at, bin in self._long.items():
            if at >= _floor(since, LONG):
                failures.update(bin.failures)
        return failures

    def steps(self, window: str, until: datetime) -> list[tuple[datetime, Bin]]:
        """The window in the steps of its plot, the empty ones too, the one under way last."""
        step = STEPS[window]
        bins = self._short if window == "15m" else self._long
        first = _floor(until - WINDOWS[window], step) + step
        count = int((until - first) / step) + 1
        made = [(first + step * number, Bin()) for number in range(count)]
        for at, bin in bins.items():
            place = int((at - first) / step) if at >= first else -1
            if 0 <= place < count:
                made[place][1].merge(bin)
        return made

    def last_minute(self, until: datetime) -> Bin:
        """The last sixty seconds."""
        whole = Bin()
        for at, bin in self._short.items():
            if at > until - LONG - SHORT:
                whole.merge(bin)
        return whole


class Statistics:
    """The histories of the accounts that are looked at, and samples of the workers' totals."""

    def __init__(self, database: Database, merged: Merged, now: Callable[[], datetime]) -> None:
        self._database = database
        self._merged = merged
        self._now = now
        self._histories: dict[UUID, History] = {}
        self._samples: deque[Sample] = deque(maxlen=int(LONG_SPAN.total_seconds() / SAMPLED_EVERY))

    async def run(self) -> None:
        """Sample the workers' totals until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLED_EVERY)

    def sample(self) -> None:
        """Keep the workers' totals of this moment."""
        merged = self._merged
        self._samples.append(
            Sample(
                self._now(),
                merged.counter("refusals"),
                merged.counter("bootstraps").get("started", 0),
                merged.counter("bootstraps").get("succeeded", 0),
                sum(merged.counter("shed").values()),
                sum(merged.counter("internal_errors").values()),
                tuple(merged.histogram("commit_seconds")),
            )
        )

    async def picture(self, account_id: UUID, window: str, *, installation: bool) -> Picture:
        """The account's window; with `installation` also what belongs to no account. StoreUnavailable."""
        history = self._histories.setdefault(account_id, History(self._database, account_id))
        until = await history.catch_up(self._now())
        steps = history.steps(window, until)
        whole = Bin()
        for _, bin in steps:
            whole.merge(bin)
        counts = history.last_minute(until).counts
        return Picture(
            at=until,
            window=window,
            whole=whole,
            steps=steps,
            step=STEPS[window],
            per_minute=sum(counts[what] for what in ("succeeded", "failed", "refused")),
            refused=self.since("refused", WINDOWS[window]) if installation else 0,
            sessions=self._merged.gauge("sessions") if installation else 0,
            handshaking=self._merged.gauge("handshaking") if installation else 0,
        )

    def failures_since(self, account_id: UUID, since: datetime) -> Counter[Group]:
        """What failed in an account since then, at most within a day; as far as its last picture tells."""
        history = self._histories.get(account_id)
        return history.failures_since(since) if history is not None else Counter()

    def since(self, what: str, span: timedelta) -> int:
        """How much a total of the workers grew within `span`."""
        window = self._within(span)
        return max(0, getattr(window[-1], what) - getattr(window[0], what)) if window else 0

    def refusals_since(self, span: timedelta) -> Counter[str]:
        """Peers that no handshake admitted within `span`, by reason."""
        window = self._within(span)
        return Counter(window[-1].refusals) - Counter(window[0].refusals) if window else Counter()

    def commit_p99(self, span: timedelta) -> float | None:
        """Seconds that 99 of 100 group commits stayed below within `span`; None when there were none."""
        window = self._within(span)
        if not window or not window[0].commits:
            return None
        grown = [b - a for a, b in zip(window[0].commits[:-1], window[-1].commits[:-1], strict=True)]
        total, reached = sum(grown), 0.0
        for bound, count in zip((*BUCKETS, BUCKETS[-1]), grown, strict=True):
            reached += count
            if total and reached >= 0.99 * total:
                return bound
        return None

    def _within(self, span: timedelta) -> list[Sample]:
        times = [sample.at for sample in self._samples]
        return list(self._samples)[max(0, bisect_right(times, self._now() - span) - 1) :]


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _floor(at: datetime, bin: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return at - (at - epoch) % bin


def ordered(failures: Mapping[Group, int]) -> Iterable[tuple[Group, int]]:
    """Groups of failures, the largest first."""
    return sorted(failures.items(), key=lambda item: (-item[1], item[0].cause, item[0].family))
