"""Configured CAs, and which of them signs for a service (design 7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from server.errors import BadRequest, Conflict, LimitReached, NotFound
from server.store import audit
from server.store.accounts import LWM2M
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer

TABLE, COLUMN = "certificate_issuer", "credentials"
# Per account, as in the Izuma API.
MOST_ISSUERS = 20


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
    version: int
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
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_custom(self) -> bool:
        """Whether an operator made the service; LWM2M comes with the account."""
        return self.reference != LWM2M


def _row(row: Any) -> IssuerRow:
    return IssuerRow(
        id=row["id"],
        account_id=row["account_id"],
        type=row["type"],
        name=row["name"],
        description=row["description"],
        attributes=json.loads(row["attributes"]),
        sealed=row["credentials"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _configuration(row: Any) -> Configuration:
    return Configuration(
        id=row["id"],
        account_id=row["account_id"],
        reference=row["reference"],
        issuer_id=row["issuer_id"],
        version=row["version"],
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
    """The CAs of an account, oldest first."""
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
    """Register a CA; Conflict when the account has one of that name, LimitReached when it has 20."""
    issuer_id = uuid4()
    async with database.transaction() as connection:
        await connection.execute(database.queries["account_lock"], account_id)
        if await connection.fetchval(database.queries["issuer_count"], account_id) >= MOST_ISSUERS:
            raise LimitReached(f"an account has at most {MOST_ISSUERS} certificate issuers; remove one first")
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
            raise Conflict(f"there is already a certificate issuer {name}", field="name") from error
        added = _row(row)
        await _note(connection, database, actor, account_id, "added", name, {"after": _shown(added)})
    return added


async def update(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    issuer_id: UUID,
    *,
    version: int,
    name: str,
    description: str,
    attributes: Mapping[str, Any],
    credentials: Mapping[str, Any] | None,
) -> IssuerRow | None:
    """Change a CA as it was in `version`, None when it no longer is; `credentials` None keeps what is there.

    NotFound, Conflict as in `add`.
    """
    async with database.transaction() as connection:
        before = await connection.fetchrow(database.queries["issuer_lock"], account_id, issuer_id)
        if before is None:
            raise NotFound("there is no such certificate issuer")
        if before["version"] != version:
            return None
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
            raise Conflict(f"there is already a certificate issuer {name}", field="name") from error
        if row is None:
            raise NotFound("there is no such certificate issuer")
        changed, earlier = _row(row), _row(before)
        if credentials is not None or changed.attributes != earlier.attributes:
            # What it failed with may be mended: it is asked again now, and not when its time is up.
            await connection.execute(database.queries["readiness_half_open"], issuer_id)
        detail = {
            "before": _shown(earlier),
            "after": _shown(changed),
            "credentials_replaced": credentials is not None,
        }
        await _note(connection, database, actor, account_id, "changed", name, detail)
    return changed


async def remove(database: Database, actor: Actor, account_id: UUID, issuer_id: UUID) -> None:
    """Remove a CA; NotFound, or BadRequest while it is active for a service."""
    async with database.transaction() as connection:
        rows = await connection.fetch(database.queries["configuration_list"], account_id)
        services = [row["reference"] for row in rows if row["issuer_id"] == issuer_id]
        try:
            row = await connection.fetchrow(database.queries["issuer_remove"], account_id, issuer_id)
        except asyncpg.ForeignKeyViolationError as error:
            named = f" --service {services[0]}" if services and LWM2M not in services else ""
            raise BadRequest(
                f"the certificate issuer is active for {', '.join(services) or 'a service'}; activate another one "
                f"there first, or the embedded CA (`firstlight issuer deactivate{named}`)"
            ) from error
        if row is None:
            raise NotFound("there is no such certificate issuer")
        await _note(connection, database, actor, account_id, "removed", row["name"], {"before": _shown(_row(row))})


async def configurations(database: Database) -> dict[tuple[UUID, str], UUID | None]:
    """(account, service) → CA for all accounts; None = the embedded CA."""
    rows = await database.fetch("configuration_all")
    return {(row["account_id"], row["reference"]): row["issuer_id"] for row in rows}


async def configured(database: Database, account_id: UUID) -> list[Configuration]:
    """The services of an account, oldest first: LWM2M leads."""
    return [_configuration(row) for row in await database.fetch("configuration_list", account_id)]


async def resolve(database: Database, account_id: UUID, service: str) -> IssuerRow | None:
    """The CA that signs for `service` now, None = the embedded CA; NotFound when the service is not configured."""
    row = await database.fetchrow("configuration_resolve", account_id, service)
    if row is None:
        raise NotFound(f"no certificate issuer is configured for the service {service}")
    return _row(row) if row["id"] is not None else None


async def configuration(database: Database, account_id: UUID, configuration_id: UUID) -> Configuration | None:
    """The service with this id."""
    row = await database.fetchrow("configuration_find", account_id, configuration_id)
    return _configuration(row) if row is not None else None


async def service(database: Database, account_id: UUID, reference: str) -> Configuration | None:
    """The service of this name; names are case-sensitive."""
    row = await database.fetchrow("configuration_by_reference", account_id, reference)
    return _configuration(row) if row is not None else None


async def add_configuration(
    database: Database, actor: Actor, account_id: UUID, reference: str, issuer_id: UUID | None
) -> Configuration:
    """Make a service of an operator's own; Conflict when there is one of that name, BadRequest for no such CA."""
    async with database.transaction() as connection:
        try:
            row = await connection.fetchrow(
                database.queries["configuration_add"], uuid4(), account_id, reference, issuer_id
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"the service {reference} is configured already", field="reference") from error
        except asyncpg.ForeignKeyViolationError as error:
            raise _no_such_issuer() from error
        added = _configuration(row)
        await _note_service(connection, database, actor, added, "service.added", {"after": _issuer(issuer_id)})
    return added


