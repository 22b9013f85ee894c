"""Does anything need a person? Findings with since-when, cause and next step, each from what is on record now."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from lwm2m.steps import FailureCause
from server import attention_cas
from server.finding import Finding
from server.standing import Standing, standings
from server.statistics import Group, Picture, Statistics
from server.store import issuances, statistics
from server.store.accounts import Account
from server.store.database import Database
from server.store.secrets import Sealer

# A device's certificate is renewed by a bootstrap or a re-enrolment, which needs the device to come.
DEVICE_CERTIFICATES_WITHIN = timedelta(days=30)
# CAs and servers need people and, for the devices, a new anchor.
REVOCATIONS_OVERDUE = timedelta(hours=1)
# More than this share of at least so many bootstraps of the last quarter of an hour.
FAILING_SHARE, FAILING_LEAST = 0.2, 10
# Seconds that 99 of 100 commits stay below on a database that keeps up.
SLOW_COMMIT = 0.25
LOOKED_BACK = timedelta(minutes=5)
FRESH = timedelta(seconds=10)
_OF_A_DAY = FailureCause.TOO_MANY_CERTIFICATES.value
# The device itself began anew, which is nobody's fault; or it asks too often, which is a finding of its own.
_HARMLESS = {FailureCause.SUPERSEDED.value, _OF_A_DAY}
# One certificate that breaks a check is a finding of its own.
_OF_THE_CA = {FailureCause.ISSUER_UNAVAILABLE.value, FailureCause.ISSUER_REFUSED.value}
# Devices that a finding names; an address holds no more.
NAMED = 20
OWN_CA = "the embedded CA"


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
        of_cas = attention_cas.of_own_choice(ours)
        found = [
            *of_cas,
            *await attention_cas.of_embedded(self.database, ours),
            *await attention_cas.ending(self.database, self.sealer, ours, now),
            *await self._waiting(account, now),
            *_failing(picture),
            *_without_certificate(picture, cas, {f.issuer_id for f in of_cas if f.kind == attention_cas.NOT_READY}),
            *(self._installation() if account.is_default else ()),
        ]
        # What lasted through two looks has begun at the first, where the record does not know better.
        known = {(f.kind, f.title): f.since for f in last.findings} if last is not None else {}
        dated = [f if f.since else replace(f, since=known.get((f.kind, f.title)) or now) for f in found]
        attention = Attention(now, tuple(sorted(dated, key=lambda f: (f.severity != "fault", f.kind, f.title))))
        self._last[account.id] = attention
        return attention

    async def _waiting(self, account: Account, now: datetime) -> list[Finding]:
        facts = await statistics.facts(
            self.database, account.id, now=now, soon=DEVICE_CERTIFICATES_WITHIN, overdue=REVOCATIONS_OVERDUE
        )
        found: list[Finding] = []
        if facts.expired:
            found.append(
                Finding(
                    kind="certificates_expired",
                    severity="fault",
                    title=f"{_many(facts.expired)} devices hold a certificate that has ended",
                    cause="they did not come for a new one in time",
                    next_step="their factory credential still works: have them bootstrap",
                    since=facts.expired_since,
                    devices=urlencode({"connector_expiration_date__lte": _stamp(now), "sort": "updated_at"}),
                )
            )
        if facts.expiring:
            until = now + DEVICE_CERTIFICATES_WITHIN
            first = facts.expiring_first
            found.append(
                Finding(
                    kind="certificates_expiring",
                    severity="warning",
                    title=f"{_many(facts.expiring)} devices hold a certificate that ends within 30 days",
                    cause=f"the first ends {first:%Y-%m-%d}" if first else "",
                    next_step="have them renew: by re-enrolment, or by a bootstrap",
                    since=first - DEVICE_CERTIFICATES_WITHIN if first else None,
                    devices=urlencode(
                        {"connector_expiration_date__lte": _stamp(until), "sort": "connector_expiration_date"}
                    ),
                )
            )
        if facts.unknown:
            waiting = await issuances.waiting_endpoints(self.database, account.id, limit=NAMED)
            # A comma is between two names there.
            names = ",".join(each for each in waiting if "," not in each)
            found.append(
                Finding(
                    kind="outcome_unknown",
                    severity="warning",
                    title=f"Of {_many(facts.unknown)} requests nobody knows whether the CA signed",
                    cause="the CA's answer was lost and cannot be asked for again",
                    next_step="look at the CA's own log, then release them: on the page of the device, or by "
                    "`firstlight device release NAME`",
                    since=facts.unknown_since,
                    devices=urlencode({"endpoint_name__in": names}) if names else "",
                )
            )
        if facts.unrevoked:
            found.append(
                Finding(
                    kind="revocation_overdue",
                    severity="warning",
                    title=f"{_many(facts.unrevoked)} abandoned certificates could not be revoked",
                    cause="their CA refuses it or is away; it is tried again every ten minutes",
                    next_step="see whether the CA is ready, or revoke them there",
                    since=facts.unrevoked_since,
                )
            )
        return found

    def _installation(self) -> list[Finding]:
        """What belongs to no account: the default one's people keep the house."""
        found: list[Finding] = []
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


