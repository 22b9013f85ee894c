"""Forget a device: what the record holds of it as a device goes, what others rely on stays."""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.admin import certificates as certificate_admin
from server.config import Config
from server.errors import Conflict, NotFound
from server.store import certificates, devices, issuances
from server.store.audit import Actor
from server.store.certificates import CertificateRow
from server.store.database import Database
from server.store.devices import DeviceRow
from server.store.secrets import Sealer

# Certificates of one device looked at together: each bootstrap leaves one that is valid to its end.
MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What went: the device's endpoint, and the serial numbers that were revoked with it."""

    endpoint: str
    revoked: tuple[int, ...]


async def at_work(database: Database, device: DeviceRow, now: datetime) -> list[CertificateRow]:
    """The certificates that a device has or may have, the newest `MOST`: neither revoked nor over."""
    return await certificates.at_work(database, device.account_id, device.endpoint, now, limit=MOST)


async def forget(
    database: Database,
    sealer: Sealer,
    config: Config,
    actor: Actor,
    account_id: UUID,
    device_id: UUID,
    *,
    revoke: bool,
    now: datetime,
) -> Forgotten:
    """Remove the device, what was learned of it, and the hold of its name on public keys.

    Issuances, certificates, bootstraps and audit stay, and so does what lets it come back: its trusted certificate or
    pre-shared key, its place in an enrolment list. Requests whose outcome is unknown are released, so that nothing
    stands in the way of its next bootstrap. With `revoke` its valid certificates are withdrawn first, and when a CA
    cannot, nothing is forgotten: raises IssuerError, NotFound.
    """
    device = await devices.by_id(database, account_id, device_id)
    revoked: list[int] = []
    # What is withdrawn is at work no more.
    while revoke and (rows := await at_work(database, device, now)):
        for row in rows:
            try:
                await certificate_admin.revoke(
                    database, sealer, config, actor, account_id, row.issuance_id, reason="cessationOfOperation", now=now
                )
            except Conflict:
                # Somebody else was faster.
                continue
            revoked.append(row.serial)
    with contextlib.suppress(NotFound):
        await issuances.release(database, actor, account_id, device.endpoint)
    await devices.remove(database, actor, account_id, device.endpoint)
    return Forgotten(endpoint=device.endpoint, revoked=tuple(revoked))
