"""A list of the record that may be long: its filters, its page and its envelope, the same for every kind."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, assert_never

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from server.api import filters
from server.api.access import Caller, id_in_query
from server.api.lists import FEWEST, Page, envelope, time
from server.errors import BadRequest
from server.store import listings
from server.store.conditions import Type
from server.store.listings import LISTINGS, Kind, Window

# How rows of a list are called.
OBJECTS: Mapping[Kind, str] = {
    "device": "device",
    "session": "session",
    "certificate": "certificate",
    "audit": "audit-entry",
    "certificate_enrollment": "certificate-enrollment",
}
# Izuma's Python SDK means to ask for the total when it takes the length of a list: it sends limit=2, and its `include`
# gets lost on the way.
COUNTED_BY_TWO: frozenset[Kind] = frozenset({"device", "certificate_enrollment"})


async def listed(asking: Caller, request: Request, page: Page, kind: Kind) -> Response:
    """The answer with a list's page, by the filters and the `sort` of the request."""
    # Plain JSON values already: the framework need not walk through a thousand rows once more.
    return JSONResponse(await gathered(asking, request, page, kind))


async def gathered(asking: Caller, request: Request, page: Page, kind: Kind) -> dict[str, Any]:
    """The envelope of a list's page, by the filters and the `sort` of the request."""
    listing = LISTINGS[kind]
    sort = request.query_params.get("sort") or "created_at"
    if sort not in listing.sorts:
        raise BadRequest(f"there is no sort {sort}; known are {', '.join(listing.sorts)}", field="sort")
    window = Window(
        conditions=filters.conditions(request.query_params.multi_items(), listing),
        sort=sort,
        after=id_in_query(page.after, "after") if page.after else None,
        ascending=page.ascending,
        # One more than asked for tells whether there are more.
        limit=page.limit + 1,
    )
    rows = await listings.page(asking.database, asking.account_id, kind, window)
    total = None
    if not page.after and len(rows) <= page.limit:
        # All of them are here: nothing is looked for twice.
        total = len(rows)
    elif page.with_total or (kind in COUNTED_BY_TWO and page.limit == FEWEST and not page.after):
        total = await listings.count(asking.database, asking.account_id, kind, window.conditions)
    data = [shown(kind, row) for row in rows[: page.limit]]
    return envelope(page, data, has_more=len(rows) > page.limit, total=total)


def shown(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a list as the API shows it."""
    found: dict[str, Any] = {"object": OBJECTS[kind]}
    for name, written in _WRITTEN[kind]:
        value = row[name]
        found[name] = value if value is None or written is None else written(value)
    return found


def _day(value: datetime) -> str | None:
    # PostgreSQL's infinity.
    return value.date().isoformat() if value.year < 9999 else None


def _written(type: Type) -> Callable[[Any], object] | None:
    """How a value of this type is written; None = as it is."""
    match type:
        case Type.WORD | Type.TEXT | Type.STATE | Type.REGISTERED | Type.PROSE | Type.NUMBER:
            return None
        case Type.ID | Type.CA:
            return attrgetter("hex")
        case Type.HEX | Type.FINGERPRINT | Type.SERIAL:
            return bytes.hex
        case Type.TIME:
            return time
        case Type.DAY:
            return _day
        case Type.JSON:
            return json.loads
        case _:
            assert_never(type)


# Looked up once: a page of a thousand rows has twenty thousand values.
_WRITTEN: Mapping[Kind, Sequence[tuple[str, Callable[[Any], object] | None]]] = {
    kind: [(name, _written(type)) for name, type in listing.fields.items()] for kind, listing in LISTINGS.items()
}
