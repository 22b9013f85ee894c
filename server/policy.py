"""Who is the peer, whose is it, and which profile does it get (LwM2M Core 1.2 6.1.7.1; design 7).

Pure functions over what the handshake proved and what the device asks; nothing is looked up here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from issuers.end_entity import end_entity
from issuers.name import COMMON_NAME
from lwm2m.bootstrap_request import MAX_ENDPOINT, BootstrapRequest, is_endpoint_name
from server.errors import BadRequest, NoProfile, NotAuthenticated, NotAuthorized
from server.izuma import fitted, is_izuma
from server.profile import Profile
from server.transport.engine import PeerIdentity
from server.trust import Anchor


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True, kw_only=True)
class Admitted:
    """A device that may bootstrap: its account, the endpoint name it proved, and what it gets.

    The plan of an `izuma` client's profile is fitted to it.
    """

    account_id: UUID
    endpoint: str
    request: BootstrapRequest
    profile: Profile
    izuma: bool = False


def admit(
    *,
    peer: PeerIdentity,
    request: BootstrapRequest,
    profiles_of: Callable[[UUID], Sequence[Profile]],
    asked_for_pack: bool,
    claimed_by: UUID | None = None,
) -> Admitted:
    """Decide on a Bootstrap-Request; `claimed_by` is the account whose enrolment list holds the device.

    Raises NotAuthenticated and NotAuthorized as `account_of_peer`, BadRequest as `endpoint_of`, and NoProfile
    when none is for the device.
    """
    account_id = account_of_peer(peer, request, claimed_by=claimed_by)
    endpoint = endpoint_of(peer, request.endpoint)
    profile = profile_for(peer, account_id, endpoint, profiles_of)
    if asked_for_pack:
        request = replace(request, asked_for_pack=True)
    izuma = is_izuma(profile, request)
    if izuma:
        profile = replace(profile, plan=fitted(profile.plan, account_id))
    return Admitted(account_id=account_id, endpoint=endpoint, request=request, profile=profile, izuma=izuma)


def account_of_peer(peer: PeerIdentity, request: BootstrapRequest | None, *, claimed_by: UUID | None = None) -> UUID:
    """The account of a peer that may use the bootstrap resources (design 7, "Who is the peer's account?").

    A pre-shared key has one account. A certificate has that of its anchor; if several accounts hold the anchor, the
    one the device names as `aid`, else the one that claimed it. `request` is None outside a Bootstrap-Request:
    then anchor or key alone must tell.

    Raises NotAuthenticated when nothing proves an account, NotAuthorized when the peer may not bootstrap or
    its account stays open.
    """
    if peer.psk is None and peer.trusted is None:
        raise NotAuthenticated("the peer proved neither a certificate nor a pre-shared key")
    accounts = accounts_of(peer)
    if not accounts:
        raise NotAuthorized("the certificate leads to no trusted certificate of service bootstrap")
    if len(accounts) == 1:
        return next(iter(accounts))
    if request is None:
        raise NotAuthenticated(f"{len(accounts)} accounts hold the trusted certificate and nothing else tells which")
    aid = request.parameter("aid")
    if aid is not None:
        named = _account_id(aid)
        if named not in accounts:
            raise NotAuthorized("aid names no account that holds the trusted certificate")
        return named
    if claimed_by in accounts:
        return claimed_by
    raise NotAuthorized(
        f"{len(accounts)} accounts hold the trusted certificate, the device names none as aid and none claimed it"
    )


def accounts_of(peer: PeerIdentity) -> frozenset[UUID]:
    """The accounts whose bootstrap resources a peer may use."""
    if peer.psk is not None:
        return frozenset({peer.psk.account_id})
    return frozenset(anchor.account_id for anchor in _bootstrap_anchors(peer))


def endpoint_of(peer: PeerIdentity, ep: str | None) -> str:
    """The endpoint name bound to the authenticated identity; `ep` may be missing but not differ.

    With a pre-shared key it is the key's endpoint, with a certificate the one common name of its subject
    (LwM2M Transport 1.2 5.2.9.3). Raises BadRequest.
    """
    if peer.psk is not None:
        proved, by = peer.psk.endpoint, "pre-shared key"
    else:
        proved, by = _common_name(peer), "certificate"
    if ep is not None and ep != proved:
        raise BadRequest(f"ep={ep} is not the endpoint name of the {by}, {proved}")
    return proved


def profile_for(
    peer: PeerIdentity,
    account_id: UUID,
    endpoint: str,
    profiles_of: Callable[[UUID], Sequence[Profile]],
    *,
    remembered: frozenset[str] = frozenset(),
) -> Profile:
    """The profile of a peer whose account and name are known; raises NoProfile.

    `remembered` names the trusted certificate of its factory for a device that does not show that one now.
    """
    anchors = frozenset(
        word
        for anchor in _bootstrap_anchors(peer)
        if anchor.account_id == account_id
        for word in (anchor.fingerprint.hex(), anchor.id.hex)
    )
    profile = choose_profile(profiles_of(account_id), endpoint, anchors | remembered)
    if profile is None:
        raise NoProfile(f"no profile is for {endpoint}; store one whose [match] takes it")
    return profile


def choose_profile(profiles: Sequence[Profile], endpoint: str, anchors: frozenset[str]) -> Profile | None:
    """The most specific profile for a device, or None; `anchors` are fingerprints and ids in hex.

    A pattern without wildcards wins over a trusted certificate, that over a pattern alone, a pattern with more
    letters over one with fewer; of equals the first by name.
    """
    fitting = [profile for profile in profiles if profile.matches(endpoint, anchors)]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    best = max(profile.specificity for profile in fitting)
    return min((profile for profile in fitting if profile.specificity == best), key=lambda profile: profile.name)


def is_shared(peer: PeerIdentity) -> bool:
    """Whether several accounts hold the peer's anchor, so that something else must tell whose it is."""
    if peer.trusted is None or len(peer.trusted.anchors) < 2:
        return False
    return len(accounts_of(peer)) > 1


