"""What a worker knows by heart: anchors, profiles, issuers and its own certificate, swapped whole on every revision.

The record is the truth; `load` reads it again whenever the revision moved (design 7, "Changes").
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from issuers import open_issuer
from issuers.base import Issued, Issuer
from issuers.embedded import EmbeddedIssuer, EmbeddedOptions
from issuers.errors import BadCertificate, Misconfigured, NotSupported
from issuers.reach import Reach
from issuers.returned import USUAL_LIMITS, Checked, DeviceLimits, Expectation, check_returned
from lwm2m.steps import FailureCause
from server import logs
from server.admin import issuers as issuer_admin
from server.breaker import Breaker, Guarded
from server.config import Config
from server.errors import NotAuthorized, TemporarilyUnavailable
from server.issuer_failures import Unconfigured
from server.pace import Pace
from server.profile import Profile, ProfileError, parse_profile
from server.store import embedded_ca, issuers, profiles, psk, trust
from server.store.accounts import LWM2M
from server.store.conditions import OWN
from server.store.database import Database
from server.store.errors import SealBroken, StoreUnavailable
from server.store.secrets import Sealer
from server.terms import OnUnknown, Terms, read_on_unknown, terms_of, without_terms
from server.transport import engine
from server.transport.engine import PeerIdentity, PreSharedKey
from server.trust import Anchor, Refused, TrustIndex

log = logs.get("knowledge")

OWN_CA = "embedded CA"
# Seconds that a device stays away while the record cannot be read.
RETRY_AFTER = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveIssuer:
    """The CA that signs for a service now, with what its answers are checked against."""

    id: UUID | None
    name: str
    issuer: Issuer
    anchors: tuple[x509.Certificate, ...]
    minimum_validity: timedelta
    # What follows an answer that was lost; the embedded CA loses none.
    on_unknown: OnUnknown = "reissue"

    async def for_service(self, service: str) -> "ActiveIssuer":
        """The same CA with the anchors of `service`: for a custom one the path ends at the CA's own root (design 8).

        A CA that does not show its certificates keeps those of service lwm2m. Raises IssuerError.
        """
        if service == LWM2M:
            return self
        try:
            shown = await self.issuer.ca_certificates()
        except NotSupported:
            return self
        return replace(self, anchors=shown[-1:])

    def check(
        self,
        issued: Issued,
        csr: x509.CertificateSigningRequest,
        endpoint: str,
        now: datetime,
        *,
        account_id: UUID | None = None,
        limits: DeviceLimits = USUAL_LIMITS,
    ) -> Checked:
        """The checked chain, or BadCertificate, which counts against the CA's readiness.

        Not where it is good for other devices, and this one stores less: five such would shut the CA to all.
        """
        expectation = Expectation(
            csr=csr,
            endpoint=endpoint,
            now=now,
            minimum_validity=self.minimum_validity,
            anchors=self.anchors,
            account_id=account_id,
            limits=limits,
        )
        try:
            checked = check_returned(issued, expectation)
        except BadCertificate as error:
            if isinstance(self.issuer, Guarded) and not _is_good_for_others(issued, expectation):
                self.issuer.broke_a_check(error)
            raise
        if isinstance(self.issuer, Guarded):
            self.issuer.kept_its_word()
        return checked


def _is_good_for_others(issued: Issued, expectation: Expectation) -> bool:
    """Whether what broke a check for one device would have kept it for those that store as much as is usual."""
    if expectation.limits == USUAL_LIMITS:
        return False
    try:
        check_returned(issued, replace(expectation, limits=USUAL_LIMITS))
    except BadCertificate:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Loaded:
    trust: TrustIndex
    profiles: Mapping[UUID, tuple[Profile, ...]]
    lwm2m_anchors: Mapping[UUID, tuple[x509.Certificate, ...]]
    configurations: Mapping[tuple[UUID, str], UUID | None]
    rows: Mapping[UUID, issuers.IssuerRow]
    embedded: Mapping[UUID, ActiveIssuer]
    reach: Reach
    with_custom_services: frozenset[UUID]
    opened: dict[UUID, ActiveIssuer] = field(default_factory=dict)


def _unchanged(
    before: _Loaded | None,
    rows: Mapping[UUID, issuers.IssuerRow],
    reach: Reach,
    anchors: Mapping[UUID, tuple[x509.Certificate, ...]],
) -> dict[UUID, ActiveIssuer]:
    """Opened CAs that nobody changed, with the anchors of now: their connections stay."""
    if before is None or before.reach != reach:
        return {}
    return {
        issuer_id: replace(active, anchors=anchors.get(row.account_id, ()))
        for issuer_id, active in before.opened.items()
        if (row := rows.get(issuer_id)) is not None and row.version == before.rows[issuer_id].version
    }


def _issuing_below(anchors: Sequence[Anchor], materials: Sequence[embedded_ca.IssuingMaterial]) -> Iterator[Anchor]:
    """The issuing certificates of embedded CAs whose root is trusted for lwm2m.

    A device that took its leaf alone (LwM2M 1.1 knows no chain) has no issuing certificate to show.
    """
    roots = {(anchor.account_id, anchor.fingerprint): anchor for anchor in anchors if anchor.service == "lwm2m"}
    for material in materials:
        root = roots.get((material.account_id, material.root.fingerprint(hashes.SHA256())))
        if root is None or not root.active:
            continue
        for certificate in material.chain:
            yield replace(root, certificate=certificate.public_bytes(serialization.Encoding.DER))


class Knowledge:
    """The newest state of everything an operator may change."""

    def __init__(
        self,
        *,
        database: Database,
        sealer: Sealer,
        config: Config,
        journal: Callable[[str], None],
        now: Callable[[], datetime],
        breaker: Breaker,
        pace: Pace,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._config = config
        self._journal = journal
        self._now = now
        self._breaker = breaker
        self._pace = pace
        self._loaded: _Loaded | None = None

    async def load(self) -> None:
        """Read the record again; a running handshake or issuance keeps what it started with."""
        anchors = await trust.anchors(self._database)
        lwm2m: dict[UUID, list[x509.Certificate]] = {}
        for anchor in anchors:
            if anchor.service == "lwm2m" and anchor.active:
                lwm2m.setdefault(anchor.account_id, []).append(x509.load_der_x509_certificate(anchor.certificate))
        lwm2m_anchors = {account: tuple(found) for account, found in lwm2m.items()}
        parsed: dict[UUID, list[Profile]] = {}
        for row in await profiles.all_profiles(self._database):
            try:
                parsed.setdefault(row.account_id, []).append(parse_profile(row.toml, row.files, name=row.name))
            except ProfileError as error:
                # Stored by another version, or by hand: its devices get the next profile that matches.
                log.error("profile_left_out", profile=row.name, reason=str(error))
        materials = await embedded_ca.issuing_material(self._database, self._sealer)
        embedded = {
            material.account_id: self._embedded(material, lwm2m_anchors.get(material.account_id, ()))
            for material in materials
        }
        before = self._loaded
        rows = {row.id: row for row in await issuers.all_issuers(self._database)}
        reach = await issuer_admin.reach_of(self._database, self._config)
        kept = _unchanged(before, rows, reach, lwm2m_anchors)
        configurations = await issuers.configurations(self._database)
        self._loaded = _Loaded(
            trust=TrustIndex([*anchors, *_issuing_below(anchors, materials)]),
            profiles={account: tuple(found) for account, found in parsed.items()},
            lwm2m_anchors=lwm2m_anchors,
            configurations=configurations,
            with_custom_services=frozenset(account for account, service in configurations if service != LWM2M),
            rows=rows,
            embedded=embedded,
            reach=reach,
            opened=kept,
        )
        if before is not None:
            log.info("knowledge_renewed", anchors=len(anchors), profiles=sum(map(len, parsed.values())))
            for issuer_id, active in before.opened.items():
                if issuer_id not in kept:
                    await active.issuer.aclose()

    async def aclose(self) -> None:
        """Close every opened issuer."""
        for active in self._now_known().opened.values():
            await active.issuer.aclose()

    @property
    def trust(self) -> TrustIndex:
        """The anchors of all accounts."""
        return self._now_known().trust

    def profiles_of(self, account_id: UUID) -> Sequence[Profile]:
        """The profiles of an account."""
        return self._now_known().profiles.get(account_id, ())

    async def psk_lookup(self, identity: bytes) -> PreSharedKey | None:
        """The bootstrap key of `identity`; raises the transport's StoreUnavailable, which becomes silence."""
        # What is withdrawn while it is looked up is a change after this.
        mark = self.trust.mark
        try:
            found = await psk.find(self._database, self._sealer, identity)
        except (StoreUnavailable, SealBroken) as error:
            # A key that cannot be opened must not look like one that is unknown (design 10).
            raise engine.StoreUnavailable(str(error)) from error
        return None if found is None else replace(found, known_by=mark)

    async def present(self, peer: PeerIdentity) -> PeerIdentity:
        """Who an association proved to be, by what is trusted now: it may be older than an operator's last change, or
        than the end of a certificate.

        Raises NotAuthorized when what it came with counts no more, TemporarilyUnavailable while nobody can tell.
        """
        mark = self.trust.mark
        if peer.known_by is mark and (peer.trusted is None or self._now() <= peer.trusted.until):
            return peer
        if peer.psk is not None:
            try:
                found = await self.psk_lookup(peer.psk.identity)
            except engine.StoreUnavailable as error:
                raise TemporarilyUnavailable(f"pre-shared keys cannot be read: {error}", RETRY_AFTER) from error
            if found != peer.psk:
                raise NotAuthorized(f"the pre-shared key {peer.label} was removed or changed since the handshake")
            return replace(peer, known_by=mark)
        verdict = self.trust.judge(peer.chain, self._now())
        if isinstance(verdict, Refused):
            raise NotAuthorized(f"the certificate is trusted no more: {verdict.detail}")
        return replace(peer, trusted=verdict, known_by=mark)

    async def issuer_for(self, account_id: UUID, service: str) -> ActiveIssuer:
        """The CA that is active for `service` and ready, resolved through the configuration table.

        Raises Unconfigured when there is none, Unavailable or Throttled while nobody asks it (`breaker.py`).
        """
        known = self._now_known()
        if (account_id, service) not in known.configurations:
            raise Unconfigured(
                f"no CA is configured for the service {service}; make one with a service configuration",
                FailureCause.NO_SERVICE,
            )
        active = await self.issuer_by_id(account_id, known.configurations[account_id, service])
        if isinstance(active.issuer, Guarded):
            await active.issuer.admit()
        return await active.for_service(service)

    def ca_of(self, account_id: UUID, service: str) -> str | None:
        """Which CA is configured for `service`, as the record says whose a failure is (`failed_ca`); None = none is."""
        configurations = self._now_known().configurations
        if (account_id, service) not in configurations:
            return None
        issuer_id = configurations[account_id, service]
        return issuer_id.hex if issuer_id is not None else OWN

    async def issuer_by_id(self, account_id: UUID, issuer_id: UUID | None, service: str = LWM2M) -> ActiveIssuer:
        """The CA with this id, None = the embedded CA of the account, with the anchors of `service`."""
        active = await self._opened(account_id, issuer_id)
        return await active.for_service(service)

    async def ca_certificates(self, account_id: UUID, service: str) -> tuple[x509.Certificate, ...]:
        """The certificates of the CA that is configured for `service`, issuing CA first; raises IssuerError."""
        known = self._now_known()
        active = await self._opened(account_id, known.configurations[account_id, service])
        try:
            return await active.issuer.ca_certificates()
        except NotSupported:
            return active.anchors

    def services_of(self, account_id: UUID) -> tuple[str, ...]:
        """The services that a CA is configured for, by name."""
        return tuple(sorted(service for account, service in self._now_known().configurations if account == account_id))

    @property
    def with_custom_services(self) -> frozenset[UUID]:
        """The accounts that have services beside the LwM2M server's."""
        return self._now_known().with_custom_services

    async def _opened(self, account_id: UUID, issuer_id: UUID | None) -> ActiveIssuer:
        known = self._now_known()
        if issuer_id is None:
            embedded = known.embedded.get(account_id)
            if embedded is None:
                raise Misconfigured("this account has no embedded CA; make one with `firstlight ca init`")
            return embedded
        opened = known.opened.get(issuer_id)
        if opened is None:
            row = known.rows.get(issuer_id)
            if row is None:
                raise Misconfigured("the certificate issuer of this issuance was removed; nobody else can settle it")
            try:
                credentials = row.credentials(self._sealer)
            except SealBroken as error:
                raise Misconfigured(f"issuer {row.name!r}: its credentials cannot be opened: {error}") from error
            terms = terms_of(row.attributes, self._usual_terms)
            issuer = open_issuer(row.type, row.name, without_terms(row.attributes), credentials, known.reach)
            opened = ActiveIssuer(
                id=issuer_id,
                name=row.name,
                issuer=Guarded(
                    issuer,
                    issuer_id=issuer_id,
                    name=row.name,
                    breaker=self._breaker,
                    pace=self._pace,
                    terms=terms,
                ),
                anchors=known.lwm2m_anchors.get(account_id, ()),
                minimum_validity=self._minimum_validity,
                on_unknown=terms.on_unknown,
            )
            known.opened[issuer_id] = opened
        return opened

    @property
    def _usual_terms(self) -> Terms:
        issuers = self._config.issuers
        return Terms(
            concurrency=issuers.concurrency,
            rate=issuers.rate,
            on_unknown=read_on_unknown(self._config.issuance.on_unknown),
        )

    @property
    def _minimum_validity(self) -> timedelta:
        return timedelta(days=self._config.issuance.minimum_validity_days)

    def _embedded(self, material: embedded_ca.IssuingMaterial, anchors: tuple[x509.Certificate, ...]) -> ActiveIssuer:
        issuer = EmbeddedIssuer(
            key=material.issuing_key,
            chain=material.chain,
            root=material.root,
            options=EmbeddedOptions(validity=timedelta(days=self._config.embedded_ca.validity_days)),
            journal=lambda entry: self._journal(entry.as_json()),
        )
        return ActiveIssuer(
            id=None,
            name=OWN_CA,
            issuer=issuer,
            anchors=anchors,
            minimum_validity=self._minimum_validity,
        )

    def _now_known(self) -> _Loaded:
        if self._loaded is None:
            raise AssertionError("load() comes first")
        return self._loaded
