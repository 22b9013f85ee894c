"""What needs a person of the devices: certificates that end or never came, requests without an outcome, failures."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from lwm2m.steps import FailureCause
from server import sentences
from server.finding import LOOKED_BACK, Finding
from server.knowledge import OWN_CA
from server.standing import Standing
from server.statistics import Group, Picture
from server.store import issuances, statistics
from server.store.conditions import OWN
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
_NO_RECORD = FailureCause.STORE_UNAVAILABLE.value
_BAD = FailureCause.ISSUER_BAD_CERTIFICATE.value
# A CA that refuses one device may sign for all others.
_REFUSED = FailureCause.ISSUER_REFUSED.value
GAVE_NONE = {FailureCause.ISSUER_UNAVAILABLE.value, _BAD}
_OF_A_CA = {*GAVE_NONE, _REFUSED}
# Why a handshake came to nothing: by this server's clock, certificate or record perhaps, and by what peers have or a
# setting lacks. A scan leaves other words.
_OUR_FAULT = ("peer_alert", "expired", "not_yet_valid", "store_unavailable")
_OF_PEERS = ("unknown_ca", "denied", "unknown_identity", "wrong_key", "wrong_usage", "weak_key", "bad_signature")
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
        next_step="look at the CA's own log, then release them: on the page of the device, by "
        "`firstlight device release NAME`, or all by `firstlight device release --all`",
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
    picture: Picture, cas: Mapping[UUID, Standing], told: Collection[UUID | None]
) -> Iterator[Finding]:
    """Devices that came lately and got nothing because of a CA, one finding a CA; those `told` of have said so."""
    of_a_ca: dict[tuple[UUID | None, bool], dict[Group, int]] = {}
    for group, count in picture.whole.failures.items():
        # Whose failure it is a row of an older version does not say, where nobody was asked.
        if group.cause in _OF_A_CA and group.issuer_id not in told and (group.asked or not told):
            bad = group.cause == _BAD
            if not _signed_after(picture, group) and (bad or _is_fresh(picture, group)):
                of_a_ca.setdefault((group.issuer_id, bad), {})[group] = count
    for (issuer_id, bad), groups in of_a_ca.items():
        worst = max(groups, key=lambda group: groups[group])
        ca = cas.get(issuer_id) if issuer_id is not None else None
        name = ca.row.name if ca is not None else f"the {OWN_CA}" if worst.asked else "the CA of the service"
        count = sum(groups.values())
        many = count > FAILING_SHARE * picture.ended and picture.ended >= FAILING_LEAST
        readiness = ca.readiness if ca is not None else None
        # What it failed with before it last worked says nothing of now.
        said = f": {readiness.error_text}" if readiness is not None and readiness.since is not None else ""
        where = {"last_cause__eq": worst.cause, **({"last_failed_ca__eq": _word(worst)} if worst.asked else {})}
        if bad:
            yield Finding(
                kind="certificates_refused",
                severity="fault",
                title=f"{count} {'certificate' if count == 1 else 'certificates'} of {name} must not reach a device",
                cause=f"a check is broken, most often because the CA is not trusted here{said}",
                next_step="upload the CA's certificate as a trusted certificate of service lwm2m, or verify the CA",
                since=_begun(picture, groups),
                issuer_id=issuer_id,
                devices=urlencode(where),
                count=count,
            )
        else:
            yield Finding(
                kind="certificates_missing",
                severity="fault" if many else "warning",
                title=f"{count} {'bootstrap' if count == 1 else 'bootstraps'} got no certificate from {name}",
                cause=f"most often: {worst.cause.replace('_', ' ')}{said}",
                next_step="run Verify on it; each device's page says what the CA answered"
                if ca is not None
                else "each device's page says what kept it from signing",
                since=_begun(picture, groups),
                issuer_id=issuer_id,
                devices=urlencode(where),
                count=count,
            )


def _signed_after(picture: Picture, group: Group) -> bool:
    """Whether the CA has signed since, which puts an end to what it could not do."""
    failed, issued = picture.whole.last.get(group), picture.whole.issued.get(group.issuer_id)
    if group.cause == _REFUSED or not group.asked or failed is None:
        return False
    return issued is not None and issued > failed


def _is_fresh(picture: Picture, group: Group) -> bool:
    return picture.at - picture.whole.last.get(group, picture.at) <= LOOKED_BACK


def _is_back(picture: Picture, group: Group) -> bool:
    """Whether it was the record that was away, and a bootstrap was written into it since."""
    failed, succeeded = picture.whole.last.get(group), picture.whole.succeeded_at
    return group.cause == _NO_RECORD and failed is not None and succeeded is not None and succeeded > failed


def _word(group: Group) -> str:
    """The CA of failures, as the list of devices is asked for it."""
    return group.issuer_id.hex if group.issuer_id is not None else OWN


def failing(picture: Picture) -> list[Finding]:
    """What the last quarter of an hour says: too many failures, those of a CA aside, which is told of by itself."""
    return [*_at_limit(picture), *_failing(picture)]


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
            since=_begun(picture, limited),
            devices=urlencode({"last_cause__eq": _OF_A_DAY}),
        )


def _failing(picture: Picture) -> Iterator[Finding]:
    failures = picture.whole.failures
    aside = _HARMLESS | _OF_A_CA
    counted = {g: n for g, n in failures.items() if g.cause not in aside and not _is_back(picture, g)}
    ended = picture.ended - (sum(failures.values()) - sum(counted.values()))
    failed = ended - picture.whole.counts["succeeded"]
    # What nobody met for some minutes is over.
    fresh = any(_is_fresh(picture, group) for group in counted)
    if fresh and ended >= FAILING_LEAST and failed > FAILING_SHARE * ended:
        worst = max(counted, key=lambda group: counted[group])
        yield Finding(
            kind="devices_failing",
            severity="fault",
            title=f"{failed} of {ended} bootstraps failed in the last quarter of an hour",
            cause=f"most often: {worst.cause.replace('_', ' ')}",
            next_step=f"{sentences.for_refusal(worst.cause)[1]}; each device's page says more",
            since=_begun(picture, (worst,)),
            devices=urlencode({"last_outcome__eq": "failed", "sort": "updated_at", "order": "DESC"}),
            count=failed,
        )


def turned_away(refusals: Counter[str], succeeded: int, *, still: Counter[str], started: int) -> list[Finding]:
    """That handshakes fail of devices that may be ours: nothing else tells of them, as no bootstrap begins.

    `still` are those of the last minute, in which so many bootstraps `started`: it may be over.
    """
    counted = Counter({reason: refusals[reason] for reason in (*_OUR_FAULT, *_OF_PEERS) if refusals[reason]})
    count = counted.total()
    if count < FAILING_LEAST or count <= FAILING_SHARE * (count + succeeded):
        return []
    ((reason, _),) = counted.most_common(1)
    if started and not still[reason]:
        return []
    meaning, remedy = sentences.for_refusal(reason)
    return [
        Finding(
            kind="devices_turned_away",
            severity="fault" if reason in _OUR_FAULT and not succeeded else "warning",
            title=f"{count} handshakes came to nothing in five minutes, and {succeeded} bootstraps succeeded",
            cause=f"most often: {meaning} ({reason})",
            next_step=f"{remedy}; `firstlight device seen` lists them, with what to do",
            since=None,
        )
    ]


def _begun(picture: Picture, groups: Iterable[Group]) -> datetime | None:
    """When the first of these failures was, as far back as the picture goes."""
    wanted = set(groups)
    return next((at for at, bin in picture.steps if not wanted.isdisjoint(bin.failures)), None)


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def _many(count: int) -> str:
    return f"{count:,}" if count < statistics.MOST else f"{count:,}+"
