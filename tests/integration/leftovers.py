"""What a worker that is gone leaves, and what becomes of it."""

from dataclasses import replace

from cryptography.hazmat.primitives.serialization import Encoding

from issuers.csr import make_csr
from server.store import certificates
from server.store.writer import Inserted
from tests.integration.field import until
from tests.integration.issuers import (
    ScriptedCa,
    Worker,
    Workers,
)
from tests.integration.rows import intent
from tests.pki import make_key, make_name


async def left_behind(
    rig: Workers, worker: Worker, *, state: str = "submitted", endpoint: str = "device-1", server_key: bool = True
) -> None:
    """A row of a process that died after it wrote its intent, and whose lease has run out."""
    csr = make_csr(make_key(), make_name(endpoint)).public_bytes(Encoding.DER)
    row = intent(endpoint, csr=csr, state=state, owner="the dead", server_key=server_key)
    assert await worker.writer.write(replace(row, issuer_id=rig.register.active)) == Inserted()
    rig.clock.let_pass(3600 + 1)


async def abandoned_and_revoked(rig: Workers, ca: ScriptedCa, number: int = 0) -> None:
    """Wait for the end of a certificate whose key is gone."""

    async def look() -> bool:
        row = await certificates.find(rig.database, (await rig.rows())[number].id)
        return row is not None and row.revoked_at is not None and row.serial in ca.revoked

    await until(look)
    assert (await rig.states())[number] == "abandoned"
