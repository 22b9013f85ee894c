"""Sign-ins to the console that were refused, in the audit: of operators and keys on record only, summed up.

Whoever knocks is nobody yet and must not fill the record: an unknown name leaves nothing here, a known one at most one
row in ten minutes, whose count goes up, and which names the first few places it was tried from.
"""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid5

from server.store.database import Database

WINDOW = timedelta(minutes=10)
MOST_SOURCES = 8
ACTION = "console.sign_in_refused"
# Clocks of server and database may differ; the row is known by its id.
_SLACK = timedelta(days=1)
# In place of a name: whoever tried has not shown to be anybody.
NOBODY = "not signed in"


async def by_name(database: Database, name: str, *, source: str, request_id: str, now: datetime) -> None:
    """Note a refused sign-in as the operator of this name, who may be switched off; nothing for a name nobody has."""
    row = await database.fetchrow("operator_named", name)
    if row is not None:
        await _note(database, row, "operator", source, request_id, now)


async def by_key(database: Database, key_sha256: bytes, *, source: str, request_id: str, now: datetime) -> None:
    """Note a refused sign-in with a key that is switched off; nothing for one that is not on record."""
    row = await database.fetchrow("api_key_hashed", key_sha256)
    if row is not None:
        await _note(database, row, "api_key", source, request_id, now)


async def _note(database: Database, row: Any, kind: str, source: str, request_id: str, now: datetime) -> None:
    id = uuid5(row["id"], f"{ACTION} {int(now.timestamp() // WINDOW.total_seconds())}")
    async with database.transaction() as connection:
        await connection.execute(database.queries["sign_in_refused_lock"], str(id))
        found = await connection.fetchval(database.queries["sign_in_refused_detail"], id, now - _SLACK)
        detail = _counted(json.loads(found) if found is not None else {}, source, row["active"])
        if found is not None:
            await connection.execute(database.queries["sign_in_refused_again"], id, now - _SLACK, json.dumps(detail))
            return
        await connection.execute(
            database.queries["audit_add"],
            *(id, row["account_id"], "console", NOBODY, request_id, ACTION, kind, row["name"], json.dumps(detail)),
        )


def _counted(detail: dict[str, Any], source: str, active: bool) -> dict[str, Any]:
    sources = list(dict.fromkeys([*detail.get("sources", []), source]))
    return {
        "times": detail.get("times", 0) + 1,
        "sources": sources[:MOST_SOURCES],
        "more_sources": bool(detail.get("more_sources")) or len(sources) > MOST_SOURCES,
        "switched_off": not active,
    }
