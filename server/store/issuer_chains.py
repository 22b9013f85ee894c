"""The certificates that CAs show of themselves, and how much they are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from server.store.certificates import split_chain
from server.store.database import Database

SHORT, LONG = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class IssuerChain:
    """What a CA showed at `seen_at`: DER, issuing CA first, root last when it is known."""

    certificates: tuple[bytes, ...] = field(repr=False)
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """How many certificates a CA issued in the last minute and in the last hour."""

    minute: int
    hour: int


UNUSED = Use(0, 0)


async def keep(database: Database, issuer_id: UUID, certificates: Sequence[bytes], now: datetime) -> None:
    """Record what a CA shows."""
    await database.execute("issuer_chain_keep", issuer_id, now, b"".join(certificates))


async def listed(database: Database, account_id: UUID) -> Mapping[UUID, IssuerChain]:
    """What the CAs of an account showed; one that never did is not there."""
    rows = await database.fetch("issuer_chain_list", account_id)
    return {row["issuer_id"]: IssuerChain(split_chain(row["certificates"]), row["seen_at"]) for row in rows}


async def used(database: Database, account_id: UUID, now: datetime) -> Mapping[UUID | None, Use]:
    """What the CAs of an account issued lately; None is the embedded CA, and one that issued nothing is not there."""
    rows = await database.fetch("issuer_use", account_id, now - LONG, now - SHORT)
    return {row["issuer_id"]: Use(row["shorter"], row["longer"]) for row in rows}


async def has_signed_since(database: Database, account_id: UUID, issuer_id: UUID, since: datetime) -> bool:
    """Whether a CA issued a certificate since then; what is older than a day counts for nothing."""
    return bool(await database.fetchval("issuer_signed_since", account_id, issuer_id, since))


async def holders(database: Database, account_id: UUID, now: datetime) -> Mapping[str, int]:
    """For each service, how many devices hold a certificate of the CA that signs for it now."""
    rows = await database.fetch("service_holders", account_id, now)
    return {row["reference"]: row["holders"] for row in rows}
