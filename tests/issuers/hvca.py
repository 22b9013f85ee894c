"""How tests of GLOBAL_SIGN ask the HVCA stand-in, and what they look for in its answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from issuers import open_issuer
from issuers.base import Issued, Issuer, IssueRequest, Pending
from issuers.errors import IssuerError
from simulators.atlas_faults import Fault
from tests.issuers.peers.atlas import AtlasPeer
from tests.issuers.rigs import LOOPBACK, make_request

ORDER, ASK, PATCH = "POST /certificates", "GET /certificates/{serial}", "PATCH /certificates/{serial}"
JUST_NOW, LONG_SINCE = timedelta(), timedelta(hours=1)
SEVEN = "CN={endpoint},OU={account},O=Acme,L={device},ST=Uusimaa,C=FI,emailAddress=devices@acme.example"


def now() -> datetime:
    """The time as a request bears it (UTC)."""
    return datetime.now(UTC).replace(microsecond=0)


def wish(endpoint: str = "urn:dev:os:0001", **more: Any) -> IssueRequest:
    """A device's request, made now."""
    return make_request(endpoint, not_before=now(), **more)


@asynccontextmanager
async def opened(
    peer: AtlasPeer, attributes: Mapping[str, object] | None = None, credentials: Mapping[str, object] | None = None
) -> AsyncIterator[Issuer]:
    """The adapter as registered with these settings beside the stand-in's own."""
    issuer = open_issuer(
        "GLOBAL_SIGN",
        "theirs",
        {**peer.attributes, **(attributes or {})},
        {**peer.credentials, **(credentials or {})},
        LOOPBACK,
    )
    try:
        yield issuer
    finally:
        await issuer.aclose()


async def failure(issuer: Issuer, request: IssueRequest | None = None) -> IssuerError:
    """The error of a request that fails."""
    with pytest.raises(IssuerError) as raised:
        await issuer.issue(request or wish())
    return raised.value


async def collected(issuer: Issuer, answer: Issued | Pending | None) -> Issued:
    """What a pending answer becomes."""
    for _ in range(50):
        if not isinstance(answer, Pending):
            break
        answer = await issuer.collect(answer.reference)
    assert isinstance(answer, Issued)
    return answer


async def found_in_time(issuer: Issuer, request: IssueRequest) -> Issued:
    """The certificate of a lost answer, looked for until it is there."""
    async with asyncio.timeout(30):
        while not isinstance(recovered := await issuer.recover(request, JUST_NOW), Issued):
            await asyncio.sleep(0.02)
    return recovered


async def got(issuer: Issuer, request: IssueRequest) -> Issued:
    """Asked for and collected."""
    return await collected(issuer, await issuer.issue(request))


def break_down(peer: AtlasPeer, at: str, do: Any, **more: Any) -> None:
    """Have the stand-in fail at its next call of this kind."""
    peer.atlas.faults.append(Fault(at=at, do=do, **more))
