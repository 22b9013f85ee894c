"""Pages of the API's lists: rows as the API shows them, made and filtered by PostgreSQL (`fits`, `*_shown`).

A page begins behind the row with the id `after`, so that rows that come meanwhile neither repeat nor hide others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from server.store.database import Database

Kind = Literal["device", "session", "certificate", "audit", "certificate_enrollment"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter of a list: `op` is eq, neq, in, nin, like, gte or lte."""

    field: str
    op: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a list that is wanted."""

    conditions: Sequence[Condition] = ()
    after: UUID | None = None
    ascending: bool = True
    limit: int


async def page(
    database: Database, account_id: UUID, kind: Kind, window: Window, *indexed: object
) -> list[Mapping[str, Any]]:
    """Rows of a list by time and id; `indexed` are the list's filters that have an index, None = any.

    A certificate takes endpoint and serial, a session its endpoint.
    """
    query = f"{kind}_page_{'ascending' if window.ascending else 'descending'}"
    rows = await database.fetch(query, account_id, window.after, _json(window.conditions), window.limit, *indexed)
    return [json.loads(row["shown"]) for row in rows]


async def count(database: Database, account_id: UUID, kind: Kind, conditions: Sequence[Condition]) -> int:
    """How many rows of a list fit."""
    return int(await database.fetchval(f"{kind}_fitting", account_id, _json(conditions)))


def _json(conditions: Sequence[Condition]) -> str:
    return json.dumps([{"field": c.field, "op": c.op, "values": c.values} for c in conditions])