@dataclass(frozen=True, slots=True)
class Factory:
    """A device's factory certificate: the SHA-256 of the trusted one that verified it and of its own public key.

    `until` None = no end.
    """

    verified_by: bytes
    until: datetime | None
    key: bytes


def factory(peer: PeerIdentity, account_id: UUID) -> Factory | None:
    """The factory certificate a device of this account came with; None when it came with something else."""
    anchor = next((found for found in _bootstrap_anchors(peer) if found.account_id == account_id), None)
    if anchor is None:
        return None
    until, spki = _end_and_key(peer.chain[0])
    # 99991231235959Z is "no end" (RFC 5280 4.1.2.5).
    return Factory(anchor.fingerprint, until if until.year < 9999 else None, sha256(spki).digest())


def _end_and_key(der: bytes) -> tuple[datetime, bytes]:
    plain = end_entity(der)
    if plain is not None:
        return plain.not_after, plain.spki
    certificate = x509.load_der_x509_certificate(der)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.not_valid_after_utc, key


def _bootstrap_anchors(peer: PeerIdentity) -> list[Anchor]:
    # an lwm2m anchor may be a shared commercial CA, which says nothing about whose device it is
    return [] if peer.trusted is None else [a for a in peer.trusted.anchors if a.service == "bootstrap"]


def _account_id(aid: str) -> UUID | None:
    try:
        return UUID(aid)
    except ValueError:
        return None


def _common_name(peer: PeerIdentity) -> str:
    names = _common_names(peer.chain[0])
    if len(names) != 1 or not isinstance(names[0], str) or not names[0]:
        raise BadRequest("the subject of the certificate must have exactly one common name, the endpoint name")
    if not is_endpoint_name(names[0]):
        raise BadRequest(f"the common name of the certificate is not 1 to {MAX_ENDPOINT} bytes of printable text")
    return names[0]


def _common_names(der: bytes) -> Sequence[str | bytes]:
    plain = end_entity(der)
    if plain is not None:
        return [value for kind, value in plain.attributes if kind == COMMON_NAME]
    # trust.py has read this certificate whole, or the peer would not be here
    subject = x509.load_der_x509_certificate(der).subject
    return [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
