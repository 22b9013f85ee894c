"""Who asks for a certificate by EST, may they, and under which names (RFC 9148 4; design 7).

Pure functions over what the handshake proved; the record is asked by `coap/est.py`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from issuers.certificate import UNREADABLE
from issuers.csr import LARGEST, alternative_names, check_csr, require_names
from issuers.errors import Rejected
from issuers.subject import parse_subject
from lwm2m.errors import DecodeError
from lwm2m.est import Function, Resource, asks_for_protected_key
from server import izuma, policy
from server.errors import CsrRefused, CsrTooLarge, NotAuthenticated, NotAuthorized
from server.operational import OperationalDevice
from server.policy import Admitted
from server.profile import Profile
from server.store.accounts import LWM2M
from server.store.devices import device_id
from server.transport.engine import PeerIdentity

# The Izuma client's builds that speak standard LwM2M leave these empty.
_IZUMA_OPTIONAL = (NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """A device that speaks EST; `holds` is the service of the operational certificate it came with, if it did.

    `issuance_id` is where the certificate it came with is on record here, if it is.
    """

    account_id: UUID
    endpoint: str
    kind: str
    profile: Profile
    izuma: bool
    certificate: x509.Certificate | None = None
    holds: str | None = None
    issuance_id: UUID | None = None

    @property
    def operational(self) -> bool:
        """Whether it came with an operational certificate and not with its factory's."""
        return self.holds is not None

    @property
    def device_id(self) -> UUID:
        """The device's id, which follows from account and name."""
        return device_id(self.account_id, self.endpoint)


def from_factory(
    peer: PeerIdentity,
    admitted: Admitted | None,
    profiles_of: Callable[[UUID], Sequence[Profile]],
    *,
    issued_for: UUID | None = None,
) -> Requester:
    """The requester behind a factory credential; `admitted` is its Bootstrap-Request on this association, if any.

    Without one the account must follow from the credential alone, or from the record, which says `issued_for` of an
    operational certificate. Raises as `policy.admit`, also when the account that admitted it trusts it no more.
    """
    if admitted is None:
        account_id = issued_for or policy.account_of_peer(peer, None)
        endpoint = policy.endpoint_of(peer, None)
        profile = policy.profile_for(peer, account_id, endpoint, profiles_of)
        is_izuma = izuma.is_izuma(profile, None)
    else:
        account_id, endpoint, profile = admitted.account_id, admitted.endpoint, admitted.profile
        if account_id not in policy.accounts_of(peer):
            raise NotAuthorized("the account that admitted the device trusts its certificate no more")
        is_izuma = admitted.izuma
    return Requester(
        account_id=account_id,
        endpoint=endpoint,
        kind=peer.kind,
        profile=profile,
        izuma=is_izuma,
        certificate=x509.load_der_x509_certificate(peer.chain[0]) if peer.chain else None,
    )


def is_operational(peer: PeerIdentity) -> bool:
    """Whether the peer came with a certificate for its LwM2M server and nothing that may bootstrap."""
    return peer.trusted is not None and all(anchor.service == "lwm2m" for anchor in peer.trusted.anchors)


def from_operational(
    peer: PeerIdentity,
    device: OperationalDevice,
    profiles_of: Callable[[UUID], Sequence[Profile]],
    *,
    was_izuma: bool = False,
    factory: frozenset[str] = frozenset(),
) -> Requester:
    """The requester behind an operational certificate, by the device it belongs to; raises NoProfile.

    Nothing on this association shows what its bootstrap did: that it is an Izuma client (`was_izuma`), and by which
    trusted certificate it was known there (`factory`, as profiles name one).
    """
    profile = policy.profile_for(peer, device.account_id, device.endpoint, profiles_of, remembered=factory)
    return Requester(
        account_id=device.account_id,
        endpoint=device.endpoint,
        kind=peer.kind,
        profile=profile,
        izuma=izuma.is_izuma(profile, None, before=was_izuma),
        certificate=x509.load_der_x509_certificate(peer.chain[0]),
        holds=device.service,
        issuance_id=device.issuance_id,
    )


def may_enrol(requester: Requester) -> bool:
    """Whether its credential lets it ask for a certificate."""
    return requester.kind != "psk" or requester.profile.est.psk_enrolls


def admit(requester: Requester, resource: Resource) -> Resource:
    """The resource as this requester may use it; raises NotAuthenticated for 4.01 and NotAuthorized for 4.03.

    With its LWM2M certificate a device renews, and enrols for custom services; that of a custom service is good for
    this service alone. The Izuma client renews at `/est/sen` and `/est/<service>/sen`, over its LWM2M certificate: that
    is a re-enrolment in all but its name.
    """
    if not may_enrol(requester):
        raise NotAuthenticated("EST asks for a certificate (RFC 9148 4); est.psk_enrolls of the profile lets keys do")
    if resource.function is Function.REENROLL and requester.certificate is None:
        raise NotAuthenticated("there is no certificate on this association to renew")
    if not requester.operational or resource.function.is_read:
        return resource
    if requester.holds not in (LWM2M, resource.service):
        raise NotAuthorized(f"a certificate of the service {requester.holds} gets none of another service")
    if resource.function is Function.ENROLL and resource.short and requester.holds == LWM2M:
        return replace(resource, function=Function.REENROLL)
    if resource.service != LWM2M:
        return resource
    if resource.function is not Function.REENROLL:
        raise NotAuthorized("an operational certificate is renewed by sren; for another one come with the factory's")
    return resource


