"""`/v1/events`: bootstraps and changes as they happen, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from server.api.access import Caller, Reader
from server.api.documented import documented
from server.api.recorded import shown
from server.store import listings
from server.store.conditions import Condition
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.listings import Kind, Window

router = APIRouter(prefix="/v1", tags=["What happened"])

# The record is the source: what every node writes is seen by every node's listeners, a second later at most.
EVERY = 1.0
# A row has its time before its commit, in another worker or node perhaps: for so long an older one may appear after the
# newest. What lies farther ahead is of a clock that was set back, and waits for its time.
LATE = timedelta(seconds=2)
# A comment line that keeps proxies from closing a quiet stream.
KEEP_ALIVE = 15.0
MOST_AT_ONCE = 200

KINDS: tuple[Kind, ...] = ("session", "audit")
_EXAMPLE = 'event: session\nid: 0161…\ndata: {"object": "session", "endpoint_name": "urn:dev:os:0001", …}\n\n'


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        **documented(200, None, 400, 401, 403),
        200: {"description": "The stream.", "content": {"text/event-stream": {"example": _EXAMPLE}}},
    },
)
async def events(
    asking: Reader,
    request: Request,
    limit: Annotated[int | None, Query(ge=1, le=1_000_000, description="End after so many events.")] = None,
) -> StreamingResponse:
    """Bootstraps that ended and changes that were made, from now on; `event` is session or audit."""
    stream = _stream(asking, request, limit)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(asking: Caller, request: Request, limit: int | None) -> AsyncIterator[str]:
    feeds = [Feed(asking.database, asking.account_id, kind, asking.office.now) for kind in KINDS]
    yield ": listening\n\n"
    quiet = 0.0
    left = limit
    while not await request.is_disconnected():
        for feed in feeds:
            async for row in feed.new():
                yield f"event: {feed.kind}\nid: {row['id']}\ndata: {json.dumps(row)}\n\n"
                quiet = 0.0
                if left is not None:
                    left -= 1
                    if left == 0:
                        return
        await asyncio.sleep(EVERY)
        quiet += EVERY
        if quiet >= KEEP_ALIVE:
            quiet = 0.0
            yield ": quiet\n\n"


class Feed:
    """Rows of one kind that come from now on, for one listener; each once, however late its commit.

    While the clock runs through a time for the second time, rows of the first may come again.
    """

    def __init__(self, database: Database, account_id: UUID, kind: Kind, now: Callable[[], datetime]) -> None:
        self.kind = kind
        self._database = database
        self._account_id = account_id
        # A session counts when it has ended.
        self._field = "ended_at" if kind == "session" else "created_at"
        self._now = now
        self._since = self._newest = now()
        # What was sent and may be found again, with its time.
        self._sent: dict[UUID, datetime] = {}

    async def new(self) -> AsyncIterator[dict[str, object]]:
        """Rows that were not sent yet, in pieces; none while the record is away."""
        now = self._now()
        earliest = self._earliest(now)
        within = [Condition(self._field, "gte", (earliest,)), Condition(self._field, "lte", (now + LATE,))]
        more = True
        while more:
            conditions = [*within, Condition("id", "nin", tuple(self._sent))]
            window = Window(conditions=conditions, limit=MOST_AT_ONCE)
            try:
                rows = await listings.page(self._database, self._account_id, self.kind, window)
            except StoreUnavailable:
                return
            more = len(rows) == MOST_AT_ONCE
            for row in rows:
                at = row[self._field]
                self._sent[row["id"]] = at
                self._newest = max(self._newest, at)
                yield shown(self.kind, row)
        earliest = self._earliest(now)
        self._sent = {id: at for id, at in self._sent.items() if at >= earliest}

    def _earliest(self, now: datetime) -> datetime:
        """From when on it is looked for rows; filters take times to the millisecond."""
        at = max(self._since, self._newest - LATE)
        if at > now:
            # The clock was set back: waiting for `at` would miss all that comes until then.
            at = now - LATE
        return at.replace(microsecond=at.microsecond // 1000 * 1000)
