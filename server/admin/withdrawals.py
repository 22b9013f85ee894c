"""What follows when a trusted certificate no longer counts: who is refused from then on, and how to take it back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography import x509

from server.admin import trust as admin
from server.doubt import Doubt
from server.knowledge import OWN_CA
from server.profile import ProfileError, parse_profile
from server.store import embedded_ca, issuer_chains, issuers, listings, profiles
from server.store.accounts import LWM2M
from server.store.conditions import Condition
from server.store.database import Database
from server.store.trust import TrustedCertificate

OWN = f"the {OWN_CA}"


@dataclass(frozen=True, slots=True)
class Dependents:
    """Whom it concerns: devices that came with it last, CAs that lead to nothing else, profiles that name it.

    `cas` maps a CA's name to whether it signs for LWM2M now.
    """

    devices: int
    cas: Mapping[str, bool]
    profiles: tuple[str, ...]

    def doubts(self, row: TrustedCertificate, *, removed: bool) -> Iterator[Doubt]:
        """What follows when `row` is denied or removed."""
        if self.devices:
            one = self.devices == 1
            who = "1 device came" if one else f"{self.devices:,} devices came"
            whose, they = ("its", "it holds") if one else ("their", "they hold")
            unless = f", unless another trusted certificate stands above {whose} own" if removed else ""
            yield Doubt(
                "devices_refused",
                f"{who} with it last: {whose} next bootstrap is refused{unless}; what {they} stays valid",
                f"{'trust it again' if removed else 'activate it again'} if {'it is' if one else 'they are'} to come",
            )
        signing = [name for name, signs in self.cas.items() if signs]
        if signing:
            yield Doubt(
                "issuer_not_trusted",
                f"Nothing else that is trusted stands above {_and(signing)}, which signs for {LWM2M}: "
                "devices get no certificate from now on",
                f"trust it again{_where(signing)}, or activate another CA"
                if removed
                else "activate it again, or another CA",
            )
        idle = [name for name, signs in self.cas.items() if not signs]
        if idle:
            yield Doubt(
                "issuer_loses_trust",
                f"Nothing else that is trusted stands above {_and(idle)}: no device would get a certificate of it",
                f"trust its certificate before it signs for {LWM2M}",
            )
        if removed and self.profiles:
            many = len(self.profiles) > 1
            yield Doubt(
                "profile_matches_none",
                f"The {'profiles' if many else 'profile'} {_and(self.profiles)} {'are' if many else 'is'} for devices "
                "that come with it: none gets what it says any more",
                "trust it again, or name another trusted certificate there",
            )


async def dependents(database: Database, account_id: UUID, row: TrustedCertificate) -> Dependents:
    """Whom it would concern if `row` counted no more; nobody where it counts for nothing already."""
    named = await _naming(database, account_id, row) if row.service == "bootstrap" else ()
    if not row.active:
        return Dependents(0, {}, named)
    if row.service == "lwm2m":
        return Dependents(0, await _leaning_on(database, account_id, row), named)
    theirs = [Condition("issuer_fingerprint", "eq", (row.fingerprint,))]
    return Dependents(await listings.count(database, account_id, "device", theirs), {}, named)


async def _leaning_on(database: Database, account_id: UUID, anchor: TrustedCertificate) -> Mapping[str, bool]:
    """The CAs whose certificates lead to this trusted certificate and to no other that counts."""
    others = await admin.anchors(database, account_id, but=anchor.id)
    service = await issuers.service(database, account_id, LWM2M)
    signs = service.issuer_id if service is not None else None
    chains = await issuer_chains.listed(database, account_id)
    shown: list[tuple[UUID | None, str, Sequence[bytes]]] = [
        (row.id, row.name, chains[row.id].certificates)
        for row in await issuers.listed(database, account_id)
        if row.id in chains
    ]
    own = await embedded_ca.find(database, account_id)
    if own is not None:
        shown.insert(0, (None, OWN, (own.issuing_certificate, own.root_certificate)))
    here = [x509.load_der_x509_certificate(anchor.certificate)]
    found: dict[str, bool] = {}
    for issuer_id, name, certificates in shown:
        chain = [x509.load_der_x509_certificate(der) for der in certificates]
        if admin.leads_to(chain, here) and not admin.leads_to(chain, others):
            found[name] = issuer_id == signs
    return found


async def _naming(database: Database, account_id: UUID, row: TrustedCertificate) -> tuple[str, ...]:
    """The profiles that are only for devices that come with `row`."""
    found: list[str] = []
    for each in await profiles.listed(database, account_id):
        try:
            wanted = parse_profile(each.toml, each.files, name=each.name).trusted_certificate
        except ProfileError:
            continue
        if wanted in (row.id.hex, row.fingerprint.hex()):
            found.append(each.name)
    return tuple(found)


def _where(names: Sequence[str]) -> str:
    """Where the certificate of a CA is still to be had."""
    return " (`firstlight ca export device-root` writes it)" if OWN in names else ""


def _and(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)
