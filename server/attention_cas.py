"""What needs a person of the CAs: one that signs and cannot, or is not known to, and certificates that end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from cryptography import x509

from issuers.errors import BadCertificate
from server.admin import trust as trust_admin
from server.finding import Finding
from server.standing import CA_ENDS_WITHIN, Standing
from server.store import embedded_ca, issuer_chains, issuers, trust
from server.store.accounts import LWM2M, Account
from server.store.database import Database
from server.store.embedded_ca import EmbeddedCa
from server.store.issuers import Configuration
from server.store.secrets import Sealer

NOT_READY = "issuer_not_ready"
NOT_TRUSTED = "issuer_not_trusted"
ENDED = "issuer_ended"
# Findings of a CA that say why devices get nothing from it.
SIGNS_NOTHING = frozenset({NOT_READY, NOT_TRUSTED, ENDED})
# The embedded CA has one issuing certificate, for ten years.
_NEXT_CA = "register another CA and activate it (`firstlight issuer add`, `issuer activate`): this one is not renewed"
# Of a CA: how many bootstraps and enrolments had no certificate because of it since then.
Cost = Callable[[UUID, datetime], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The CAs of an account and the services they sign for, as one look at the record found them."""

    account: Account
    registered: Mapping[UUID, Standing]
    embedded: EmbeddedCa | None
    services: Sequence[Configuration]
    # Those that have signed since their last verification failed.
    proven: frozenset[UUID]


async def authorities(database: Database, account: Account, registered: Mapping[UUID, Standing]) -> Authorities:
    """Those of `account`; how the registered ones stand is known already."""
    return Authorities(
        account=account,
        registered=registered,
        embedded=await embedded_ca.find(database, account.id),
        services=await issuers.configured(database, account.id),
        proven=frozenset(
            [
                issuer_id
                for issuer_id, ca in registered.items()
                if ca.verification is not None
                and not ca.verification.successful
                and ca.verification.finished_at is not None
                and await issuer_chains.has_signed_since(database, account.id, issuer_id, ca.verification.finished_at)
            ]
        ),
    )


def of_own_choice(ours: Authorities, cost: Cost) -> list[Finding]:
    """CAs that sign for a service and cannot, or of which nobody knows whether they can."""
    cas = ours.registered
    if cas and not ours.account.third_party_ca:
        return [
            Finding(
                kind="feature_off",
                severity="warning",
                title=f"{len(cas)} CAs of your own are registered, but the account may not use them",
                cause="third-party CAs are switched off for this account",
                next_step="an administrator of the default account allows them, or the CAs are removed",
                since=None,
            )
        ]
    active: dict[UUID, list[str]] = {}
    for service in ours.services:
        if service.issuer_id is not None:
            active.setdefault(service.issuer_id, []).append(service.reference)
    return [
        finding
        for issuer_id, standing in cas.items()
        if issuer_id in active
        for finding in _of_active(standing, active[issuer_id], issuer_id in ours.proven, cost)
    ]


def _of_active(ca: Standing, services: Sequence[str], proven: bool, cost: Cost) -> Iterator[Finding]:
    """What is wrong with a CA that signs for these services, or not known of it: one cause is told of once."""
    name, signs_for = ca.row.name, ", ".join(services)
    refused, untrusted = ca.refused_by, ca.is_refused_for(*services)
    count = cost(ca.row.id, refused.since) if refused is not None and refused.since is not None else 0
    told = f": {count:,} {'bootstrap' if count == 1 else 'bootstraps'} without a certificate so far" if count else ""
    devices = urlencode({"last_outcome__eq": "failed", "last_failed_ca__eq": ca.row.id.hex}) if count else ""
    if untrusted:
        yield Finding(
            kind=NOT_TRUSTED,
            severity="fault",
            title=f"{name} is active for {LWM2M}, but its CA certificate is not trusted: devices are refused",
            cause="what it signs leads to no active trusted certificate of service lwm2m",
            next_step="trust its certificate for LWM2M, then verify it",
            since=None,
            issuer_id=ca.row.id,
        )
    # That its certificates are refused for want of trust, and that it is left alone for that, is the same.
    if refused is not None and not (untrusted and refused.error_class == BadCertificate.__name__):
        yield Finding(
            kind=NOT_READY,
            severity="fault",
            title=f"{name} gives no certificates for {signs_for}{told}",
            cause=refused.error_text,
            next_step="run Verify on it; it is asked again by itself, and devices come back by themselves",
            since=refused.since,
            issuer_id=ca.row.id,
            devices=devices,
            count=count,
        )
    if ca.verification is None:
        yield Finding(
            kind="issuer_not_verified",
            severity="warning",
            title=f"{name} is active for {signs_for} and was never verified",
            cause="nobody has looked whether it takes our credentials and what it signs would be accepted",
            next_step="run Verify on it",
            since=None,
            issuer_id=ca.row.id,
        )
    # Whoever verifies a CA that is away learns nothing new, and one that has signed since is at work.
    elif refused is None and not proven and (failed := ca.failed_for(*services)) is not None:
        yield Finding(
            kind="verification_failed",
            severity="warning",
            title=f"{name} is active although its last verification failed",
            cause=failed.message,
            next_step="mend what the failed step says, then verify it again",
            since=failed.finished_at,
            issuer_id=ca.row.id,
        )


