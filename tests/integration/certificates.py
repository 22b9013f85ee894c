"""What became of the certificates that workers had made: on record, delivered, revoked or due to be."""

from uuid import UUID

from server import issuance
from server.store import certificates
from server.store.certificates import CertificateRow
from server.store.writer import MarkDelivered
from tests.integration.field import until
from tests.integration.issuers import Worker, Workers
from tests.integration.rows import value


async def certificate(rig: Workers, number: int = 0) -> CertificateRow:
    """The certificate of the device's issuance with this number."""
    row = await certificates.find(rig.database, (await rig.rows())[number].id)
    assert row is not None
    return row


async def revoked(rig: Workers, number: int = 0) -> CertificateRow:
    """The same, once it is revoked on record."""

    async def look() -> bool:
        return (await certificate(rig, number)).revoked_at is not None

    await until(look)
    return await certificate(rig, number)


async def due(rig: Workers, issuance_id: UUID) -> str | None:
    """When the certificate is to be revoked: `soon`, `never` as long as its device stays away, None = not at all."""
    told: str | None = await value(
        rig.database,
        "SELECT CASE revocation_due WHEN 'infinity' THEN 'never' ELSE 'soon' END FROM certificate "
        "WHERE issuance_id = $1 AND revocation_due IS NOT NULL",
        issuance_id,
    )
    return told


async def deliver(worker: Worker, device: issuance.Wish, made: issuance.ServerMade) -> None:
    """What a session does at Finish 2.04."""
    worker.issuance.delivered(made.issuance_id, device)
    assert await worker.writer.write(MarkDelivered(made.issuance_id))
