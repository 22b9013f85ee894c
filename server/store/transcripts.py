"""Transcripts on record: the flight recorder's last attempts of each device; the writer writes them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptRow:
    """One attempt that has a transcript; `cause` None = it succeeded."""

    session_id: UUID
    endpoint: str
    started_at: datetime
    cause: str | None
    bytes: int


async def listed(
    database: Database,
    account_id: UUID,
    endpoint: str | None = None,
    *,
    after: TranscriptRow | None = None,
    limit: int = 1000,
) -> list[TranscriptRow]:
    """The attempts with a transcript, of one device or of all, newest first, behind the attempt `after`."""
    place = (after.started_at, after.session_id) if after is not None else (None, None)
    return [
        TranscriptRow(
            session_id=row["session_id"],
            endpoint=row["endpoint"],
            started_at=row["started_at"],
            cause=row["cause"],
            bytes=row["bytes"],
        )
        for row in await database.fetch("transcript_list", account_id, endpoint, *place, limit)
    ]


async def find(database: Database, account_id: UUID, endpoint: str, session_id: UUID | None = None) -> str | None:
    """The transcript of a device's session as JSON; without a session that of its newest attempt."""
    found: str | None = await database.fetchval("transcript_find", account_id, endpoint, session_id)
    return found
