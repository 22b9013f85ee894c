"""Rows for tests of the record: everything a bootstrap writes, with made-up bytes where only their identity counts.

And how they are written in one go and read back.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from server.store import issuances
from server.store.database import Database
from server.store.devices import device_id
from server.store.issuance_operations import OpenIssuance, RecordIssued
from server.store.operation import Operation
from server.store.session_operations import EndSession, RecordSession, TouchDevice
from server.store.writer import Writer

ACCOUNT = UUID("11111111-1111-4111-8111-111111111111")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ISSUER_FINGERPRINT = sha256(b"issuing certificate").digest()


def der(content: bytes) -> bytes:
    """A DER SEQUENCE around `content` (at most 65,535 bytes): what splits like a certificate."""
    if len(content) < 0x80:
        return b"\x30" + bytes([len(content)]) + content
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


ISSUING_CERTIFICATE = der(b"issuing certificate" * 30)


def intent(
    endpoint: str,
    *,
    account_id: UUID = ACCOUNT,
    csr: bytes | None = None,
    key: bytes | None = None,
    server_key: bool = True,
    state: str = "submitted",
    owner: str = "worker-1",
    lease: timedelta = timedelta(hours=1),
    service: str = "LWM2M",
    replaces: UUID | None = None,
) -> OpenIssuance:
    """An intent with a CSR and public key of its own, unless given."""
    csr = csr if csr is not None else uuid4().bytes * 16
    return OpenIssuance(
        id=uuid4(),
        account_id=account_id,
        device_id=device_id(account_id, endpoint),
        endpoint=endpoint,
        service=service,
        issuer_id=None,
        csr=csr,
        csr_sha256=sha256(csr).digest(),
        spki_sha256=sha256(key if key is not None else csr).digest(),
        server_key=server_key,
        serial=uuid4().int,
        not_before=NOW,
        state=state,
        owner=owner,
        lease_until=datetime.now(UTC) + lease,
        session_id=uuid4(),
        replaces=replaces,
    )


def issued(opened: OpenIssuance, *, owner: str | None = None) -> RecordIssued:
    """The certificate for an intent."""
    return RecordIssued(
        id=opened.id,
        owner=owner or opened.owner,
        chain=(der(opened.id.bytes * 25), ISSUING_CERTIFICATE),
        serial=opened.serial,
        issuer_fingerprint=ISSUER_FINGERPRINT,
        not_before=NOW,
        not_after=NOW + timedelta(days=730),
    )


def session(
    opened: OpenIssuance, *, ended: bool = True, account_id: UUID = ACCOUNT, at: datetime = NOW
) -> RecordSession:
    """The session of an intent, running or succeeded."""
    return RecordSession(
        id=opened.session_id or uuid4(),
        account_id=account_id,
        endpoint=opened.endpoint,
        started_at=at,
        ended_at=at + timedelta(milliseconds=61) if ended else None,
        profile="default",
        credential="x509",
        address="192.0.2.7:56830",
        outcome="succeeded" if ended else "running",
        cause=None,
        sentence="",
        issuance_id=opened.id,
        steps='[["delete","/0","2.02",0],["write","/0/0","2.04",1211],["finish","/bs","2.04",0]]',
    )


def device(opened: OpenIssuance, *, account_id: UUID = ACCOUNT, at: datetime = NOW) -> TouchDevice:
    """The device of an intent, bootstrapped."""
    return TouchDevice(
        account_id=account_id,
        endpoint=opened.endpoint,
        profile="default",
        session_id=opened.session_id,
        at=at,
        state="bootstrapped",
        learned='{"leaf_only": true}',
    )


def end(opened: OpenIssuance, *, at: datetime = NOW) -> EndSession:
    """The end of the session of an intent, whose certificate was delivered in it."""
    return EndSession(session(opened, at=at), device(opened, at=at), (opened.id,))


async def value(database: Database, sql: str, *arguments: object) -> Any:
    """What one statement tells."""
    async with database.acquire() as connection:
        return await connection.fetchval(sql, *arguments)


async def state_of(database: Database, row: UUID) -> str | None:
    """The state of an issuance; None when there is none."""
    found = await issuances.find(database, row)
    return found.state if found is not None else None


async def written_together(writer: Writer, *operations: Operation[Any]) -> list[Any]:
    """The answers to operations that were queued in one go, exceptions included."""
    waiting = [asyncio.ensure_future(writer.write(operation)) for operation in operations]
    return await asyncio.gather(*waiting, return_exceptions=True)
