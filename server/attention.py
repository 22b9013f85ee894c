"""Does anything need a person? Findings with since-when, cause and next step, each from what is on record now.

Of the CAs `attention_cas.py` finds what there is, of the devices `attention_devices.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from server import attention_cas, attention_devices
from server.finding import LOOKED_BACK, Finding
from server.standing import standings
from server.statistics import Statistics
from server.store.accounts import Account
from server.store.database import Database
from server.store.secrets import Sealer

# Seconds that 99 of 100 commits stay below on a database that keeps up.
SLOW_COMMIT = 0.25
FRESH = timedelta(seconds=10)
# Of handshakes that fail, which no record tells of one by one.
LATELY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Attention:
    """What needs a person, the worst first, as it was found `checked_at`."""

    checked_at: datetime
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendant:
    """Looks at an account when asked, at most every ten seconds."""

    database: Database
    sealer: Sealer
    statistics: Statistics
    now: Callable[[], datetime]
    # (workers ready, workers)
    workers: Callable[[], tuple[int, int]]
    # Why workers cannot write the record, empty while they can.
    troubles: Callable[[], Sequence[str]] = tuple
    _last: dict[UUID, Attention] = field(default_factory=dict)

    async def look(self, account: Account) -> Attention:
        """What needs a person in this account; StoreUnavailable."""
        now = self.now()
        last = self._last.get(account.id)
        if last is not None and abs(now - last.checked_at) < FRESH:
            return last
        cas = await standings(self.database, account.id, now)
        picture = await self.statistics.picture(account.id, "15m", installation=False)
        ours = await attention_cas.authorities(self.database, account, cas)
        of_cas = attention_cas.of_own_choice(ours, partial(self._cost, account.id))
        of_embedded = await attention_cas.of_embedded(self.database, ours, now)
        told = {f.issuer_id for f in (*of_cas, *of_embedded) if f.kind in attention_cas.SIGNS_NOTHING}
        found = [
            *of_cas,
            *of_embedded,
            *await attention_cas.ending(self.database, self.sealer, ours, now),
            *await attention_devices.waiting(self.database, account.id, now),
            *attention_devices.failing(picture),
            *attention_devices.without_certificate(picture, cas, told),
            *(self._installation() if account.is_default else ()),
        ]
        # What lasted through two looks has begun at the first, where the record does not know better. A title may hold
        # a number that changes.
        known = {(f.kind, f.issuer_id): f.since for f in last.findings} if last is not None else {}
        dated = [f if f.since else replace(f, since=known.get((f.kind, f.issuer_id)) or now) for f in found]
        attention = Attention(now, tuple(sorted(dated, key=lambda f: (f.severity != "fault", f.kind, f.title))))
        self._last[account.id] = attention
        return attention

    def _cost(self, account_id: UUID, issuer_id: UUID, since: datetime) -> int:
        failures = self.statistics.failures_since(account_id, since)
        return sum(
            count
            for group, count in failures.items()
            if group.issuer_id == issuer_id and group.cause in attention_devices.GAVE_NONE
        )

    def _installation(self) -> list[Finding]:
        """What belongs to no account: the default one's people keep the house."""
        found: list[Finding] = []
        for trouble in sorted(set(self.troubles())):
            found.append(
                Finding(
                    kind="record_not_written",
                    severity="fault",
                    title="The record cannot be written: no device gets a certificate",
                    cause=trouble,
                    next_step="make room for the database, or mend what that says; devices come back by themselves",
                    since=None,
                )
            )
        commit = self.statistics.commit_p99(LOOKED_BACK)
        if commit is not None and commit > SLOW_COMMIT:
            found.append(
                Finding(
                    kind="database_slow",
                    severity="warning",
                    title=f"The database takes up to {commit:g} s for a commit",
                    cause="every bootstrap waits for two or three of them",
                    next_step="look at the database's disk and what else uses it",
                    since=None,
                )
            )
        found += attention_devices.turned_away(
            self.statistics.refusals_since(LOOKED_BACK),
            self.statistics.since("succeeded", LOOKED_BACK),
            still=self.statistics.refusals_since(LATELY),
            started=self.statistics.since("started", LATELY),
        )
        ready, workers = self.workers()
        if ready < workers:
            found.append(
                Finding(
                    kind="workers_missing",
                    severity="fault",
                    title=f"{ready} of {workers} workers serve devices",
                    cause="a worker ended or has not started",
                    next_step="the log says why, under worker_died",
                    since=None,
                )
            )
        for what, title, step in (
            ("shed", "bootstraps were put off because of load", "add workers, or nodes on the same database"),
            ("internal_errors", "faults of the server itself", "report the tracebacks that the log has of them"),
        ):
            count = self.statistics.since(what, LOOKED_BACK)
            if count:
                found.append(
                    Finding(
                        kind=what,
                        severity="warning",
                        title=f"{count} {title} in five minutes",
                        cause="more came than may be served at once" if what == "shed" else "an error nobody foresaw",
                        next_step=step,
                        since=None,
                    )
                )
        return found
