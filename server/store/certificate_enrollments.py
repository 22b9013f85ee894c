"""Renewals that people asked for, from the wish to its end; the worker that holds the device takes it.

The row is the whole conversation between the process that was asked and the worker that can reach the device.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

from server.errors import Conflict, NotFound
from server.store import audit
from server.store.audit import Actor
from server.store.database import Database

Method = Literal["certificate-enrollment", "bootstrap"]
"""How a device is asked: by its own object 35011, or with a bootstrap that it is told to do."""
Result = Literal["success", "failure"]
RESULTS: tuple[Result, ...] = get_args(Result)

CHANNEL = "certificate_enrollment"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateEnrollment:
    """One renewal; `result` None = it is under way; `worker` None = nobody took it."""

    id: UUID
    account_id: UUID
    device_id: UUID
    endpoint: str
    certificate_name: str
    method: Method
    worker: str | None
    result: Result | None
    detail: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a renewal ended."""

    account_id: UUID
    endpoint: str
    certificate_name: str
    result: Result
    detail: str


def _row(row: Any) -> CertificateEnrollment:
    return CertificateEnrollment(
        id=row["id"],
        account_id=row["account_id"],
        device_id=row["device_id"],
        endpoint=row["endpoint"],
        certificate_name=row["certificate_name"],
        method=row["method"],
        worker=row["worker"],
        result=row["result"],
        detail=row["detail"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _ended(row: Any) -> Ended:
    return Ended(
        account_id=row["account_id"],
        endpoint=row["endpoint"],
        certificate_name=row["certificate_name"],
        result=row["result"],
        detail=row["detail"],
    )


def _twice(endpoint: str, certificate_name: str) -> Conflict:
    return Conflict(f"a renewal of {certificate_name} is under way on {endpoint} already")


async def require_none(
    database: Database, account_id: UUID, device_id: UUID, endpoint: str, certificate_name: str
) -> None:
    """Conflict when a renewal of this certificate is under way."""
    if await database.fetchval("certificate_enrollment_under_way", account_id, device_id, certificate_name):
        raise _twice(endpoint, certificate_name)


async def add(
    database: Database,
    actor: Actor,
    account_id: UUID,
    *,
    device_id: UUID,
    endpoint: str,
    certificate_name: str,
    method: Method,
    seconds: float,
) -> UUID:
    """Ask for a renewal that may take `seconds`; Conflict when one is under way for this certificate."""
    async with database.transaction() as connection:
        enrollment_id: UUID | None = await connection.fetchval(
            database.queries["certificate_enrollment_add"],
            uuid4(),
            account_id,
            device_id,
            endpoint,
            certificate_name,
            method,
            seconds,
        )
        if enrollment_id is None:
            raise _twice(endpoint, certificate_name)
        await _note(connection, database, actor, account_id, endpoint, certificate_name, "requested", method)
    return enrollment_id


async def withdraw(database: Database, actor: Actor, wish: CertificateEnrollment) -> bool:
    """Take back what no worker took; False when one did."""
    async with database.transaction() as connection:
        if await connection.fetchval(database.queries["certificate_enrollment_withdraw"], wish.id) is None:
            return False
        await _note(
            connection,
            database,
            actor,
            wish.account_id,
            wish.endpoint,
            wish.certificate_name,
            "withdrawn",
            wish.method,
        )
    return True


async def find(database: Database, account_id: UUID, enrollment_id: UUID) -> CertificateEnrollment:
    """One renewal; NotFound."""
    row = await database.fetchrow("certificate_enrollment_find", account_id, enrollment_id)
    if row is None:
        raise NotFound("there is no such certificate enrollment")
    return _row(row)


async def waiting(database: Database, worker: str) -> dict[UUID, UUID]:
    """Renewals that nobody took of devices that `worker` holds: id → device."""
    return {row["id"]: row["device_id"] for row in await database.fetch("certificate_enrollment_waiting", worker)}


async def take(database: Database, worker: str, enrollment_ids: list[UUID]) -> list[CertificateEnrollment]:
    """Take renewals; what another took or a person took back is missing from the answer.

    What was delivered to these devices answers for its CSR no more: whatever they ask for now is signed anew.
    """
    return [_row(row) for row in await database.fetch("certificate_enrollment_take", worker, enrollment_ids)]


async def note(database: Database, enrollment_id: UUID, detail: str) -> None:
    """Say how far it is."""
    await database.execute("certificate_enrollment_note", enrollment_id, detail)


async def certified(database: Database, enrollment_id: UUID) -> bool:
    """Whether a certificate was issued for the device since the renewal was asked for, or delivered to it."""
    return bool(await database.fetchval("certificate_enrollment_certified", enrollment_id))


async def complete(database: Database, enrollment_id: UUID, result: Result, detail: str) -> Ended | None:
    """End a renewal; None when it has its end."""
    row = await database.fetchrow("certificate_enrollment_complete", enrollment_id, result, detail.replace("\0", ""))
    return _ended(row) if row is not None else None


async def settle(database: Database) -> list[Ended]:
    """End what is known to be over: a device that bootstrapped again, and whatever is overdue; each one once."""
    return [_ended(row) for row in await database.fetch("certificate_enrollment_settle")]


async def came_by_bootstrap(database: Database, account_id: UUID, endpoint: str, service: str) -> bool:
    """Whether a bootstrap wrote the device's newest certificate of this service, so that another one renews it."""
    return bool(await database.fetchval("certificate_came_by_bootstrap", account_id, endpoint, service))


async def _note(
    connection: Any,
    database: Database,
    actor: Actor,
    account_id: UUID,
    endpoint: str,
    certificate_name: str,
    what: str,
    method: Method,
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=account_id,
        action=f"certificate_enrollment.{what}",
        subject_kind="device",
        subject=endpoint,
        detail={"certificate_name": certificate_name, "method": method},
    )
