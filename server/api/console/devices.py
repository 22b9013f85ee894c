"""Devices: found among 100,000, each with its identity, the chain it holds, its bootstraps step by step; forgotten."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from issuers.errors import IssuerError
from lwm2m.steps import FailureCause
from server import est_unused, transcripts
from server.admin import certificates as certificate_admin
from server.admin import devices as admin
from server.api import filters
from server.api.access import parse_id
from server.api.certificates import chain_of
from server.api.console import authorities, browsing, export, forms
from server.api.console.certificate import Described, described
from server.api.console.door import OperatorVisits, ReaderVisits, Visitor
from server.api.console.forms import Faults
from server.api.console.page import ConsoleRoute, call, go, render
from server.errors import BadRequest, NotFound, OutsideFailed
from server.sentences import NOT_SHOWN
from server.store import (
    certificates,
    devices,
    est_offers,
    issuances,
    issuers,
    listings,
    profiles,
    registrations,
    sessions,
)
from server.store import transcripts as recorded
from server.store.certificates import CertificateRow
from server.store.issuances import IssuanceRow
from server.store.sessions import SessionRow

PATH = "/devices"
router = APIRouter(route_class=ConsoleRoute, prefix=PATH)
API = "/v3/devices/"
# Bootstraps shown on a device's page at once.
SESSIONS = 10
COLUMNS = (
    *("endpoint_name", "id", "state", "last_outcome", "last_cause", "profile", "ca_id", "device_key"),
    *("created_at", "updated_at", "bootstrapped_timestamp", "connector_expiration_date"),
)


@router.get("")
async def list_devices(request: Request, visitor: ReaderVisits) -> Response:
    """Those seen last come first unless asked otherwise; the filters are those of the API."""
    found = await browsing.browse(visitor, request, "device", PATH, sort="updated_at", order="DESC")
    names = await ca_names(visitor)
    others = [(key, name) for key, name in names.items() if isinstance(key, str)]
    cas = [(authorities.OWN, authorities.OWN_NAME), *others]
    asked = [*cas, ("none", "none asked")]
    return render(
        request,
        "devices.html",
        visitor=visitor,
        calls=[call("GET", f"{API}?{found.asked}")],
        listing=found,
        causes=[cause.value for cause in FailureCause],
        profiles=await _profile_names(visitor),
        names=names,
        cas=cas,
        asked=asked,
        called={**dict(asked), "bootstrapped": "succeeded"},
        not_shown=NOT_SHOWN,
    )


@router.get("/list.csv")
async def as_csv(request: Request, visitor: ReaderVisits) -> Response:
    """Every device that fits, for a spreadsheet."""
    rows = [row async for row in browsing.everything(visitor, request, "device", sort="updated_at", order="DESC")]
    return export.answer("devices.csv", rows, COLUMNS)


# -- one device --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One step of a time line: an operation, or the call of a CA. `start` and `took` in milliseconds, if known."""

    start: int | None
    what: str
    path: str
    answer: str
    tone: str
    bytes: int | None
    format: str
    took: int | None
    note: str
    issuer_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A bootstrap as its time line tells it; `milliseconds` from the first datagram to the end."""

    session: SessionRow
    lines: Sequence[Line]
    milliseconds: int | None


@router.get("/{device_id}")
async def show(request: Request, visitor: ReaderVisits, device_id: str) -> Response:
    """Identity, state, what it holds, how it went, and what to do next."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    wanted = parse_id(device_id, "device")
    row = await listings.find(database, account_id, "device", wanted)
    if row is None:
        raise NotFound("there is no such device; it may have been forgotten")
    endpoint = row["endpoint_name"]
    before = _moment(request.query_params.get("before", ""))
    past = await sessions.of_endpoint(database, account_id, endpoint, before=before, limit=SESSIONS + 1)
    wishes = await issuances.of_endpoint(database, account_id, endpoint, limit=50)
    issued = {
        row.issuance_id: row.issued_at
        for row in await certificates.search(database, account_id, endpoint=endpoint, limit=50)
    }
    device = await devices.by_id(database, account_id, wanted)
    offer, now = await est_offers.find(database, account_id, endpoint), visitor.caller.office.now()
    return render(
        request,
        "device.html",
        alike=await _alike(visitor, row),
        waits=await issuances.waiting(database, account_id, endpoint),
        visitor=visitor,
        calls=[
            call("GET", f"{API}{wanted.hex}/"),
            call("GET", f"/v1/sessions?{urlencode({'endpoint_name__eq': endpoint, 'order': 'DESC'})}"),
        ],
        device=row,
        learned=est_unused.learned_json(device, offer, now),
        about_est=est_unused.told(offer, now),
        chain=await _chain(visitor, device.id),
        names=await ca_names(visitor),
        profiles=await _profile_names(visitor),
        taped={row.session_id for row in await recorded.listed(database, account_id, endpoint)},
        registration=await registrations.find(database, account_id, wanted),
        past=[told(session, wishes, issued) for session in past[:SESSIONS]],
        older=past[SESSIONS - 1].started_at.isoformat() if len(past) > SESSIONS else "",
        newer=before is not None,
    )


