"""Judges the path from a device's certificate to an operator's trust anchor (RFC 5280 6, limits below).

OpenSSL only proves that the peer holds the key of its certificate. Whose anchor that certificate leads to is
decided here, because tenants' anchors may share names, be intermediates, or be denied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal
from uuid import UUID

from server.certificate import HASHES, Certificate, Fault, RefusalReason, describe, name_and_key

__all__ = ["Anchor", "RefusalReason", "Refused", "TrustIndex", "Trusted", "describe"]

Service = Literal["bootstrap", "lwm2m"]

# Certificates of a path, anchor included; factory PKIs have two or three.
MAX_PATH = 6
# Certificates a peer may send; more than a path needs is an attack or a mistake.
MAX_SENT = 10
# Links tried for one peer: many anchors or intermediates of one name must not become a burner of CPU.
MAX_LINKS = 64
# Entries of each cache of an index; at the limit it starts anew.
MAX_CACHED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A certificate an operator trusts (`active`) or denies for one account and service; DER.

    It may be a root, an intermediate or a device's own. Raises ValueError when it is no certificate.
    """

    id: UUID
    account_id: UUID
    service: Service
    certificate: bytes = field(repr=False)
    active: bool = True
    enrollment_mode: bool = False
    fingerprint: bytes = field(init=False)
    subject: bytes = field(init=False, repr=False)
    spki: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        subject, spki = name_and_key(self.certificate)
        set_once = object.__setattr__
        set_once(self, "fingerprint", sha256(self.certificate).digest())
        set_once(self, "subject", subject)
        set_once(self, "spki", spki)


