"""Which device of ours shows its operational certificate (design 7): a shared commercial CA is not an identity."""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from server.errors import NotAuthenticated, NotAuthorized
from server.store import certificates, devices
from server.store.accounts import LWM2M
from server.store.database import Database
from server.transport.engine import PeerIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalDevice:
    """A device that came with the certificate it got; `service` is the one that certificate was issued for."""

    account_id: UUID
    device_id: UUID
    endpoint: str
    service: str


def is_operational(peer: PeerIdentity) -> bool:
    """Whether the peer's certificate leads to a trusted certificate of service lwm2m."""
    return bool(_accounts(peer))


async def device_of(database: Database, peer: PeerIdentity) -> OperationalDevice:
    """The device whose certificate this is: the one on record for its issuer and serial, else the one CN and OU name.

    Raises NotAuthenticated without a certificate, NotAuthorized when it leads to no trusted certificate of service
    lwm2m, is revoked, or names no device of ours; StoreUnavailable.
    """
    if peer.trusted is None:
        raise NotAuthenticated("the peer proved no certificate")
    accounts = _accounts(peer)
    if not accounts:
        raise NotAuthorized("the certificate leads to no trusted certificate of service lwm2m")
    leaf = x509.load_der_x509_certificate(peer.chain[0])
    path = peer.trusted.path
    found = None
    if len(path) > 1:
        found = await certificates.by_serial(database, sha256(path[1]).digest(), leaf.serial_number)
    if found is not None and found.account_id in accounts and found.chain[0] == peer.chain[0]:
        if found.revoked_at is not None:
            raise NotAuthorized(f"the certificate of {found.endpoint} is revoked")
        return OperationalDevice(
            account_id=found.account_id,
            device_id=devices.device_id(found.account_id, found.endpoint),
            endpoint=found.endpoint,
            service=found.service,
        )
    endpoint, account = _only(leaf, NameOID.COMMON_NAME), _only(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME)
    for account_id in accounts:
        if endpoint and account == account_id.hex and await devices.find(database, account_id, endpoint) is not None:
            return OperationalDevice(
                account_id=account_id,
                device_id=devices.device_id(account_id, endpoint),
                endpoint=endpoint,
                service=LWM2M,
            )
    raise NotAuthorized("the certificate is none of ours, and its CN and OU name no device of ours")


def _accounts(peer: PeerIdentity) -> list[UUID]:
    if peer.trusted is None:
        return []
    return sorted({anchor.account_id for anchor in peer.trusted.anchors if anchor.service == "lwm2m"})


def _only(certificate: x509.Certificate, oid: ObjectIdentifier) -> str | None:
    names = certificate.subject.get_attributes_for_oid(oid)
    return names[0].value if len(names) == 1 and isinstance(names[0].value, str) else None
