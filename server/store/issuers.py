"""Configured CAs, and which of them signs for a service (design 7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from server.errors import BadRequest, Conflict, NotFound
from server.store import audit
from server.store.accounts import LWM2M
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer

TABLE, COLUMN = "certificate_issuer", "credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRow:
    """One CA; its credentials stay sealed until `credentials` is called."""

    id: UUID
    account_id: UUID
    type: str
    name: str
    description: str
    attributes: Mapping[str, Any]
    sealed: bytes | None = field(repr=False)
    created_at: datetime
    updated_at: datetime

    def credentials(self, sealer: Sealer) -> Mapping[str, Any]:
        """What authenticates us to the CA; raises SealBroken."""
        if self.sealed is None:
            return {}
        opened: dict[str, Any] = json.loads(sealer.open(self.sealed, TABLE, COLUMN, self.account_id, self.id))
        return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Which CA signs for the service `reference`; `issuer_id` None = the embedded CA."""

    id: UUID
    account_id: UUID
    reference: str
    issuer_id: UUID | None
    created_at: datetime
    updated_at: datetime


def _row(row: Any) -> IssuerRow:
    return IssuerRow(
        id=row["id"],
        account_id=row["account_id"],
        type=row["type"],
        name=row["name"],
        description=row["description"],
        attributes=json.loads(row["attributes"]),
        sealed=row["credentials"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _configuration(row: Any) -> Configuration:
    return Configuration(
        id=row["id"],
        account_id=row["account_id"],
        reference=row["reference"],
        issuer_id=row["issuer_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _sealed(sealer: Sealer, credentials: Mapping[str, Any] | None, account_id: UUID, row_id: UUID) -> bytes | None:
    if credentials is None:
        return None
    return sealer.seal(json.dumps(credentials).encode(), TABLE, COLUMN, account_id, row_id)


async def all_issuers(database: Database) -> list[IssuerRow]:
    """Every CA of every account."""
    return [_row(row) for row in await database.fetch("issuer_all")]


async def listed(database: Database, account_id: UUID) -> list[IssuerRow]:
    """The CAs of an account, by name."""
    return [_row(row) for row in await database.fetch("issuer_list", account_id)]


async def find(database: Database, account_id: UUID, issuer_id: UUID) -> IssuerRow | None:
    """The CA with this id."""
    row = await database.fetchrow("issuer_find", account_id, issuer_id)
    return _row(row) if row is not None else None


async def add(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    *,
    type: str,
    name: str,
    description: str = "",
    attributes: Mapping[str, Any],
    credentials: Mapping[str, Any] | None,
) -> IssuerRow:
    """Register a CA; Conflict when the account has one of that name."""
    issuer_id = uuid4()
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["issuer_add"],
                issuer_id,
                account_id,
                type,
                name,
                description,
                json.dumps(attributes),
                _sealed(sealer, credentials, account_id, issuer_id),
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already a certificate issuer {name}") from error
        await _note(connection, database, actor, account_id, "added", name, {"type": type})
    return _row(row)


async def update(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    issuer_id: UUID,
    *,
    name: str,
    description: str,
    attributes: Mapping[str, Any],
    credentials: Mapping[str, Any] | None,
) -> IssuerRow:
    """Change a CA; `credentials` None keeps what is there. NotFound, Conflict as in `add`."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["issuer_update"],
                account_id,
                issuer_id,
                name,
                description,
                json.dumps(attributes),
                _sealed(sealer, credentials, account_id, issuer_id),
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already a certificate issuer {name}") from error
        if row is None:
            raise NotFound("there is no such certificate issuer")
        await _note(connection, database, actor, account_id, "changed", name, {"credentials": credentials is not None})
    return _row(row)


async def remove(database: Database, actor: Actor, account_id: UUID, issuer_id: UUID) -> None:
    """Remove a CA; NotFound, or Conflict while a service uses it."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(database.queries["issuer_remove"], account_id, issuer_id)
        except asyncpg.ForeignKeyViolationError as error:
            raise Conflict("the certificate issuer is active for a service; give that another first") from error
        if row is None:
            raise NotFound("there is no such certificate issuer")
        await _note(connection, database, actor, account_id, "removed", row["name"], {})


async def configurations(database: Database) -> dict[tuple[UUID, str], UUID | None]:
    """(account, service) → CA for all accounts; None = the embedded CA."""
    rows = await database.fetch("configuration_all")
    return {(row["account_id"], row["reference"]): row["issuer_id"] for row in rows}


async def configured(database: Database, account_id: UUID) -> list[Configuration]:
    """The services of an account, by name."""
    return [_configuration(row) for row in await database.fetch("configuration_list", account_id)]


async def resolve(database: Database, account_id: UUID, service: str) -> IssuerRow | None:
    """The CA that signs for `service` now, None = the embedded CA; NotFound when the service is not configured."""
    row = await database.fetchrow("configuration_resolve", account_id, service)
    if row is None:
        raise NotFound(f"no certificate issuer is configured for the service {service}")
    return _row(row) if row["id"] is not None else None


async def configure(
    database: Database, actor: Actor, account_id: UUID, reference: str, issuer_id: UUID | None
) -> Configuration:
    """Have `issuer_id` (None = the embedded CA) sign for the service `reference`; NotFound when there is no such CA."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["configuration_put"], uuid4(), account_id, reference, issuer_id
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound("there is no such certificate issuer") from error
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="service.configured",
            subject_kind="service",
            subject=reference,
            detail={"issuer": str(issuer_id) if issuer_id is not None else None},
        )
    return _configuration(row)


async def remove_configuration(database: Database, actor: Actor, account_id: UUID, reference: str) -> None:
    """Remove a service; BadRequest for LWM2M, which every account has; NotFound."""
    if reference == LWM2M:
        raise BadRequest(f"the service {LWM2M} cannot be removed; configure another issuer for it")
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["configuration_remove"], account_id, reference)
        if row is None:
            raise NotFound(f"there is no service {reference}")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="service.removed",
            subject_kind="service",
            subject=reference,
        )


async def _note(
    connection: Any,
    database: Database,
    actor: Actor,
    account_id: UUID,
    what: str,
    name: str,
    detail: Mapping[str, object],
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=account_id,
        action=f"certificate_issuer.{what}",
        subject_kind="certificate_issuer",
        subject=name,
        detail=detail,
    )
