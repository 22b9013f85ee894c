"""Which device of ours shows its operational certificate (design 7): a shared commercial CA is not an identity."""

from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from lwm2m.bootstrap_request import is_endpoint_name
from server.errors import ClaimedElsewhere, NotAuthenticated, NotAuthorized
from server.store import certificates, devices
from server.store.accounts import LWM2M
from server.store.certificates import CertificateRow
from server.store.database import Database
from server.transport.engine import PeerIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalDevice:
    """A device that came with the certificate it got; `service` is the one that certificate was issued for.

    `issuance_id` is None for a certificate that is not on record here and names a device of ours.
    """

    account_id: UUID
    device_id: UUID
    endpoint: str
    service: str
    issuance_id: UUID | None = None


def is_operational(peer: PeerIdentity) -> bool:
    """Whether the peer's certificate leads to a trusted certificate of service lwm2m."""
    return bool(_accounts(peer))


async def device_of(database: Database, peer: PeerIdentity) -> OperationalDevice:
    """The device whose certificate this is: the one on record for its issuer and serial, else the one CN and OU name.

    Raises NotAuthenticated without a certificate, NotAuthorized when it leads to no trusted certificate of service
    lwm2m, is revoked, is on record for an account that does not hold that one, or names no device of ours;
    StoreUnavailable.
    """
    if peer.trusted is None:
        raise NotAuthenticated("the peer proved no certificate")
    accounts = _accounts(peer)
    if not accounts:
        raise NotAuthorized("the certificate leads to no trusted certificate of service lwm2m")
    leaf = x509.load_der_x509_certificate(peer.chain[0])
    found = await _on_record(database, leaf)
    if found is not None:
        if found.account_id not in accounts:
            # Its names are what that account's profile wrote into it: they may be those of a device of another one.
            raise NotAuthorized("the certificate is none of ours: it was issued for another account")
        if found.revoked_at is not None:
            raise NotAuthorized(f"the certificate of {found.endpoint} is revoked")
        return device_on_record(found)
    endpoint, account = _only(leaf, NameOID.COMMON_NAME), _only(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME)
    for account_id in accounts:
        if (
            endpoint
            and is_endpoint_name(endpoint)
            and account == account_id.hex
            and await devices.find(database, account_id, endpoint) is not None
        ):
            return OperationalDevice(
                account_id=account_id,
                device_id=devices.device_id(account_id, endpoint),
                endpoint=endpoint,
                service=LWM2M,
            )
    raise NotAuthorized("the certificate is none of ours, and its CN and OU name no device of ours")


async def shown_at_bootstrap(
    database: Database, peer: PeerIdentity, with_custom_services: Container[UUID] = ()
) -> CertificateRow | None:
    """The row of the operational certificate that a peer with bootstrap anchors shows; None for any other one.

    Looked for where the certificate leads to a trusted certificate of service lwm2m too: the same CA then signs for
    both, or another account trusts for bootstraps what is an operational CA here. And where it leads to one of an
    account with custom services, whose CAs need not be trusted for anything. Raises StoreUnavailable.
    """
    if peer.trusted is None or all(anchor.service != "bootstrap" for anchor in peer.trusted.anchors):
        return None
    if not _accounts(peer) and all(anchor.account_id not in with_custom_services for anchor in peer.trusted.anchors):
        return None
    return await _on_record(database, x509.load_der_x509_certificate(peer.chain[0]))


def require_own(peer: PeerIdentity, shown: CertificateRow) -> None:
    """Refuse to take an operational certificate for a bootstrap credential that its account does not take for one.

    Anybody may trust a CA's certificate for bootstraps, and gets no hold on another account's devices by it
    (ClaimedElsewhere); what was revoked counts for nothing any more (NotAuthorized).
    """
    trusted = peer.trusted.anchors if peer.trusted is not None else ()
    if all(anchor.account_id != shown.account_id for anchor in trusted if anchor.service == "bootstrap"):
        raise ClaimedElsewhere("the certificate was issued to a device of another account")
    if shown.revoked_at is not None:
        raise NotAuthorized(f"the certificate of {shown.endpoint} is revoked")


def require_bootstraps(shown: CertificateRow) -> None:
    """Refuse the certificate of a custom service, which is good for that service alone (NotAuthorized)."""
    if shown.service != LWM2M:
        raise NotAuthorized(f"the certificate of {shown.endpoint} is for the service {shown.service} alone")


def device_on_record(shown: CertificateRow) -> OperationalDevice:
    """The device of a certificate on record."""
    return OperationalDevice(
        account_id=shown.account_id,
        device_id=devices.device_id(shown.account_id, shown.endpoint),
        endpoint=shown.endpoint,
        service=shown.service,
        issuance_id=shown.issuance_id,
    )


async def _on_record(database: Database, leaf: x509.Certificate) -> CertificateRow | None:
    """The row of the very certificate that a peer shows.

    What was signed decides, and not the signature: one of ECDSA has a second form that is as good, and a revoked
    certificate in that form is still the revoked one.
    """
    if leaf.serial_number < 0:
        # Factories make such; what a CA gives for a device is refused with one, so none is on record.
        return None
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for row in await certificates.by_serial(database, leaf.serial_number, sha256(spki).digest()):
        if x509.load_der_x509_certificate(row.chain[0]).tbs_certificate_bytes == leaf.tbs_certificate_bytes:
            return row
    return None


def _accounts(peer: PeerIdentity) -> list[UUID]:
    if peer.trusted is None:
        return []
    return sorted({anchor.account_id for anchor in peer.trusted.anchors if anchor.service == "lwm2m"})


def _only(certificate: x509.Certificate, oid: ObjectIdentifier) -> str | None:
    names = certificate.subject.get_attributes_for_oid(oid)
    return names[0].value if len(names) == 1 and isinstance(names[0].value, str) else None
