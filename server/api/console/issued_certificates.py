"""Device identity › Certificates › Issued: every certificate that was issued, found, saved, revoked."""

from datetime import timedelta
from typing import Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import certificates as admin
from server.admin import renewals
from server.api import certificates as api
from server.api.access import parse_id
from server.api.console import authorities, export, forms
from server.api.console.certificate import described
from server.api.console.door import OperatorVisits, ReaderVisits, Visitor
from server.api.console.navigation import CERTIFICATES
from server.api.console.page import Call, ConsoleRoute, call, go, render
from server.api.lists import Page, Paged, time
from server.api.recorded import gathered
from server.errors import BadRequest, NotFound
from server.store import issuers
from server.store.certificates import CertificateRow

router = APIRouter(route_class=ConsoleRoute, prefix=f"{CERTIFICATES}/issued")
PATH = f"{CERTIFICATES}/issued"
API = "/v1/certificates"
SOON = timedelta(days=30)
# What a spreadsheet takes; more by the API.
MOST_EXPORTED = 100_000
COLUMNS = (
    *("endpoint_name", "serial", "service", "state", "certificate_issuer_id", "subject"),
    *("created_at", "not_before", "not_after", "revoked_at", "revocation_reason", "fingerprint"),
)
REASONS = {
    "unspecified": "Unspecified",
    "keyCompromise": "Its key is in wrong hands",
    "affiliationChanged": "The device has another owner",
    "superseded": "Another certificate took its place",
    "cessationOfOperation": "The device is out of use",
    "privilegeWithdrawn": "The device may no longer come",
}


@router.get("")
async def list_issued(request: Request, visitor: ReaderVisits, page: Paged) -> Response:
    """The newest first unless asked otherwise; the filters are those of the API."""
    if "order" not in request.query_params:
        page = Page(limit=page.limit, ascending=False, after=page.after, with_total=page.with_total)
    listing = await gathered(visitor.caller, request, page, "certificate")
    now = visitor.caller.office.now()
    given = dict(request.query_params)
    # What ends next comes first.
    soon = {"not_after__gte": time(now), "not_after__lte": time(now + SOON), "sort": "not_after", "order": "ASC"}
    return render(
        request,
        "issued.html",
        visitor=visitor,
        calls=[call("GET", f"{API}?{urlencode({'order': 'DESC', **given})}")],
        listing=listing,
        names=await _names(visitor),
        filtered=any(name not in ("sort", "order", "after", "limit") for name in given),
        soon="not_after__lte" in given,
        soon_path=f"{PATH}?{urlencode(soon)}",
        first=f"{PATH}?{urlencode({name: value for name, value in given.items() if name != 'after'})}",
        next=f"{PATH}?{urlencode({**given, 'after': listing['data'][-1]['id'] if listing['data'] else ''})}",
        csv=f"{PATH}/list.csv?{urlencode({name: value for name, value in given.items() if name != 'after'})}",
    )


@router.get("/list.csv")
async def as_csv(request: Request, visitor: ReaderVisits) -> Response:
    """Every certificate that fits, for a spreadsheet, in the order of the list."""
    rows: list[dict[str, Any]] = []
    ascending = request.query_params.get("order") == "ASC"
    after = ""
    while len(rows) < MOST_EXPORTED:
        page = Page(limit=1000, ascending=ascending, after=after, with_total=False)
        found = await gathered(visitor.caller, request, page, "certificate")
        rows += found["data"]
        if not found["has_more"]:
            break
        after = rows[-1]["id"]
    return export.answer("certificates.csv", rows, COLUMNS)


@router.get("/{certificate_id}")
async def show(request: Request, visitor: ReaderVisits, certificate_id: str) -> Response:
    """One certificate with its chain, as the device holds it if it was delivered."""
    row = await _find(visitor, certificate_id)
    shown = api.shown(row)
    return render(
        request,
        "issued_one.html",
        visitor=visitor,
        calls=[call("GET", f"{API}/{row.issuance_id.hex}")],
        row=row,
        shown=shown,
        chain=[described(each) for each in api.chain_of(row)],
        issuer=(await _names(visitor)).get(shown["certificate_issuer_id"], "a CA that is no longer registered"),
    )


@router.get("/{certificate_id}/revoke")
async def ask_revocation(request: Request, visitor: OperatorVisits, certificate_id: str) -> Response:
    """Why, and what follows."""
    row = await _find(visitor, certificate_id)
    return render(
        request,
        "revoke.html",
        visitor=visitor,
        calls=[call("POST", f"{API}/{row.issuance_id.hex}/revoke", {"reason": "keyCompromise"})],
        row=row,
        reasons=[(each, REASONS[each]) for each in get_args(api.Reason)],
    )


@router.post("/{certificate_id}/revoke")
async def revoke(request: Request, visitor: OperatorVisits, certificate_id: str) -> Response:
    """At its CA, then on record."""
    form = await forms.read(request)
    office = visitor.caller.office
    reason = form.text("reason")
    if reason not in get_args(api.Reason):
        raise BadRequest("there is no such reason", field="reason")
    row = await admin.revoke(
        office.database,
        office.sealer,
        office.config,
        visitor.caller.actor,
        visitor.caller.account_id,
        parse_id(certificate_id, "certificate"),
        reason=reason,
        now=office.now(),
    )
    return go(request, f"{PATH}/{row.issuance_id.hex}", f"The certificate of {row.endpoint} is revoked.")


@router.get("/{certificate_id}/renew")
async def ask_renewal(request: Request, visitor: OperatorVisits, certificate_id: str) -> Response:
    """What follows is said before."""
    row = await _find(visitor, certificate_id)
    return render(request, "renew.html", visitor=visitor, calls=_renewing(row), row=row)


@router.post("/{certificate_id}/renew")
async def renew(request: Request, visitor: OperatorVisits, certificate_id: str) -> Response:
    """Have the device get a new one; it must be registered and connected."""
    row = await _find(visitor, certificate_id)
    if row.device_id is None:
        raise NotFound("the device of this certificate is forgotten")
    office = visitor.caller.office
    begun = await renewals.renew(
        office.database,
        visitor.caller.actor,
        visitor.caller.account_id,
        row.device_id,
        row.service,
        seconds=office.config.registration.renewal_seconds,
    )
    notice = f"{row.endpoint} was asked to renew its certificate {row.service}; renewal {begun.id.hex}."
    return go(request, f"{PATH}?{urlencode({'endpoint_name__eq': row.endpoint, 'order': 'DESC'})}", notice)


def _renewing(row: CertificateRow) -> list[Call]:
    if row.device_id is None:
        return []
    return [call("POST", f"/v3/devices/{row.device_id.hex}/certificates/{row.service}/renew")]


async def _find(visitor: Visitor, certificate_id: str) -> CertificateRow:
    wanted = parse_id(certificate_id, "certificate")
    return await admin.find(visitor.caller.database, visitor.caller.account_id, wanted)


async def _names(visitor: Visitor) -> dict[str | None, str]:
    """What a `certificate_issuer_id` is called."""
    rows = await issuers.listed(visitor.caller.database, visitor.caller.account_id)
    return {None: authorities.OWN_NAME, **{row.id.hex: row.name for row in rows}}
