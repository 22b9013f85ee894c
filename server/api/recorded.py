"""A list of the record that may be long: its filters, its page and its envelope, the same for every kind."""

import json
from collections.abc import Mapping
from typing import Any, assert_never

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from server.api import filters
from server.api.access import Caller, id_in_query
from server.api.lists import Page, envelope, time
from server.errors import BadRequest
from server.store import listings
from server.store.listings import LISTINGS, Kind, Type, Window

# How rows of a list are called.
OBJECTS: Mapping[Kind, str] = {
    "device": "device",
    "session": "session",
    "certificate": "certificate",
    "audit": "audit-entry",
    "certificate_enrollment": "certificate-enrollment",
}


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
        conditions=filters.conditions(request.query_params.multi_items(), listing.fields),
        sort=sort,
        after=id_in_query(page.after, "after") if page.after else None,
        ascending=page.ascending,
        # One more than asked for tells whether there are more.
        limit=page.limit + 1,
    )
    rows = await listings.page(asking.database, asking.account_id, kind, window)
    total = None
    if page.with_total:
        total = await listings.count(asking.database, asking.account_id, kind, window.conditions)
    data = [shown(kind, row) for row in rows[: page.limit]]
    return envelope(page, data, has_more=len(rows) > page.limit, total=total)


def shown(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a list as the API shows it."""
    fields = LISTINGS[kind].fields
    return {"object": OBJECTS[kind], **{name: _written(type, row[name]) for name, type in fields.items()}}


def _written(type: Type, value: Any) -> object:
    if value is None:
        return None
    match type:
        case Type.WORD | Type.TEXT | Type.STATE | Type.PROSE | Type.NUMBER:
            return value
        case Type.ID:
            return value.hex
        case Type.HEX | Type.FINGERPRINT | Type.SERIAL:
            return value.hex()
        case Type.TIME:
            return time(value)
        case Type.DAY:
            # PostgreSQL's infinity.
            return value.strftime("%Y-%m-%d") if value.year < 9999 else None
        case Type.JSON:
            return json.loads(value)
        case _:
            assert_never(type)
