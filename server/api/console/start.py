"""The start page: does anything need me, and how do bootstraps go; live as long as somebody looks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from server import sentences
from server.api.console import authorities, door, first_steps, plots
from server.api.console.door import ReaderVisits, Visitor
from server.api.console.navigation import CERTIFICATE_AUTHORITIES, CERTIFICATES
from server.api.console.page import ConsoleRoute, call, render, text_of
from server.api.statistics import shown
from server.attention import Attendant
from server.errors import BadRequest
from server.finding import Finding
from server.statistics import WINDOWS, Statistics
from server.store import issuers, operators
from server.store.errors import StoreUnavailable

router = APIRouter(route_class=ConsoleRoute)

# Seconds between two pictures; whoever looks shares them.
EVERY = 2.0
# A stream looks again whether its visitor is still signed in.
CHECKED_EVERY = timedelta(seconds=30)
USUAL = "1h"
WINDOW_NAMES = {"15m": "15 minutes", "1h": "hour", "24h": "24 hours"}
STEPS_OF_FUNNEL = {
    "seen": "Seen",
    "admitted": "Admitted",
    "requested": "CSR",
    "issued": "Issued",
    "delivered": "Delivered",
    "confirmed": "Confirmed",
}
# Findings about certificates are mended there.
_PLACES = {
    "ca_certificate_expiring": CERTIFICATES,
    "feature_off": "/access",
    "devices_turned_away": "/devices/seen",
}


@dataclass(slots=True)
class Drawn:
    """The newest fragment of an account's window, drawn once for all who look."""

    fragments: dict[tuple[UUID, str], tuple[datetime, str]] = field(default_factory=dict)

    def newest(self, account_id: UUID, window: str, now: datetime) -> str | None:
        """The fragment; None when it is too old, or of a time that the clock has been set back from."""
        at, text = self.fragments.get((account_id, window), (None, ""))
        return text if at is not None and abs(now - at) < timedelta(seconds=EVERY * 0.9) else None


@router.get("/")
async def start(request: Request, visitor: ReaderVisits) -> Response:
    """One glance, then the numbers; four steps while no device was here."""
    window = _window(request)
    return render(
        request,
        "start.html",
        visitor=visitor,
        calls=[call("GET", "/v1/attention"), call("GET", f"/v1/statistics?window={window}")],
        window=window,
        windows=WINDOW_NAMES,
        commands=first_steps.commands(visitor),
        **await _seen(request, visitor, window),
    )


@router.get(first_steps.PATH)
async def steps(request: Request, visitor: ReaderVisits) -> Response:
    """The guide alone, once a step of it is done; nothing when it has done its work."""
    progress = await first_steps.progress(visitor)
    if progress is None:
        return HTMLResponse("")
    return render(request, "first_steps.html", visitor=visitor, steps=progress, commands=first_steps.commands(visitor))


@router.get("/live")
async def live(request: Request, visitor: ReaderVisits) -> Response:
    """The moving part of the start page, again and again, as server-sent events."""
    stream = _stream(request, visitor, _window(request))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(request: Request, visitor: Visitor, window: str) -> AsyncIterator[str]:
    yield "retry: 3000\n\n"
    office = visitor.caller.office
    checked, sent = office.now(), ""
    while not await request.is_disconnected():
        try:
            if due(checked, office.now()):
                checked = office.now()
                if not await _still_signed_in(visitor, checked):
                    yield "event: ended\ndata: \n\n"
                    return
            text = await _drawn(request, visitor, window)
        except StoreUnavailable:
            yield "event: away\ndata: \n\n"
        else:
            if text != sent:
                sent = text
                yield "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
            else:
                yield ": same\n\n"
        await asyncio.sleep(EVERY)


def due(checked: datetime, now: datetime) -> bool:
    """Whether it is time to look whether somebody is still signed in; a clock that is set back puts nothing off."""
    return abs(now - checked) > CHECKED_EVERY


async def _still_signed_in(visitor: Visitor, now: datetime) -> bool:
    office = visitor.caller.office
    found = await operators.find_session(
        office.database, door.hash_of(visitor.token), now=now, used_after=door.idle_after(office, now)
    )
    return found is not None


async def _drawn(request: Request, visitor: Visitor, window: str) -> str:
    drawn: Drawn = request.app.state.drawn
    now = visitor.caller.office.now()
    known = drawn.newest(visitor.account.id, window, now)
    if known is not None:
        return known
    text = text_of(request, "live.html", visitor=visitor, **await _seen(request, visitor, window))
    drawn.fragments[visitor.account.id, window] = (now, text)
    return text


async def _seen(request: Request, visitor: Visitor, window: str) -> dict[str, Any]:
    """What the moving part shows."""
    service: Statistics = request.app.state.statistics
    attendant: Attendant = request.app.state.attendant
    account = visitor.account
    attention = await attendant.look(account)
    picture = await service.picture(account.id, window, installation=account.is_default)
    rows = await issuers.listed(visitor.caller.database, account.id)
    names: dict[Any, str] = {None: authorities.OWN_NAME, **{row.id: row.name for row in rows}}
    numbers = shown(picture, names)
    steps = numbers["steps"]
    return {
        "steps": await first_steps.progress(visitor),
        "attention": attention,
        "places": [_place(finding) for finding in attention.findings],
        "numbers": numbers,
        "funnel": _funnel(numbers["funnel"]),
        "groups": [{**group, **_group(group)} for group in numbers["failures"]],
        "window_name": WINDOW_NAMES[window],
        "installation": account.is_default,
        "plots": [
            plots.stacked(
                "Bootstraps",
                "",
                [("ok", [s["succeeded"] for s in steps]), ("fail", [s["failed"] for s in steps])],
            ),
            plots.curves(
                "How long a bootstrap takes",
                "ms",
                [("p50", [s["p50_ms"] for s in steps]), ("p99", [s["p99_ms"] for s in steps])],
            ),
            plots.curves(
                "How long a CA takes",
                "ms",
                [("p50", [s["ca_p50_ms"] for s in steps]), ("p99", [s["ca_p99_ms"] for s in steps])],
            ),
        ],
    }


def _funnel(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """Name, count and share of the widest step."""
    most = max(counts.values(), default=0) or 1
    return [(name, counts[key], 100 * counts[key] / most) for key, name in STEPS_OF_FUNNEL.items()]


def _group(group: dict[str, Any]) -> dict[str, str]:
    """What a group of failures means, and where its devices are."""
    meaning, remedy = sentences.for_refusal(group["cause"])
    where = {"last_outcome__eq": "failed", "last_cause__eq": group["cause"]}
    if group["family"]:
        where["profile__eq"] = group["family"]
    where["last_failed_ca__eq"] = (
        "none" if group["issuer"] is None else group["certificate_issuer_id"] or authorities.OWN
    )
    return {
        "meaning": meaning,
        "remedy": remedy,
        "devices": f"/devices?{urlencode(where)}",
    }


def _place(finding: Finding) -> str:
    if finding.issuer_id is not None:
        return CERTIFICATE_AUTHORITIES
    if finding.devices:
        return f"/devices?{finding.devices}"
    return _PLACES.get(finding.kind, "")


def _window(request: Request) -> str:
    window = request.query_params.get("window", USUAL)
    if window not in WINDOWS:
        raise BadRequest(f"the window is one of {', '.join(WINDOWS)}", field="window")
    return window