@dataclass(frozen=True, slots=True)
class Alike:
    """Other devices whose last bootstrap failed for the same cause, and where they are listed."""

    count: int
    path: str

    @property
    def told(self) -> str:
        """In words, as far as they were counted."""
        most = browsing.MOST_COUNTED
        number = f"More than {most:,}" if self.count > most else f"{self.count:,}"
        return f"{number} other device{'s' if self.count != 1 else ''} failed for the same cause."


async def _alike(visitor: Visitor, row: Mapping[str, Any]) -> Alike:
    if row["last_outcome"] != "failed":
        return Alike(0, "")
    given = [("last_outcome__eq", "failed"), ("last_cause__eq", str(row["last_cause"]))]
    conditions = filters.conditions(given, listings.LISTINGS["device"])
    database, account_id = visitor.caller.database, visitor.caller.account_id
    found = await listings.count(database, account_id, "device", conditions, most=browsing.MOST_COUNTED + 2)
    return Alike(max(0, found - 1), f"{PATH}?{urlencode(given)}")


async def _chain(visitor: Visitor, device_id: UUID) -> tuple[CertificateRow, list[Described]] | None:
    """The certificate a device holds and the chain above it, as it was written to it."""
    held = await devices.held(visitor.caller.database, visitor.caller.account_id, device_id)
    if held is None:
        return None
    row = await certificate_admin.find(visitor.caller.database, visitor.caller.account_id, held)
    return row, [described(each) for each in chain_of(row)]


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise BadRequest("must be a time", field="before") from None
    # No zone is none of ours to guess; the ends of the calendar leave no room for one.
    if moment is not None and (moment.tzinfo is None or not 1 < moment.year < 9999):
        raise BadRequest("must be a time with its zone", field="before")
    return moment


def told(session: SessionRow, wishes: Sequence[IssuanceRow], issued: Mapping[UUID, datetime]) -> Told:
    """The steps of a bootstrap and the CA calls in it, in the order of time."""
    took = round((session.ended_at - session.started_at).total_seconds() * 1000) if session.ended_at else None
    steps = [step for step in session.steps if isinstance(step, dict)]
    # A step's time counts from the answer to the Bootstrap-Request, which may wait for the CA; the last step ends the
    # session.
    over = max((step.get("at", 0) + step.get("ms", 0) for step in steps), default=0)
    begun = max(0, took - over) if took is not None else 0
    lines = [_asked(wish, session, issued.get(wish.id)) for wish in wishes if wish.session_id == session.id]
    lines += [_sent(step, begun) for step in steps]
    lines.sort(key=lambda line: (line.start is None, line.start or 0))
    return Told(session, lines, took)


def _sent(step: dict[str, Any], begun: int) -> Line:
    code = str(step.get("code", ""))
    return Line(
        start=begun + step["at"] if "at" in step else None,
        what=str(step["op"]).capitalize(),
        path=str(step["path"]),
        answer=code or "no answer",
        tone="ok" if code.startswith("2.") else "fail",
        bytes=step.get("bytes"),
        format=str(step.get("format", "")),
        took=step.get("ms"),
        note=str(step.get("note", "")),
    )


def _asked(wish: IssuanceRow, session: SessionRow, issued_at: datetime | None) -> Line:
    good = wish.state in ("issued", "delivered", "abandoned")
    return Line(
        start=max(0, round((wish.opened_at - session.started_at).total_seconds() * 1000)),
        what="CA",
        path=wish.service,
        answer=wish.state,
        tone="ok" if wish.state in ("issued", "delivered") else "warn" if wish.state == "abandoned" else "fail",
        bytes=len(wish.csr),
        format="CSR",
        took=max(0, round((issued_at - wish.opened_at).total_seconds() * 1000)) if issued_at else None,
        note=wish.subject if good else f"{wish.error_class or ''}: {wish.error_text or ''}".strip(": "),
        issuer_id=wish.issuer_id,
    )


