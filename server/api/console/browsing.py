"""A long list as a page shows it: the API's own filters in the address, pages in both directions, a bounded count."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from server.api import filters
from server.api.access import id_in_query
from server.api.console.door import Visitor
from server.api.recorded import shown
from server.errors import BadRequest
from server.store import listings
from server.store.conditions import Condition
from server.store.listings import LISTINGS, Kind, Window

# Rows of a page, and of a piece of an export.
PAGE, PIECE = 50, 1000
# Nobody pages further than that, and counting on costs more than it tells.
MOST_COUNTED = 10_000
# What a spreadsheet takes; the API has the rest.
MOST_EXPORTED = 100_000
# Parameters of a page's address that are no filters of the API.
OURS = frozenset({"before", "last"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsed:
    """One page: rows as the API shows them, the ways on, and what was asked."""

    path: str
    rows: Sequence[dict[str, Any]]
    given: Mapping[str, str]
    sort: str
    order: str
    count: int
    first: str
    previous: str
    next: str
    last: str

    @property
    def counted(self) -> str:
        """How many rows fit, as far as they were counted."""
        return f"{MOST_COUNTED:,}+" if self.count > MOST_COUNTED else f"{self.count:,}"

    @property
    def filters(self) -> dict[str, str]:
        """The filters alone."""
        return {name: value for name, value in self.given.items() if name not in filters.PAGING | OURS}

    @property
    def asked(self) -> str:
        """The query of the API that gives the same rows."""
        query = {name: value for name, value in self.given.items() if name not in OURS}
        return urlencode({"sort": self.sort, "order": self.order, **query})

    @property
    def csv(self) -> str:
        """Where the same rows are, as a file."""
        return f"{self.path}/list.csv?{urlencode({**self.filters, 'sort': self.sort, 'order': self.order})}"

    def sorted_by(self, sort: str) -> str:
        """The address with another sort; the same one again turns it round."""
        order = "DESC" if sort == self.sort and self.order == "ASC" else "ASC"
        return f"{self.path}?{urlencode({**self.filters, 'sort': sort, 'order': order})}"


async def browse(visitor: Visitor, request: Request, kind: Kind, path: str, *, sort: str, order: str) -> Browsed:
    """The page that the address asks for; `sort` and `order` unless it says otherwise. BadRequest."""
    given = dict(request.query_params)
    wanted, direction = _sorting(given, kind, sort, order)
    backwards = "before" in given or "last" in given
    place = given.get("before") or given.get("after")
    limit = PAGE
    conditions = _conditions(request, kind)
    database, account_id = visitor.caller.database, visitor.caller.account_id
    rows = await listings.page(
        database,
        account_id,
        kind,
        Window(
            conditions=conditions,
            sort=wanted,
            after=id_in_query(place, "after") if place else None,
            ascending=(direction == "ASC") != backwards,
            limit=limit + 1,
        ),
    )
    more, rows = len(rows) > limit, rows[:limit]
    if backwards:
        rows.reverse()
    count = len(rows)
    if place or more:
        count = await listings.count(database, account_id, kind, conditions, most=MOST_COUNTED + 1)
    query = {name: value for name, value in given.items() if name not in OURS | {"after"}}
    before, after = (more, "before" in given) if backwards else ("after" in given, more)

    def at(**where: str) -> str:
        return f"{path}?{urlencode({**query, **where})}"

    return Browsed(
        path=path,
        rows=[shown(kind, row) for row in rows],
        given=given,
        sort=wanted,
        order=direction,
        count=count,
        first=at() if before else "",
        previous=at(before=rows[0]["id"].hex) if before and rows else "",
        next=at(after=rows[-1]["id"].hex) if after and rows else "",
        last=at(last="1") if after else "",
    )


async def everything(
    visitor: Visitor, request: Request, kind: Kind, *, sort: str, order: str
) -> AsyncIterator[dict[str, Any]]:
    """All rows that fit, piece by piece, for a file."""
    wanted, direction = _sorting(dict(request.query_params), kind, sort, order)
    conditions = _conditions(request, kind)
    after = None
    for _ in range(MOST_EXPORTED // PIECE):
        rows = await listings.page(
            visitor.caller.database,
            visitor.caller.account_id,
            kind,
            Window(conditions=conditions, sort=wanted, after=after, ascending=direction == "ASC", limit=PIECE),
        )
        for row in rows:
            yield shown(kind, row)
        if len(rows) < PIECE:
            return
        after = rows[-1]["id"]


def _sorting(given: Mapping[str, str], kind: Kind, sort: str, order: str) -> tuple[str, str]:
    wanted, direction = given.get("sort", sort), given.get("order", order if "sort" not in given else "ASC")
    if wanted not in LISTINGS[kind].sorts:
        raise BadRequest(f"there is no sort {wanted}; known are {', '.join(LISTINGS[kind].sorts)}", field="sort")
    if direction not in ("ASC", "DESC"):
        raise BadRequest("the order is ASC or DESC", field="order")
    return wanted, direction


def _conditions(request: Request, kind: Kind) -> list[Condition]:
    given = [pair for pair in request.query_params.multi_items() if pair[0] not in OURS]
    return filters.conditions(given, LISTINGS[kind])
