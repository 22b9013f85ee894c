"""Certificate Authorities › Service configuration: which CA signs for which service, in the portal's pop-up."""

from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import issuer_forms, profiles
from server.admin import issuers as admin
from server.api.access import parse_id
from server.api.console import authorities, forms
from server.api.console.certificate_authorities import CaAdministrator
from server.api.console.door import Visitor
from server.api.console.forms import MENDABLE, Faults
from server.api.console.navigation import CERTIFICATE_AUTHORITIES
from server.api.console.page import ConsoleRoute, call, go, render
from server.errors import BadRequest, Conflict
from server.standing import doubts_of, standings
from server.store import issuer_chains, issuers
from server.store.issuers import Configuration, IssuerRow

router = APIRouter(route_class=ConsoleRoute, prefix=CERTIFICATE_AUTHORITIES)
API = "/v3/certificate-issuer-configurations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One line of the pop-up: a service, who signs for it now, and what choosing it would do."""

    reference: str
    row: Configuration | None
    signs: str
    here: bool
    holders: int


@router.get("/{issuer_id}/services")
async def ask(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Select service configuration."""
    return await _popup(request, visitor, issuer_id, (), "", Faults())


@router.post("/{issuer_id}/services/new")
async def name_new(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """The + of the pop-up: one more line in it, with nothing written yet."""
    form = await forms.read(request)
    fresh, name = _fresh(form.text("fresh")), form.text("new")
    try:
        issuer_forms.check_reference(name)
        if name in fresh or await issuers.service(visitor.caller.database, visitor.caller.account_id, name):
            raise Conflict(f"the service {name} is there already; select it in the list", field="reference")
    except MENDABLE as error:
        return await _popup(
            request, visitor, issuer_id, fresh, form.text("reference"), Faults({"new": error.message}), typed=name
        )
    return await _popup(request, visitor, issuer_id, (*fresh, name), name, Faults())


@router.post("/{issuer_id}/services")
async def configure(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Create a new service on this CA, or move an existing one to it."""
    form = await forms.read(request)
    caller = visitor.caller
    target = await _target(visitor, issuer_id)
    wanted = target.id if target is not None else None
    called = target.name if target is not None else authorities.OWN_NAME
    # A name that was typed and never added by + is what is wanted, whatever stands selected.
    reference = form.text("new") or form.text("reference")
    fresh = _fresh(form.text("fresh"))
    try:
        if not reference:
            raise BadRequest("select a service configuration, or enter the name of a new one", field="reference")
        existing = await issuers.service(caller.database, caller.account_id, reference)
        if existing is None:
            issuer_forms.check_reference(reference)
            made = await issuers.add_configuration(caller.database, caller.actor, caller.account_id, reference, wanted)
            return await _done(request, visitor, made, f"{reference} is created; {called} signs for it.")
        if existing.issuer_id != wanted:
            existing = await issuers.set_configuration(
                caller.database, caller.actor, caller.account_id, existing.id, wanted
            )
    except MENDABLE as error:
        return await _popup(request, visitor, issuer_id, fresh, reference, Faults(whole=error.message))
    said = f"{called} signs for {reference} from now on: {_then(existing)}"
    return await _done(request, visitor, existing, said)


@router.post("/{issuer_id}/services/{configuration_id}/delete")
async def remove(request: Request, visitor: CaAdministrator, issuer_id: str, configuration_id: str) -> Response:
    """Remove a service of an operator's own; LWM2M stays."""
    caller = visitor.caller
    wanted = parse_id(configuration_id, "certificate issuer configuration")
    gone = await issuers.remove_configuration(caller.database, caller.actor, caller.account_id, wanted)
    doubts = await profiles.without_service(caller.database, caller.account_id, gone.reference)
    said = " ".join((f"The service {gone.reference} is removed.", *(f"{each.what}; {each.remedy}." for each in doubts)))
    return go(request, CERTIFICATE_AUTHORITIES, said, "bad" if doubts else "good")


async def _done(request: Request, visitor: Visitor, service: Configuration, said: str) -> Response:
    """Back to the list, with what was done and what speaks against the CA that was chosen."""
    doubts = await doubts_of(visitor.caller.database, visitor.caller.account_id, service, visitor.caller.office.now())
    warnings = [f"{authorities.labelled(doubt.what)}; {doubt.remedy}." for doubt in doubts]
    return go(request, CERTIFICATE_AUTHORITIES, " ".join([said, *warnings]), "bad" if warnings else "good")


async def _popup(
    request: Request,
    visitor: Visitor,
    issuer_id: str,
    fresh: tuple[str, ...],
    selected: str,
    faults: Faults,
    *,
    typed: str = "",
) -> Response:
    caller = visitor.caller
    target = await _target(visitor, issuer_id)
    wanted = target.id if target is not None else None
    standing = (
        (await standings(caller.database, caller.account_id, caller.office.now())).get(target.id)
        if target is not None
        else None
    )
    names: dict[UUID | None, str] = {None: authorities.OWN_NAME}
    names |= {row.id: row.name for row in await issuers.listed(caller.database, caller.account_id)}
    holders = await issuer_chains.holders(caller.database, caller.account_id, caller.office.now())
    options = [
        Option(
            reference=row.reference,
            row=row,
            signs=names[row.issuer_id],
            here=row.issuer_id == wanted,
            holders=holders.get(row.reference, 0),
        )
        for row in await issuers.configured(caller.database, caller.account_id)
    ]
    options += [Option(reference=name, row=None, signs="", here=False, holders=0) for name in fresh]
    body = {"certificate_issuer_id": wanted.hex if wanted is not None else None}
    return render(
        request,
        "services.html",
        visitor=visitor,
        status=400 if faults else 200,
        calls=[call("PUT", f"{API}/lwm2m", body), call("POST", API, {"reference": "customer.dlms", **body})],
        id=issuer_id,
        called=names[wanted],
        standing=standing,
        options=options,
        fresh=",".join(fresh),
        selected=selected,
        typed=typed,
        faults=faults,
    )


def _then(moved: Configuration) -> str:
    """What comes of it, and where that is seen."""
    if moved.is_custom:
        return "who renews it gets the certificate from there."
    return "the next device that bootstraps gets its certificate from it, and stands under Devices."


def _fresh(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


async def _target(visitor: Visitor, issuer_id: str) -> IssuerRow | None:
    """The CA of the row; None = the embedded one."""
    if issuer_id == authorities.OWN:
        return None
    wanted = parse_id(issuer_id, "certificate issuer")
    return await admin.find(visitor.caller.database, visitor.caller.account_id, wanted)
