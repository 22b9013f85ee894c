"""Transcripts over the API: who may read them, and how many a device keeps; what is in them is tested elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from server.store import accounts, transcripts
from server.store.devices import device_id
from server.store.prune import prune
from server.store.writer import RecordTranscript, TouchDevice, Writer
from tests.api.conftest import PERSON, Api

NOW = datetime.now(UTC).replace(microsecond=0)
CONTENT = json.dumps({"format": 1, "about": {}, "entries": [{"at": 0.0, "from": "device", "datagram": "40020001"}]})


@pytest.fixture
async def writer(api: Api, database_url: str) -> AsyncIterator[Writer]:
    opened = Writer(database_url, api.office.database.queries)
    await opened.start()
    yield opened
    await opened.close()


def attempt(api: Api, number: int, *, endpoint: str = "meter", attempts: int = 3) -> RecordTranscript:
    return RecordTranscript(
        session_id=UUID(int=abs(number) + 1),
        account_id=api.account_id,
        endpoint=endpoint,
        started_at=NOW + timedelta(seconds=number),
        cause="no_answer",
        content=CONTENT,
        attempts=attempts,
    )


async def device(api: Api, writer: Writer, endpoint: str = "meter") -> str:
    await writer.write(
        TouchDevice(account_id=api.account_id, endpoint=endpoint, profile="p", session_id=None, at=NOW, state="failed")
    )
    return device_id(api.account_id, endpoint).hex


async def kept(api: Api, endpoint: str = "meter") -> list[int]:
    rows = await transcripts.listed(api.office.database, api.account_id, endpoint)
    return [row.session_id.int - 1 for row in rows]


async def test_they_are_listed_and_each_is_read_with_its_datagrams_in_words(api: Api, writer: Writer) -> None:
    id = await device(api, writer)
    for number in range(2):
        await writer.write(attempt(api, number))
    listed = await api.ask("GET", f"/v1/devices/{id}/transcripts?order=DESC", 200)
    assert [row["id"] for row in listed["data"]] == [UUID(int=2).hex, UUID(int=1).hex]
    assert (listed["data"][0]["cause"], listed["data"][0]["endpoint_name"]) == ("no_answer", "meter")
    whole = await api.ask("GET", f"/v1/devices/{id}/transcripts/{UUID(int=1).hex}", 200)
    assert whole["entries"] == [{"at": 0.0, "from": "device", "datagram": "40020001", "says": "CON 0x0001 POST /"}]


async def test_an_operator_reads_them_a_reader_and_a_stranger_do_not(api: Api, writer: Writer) -> None:
    id = await device(api, writer)
    await writer.write(attempt(api, 0))
    other = await accounts.add(api.office.database, PERSON, "other")
    for path in (f"/v1/devices/{id}/transcripts", f"/v1/devices/{id}/transcripts/{UUID(int=1).hex}"):
        await api.ask("GET", path, 200, headers=await api.key("operator"))
        await api.ask("GET", path, 403, headers=await api.key("reader"))
        await api.ask("GET", path, 404, headers=await api.key("admin", other.id))
    for path in ("not-an-id", uuid4().hex):
        await api.ask("GET", f"/v1/devices/{id}/transcripts/{path}", 404)
        await api.ask("GET", f"/v1/devices/{path}/transcripts", 404)


async def test_a_device_keeps_its_newest_whatever_comes_together(api: Api, writer: Writer) -> None:
    await asyncio.gather(*(writer.write(attempt(api, number)) for number in range(7)))
    await asyncio.gather(*(writer.write(attempt(api, number, endpoint="other")) for number in range(100, 102)))
    assert await kept(api) == [6, 5, 4]
    assert await kept(api, "other") == [101, 100]
    # Written again after a lost connection it is there once; with a smaller setting fewer are kept.
    await writer.write(attempt(api, 6))
    assert await kept(api) == [6, 5, 4]
    await writer.write(attempt(api, 7, attempts=1))
    assert await kept(api) == [7]


async def test_an_old_one_goes_with_the_night(api: Api, writer: Writer) -> None:
    await writer.write(attempt(api, 0))
    await writer.write(attempt(api, -8 * 86400, endpoint="old"))
    await prune(api.office.database, sessions_days=90, audit_days=730, transcripts_days=7, failed_issuances_days=730)
    assert (len(await kept(api)), await kept(api, "old")) == (1, [])