async def of_embedded(database: Database, ours: Authorities, now: datetime) -> list[Finding]:
    """That the embedded CA signs no more, or that what it signs is refused: its root is trusted until somebody takes
    that back.
    """
    own = ours.embedded
    if own is None or not _embedded_signs(ours):
        return []
    end = _end(own.issuing_certificate)
    if end <= now:
        return [
            Finding(
                kind=ENDED,
                severity="fault",
                title=f"The embedded CA signs for {LWM2M}, and has ended: devices get no certificate",
                cause=f"its issuing certificate was valid until {end:%Y-%m-%d %H:%M} UTC",
                next_step=f"compare this server's clock, also of its first start; if it is right, {_NEXT_CA}",
                since=max(end, ours.account.created_at),
            )
        ]
    anchors = await trust_admin.anchors(database, ours.account.id)
    chain = [x509.load_der_x509_certificate(der) for der in (own.issuing_certificate, own.root_certificate)]
    if trust_admin.leads_to(chain, anchors):
        return []
    return [
        Finding(
            kind="issuer_not_trusted",
            severity="fault",
            title=f"The embedded CA signs for {LWM2M}, but its root is not trusted: devices are refused",
            cause="its root was denied or removed, and nothing else of service lwm2m stands above it",
            next_step="activate its root, or trust it again: `firstlight ca export device-root` writes it",
            since=None,
        )
    ]


async def ending(database: Database, sealer: Sealer, ours: Authorities, now: datetime) -> list[Finding]:
    """Certificates of ours, of active CAs and of the operator that end soon."""
    # What ends, when, what to do, and since when it is here: nobody had to do anything before that.
    ends: list[tuple[str, datetime, str, datetime]] = []
    active = {service.issuer_id for service in ours.services}
    for ca in ours.registered.values():
        if ca.row.id in active and ca.ends is not None:
            step = "have the CA renew it, trust the new one, then verify the CA"
            ends.append((f"the CA certificate of {ca.row.name}", ca.ends, step, ca.row.created_at))
    if ours.embedded is not None:
        own = ours.embedded
        for name, der in (("issuing CA", own.issuing_certificate), ("root", own.root_certificate)):
            if name == "issuing CA" and _end(der) <= now and _embedded_signs(ours):
                # `of_embedded` has said so.
                continue
            ends.append((f"the embedded {name}", _end(der), _NEXT_CA, ours.account.created_at))
    if ours.account.is_default and await embedded_ca.has_server_credential(database):
        server = await embedded_ca.server_credential(database, sealer)
        own_end = _end(server.certificate)
        step = "`firstlight ca renew-server`; devices that hold it and not the server root refuse the next one"
        ends.append(("the bootstrap server's certificate", own_end, step, ours.account.created_at))
    for trusted in await trust.listed(database, ours.account.id):
        if trusted.active:
            step = "upload its successor as a trusted certificate beside it"
            ends.append((f"the trusted certificate {trusted.name}", trusted.not_after, step, trusted.created_at))
    found: list[Finding] = []
    for what, end, step, here_since in ends:
        if end - now > CA_ENDS_WITHIN:
            continue
        over = end <= now
        found.append(
            Finding(
                kind="ca_certificate_expiring",
                severity="fault" if over else "warning",
                title=f"{what[0].upper()}{what[1:]} {'has ended' if over else f'ends in {(end - now).days} days'}",
                cause=f"it is valid until {end:%Y-%m-%d %H:%M} UTC",
                next_step=step,
                since=max(here_since, end if over else end - CA_ENDS_WITHIN),
            )
        )
    return found


def _embedded_signs(ours: Authorities) -> bool:
    return any(each.reference == LWM2M and each.issuer_id is None for each in ours.services)


def _end(der: bytes) -> datetime:
    return x509.load_der_x509_certificate(der).not_valid_after_utc
