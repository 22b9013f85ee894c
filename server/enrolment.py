"""First to claim: which account has a device whose factory CA several accounts hold (design 7)."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

from lwm2m.bootstrap_request import BootstrapRequest
from server import logs
from server.errors import TemporarilyUnavailable
from server.policy import Admitted, is_shared
from server.store import enrollments
from server.store.database import Database
from server.store.devices import device_id
from server.store.errors import StoreUnavailable
from server.transport.engine import PeerIdentity

log = logs.get("enrolment")

# Seconds a device is told to stay away while the enrolment list cannot be read.
RETRY_AFTER = 5.0


async def claimed_by(database: Database, peer: PeerIdentity, request: BootstrapRequest) -> UUID | None:
    """The account that claimed the device; None without a look where the anchor or `aid` tells.

    Raises TemporarilyUnavailable while the record is away.
    """
    if not is_shared(peer) or request.parameter("aid") is not None:
        return None
    try:
        return await enrollments.claimed_by(database, fingerprint(peer))
    except StoreUnavailable as error:
        raise TemporarilyUnavailable(f"the enrolment list cannot be read: {error}", RETRY_AFTER) from error


async def admitted(database: Database, peer: PeerIdentity, found: Admitted, at: datetime) -> None:
    """The claimed device is here: its claim says when and which device. What fails is logged, nothing waits for it."""
    if not is_shared(peer):
        return
    try:
        await enrollments.claim(database, fingerprint(peer), device_id(found.account_id, found.endpoint), at)
    except StoreUnavailable as error:
        log.warning("claim_not_recorded", endpoint=found.endpoint, reason=str(error))


async def denied(database: Database, peer: PeerIdentity, endpoint: str) -> None:
    """Show the device to every account that shares its CA, so that one of them can claim it."""
    if peer.trusted is None or not is_shared(peer):
        return
    shared = [anchor.id for anchor in peer.trusted.anchors if anchor.service == "bootstrap"]
    try:
        await enrollments.deny(database, shared, fingerprint(peer), endpoint)
    except StoreUnavailable as error:
        log.warning("denial_not_recorded", endpoint=endpoint, reason=str(error))


def fingerprint(peer: PeerIdentity) -> bytes:
    """SHA-256 of the device's bootstrap certificate."""
    return sha256(peer.chain[0]).digest()
