"""Registered devices on record: which worker holds each one's association, so that any process can have it asked."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from lwm2m.paths import Path
from lwm2m.registration import Registration
from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRow:
    """A registration that is not over; without `worker` its association is gone until the device's next update."""

    device_id: UUID
    account_id: UUID
    id: str
    endpoint: str
    worker: str | None
    registered_at: datetime
    updated_at: datetime
    expires_at: datetime
    lifetime: int
    version: str
    binding: str
    address: str
    paths: tuple[Path, ...]


async def put(
    database: Database,
    *,
    account_id: UUID,
    device_id: UUID,
    endpoint: str,
    worker: str,
    address: str,
    registration: Registration,
) -> None:
    """A device registered with `worker`, or came back to it with an update."""
    await database.execute(
        "registration_put",
        device_id,
        account_id,
        registration.id,
        endpoint,
        worker,
        registration.lifetime,
        registration.version,
        registration.binding,
        address,
        json.dumps([str(path) for path in registration.holdings.paths]),
    )


async def find(database: Database, account_id: UUID, device_id: UUID) -> RegistrationRow | None:
    """The registration of a device, if it has one now."""
    row = await database.fetchrow("registration_find", account_id, device_id)
    return _row(row) if row is not None else None


async def disconnect(database: Database, device_id: UUID, registration_id: str, worker: str) -> None:
    """The association that `worker` had is gone; a worker that has the device since keeps it."""
    await database.execute("registration_disconnect", device_id, registration_id, worker)


async def remove(database: Database, device_id: UUID, registration_id: str) -> None:
    """The registration ended; one that the device began since stays."""
    await database.execute("registration_remove", device_id, registration_id)


async def expire(database: Database) -> None:
    """Take away what no device prolonged in time, of workers that are gone too."""
    await database.execute("registration_expire")


def _row(row: Any) -> RegistrationRow:
    return RegistrationRow(
        device_id=row["device_id"],
        account_id=row["account_id"],
        id=row["id"],
        endpoint=row["endpoint"],
        worker=row["worker"],
        registered_at=row["registered_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
        lifetime=row["lifetime"],
        version=row["version"],
        binding=row["binding"],
        address=row["address"],
        paths=tuple(Path.parse(path) for path in json.loads(row["objects"])),
    )
