"""`/v1/events`: bootstraps and changes as they happen, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from server.api.access import Caller, Reader
from server.api.documented import documented
from server.api.recorded import shown
from server.store import listings
from server.store.conditions import Condition
from server.store.errors import StoreUnavailable
from server.store.listings import Kind, Window

router = APIRouter(prefix="/v1", tags=["What happened"])

# The record is the source: what every node writes is seen by every node's listeners, a second later at most.
EVERY = 1.0
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
    seen: dict[Kind, tuple[datetime, set[str]]] = {kind: (asking.office.now(), set()) for kind in KINDS}
    yield ": listening\n\n"
    quiet = 0.0
    left = limit
    while not await request.is_disconnected():
        for kind in KINDS:
            for row in await _new(asking, kind, seen):
                yield f"event: {kind}\nid: {row['id']}\ndata: {json.dumps(row)}\n\n"
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


async def _new(asking: Caller, kind: Kind, seen: dict[Kind, tuple[datetime, set[str]]]) -> list[dict[str, object]]:
    """Rows of a kind that were not sent yet; a session counts when it has ended."""
    since, sent = seen[kind]
    field = "ended_at" if kind == "session" else "created_at"
    window = Window(conditions=[Condition(field, "gte", (since,))], limit=MOST_AT_ONCE)
    try:
        rows = await listings.page(asking.database, asking.account_id, kind, window)
    except StoreUnavailable:
        return []
    fresh = [row for row in rows if row["id"].hex not in sent]
    if fresh:
        newest = max(row[field] for row in fresh)
        # Rows of the newest time come again and are known by their ids.
        kept = sent if newest == since else set()
        seen[kind] = (newest, kept | {row["id"].hex for row in fresh})
    return [shown(kind, row) for row in fresh]