def _without_certificate(
    picture: Picture, cas: Mapping[UUID, Standing], not_ready: Collection[UUID | None]
) -> list[Finding]:
    """Devices that came in the last minutes and got nothing because of a CA; one that is not ready has said so."""
    fresh = {
        group: count
        for group, count in picture.whole.failures.items()
        if group.cause in _OF_THE_CA
        and picture.at - picture.whole.last.get(group, picture.at) <= LOOKED_BACK
        and group.issuer_id not in not_ready
        # Nobody was asked because it is not ready.
        and (group.asked or not not_ready)
    }
    if not fresh:
        return []
    worst = max(fresh, key=lambda group: fresh[group])
    ca = cas.get(worst.issuer_id) if worst.issuer_id is not None else None
    name = ca.row.name if ca is not None else OWN_CA if worst.asked else "the CA of the service"
    count = sum(fresh.values())
    return [
        Finding(
            kind="certificates_missing",
            severity="warning",
            title=f"{count} {'bootstrap' if count == 1 else 'bootstraps'} got no certificate because of a CA",
            cause=f"most often: {worst.cause.replace('_', ' ')}, at {name}",
            next_step="run Verify on it; each device's page says what the CA answered",
            since=_begun(picture, worst),
            issuer_id=ca.row.id if ca is not None else None,
            devices=urlencode({"last_cause__eq": worst.cause}),
        )
    ]


def _failing(picture: Picture) -> list[Finding]:
    """What the last quarter of an hour says: certificates that no device may get or none gets, too many failures."""
    whole, found = picture.whole, list[Finding]()
    for group, count in whole.failures.items():
        if group.cause == FailureCause.ISSUER_BAD_CERTIFICATE.value:
            one = count == 1
            found.append(
                Finding(
                    kind="certificates_refused",
                    severity="fault",
                    title=f"{count} {'certificate' if one else 'certificates'} of an active CA must not reach a device",
                    cause="a check is broken, most often because the CA is not trusted here",
                    next_step="upload the CA's certificate as a trusted certificate of service lwm2m, or verify the CA",
                    since=_begun(picture, group),
                    issuer_id=group.issuer_id,
                    devices=urlencode({"last_cause__eq": group.cause}),
                )
            )
    limited = {group: count for group, count in whole.failures.items() if group.cause == _OF_A_DAY}
    if limited:
        count = sum(limited.values())
        found.append(
            Finding(
                kind="devices_at_limit",
                severity="warning",
                title=f"{count} {'bootstrap or enrolment' if count == 1 else 'bootstraps or enrolments'} refused: "
                "a device had its certificates of the day",
                cause="it asks again and again: most often it stores none of them, or starts anew each time",
                next_step="look at these devices; if they are right to ask, raise daily_bootstraps (by EST daily_csrs)",
                since=min(filter(None, (_begun(picture, group) for group in limited)), default=None),
                devices=urlencode({"last_cause__eq": _OF_A_DAY}),
            )
        )
    harmless = sum(count for group, count in whole.failures.items() if group.cause in _HARMLESS)
    ended = picture.ended - harmless
    failed = ended - whole.counts["succeeded"]
    if ended >= FAILING_LEAST and failed > FAILING_SHARE * ended:
        worst = max(whole.failures, key=lambda group: whole.failures[group])
        found.append(
            Finding(
                kind="devices_failing",
                severity="fault",
                title=f"{failed} of {ended} bootstraps failed in the last quarter of an hour",
                cause=f"most often: {worst.cause.replace('_', ' ')}",
                next_step="open the group of failures; each device's page says what to do",
                since=_begun(picture, worst),
                devices=urlencode({"last_outcome__eq": "failed", "sort": "updated_at", "order": "DESC"}),
            )
        )
    return found


def _begun(picture: Picture, group: Group) -> datetime | None:
    return next((at for at, bin in picture.steps if group in bin.failures), None)


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def _many(count: int) -> str:
    return f"{count:,}" if count < statistics.MOST else f"{count:,}+"
