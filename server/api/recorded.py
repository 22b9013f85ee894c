"""A list of the record that may be long: its filters, its page and its envelope, the same for every kind."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request

from server.api import filters
from server.api.access import Caller, id_in_query
from server.api.lists import Page, envelope
from server.store import listings
from server.store.listings import Kind, Window


async def listed(
    asking: Caller, request: Request, page: Page, kind: Kind, fields: Mapping[str, tuple[str, ...]], *indexed: object
) -> dict[str, Any]:
    """The envelope of a list's page; `indexed` as `listings.page` takes them."""
    window = Window(
        conditions=filters.conditions(request, fields),
        after=id_in_query(page.after, "after") if page.after else None,
        ascending=page.ascending,
        # One more than asked for tells whether there are more.
        limit=page.limit + 1,
    )
    rows = await listings.page(asking.database, asking.account_id, kind, window, *indexed)
    total = None
    if page.with_total:
        total = await listings.count(asking.database, asking.account_id, kind, window.conditions)
    return envelope(page, [dict(row) for row in rows[: page.limit]], has_more=len(rows) > page.limit, total=total)