async def _profile_names(visitor: Visitor) -> list[str]:
    """The profiles that there are; a device remembers its last one, which may be gone."""
    return [row.name for row in await profiles.listed(visitor.caller.database, visitor.caller.account_id)]


async def ca_names(visitor: Visitor) -> dict[object, str]:
    """What a CA is called, by its id and by that id in hexadecimal; None is the embedded one."""
    rows = await issuers.listed(visitor.caller.database, visitor.caller.account_id)
    return {None: authorities.OWN_NAME} | {key: row.name for row in rows for key in (row.id, row.id.hex)}


@router.get("/{device_id}/transcripts/{session_id}.json")
async def transcript(request: Request, visitor: OperatorVisits, device_id: str, session_id: str) -> Response:
    """What the flight recorder kept of a bootstrap, datagram by datagram, for `firstlight replay`."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    device = await devices.by_id(database, account_id, parse_id(device_id, "device"))
    session = parse_id(session_id, "transcript")
    found = await recorded.find(database, account_id, device.endpoint, session)
    if found is None:
        raise NotFound("there is no such transcript; the flight recorder keeps the last attempts of a device")
    return Response(
        json.dumps(transcripts.shown(found), indent=1),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="transcript-{session.hex}.json"'},
    )


# -- release -----------------------------------------------------------------------------


@router.get("/{device_id}/release")
async def ask_release(request: Request, visitor: OperatorVisits, device_id: str) -> Response:
    """What is not settled by it, before."""
    device = await devices.by_id(visitor.caller.database, visitor.caller.account_id, parse_id(device_id, "device"))
    return render(
        request,
        "device_release.html",
        visitor=visitor,
        calls=[call("POST", "/v1/devices/release", {"endpoint_name": device.endpoint})],
        device=device,
    )


@router.post("/{device_id}/release")
async def release(request: Request, visitor: OperatorVisits, device_id: str) -> Response:
    """Let it have a new certificate although nobody knows what became of an earlier request."""
    caller = visitor.caller
    device = await devices.by_id(caller.database, caller.account_id, parse_id(device_id, "device"))
    await issuances.release(caller.database, caller.actor, caller.account_id, device.endpoint)
    path = f"{PATH}/{device.id.hex}"
    return go(request, path, f"{device.endpoint} is released: its next bootstrap asks for a new certificate.")


# -- forget ------------------------------------------------------------------------------


@router.get("/{device_id}/forget")
async def ask_forget(request: Request, visitor: OperatorVisits, device_id: str) -> Response:
    """What goes and what stays, before."""
    return await _forget_form(request, visitor, device_id)


@router.post("/{device_id}/forget")
async def forget(request: Request, visitor: OperatorVisits, device_id: str) -> Response:
    """Forget it; with its certificates revoked first if wished."""
    form = await forms.read(request)
    office = visitor.caller.office
    try:
        gone = await admin.forget(
            office.database,
            office.sealer,
            office.config,
            visitor.caller.actor,
            visitor.caller.account_id,
            parse_id(device_id, "device"),
            revoke=form.switch("revoke"),
            now=office.now(),
        )
    except (IssuerError, OutsideFailed) as error:
        message = f"Nothing was forgotten, because its CA could not revoke: {error}"
        return await _forget_form(request, visitor, device_id, Faults(whole=message))
    count = len(gone.revoked)
    revoked = f" {'Its certificate is' if count == 1 else f'{count} certificates are'} revoked." if count else ""
    return go(request, PATH, f"{gone.endpoint} is forgotten.{revoked}")


async def _forget_form(request: Request, visitor: Visitor, device_id: str, faults: Faults | None = None) -> Response:
    database = visitor.caller.database
    device = await devices.by_id(database, visitor.caller.account_id, parse_id(device_id, "device"))
    return render(
        request,
        "device_forget.html",
        visitor=visitor,
        calls=[call("DELETE", f"{API}{device.id.hex}/?revoke=false")],
        device=device,
        held=await admin.at_work(database, device, visitor.caller.office.now()),
        faults=faults,
    )