def renews_by_record(requester: Requester, resource: Resource) -> bool:
    """Whether what the device renews is another certificate than the one it came with, so that the record knows it."""
    return resource.function is Function.REENROLL and requester.holds != resource.service


def checked_csr(
    requester: Requester, resource: Resource, payload: bytes, recorded: Sequence[x509.Certificate] = ()
) -> x509.CertificateSigningRequest:
    """The device's CSR, fit to be signed for it and under its own names; raises CsrRefused.

    `recorded`, for a request that `renews_by_record`, are the device's certificates for the service on record.
    """
    if len(payload) > LARGEST:
        raise CsrTooLarge(f"the CSR has {len(payload)} bytes; at most {LARGEST} are taken", LARGEST)
    is_for_server_key = resource.function in (Function.SERVER_KEY, Function.SERVER_KEY_CERTIFICATE)
    try:
        # application/pkcs10 is the bare DER (RFC 9148 5.3).
        csr = check_csr(payload, endpoint=requester.endpoint, proof=not is_for_server_key, pem=False)
        _require_names(requester, resource, csr, recorded)
        if is_for_server_key and asks_for_protected_key(csr.public_bytes(Encoding.DER)):
            raise Rejected(
                "the CSR asks for a key that is encrypted once more (RFC 7030 4.4.1), which is not done here"
            )
    except DecodeError as error:
        raise CsrRefused(f"the CSR cannot be read: {error}") from error
    except Rejected as error:
        raise CsrRefused(error.message) from error
    return csr


def subject_of(requester: Requester, service: str) -> x509.Name:
    """The subject of a requester's certificate for `service`, by its profile or its kind; raises Rejected."""
    return parse_subject(_template(requester, service)).fill(
        endpoint=requester.endpoint, account=requester.account_id.hex, device=requester.device_id.hex
    )


def _template(requester: Requester, service: str) -> str:
    if requester.izuma:
        return izuma.SUBJECT
    for security in requester.profile.plan.securities:
        if security.service == service and security.uses_certificates:
            return security.subject
    return requester.profile.est.subject


def _require_names(
    requester: Requester,
    resource: Resource,
    csr: x509.CertificateSigningRequest,
    recorded: Sequence[x509.Certificate],
) -> None:
    refusal: Rejected | None = None
    for subject, optional, names in _wanted_names(requester, resource, recorded):
        try:
            require_names(csr, subject, optional=optional, alternative_names=names)
            return
        except Rejected as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal


def _wanted_names(
    requester: Requester, resource: Resource, recorded: Sequence[x509.Certificate]
) -> Iterator[tuple[x509.Name, Collection[x509.ObjectIdentifier], Collection[Collection[x509.GeneralName]]]]:
    """Subject, attributes of it that may be missing, and alternative names: one of these a CSR has.

    RFC 7030 4.2.2: subject and alternative names are those of the certificate that is renewed, which a factory
    certificate never is. A CA may have left out the alternative name that the device asked for and asks for again.
    """
    own = _own_alternative_names(requester)
    renewed: Sequence[x509.Certificate] = recorded
    optional: Collection[x509.ObjectIdentifier] = _IZUMA_OPTIONAL if requester.izuma else ()
    if resource.function is not Function.REENROLL:
        renewed = ()
    elif requester.certificate is not None and not renews_by_record(requester, resource):
        renewed, optional = (requester.certificate,), ()
        # Identical, so a name left out is another wish too.
        own = [names for names in own if names]
        own.append(_names_of(requester.certificate)[1])
    for certificate in renewed:
        subject, names = _names_of(certificate)
        yield subject, (), (names, *own)
    yield subject_of(requester, resource.service), optional, own


def _names_of(certificate: x509.Certificate) -> tuple[x509.Name, Collection[x509.GeneralName]]:
    try:
        return certificate.subject, alternative_names(certificate.extensions)
    except UNREADABLE as error:
        raise Rejected(f"the certificate that is renewed cannot be read: {error}") from error


def _own_alternative_names(requester: Requester) -> list[Collection[x509.GeneralName]]:
    if requester.profile.est.alternative_name == "none" or not requester.endpoint.isascii():
        return [()]
    name = requester.endpoint
    return [(), (x509.UniformResourceIdentifier(name),), (x509.DNSName(name),)]
