"""The start page: does anything need me, and how do bootstraps go; live as long as somebody looks."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from server import sentences
from server.admin import first_start
from server.api.console import authorities, door, plots
from server.api.console.door import ReaderVisits, Visitor
from server.api.console.navigation import CERTIFICATE_AUTHORITIES, CERTIFICATES
from server.api.console.page import ConsoleRoute, call, render, text_of
from server.api.statistics import shown
from server.attention import Attendant, Finding
from server.config import host_and_port
from server.errors import BadRequest
from server.statistics import WINDOWS, Statistics
from server.store import issuers, listings, operators, trust
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
_PLACES = {"ca_certificate_expiring": CERTIFICATES, "feature_off": "/access"}
EXAMPLES = "trial"


@dataclass(slots=True)
class Drawn:
    """The newest fragment of an account's window, drawn once for all who look."""

    fragments: dict[tuple[UUID, str], tuple[datetime, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """The way from nothing to a first device: what is done, and commands that work on this server."""

    trusted: bool
    make: str
    trust: str
    simulate: str


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
        steps=await _first_steps(visitor),
        **await _seen(request, visitor, window),
    )


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
            if office.now() - checked > CHECKED_EVERY:
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


async def _still_signed_in(visitor: Visitor, now: datetime) -> bool:
    office = visitor.caller.office
    found = await operators.find_session(
        office.database, door.hash_of(visitor.token), now=now, used_after=door.idle_after(office, now)
    )
    return found is not None


async def _drawn(request: Request, visitor: Visitor, window: str) -> str:
    drawn: Drawn = request.app.state.drawn
    key = (visitor.account.id, window)
    now = visitor.caller.office.now()
    known = drawn.fragments.get(key)
    if known is not None and now - known[0] < timedelta(seconds=EVERY * 0.9):
        return known[1]
    text = text_of(request, "live.html", visitor=visitor, **await _seen(request, visitor, window))
    drawn.fragments[key] = (now, text)
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
    return {"meaning": meaning, "remedy": remedy, "devices": f"/devices?{urlencode(where)}"}


def _place(finding: Finding) -> str:
    if finding.issuer_id is not None:
        return CERTIFICATE_AUTHORITIES
    if finding.devices:
        return f"/devices?{finding.devices}"
    return _PLACES.get(finding.kind, "")


async def _first_steps(visitor: Visitor) -> FirstSteps | None:
    """None once a device was here."""
    office, account_id = visitor.caller.office, visitor.caller.account_id
    if await listings.count(office.database, account_id, "device", [], most=1):
        return None
    anchors = await trust.listed(office.database, account_id, service="bootstrap")
    folder = office.config.server.data_dir.resolve()
    # The program that serves, wherever it was installed.
    beside = Path(sys.executable).with_name("firstlight")
    program = str(beside) if beside.exists() else "firstlight"
    return FirstSteps(
        trusted=any(each.active for each in anchors),
        make=(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 "
            '-subj "/CN=Trial Factory" -keyout factory-key.pem -out factory-ca.pem'
        ),
        # The command line works on the default account.
        trust=f"{program} trust add factory-ca.pem --service bootstrap --data-dir {folder}"
        if visitor.account.is_default
        else "",
        simulate=(
            f"{program} simulate --server {_reachable(office.coaps)} --mode x509 --factory-ca factory-ca.pem "
            f"--factory-key factory-key.pem --server-ca {folder / first_start.SERVER_CA_FILE} "
            f"--endpoint-prefix {EXAMPLES}- --out devices"
        ),
    )


def _reachable(coaps: str) -> str:
    """The address as a device on this machine reaches it: a wildcard is no address."""
    scheme, _, rest = coaps.partition("://")
    try:
        host, port = host_and_port(rest, "coaps")
    except Exception:
        return coaps
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _window(request: Request) -> str:
    window = request.query_params.get("window", USUAL)
    if window not in WINDOWS:
        raise BadRequest(f"the window is one of {', '.join(WINDOWS)}", field="window")
    return window