@dataclass(frozen=True, slots=True)
class Trusted:
    """The `path` in DER from the leaf to the nearest anchor, and the active anchors it may belong to.

    `anchors` holds, for each account and service that does not deny a certificate of the path, its nearest:
    first those of the path's last name and key, then those of other accounts further up. So nobody draws
    another account's devices to itself by anchoring an intermediate of that account's CA: two accounts are
    named, policy decides.

    Past `until` it has to be judged anew: a certificate that it stands on has ended.
    """

    path: tuple[bytes, ...]
    anchors: tuple[Anchor, ...]
    until: datetime = field(default=datetime.max.replace(tzinfo=UTC), compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The chain is not trusted; `detail` is for the operator."""

    reason: RefusalReason
    detail: str


# What an operator should read when several paths failed: the most telling first.
_TELLING = (
    RefusalReason.DENIED,
    RefusalReason.EXPIRED,
    RefusalReason.NOT_YET_VALID,
    RefusalReason.WEAK_KEY,
    RefusalReason.WRONG_USAGE,
    RefusalReason.NOT_A_CA,
    RefusalReason.PATH_TOO_LONG,
    RefusalReason.MALFORMED,
    RefusalReason.BAD_SIGNATURE,
    RefusalReason.UNKNOWN_CA,
)


class _KeyHolder:
    """One name and key that anchors hold: these are the anchor, not the certificate (RFC 5280 6.1.1 (d))."""

    __slots__ = ("active", "certificates", "denied")

    def __init__(self) -> None:
        self.certificates: list[Certificate] = []
        self.active: list[Anchor] = []
        # (account, service) that only denies this key; an active anchor of the same key there overrules.
        self.denied: frozenset[tuple[UUID, Service]] = frozenset()


_Scope = tuple[UUID, Service]
_Scopes = frozenset[_Scope]


def scope(anchor: Anchor) -> _Scope:
    """Whose word the anchor is, and for what."""
    return anchor.account_id, anchor.service


def _with_further(nearest: Trusted, above: Trusted | None) -> Trusted:
    """`nearest` with the anchors of other accounts and services that its path leads to."""
    if above is None:
        return nearest
    named = {scope(anchor) for anchor in nearest.anchors}
    further = tuple(anchor for anchor in above.anchors if scope(anchor) not in named)
    if not further:
        return nearest
    return Trusted(nearest.path, nearest.anchors + further, min(nearest.until, above.until))


class TrustIndex:
    """The anchors of all accounts at one moment; immutable to its users, swapped whole when one changes.

    `unreadable` are anchors no path can lead through, because their certificate cannot be read further; they
    still match a device that shows them as its own.
    """

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        holders: dict[tuple[bytes, bytes], _KeyHolder] = {}
        inactive: dict[tuple[bytes, bytes], set[_Scope]] = {}
        unreadable: list[tuple[Anchor, str]] = []
        self._by_fingerprint: dict[bytes, list[Anchor]] = {}
        for anchor in anchors:
            held = anchor.subject, anchor.spki
            holder = holders.setdefault(held, _KeyHolder())
            if all(known.der != anchor.certificate for known in holder.certificates):
                try:
                    holder.certificates.append(Certificate(anchor.certificate))
                except Fault as fault:
                    unreadable.append((anchor, fault.detail))
            if anchor.active:
                holder.active.append(anchor)
            else:
                inactive.setdefault(held, set()).add(scope(anchor))
            self._by_fingerprint.setdefault(anchor.fingerprint, []).append(anchor)
        for held, scopes in inactive.items():
            holder = holders[held]
            holder.denied = frozenset(scopes - {scope(active) for active in holder.active})
        self._by_subject: dict[bytes, list[_KeyHolder]] = {}
        for (subject, _), holder in holders.items():
            self._by_subject.setdefault(subject, []).append(holder)
        self._by_key = holders
        # What was judged by this index names it so, and keeps no old one alive.
        self.mark = object()
        self.unreadable = tuple(unreadable)
        # Whether an issuer's key signed a child, for CAs only: leaves come once, intermediates every time.
        self._links: dict[tuple[bytes, bytes], bool] = {}
        self._sent_cas: dict[bytes, Certificate] = {}

    def judge(self, chain: Sequence[bytes], now: datetime) -> Trusted | Refused:
        """Judge what a peer sent, DER, its own certificate first, the others in any order; `now` is aware.

        Validity, usage and key strength are checked of every certificate below the anchor. Of the anchor
        itself only what makes it an issuer: it has no validity in RFC 5280 6.1.1 (d), its end is the
        operator's choice.
        """
        if not chain:
            return Refused(RefusalReason.MALFORMED, "no certificate")
        if len(chain) > MAX_SENT:
            return Refused(RefusalReason.PATH_TOO_LONG, f"{len(chain)} certificates sent")
        try:
            leaf = Certificate(chain[0])
            if leaf.fault is not None:
                raise Fault(*leaf.fault)
            leaf.check_time(now)
        except Fault as fault:
            return Refused(fault.reason, f"device certificate: {fault.detail}")
        return _Search(self, chain[1:], now).run(leaf)

    def holders(self, subject: bytes) -> Sequence[_KeyHolder]:
        """The anchored keys of this name."""
        return self._by_subject.get(subject, ())

    def holder_of(self, certificate: Certificate) -> _KeyHolder | None:
        """The anchored key that `certificate` carries, if any."""
        if certificate.subject not in self._by_subject:
            return None
        return self._by_key.get((certificate.subject, certificate.spki))

    def exact(self, der: bytes) -> Sequence[Anchor]:
        """The anchors that are this very certificate."""
        return self._by_fingerprint.get(sha256(der).digest(), ())

    def words_of(self, account_id: UUID, fingerprint: bytes) -> frozenset[str]:
        """What a profile may call the account's trusted certificate for bootstraps of this fingerprint (SHA-256)."""
        held = self._by_fingerprint.get(fingerprint, ())
        ids = {anchor.id.hex for anchor in held if scope(anchor) == (account_id, "bootstrap")}
        return frozenset({fingerprint.hex(), *ids})

    def sent_ca(self, der: bytes) -> Certificate:
        """A certificate a peer sent beside its own, parsed once; raises Fault."""
        known = self._sent_cas.get(der)
        if known is None:
            known = Certificate(der)
            if len(self._sent_cas) >= MAX_CACHED:
                self._sent_cas.clear()
            self._sent_cas[der] = known
        return known

    def link(self, issuer: Certificate, child: Certificate) -> bool | None:
        """A remembered answer whether `issuer` signed `child`."""
        return self._links.get((issuer.der, child.der))

    def remember_link(self, issuer: Certificate, child: Certificate, signed: bool) -> None:
        """Keep an answer for `link`."""
        if len(self._links) >= MAX_CACHED:
            self._links.clear()
        self._links[issuer.der, child.der] = signed


class _Search:
    """One depth-first search from a leaf upwards; the first path that reaches an anchor wins."""

    __slots__ = ("_faults", "_index", "_links", "_now", "_sent")

    def __init__(self, index: TrustIndex, sent: Sequence[bytes], now: datetime) -> None:
        self._index = index
        self._sent = sent
        self._now = now
        self._faults: list[Fault] = []
        self._links = 0

    def run(self, leaf: Certificate) -> Trusted | Refused:
        """The nearest trusted path, or the most telling reason against all of them."""
        exact = self._index.exact(leaf.der)
        active = tuple(anchor for anchor in exact if anchor.active)
        denied = frozenset(scope(anchor) for anchor in exact if not anchor.active) - frozenset(map(scope, active))
        above = self._above(leaf, (leaf,), (), denied)
        if active:
            return _with_further(Trusted((leaf.der,), active, leaf.not_after), above)
        if above is not None:
            return above
        if denied:
            self._faults.append(Fault(RefusalReason.DENIED, "the certificate itself is denied"))
        if not self._faults:
            return Refused(RefusalReason.UNKNOWN_CA, "no trusted certificate issued it or its issuers")
        worst = min(self._faults, key=lambda fault: _TELLING.index(fault.reason))
        return Refused(worst.reason, worst.detail)

    def _above(
        self,
        child: Certificate,
        path: tuple[Certificate, ...],
        passed: tuple[_KeyHolder, ...],
        denied: _Scopes,
    ) -> Trusted | None:
        """The nearest anchor above `child`, the last of `path`; `passed` are the anchored keys on it."""
        if len(path) >= MAX_PATH:
            self._faults.append(Fault(RefusalReason.PATH_TOO_LONG, f"more than {MAX_PATH} certificates"))
            return None
        for holder in self._index.holders(child.issuer):
            if holder in passed:
                continue
            for issuer in holder.certificates:
                if self._issued(issuer, child, path, anchor=True):
                    found = self._at_anchor(holder, issuer, path, passed, denied)
                    if found is not None:
                        return found
                    break
        for issuer in self._sent_issuers(child, path):
            if self._index.holder_of(issuer) is None and self._issued(issuer, child, path, anchor=False):
                found = self._above(issuer, (*path, issuer), passed, denied)
                if found is not None:
                    return found
        return None

    def _at_anchor(
        self,
        holder: _KeyHolder,
        issuer: Certificate,
        path: tuple[Certificate, ...],
        passed: tuple[_KeyHolder, ...],
        denied: _Scopes,
    ) -> Trusted | None:
        denied |= holder.denied
        anchors = tuple(anchor for anchor in holder.active if scope(anchor) not in denied)
        above: Trusted | None = None
        try:
            # For whoever holds an anchor further up it is an intermediate like any other.
            issuer.check_time(self._now)
            above = self._above(issuer, (*path, issuer), (*passed, holder), denied)
        except Fault as fault:
            self._faults.append(Fault(fault.reason, f"issuer certificate: {fault.detail}"))
        if anchors:
            # The certificate its operator holds ends the path, not another of the same name and key.
            ends = next((c for c in holder.certificates if c.der == anchors[0].certificate), issuer)
            # The anchor's own end is its operator's choice.
            until = min([c.not_after for c in path])
            return _with_further(Trusted((*(c.der for c in path), ends.der), anchors, until), above)
        if above is None and denied:
            self._faults.append(Fault(RefusalReason.DENIED, "a certificate of the path is denied"))
        return above

    def _sent_issuers(self, child: Certificate, path: tuple[Certificate, ...]) -> Iterator[Certificate]:
        for der in self._sent:
            try:
                certificate = self._index.sent_ca(der)
            except Fault as fault:
                self._faults.append(Fault(fault.reason, f"issuer certificate: {fault.detail}"))
                continue
            if certificate.may_have_issued(child) and all(certificate.der != known.der for known in path):
                yield certificate

    def _issued(self, issuer: Certificate, child: Certificate, path: tuple[Certificate, ...], *, anchor: bool) -> bool:
        """Whether `issuer` may stand above `child` and signed it; a reason against it is kept."""
        if not issuer.may_have_issued(child):
            return False
        try:
            self._links += 1
            if self._links > MAX_LINKS:
                raise Fault(RefusalReason.PATH_TOO_LONG, "too many certificates of one name")
            if child.signature_hash is not None and not isinstance(child.signature_hash, HASHES):
                raise Fault(RefusalReason.WEAK_KEY, f"signed with {child.signature_hash.name}")
            if not self._signed(issuer, child, cached=len(path) > 1):
                raise Fault(RefusalReason.BAD_SIGNATURE, "a signature does not fit its issuer's key")
            if issuer.issuer_fault is not None:
                reason, detail = issuer.issuer_fault
                raise Fault(reason, f"issuer certificate: {detail}")
            # RFC 5280 4.2.1.9: the number of intermediates below, the self-issued ones not counted.
            below = sum(1 for c in path[1:] if c.subject != c.issuer)
            if issuer.path_length is not None and below > issuer.path_length:
                raise Fault(RefusalReason.PATH_TOO_LONG, f"pathLenConstraint {issuer.path_length} passed")
            if not anchor:
                issuer.check_time(self._now)
        except Fault as fault:
            self._faults.append(fault)
            return False
        return True

    def _signed(self, issuer: Certificate, child: Certificate, *, cached: bool) -> bool:
        known = self._index.link(issuer, child) if cached else None
        if known is not None:
            return known
        signed = issuer.signed(child)
        if cached:
            self._index.remember_link(issuer, child, signed)
        return signed
