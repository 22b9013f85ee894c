"""What needs a person of the devices: certificates that end, requests without an outcome, too many failures."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from lwm2m.steps import FailureCause
from server.finding import LOOKED_BACK, Finding
from server.knowledge import OWN_CA
from server.standing import Standing
from server.statistics import Group, Picture
from server.store import issuances, statistics
from server.store.database import Database
from server.store.statistics import Facts

# A device's certificate is renewed by a bootstrap or a re-enrolment, which needs the device to come.
DEVICE_CERTIFICATES_WITHIN = timedelta(days=30)
REVOCATIONS_OVERDUE = timedelta(hours=1)
# More than this share of at least so many bootstraps of the last quarter of an hour.
FAILING_SHARE, FAILING_LEAST = 0.2, 10
_OF_A_DAY = FailureCause.TOO_MANY_CERTIFICATES.value
# The device itself began anew, which is nobody's fault; or it asks too often, which is a finding of its own.
_HARMLESS = {FailureCause.SUPERSEDED.value, _OF_A_DAY}
# One certificate that breaks a check is a finding of its own.
_OF_THE_CA = {FailureCause.ISSUER_UNAVAILABLE.value, FailureCause.ISSUER_REFUSED.value}
# Devices that a finding names; an address holds no more.
NAMED = 20


async def waiting(database: Database, account_id: UUID, now: datetime) -> list[Finding]:
    """What the record says of the devices of an account; StoreUnavailable."""
    facts = await statistics.facts(
        database, account_id, now=now, soon=DEVICE_CERTIFICATES_WITHIN, overdue=REVOCATIONS_OVERDUE
    )
    found: list[Finding] = []
    if facts.expired:
        found.append(_expired(facts, now))
    if facts.expiring:
        found.append(_expiring(facts, now))
    if facts.unknown:
        found.append(_unknown(facts, await issuances.waiting_endpoints(database, account_id, limit=NAMED)))
    if facts.unrevoked:
        found.append(_unrevoked(facts))
    return found


def _expired(facts: Facts, now: datetime) -> Finding:
    return Finding(
        kind="certificates_expired",
        severity="fault",
        title=f"{_many(facts.expired)} devices hold a certificate that has ended",
        cause="they did not come for a new one in time",
        next_step="their factory credential still works: have them bootstrap",
        since=facts.expired_since,
        devices=urlencode({"connector_expiration_date__lte": _stamp(now), "sort": "updated_at"}),
    )


def _expiring(facts: Facts, now: datetime) -> Finding:
    until = now + DEVICE_CERTIFICATES_WITHIN
    first = facts.expiring_first
    return Finding(
        kind="certificates_expiring",
        severity="warning",
        title=f"{_many(facts.expiring)} devices hold a certificate that ends within 30 days",
        cause=f"the first ends {first:%Y-%m-%d}" if first else "",
        next_step="have them renew: by re-enrolment, or by a bootstrap",
        since=first - DEVICE_CERTIFICATES_WITHIN if first else None,
        devices=urlencode({"connector_expiration_date__lte": _stamp(until), "sort": "connector_expiration_date"}),
    )


def _unknown(facts: Facts, endpoints: Collection[str]) -> Finding:
    # A comma is between two names there.
    names = ",".join(each for each in endpoints if "," not in each)
    return Finding(
        kind="outcome_unknown",
        severity="warning",
        title=f"Of {_many(facts.unknown)} requests nobody knows whether the CA signed",
        cause="the CA's answer was lost and cannot be asked for again",
        next_step="look at the CA's own log, then release them: on the page of the device, or by "
        "`firstlight device release NAME`",
        since=facts.unknown_since,
        devices=urlencode({"endpoint_name__in": names}) if names else "",
    )


def _unrevoked(facts: Facts) -> Finding:
    return Finding(
        kind="revocation_overdue",
        severity="warning",
        title=f"{_many(facts.unrevoked)} abandoned certificates could not be revoked",
        cause="their CA refuses it or is away; it is tried again every ten minutes",
        next_step="see whether the CA is ready, or revoke them there",
        since=facts.unrevoked_since,
    )


def without_certificate(
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
    name = ca.row.name if ca is not None else f"the {OWN_CA}" if worst.asked else "the CA of the service"
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


def failing(picture: Picture) -> list[Finding]:
    """What the last quarter of an hour says: certificates that no device may get or none gets, too many failures."""
    return [*_refused(picture), *_at_limit(picture), *_failing(picture)]


def _refused(picture: Picture) -> Iterator[Finding]:
    for group, count in picture.whole.failures.items():
        if group.cause == FailureCause.ISSUER_BAD_CERTIFICATE.value:
            one = count == 1
            yield Finding(
                kind="certificates_refused",
                severity="fault",
                title=f"{count} {'certificate' if one else 'certificates'} of an active CA must not reach a device",
                cause="a check is broken, most often because the CA is not trusted here",
                next_step="upload the CA's certificate as a trusted certificate of service lwm2m, or verify the CA",
                since=_begun(picture, group),
                issuer_id=group.issuer_id,
                devices=urlencode({"last_cause__eq": group.cause}),
            )


def _at_limit(picture: Picture) -> Iterator[Finding]:
    limited = {group: count for group, count in picture.whole.failures.items() if group.cause == _OF_A_DAY}
    if limited:
        count = sum(limited.values())
        yield Finding(
            kind="devices_at_limit",
            severity="warning",
            title=f"{count} {'bootstrap or enrolment' if count == 1 else 'bootstraps or enrolments'} refused: "
            "a device had its certificates of the day",
            cause="it asks again and again: most often it stores none of them, or starts anew each time",
            next_step="look at these devices; if they are right to ask, raise daily_bootstraps (by EST daily_csrs)",
            since=min(filter(None, (_begun(picture, group) for group in limited)), default=None),
            devices=urlencode({"last_cause__eq": _OF_A_DAY}),
        )


def _failing(picture: Picture) -> Iterator[Finding]:
    failures = picture.whole.failures
    counted = {group: count for group, count in failures.items() if group.cause not in _HARMLESS}
    ended = picture.ended - (sum(failures.values()) - sum(counted.values()))
    failed = ended - picture.whole.counts["succeeded"]
    if counted and ended >= FAILING_LEAST and failed > FAILING_SHARE * ended:
        worst = max(counted, key=lambda group: counted[group])
        yield Finding(
            kind="devices_failing",
            severity="fault",
            title=f"{failed} of {ended} bootstraps failed in the last quarter of an hour",
            cause=f"most often: {worst.cause.replace('_', ' ')}",
            next_step="open the group of failures; each device's page says what to do",
            since=_begun(picture, worst),
            devices=urlencode({"last_outcome__eq": "failed", "sort": "updated_at", "order": "DESC"}),
        )


def _begun(picture: Picture, group: Group) -> datetime | None:
    return next((at for at, bin in picture.steps if group in bin.failures), None)


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def _many(count: int) -> str:
    return f"{count:,}" if count < statistics.MOST else f"{count:,}+"
