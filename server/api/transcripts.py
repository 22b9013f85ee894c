"""`/v1/devices/{id}/transcripts`: the flight recorder, what was said in the last attempts of a device."""

from typing import Any

from fastapi import APIRouter

from server import transcripts
from server.api.access import Operator, parse_id
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, cut, time
from server.errors import NotFound
from server.store import devices
from server.store import transcripts as store
from server.store.transcripts import TranscriptRow

router = APIRouter(prefix="/v1/devices", tags=["What happened"])

EXAMPLE = {
    "object": "transcript",
    "id": EXAMPLE_ID,
    "endpoint_name": "urn:dev:os:0001",
    "created_at": "2026-11-23T12:00:00.000Z",
    "cause": "write_refused",
    "bytes": 9120,
}
WHOLE_EXAMPLE = {
    "format": 1,
    "firstlight": "0.1.0",
    "about": {"endpoint": "urn:dev:os:0001", "session": EXAMPLE_ID, "cause": "write_refused"},
    "entries": [
        {"at": 0.0, "from": "device", "datagram": "44025d1f…", "says": "CON 0x5d1f POST /bs?ep=urn:dev:os:0001"}
    ],
}


@router.get("/{device_id}/transcripts", responses=listing(EXAMPLE, 401, 403, 404))
async def list_transcripts(asking: Operator, device_id: str, page: Paged) -> dict[str, Any]:
    """The attempts of a device that have a transcript."""
    device = await devices.by_id(asking.database, asking.account_id, parse_id(device_id, "device"))
    rows = await store.listed(asking.database, asking.account_id, device.endpoint)
    return cut(page, rows[::-1], _shown)


@router.get("/{device_id}/transcripts/{session_id}", responses=documented(200, WHOLE_EXAMPLE, 401, 403, 404))
async def read_transcript(asking: Operator, device_id: str, session_id: str) -> dict[str, Any]:
    """One attempt, datagram by datagram and without key material, for `firstlight replay`."""
    device = await devices.by_id(asking.database, asking.account_id, parse_id(device_id, "device"))
    session = parse_id(session_id, "transcript")
    found = await store.find(asking.database, asking.account_id, device.endpoint, session)
    if found is None:
        raise NotFound("there is no such transcript")
    return transcripts.shown(found)


def _shown(row: TranscriptRow) -> dict[str, Any]:
    return {
        "object": "transcript",
        "id": row.session_id.hex,
        "endpoint_name": row.endpoint,
        "created_at": time(row.started_at),
        "cause": row.cause,
        "bytes": row.bytes,
    }