async def set_configuration(
    database: Database, actor: Actor, account_id: UUID, configuration_id: UUID, issuer_id: UUID | None
) -> Configuration:
    """Have `issuer_id` (None = the embedded CA) sign for a service from now on; NotFound, BadRequest for no such CA."""
    async with database.transaction() as connection:
        before = await connection.fetchrow(database.queries["configuration_lock"], account_id, configuration_id)
        if before is None:
            raise NotFound("there is no such certificate issuer configuration")
        try:
            row = await connection.fetchrow(
                database.queries["configuration_set"], account_id, configuration_id, issuer_id
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise _no_such_issuer() from error
        changed = _configuration(row)
        detail = {"before": _issuer(before["issuer_id"]), "after": _issuer(issuer_id)}
        await _note_service(connection, database, actor, changed, "service.configured", detail)
    return changed


async def remove_configuration(
    database: Database, actor: Actor, account_id: UUID, configuration_id: UUID
) -> Configuration:
    """Remove a service, and tell which it was; BadRequest for LWM2M, which every account has; NotFound."""
    async with database.transaction() as connection:
        found = await connection.fetchrow(database.queries["configuration_lock"], account_id, configuration_id)
        if found is None:
            raise NotFound("there is no such certificate issuer configuration")
        before = _configuration(found)
        if not before.is_custom:
            raise BadRequest(f"the service {LWM2M} cannot be removed; activate another issuer for it")
        await connection.fetchrow(database.queries["configuration_remove"], account_id, before.reference)
        await _note_service(
            connection, database, actor, before, "service.removed", {"before": _issuer(before.issuer_id)}
        )
    return before


def _no_such_issuer() -> BadRequest:
    return BadRequest("there is no certificate issuer with this id", field="certificate_issuer_id")


def _issuer(issuer_id: UUID | None) -> dict[str, str | None]:
    return {"certificate_issuer_id": issuer_id.hex if issuer_id is not None else None}


def _shown(row: IssuerRow) -> dict[str, object]:
    """What the audit keeps of a CA: all but its credentials."""
    return {
        "name": row.name,
        "type": row.type,
        "description": row.description,
        "attributes": dict(row.attributes),
    }


async def _note_service(
    connection: Any,
    database: Database,
    actor: Actor,
    service: Configuration,
    action: str,
    detail: Mapping[str, object],
) -> None:
    await audit.note(
        connection,
        database,
        actor,
        account_id=service.account_id,
        action=action,
        subject_kind="service",
        subject=service.reference,
        detail=detail,
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
