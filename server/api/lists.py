"""Lists as the Izuma API shows them: an envelope, and keyset paging by the id of the last row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from server.errors import BadRequest

Row = TypeVar("Row")

FEWEST, USUAL, MOST = 2, 50, 1000
# What is said of an `after` that names no row.
GONE = "no row of this list has this id, perhaps no longer; begin the list anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted; `limit` is clamped to 2-1000, never refused."""

    limit: int
    ascending: bool
    after: str
    with_total: bool

    @property
    def order(self) -> str:
        """As the envelope says it."""
        return "ASC" if self.ascending else "DESC"


async def page(
    limit: Annotated[int, Query(description="How many rows, 2 to 1000; what is outside is clamped.")] = USUAL,
    order: Annotated[Literal["ASC", "DESC"], Query(description="By time of creation.")] = "ASC",
    after: Annotated[str, Query(description="The id of the last row of the page before.")] = "",
    include: Annotated[str, Query(description="total_count adds the number of all rows.")] = "",
) -> Page:
    """The paging parameters of a list."""
    return Page(
        limit=min(max(limit, FEWEST), MOST),
        ascending=order == "ASC",
        after=after,
        with_total="total_count" in include.split(","),
    )


Paged = Annotated[Page, Depends(page)]


class Listing(BaseModel):
    """The envelope of every list."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    limit: int
    order: Literal["ASC", "DESC"]
    after: str | None = Field(description="The `after` that was asked for.")
    has_more: bool
    total_count: int | None = Field(
        default=None, description="With include=total_count, and wherever it is known without looking."
    )


def envelope(page: Page, data: Sequence[dict[str, Any]], *, has_more: bool, total: int | None) -> dict[str, Any]:
    """The envelope around `data`; `total` None = it was not asked for and nobody knows it."""
    body: dict[str, Any] = {
        "object": "list",
        "data": list(data),
        "limit": page.limit,
        "order": page.order,
        "after": page.after or None,
        "has_more": has_more,
    }
    if total is not None:
        # Izuma's API requires it of several lists; its Python SDK takes the length of a list from it without asking.
        body["total_count"] = total
    return body


def whole(page: Page, rows: Sequence[Row], shown: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """A list that is short by its limits and comes whole, whatever `limit` and `after` say."""
    ordered = list(rows) if page.ascending else list(reversed(rows))
    return envelope(page, [shown(row) for row in ordered], has_more=False, total=len(rows))


def cut(page: Page, rows: Sequence[Row], shown: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """A page of a list that is in memory, `rows` oldest first; BadRequest for an `after` that is not in it.

    A row that is gone meanwhile has no place to go on from, and rows that come twice would be counted twice.
    """
    ordered = [shown(row) for row in (rows if page.ascending else reversed(rows))]
    start = 0
    if page.after:
        start = next((at for at, row in enumerate(ordered, 1) if row["id"] == page.after), 0)
        if not start:
            raise BadRequest(GONE, field="after")
    part = ordered[start : start + page.limit]
    return envelope(page, part, has_more=start + len(part) < len(ordered), total=len(ordered))


def time(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, as the original's clients read it."""
    if at is None:
        return None
    # The record's own times are in UTC already.
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"
