"""Devices › Seen, not admitted: who knocked and was turned away, and the one click that lets it in where one can."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server import sentences
from server.admin import trust as admin
from server.admin.psk import new_key
from server.api.console import export, forms
from server.api.console.door import AdministratorVisits, Visitor
from server.api.console.forms import MENDABLE, Faults
from server.api.console.navigation import CERTIFICATES
from server.api.console.page import ConsoleRoute, call, go, render
from server.api.trusted_certificates import find
from server.errors import NotAuthorized
from server.store import psk, refusals, trust
from server.store.refusals import RefusalRow
from server.store.trust import TrustedCertificate

PATH = "/devices/seen"
router = APIRouter(route_class=ConsoleRoute, prefix=PATH)
COLUMNS = ("source", "reason", "credential", "identity", "count", "first_seen", "last_seen")


@dataclass(frozen=True, slots=True)
class Rule:
    """What lets a peer in: a form at `path` (a dialog), or at once if `posts`; `text` is its button."""

    text: str
    path: str
    posts: bool = False
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Knock:
    """One line: who, how often, what it means, what to do, and the rule if there is one that truly acts."""

    row: RefusalRow
    meaning: str
    remedy: str
    rule: Rule | None


@router.get("")
async def list_seen(request: Request, visitor: AdministratorVisits) -> Response:
    """The newest first; whose they are nobody knows, so only the default account's administrators look."""
    _only_default(visitor)
    given = request.query_params
    everyone = await refusals.listed(visitor.caller.database, limit=refusals.MOST)
    rows = _fitting(request, everyone)
    anchors = await trust.listed(visitor.caller.database, visitor.caller.account_id)
    return render(
        request,
        "seen.html",
        visitor=visitor,
        calls=[call("GET", "/v1/seen?limit=1000")],
        knocks=[_knock(row, anchors) for row in rows[:200]],
        count=len(rows),
        # Who was turned away after the handshake has the cause of a failed bootstrap.
        reasons=sorted({*sentences.REFUSALS, *(row.reason for row in everyone)}),
        filtered=bool(given),
        asked=urlencode(dict(given)),
        unlisted=await refusals.not_listed(visitor.caller.database),
    )


@router.get("/list.csv")
async def as_csv(request: Request, visitor: AdministratorVisits) -> Response:
    """All that fit, for a spreadsheet."""
    _only_default(visitor)
    rows = _fitting(request, await refusals.listed(visitor.caller.database, limit=refusals.MOST))
    return export.answer("seen.csv", [{column: getattr(row, column) for column in COLUMNS} for row in rows], COLUMNS)


def _fitting(request: Request, rows: Sequence[RefusalRow]) -> list[RefusalRow]:
    given = request.query_params
    return [
        row
        for row in rows
        if given.get("reason__eq", row.reason) == row.reason
        and given.get("identity__like", "").lower() in row.identity.lower()
    ]


def _only_default(visitor: Visitor) -> None:
    if not visitor.account.is_default:
        raise NotAuthorized(f"only the default account sees who was not admitted. {sentences.NOT_SHOWN}")


def _knock(row: RefusalRow, anchors: list[TrustedCertificate]) -> Knock:
    meaning, remedy = sentences.for_refusal(row.reason)
    return Knock(row, meaning, remedy, _rule(row, anchors))


def _rule(row: RefusalRow, anchors: list[TrustedCertificate]) -> Rule | None:
    """The rule for a peer, as far as what was kept of it tells one that works."""
    match row.reason:
        case "unknown_identity":
            return Rule("Add its key", f"{PATH}/key?{urlencode({'identity': row.identity})}")
        case "unknown_ca":
            return Rule("Trust its CA", f"{CERTIFICATES}/upload?service=bootstrap")
        case "denied":
            denied = [each for each in anchors if each.service == "bootstrap" and not each.active]
            # With several nobody can tell which one stands above this device.
            if len(denied) == 1:
                return Rule(f"Allow {denied[0].name} again", f"{PATH}/allow/{denied[0].id.hex}", posts=True)
            return None
        case "no_profile":
            endpoint = row.identity.partition(":")[0].removeprefix("CN=")
            return Rule("Make a profile", f"/profiles/new?{urlencode({'endpoint': endpoint})}", leads=True)
        case _:
            return None


@router.get("/key")
async def ask_key(request: Request, visitor: AdministratorVisits) -> Response:
    """The key of an identity that knocked."""
    identity = request.query_params.get("identity", "")
    return _key_form(request, visitor, identity, identity)


@router.post("/key")
async def add_key(request: Request, visitor: AdministratorVisits) -> Response:
    """Store it; the device's next try succeeds within two seconds."""
    form = await forms.read(request)
    identity, endpoint = form.text("identity"), form.text("endpoint_name")
    try:
        key = new_key(identity, form.text("key"), endpoint)
        await psk.add(
            visitor.caller.database,
            visitor.caller.office.sealer,
            visitor.caller.actor,
            visitor.caller.account_id,
            [key],
            service="bootstrap",
        )
    except MENDABLE as error:
        return _key_form(
            request, visitor, identity, endpoint, forms.faults(error, ("identity", "key", "endpoint_name"))
        )
    return go(request, PATH, f"The key of {identity} is stored; the device is admitted at its next try.")


def _key_form(
    request: Request, visitor: Visitor, identity: str, endpoint: str, faults: Faults | None = None
) -> Response:
    body = {"identity": identity, "key": "00112233445566778899aabbccddeeff", "endpoint_name": endpoint}
    return render(
        request,
        "seen_key.html",
        visitor=visitor,
        calls=[call("POST", "/v1/pre-shared-keys", body)],
        identity=identity,
        endpoint=endpoint,
        faults=faults,
    )


@router.post("/allow/{certificate_id}")
async def allow(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """Make a denied trusted certificate active again."""
    caller = visitor.caller
    denied = await find(caller, certificate_id)
    admin.check_activation(denied, caller.office.now())
    row = await trust.set_active(caller.database, caller.actor, caller.account_id, denied.id, True)
    return go(request, PATH, f"{row.name} is allowed again; its devices are admitted at their next try.")
