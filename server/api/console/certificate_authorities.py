"""Device identity › Certificates › Manage CAs: the CAs of an account, added, changed, verified, trusted, removed.

Which CA signs for which service is `service_configurations.py`.
"""

from datetime import timedelta
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from issuers.errors import IssuerError
from server.admin import issuer_forms
from server.admin import issuers as admin
from server.admin import trust as trust_admin
from server.admin.verification import DEADLINE
from server.api.access import parse_id
from server.api.console import authorities, export, forms
from server.api.console.background import Background
from server.api.console.certificate import described
from server.api.console.door import Visitor, at_least
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.navigation import CERTIFICATE_AUTHORITIES, NO_OWN_CAS
from server.api.console.page import ConsoleRoute, call, go, go_dialog, render, text_of
from server.api.console.quotas import Quotas
from server.errors import BadRequest, NotAuthorized, NotFound, ServiceError
from server.store import issuer_chains, issuers, trust, verifications
from server.store.accounts import Role
from server.store.errors import SealBroken
from server.store.issuers import IssuerRow

router = APIRouter(route_class=ConsoleRoute, prefix=CERTIFICATE_AUTHORITIES)
API = "/v3/certificate-issuers"
# Dialogs of a CA that offer to trust its certificate, and go on afterwards.
BACK = ("verify", "services")


async def _own_cas(visitor: Visitor) -> Visitor:
    if not visitor.account.third_party_ca:
        raise NotAuthorized(NO_OWN_CAS)
    return visitor


def _manages(role: Role) -> Any:
    async def allowed(visitor: Annotated[Visitor, Depends(at_least(role))]) -> Visitor:
        return await _own_cas(visitor)

    return Depends(allowed)


# The account setting `third_party_ca` stands before all of it, as before the calls of the API.
CaReader = Annotated[Visitor, _manages("reader")]
CaOperator = Annotated[Visitor, _manages("operator")]
CaAdministrator = Annotated[Visitor, _manages("admin")]


# -- the list -----------------------------------------------------------------------------


@router.get("")
async def list_authorities(request: Request, visitor: CaReader) -> Response:
    """Every CA with its state."""
    found = await authorities.listed(visitor.caller)
    return render(
        request,
        "authorities.html",
        visitor=visitor,
        calls=[call("GET", API), call("GET", "/v1/issuers"), call("GET", "/v3/certificate-issuer-configurations")],
        authorities=found,
        way=authorities.way(found),
    )


@router.get("/list.csv")
async def as_csv(visitor: CaReader) -> Response:
    """The list for a spreadsheet."""
    return export.answer(
        "certificate-authorities.csv",
        [
            {
                "name": each.name,
                "type": each.type,
                "services": authorities.service_names(each.services),
                "state": each.state.word,
                "since": each.state.since,
                "cause": each.state.cause,
                "last_verification": each.verification.finished_at if each.verification else None,
                "verified": each.verification.successful if each.verification else None,
                "issued_last_hour": each.use.hour,
                "quota": each.quota,
                "ca_certificate_ends": each.ends,
            }
            for each in await authorities.listed(visitor.caller)
        ],
    )


# -- add and edit ---------------------------------------------------------------------------


@router.get("/add")
async def ask_new(
    request: Request, visitor: CaAdministrator, issuer_type: Annotated[str, Query(max_length=50)] = ""
) -> Response:
    """Issuer type first, then exactly its fields."""
    return _form(request, visitor, issuer_type, Form({}), None)


@router.post("/add")
async def add(request: Request, visitor: CaAdministrator) -> Response:
    """Register it, and have a first look at its certificates, which costs nothing."""
    form = await forms.read(request)
    office = visitor.caller.office
    type = form.text("issuer_type")
    try:
        row = await admin.register(
            office.database,
            office.sealer,
            visitor.caller.actor,
            visitor.caller.account_id,
            type=type,
            name=form.text("name"),
            description=form.text("description"),
            attributes=form.within("issuer_attributes"),
            credentials=form.within("issuer_credentials"),
        )
    except MENDABLE as error:
        return _form(request, visitor, type, form, error)
    try:
        await admin.look(office.database, office.sealer, office.config, row, office.now())
    except (IssuerError, SealBroken) as error:
        why = authorities.labelled(str(error), type)
        return go(request, CERTIFICATE_AUTHORITIES, f"{row.name} is added, but could not be looked at: {why}", "bad")
    return go(request, CERTIFICATE_AUTHORITIES, f"{row.name} is added. It signs nothing until it gets a service.")


@router.get("/{issuer_id}/edit")
async def ask_change(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """What is known, secrets left empty: they can be replaced, never read."""
    row = await _find(visitor, issuer_id)
    known = {"name": row.name, "description": row.description}
    known |= {f"issuer_attributes.{name}": str(value) for name, value in row.attributes.items()}
    return _form(request, visitor, row.type, Form(known), None, row)


@router.post("/{issuer_id}/edit")
async def change(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Change it; empty secrets keep what is there."""
    row = await _find(visitor, issuer_id)
    form = await forms.read(request)
    office = visitor.caller.office
    given = {name: value for name, value in form.within("issuer_credentials").items() if value}
    try:
        changed = await admin.change(
            office.database,
            office.sealer,
            visitor.caller.actor,
            row,
            name=form.text("name"),
            description=form.text("description"),
            attributes=form.within("issuer_attributes"),
            credentials=given or None,
        )
    except MENDABLE as error:
        return _form(request, visitor, row.type, form, error, row)
    replaced = " with new credentials" if given else ""
    return go(request, CERTIFICATE_AUTHORITIES, f"{changed.name} is changed{replaced}. Verify it before devices come.")


def _form(
    request: Request,
    visitor: Visitor,
    type: str,
    form: Form,
    error: ServiceError | None,
    row: IssuerRow | None = None,
) -> Response:
    known = issuer_forms.FORMS.get(type)
    fields = ["name", "description", "issuer_type"]
    if known is not None:
        fields += [f"issuer_attributes.{each.name}" for each in known.attributes]
        fields += [f"issuer_credentials.{each.name}" for each in known.credentials]
    example = {"name": form.text("name") or "…", "issuer_type": type} if row is None else {"name": row.name}
    return render(
        request,
        "authority_form.html",
        visitor=visitor,
        status=400 if error is not None else 200,
        calls=[call("POST", API, example) if row is None else call("PUT", f"{API}/{row.id.hex}", example)],
        types=[(name, each.label) for name, each in issuer_forms.FORMS.items()],
        type=type,
        known=known,
        form=form,
        choices=lambda setting: [("", "as usual"), *((each, each) for each in setting.choices)],
        faults=forms.faults(error, fields) if error is not None else Faults(),
        row=row,
    )


# -- verify -----------------------------------------------------------------------------------


@router.get("/{issuer_id}/verify")
async def ask_verification(request: Request, visitor: CaOperator, issuer_id: str) -> Response:
    """What it costs is said before."""
    row = await _find(visitor, issuer_id)
    form = issuer_forms.form_of(row.type)
    known = next(each for each in await authorities.listed(visitor.caller) if each.id == row.id.hex)
    # Other services end at the CA's own root.
    needs_trust = not known.services or any(not each.is_custom for each in known.services)
    return render(
        request,
        "verify.html",
        visitor=visitor,
        calls=[call("POST", f"{API}/{row.id.hex}/verify")],
        row=row,
        costs=form.test_costs,
        trusted=known.trusted if needs_trust else True,
        quota=_quota_address(row) if form.tells_quota else "",
    )


@router.get("/{issuer_id}/quota")
async def quota(request: Request, visitor: CaReader, issuer_id: str) -> Response:
    """How many certificates are left, as the CA says it now."""
    row = await _find(visitor, issuer_id)
    if not issuer_forms.form_of(row.type).tells_quota:
        raise NotFound("CAs of this type do not tell a quota")
    quotas: Quotas = request.app.state.quotas
    found = await quotas.of(visitor.caller.office, row)
    return HTMLResponse(text_of(request, "quota.html", visitor=visitor, quota=found, address=_quota_address(row)))


def _quota_address(row: IssuerRow) -> str:
    return f"{CERTIFICATE_AUTHORITIES}/{row.id.hex}/quota"


@router.post("/{issuer_id}/verify")
async def verify(request: Request, visitor: CaOperator, issuer_id: str) -> Response:
    """Begin; the steps come one by one (`watch`)."""
    row = await _find(visitor, issuer_id)
    office = visitor.caller.office
    form = await forms.read(request)
    background: Background = request.app.state.background
    begun = await admin.begin_verification(
        office.database, visitor.caller.actor, row, issue_test=form.switch("issue_test"), now=office.now()
    )
    background.start(
        "verification",
        admin.run_verification(office.database, office.sealer, office.config, visitor.caller.actor, row, begun),
    )
    return await watch(request, visitor, issuer_id, begun.id.hex)


@router.get("/{issuer_id}/verifications/{verification_id}")
async def watch(request: Request, visitor: CaReader, issuer_id: str, verification_id: str) -> Response:
    """The steps so far; the page asks again while it runs."""
    row = await _find(visitor, issuer_id)
    wanted = parse_id(verification_id, "verification")
    found = await verifications.find(visitor.caller.database, visitor.caller.account_id, wanted)
    if found is None or found.issuer_id != row.id:
        raise NotFound("there is no such verification")
    office = visitor.caller.office
    late = found.finished_at is None and office.now() - found.started_at > timedelta(seconds=2 * DEADLINE)
    part = request.headers.get("HX-Target") == "verification"
    return render(
        request,
        "verification_steps.html" if part else "verification.html",
        visitor=visitor,
        calls=[call("GET", f"/v1/issuers/{row.id.hex}/verifications?order=DESC")],
        row=row,
        found=found,
        late=late,
        address=f"{CERTIFICATE_AUTHORITIES}/{row.id.hex}/verifications/{found.id.hex}",
    )


# -- trust and remove -------------------------------------------------------------------------


@router.get("/{issuer_id}/trust")
async def ask_trust(
    request: Request, visitor: CaAdministrator, issuer_id: str, then: Annotated[str, Query(max_length=50)] = ""
) -> Response:
    """The certificate that what this CA issues leads to, before it is trusted for LwM2M; `then` asked for it."""
    row, top = await _top(visitor, issuer_id)
    return render(
        request,
        "authority_trust.html",
        visitor=visitor,
        calls=[
            call(
                "POST",
                "/v3/trusted-certificates",
                {"name": row.name, "service": "lwm2m", "certificate": described(top).pem},
            )
        ],
        row=row,
        found=described(top),
        then=then,
        faults=Faults(),
    )


@router.post("/{issuer_id}/trust")
async def trust_it(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Trust it for LwM2M."""
    row, top = await _top(visitor, issuer_id)
    form = await forms.read(request)
    if form.text("fingerprint") != described(top).fingerprint.hex():
        raise BadRequest("the CA has shown another certificate meanwhile; look at it again")
    taken = {each.name for each in await trust.listed(visitor.caller.database, visitor.caller.account_id)}
    name = trust.free_name(row.name, taken)
    now = visitor.caller.office.now()
    trust_admin.check_useful(top, "lwm2m", now)
    added = await trust.add(
        visitor.caller.database,
        visitor.caller.actor,
        visitor.caller.account_id,
        service="lwm2m",
        certificate=top.public_bytes(serialization.Encoding.DER),
        name=name,
        owner_id=visitor.caller.key_id,
    )
    called = f" as {name}" if name != row.name else ""
    doubts = trust_admin.doubts(added.certificate, added.service, now)
    done = " ".join((f"{row.name} is trusted for LWM2M{called}.", *(f"{each.what}; {each.remedy}." for each in doubts)))
    if form.text("then") in BACK:
        return go_dialog(request, f"{CERTIFICATE_AUTHORITIES}/{row.id.hex}/{form.text('then')}", done)
    return go(request, CERTIFICATE_AUTHORITIES, f"{done} Verify it next.")


@router.get("/{issuer_id}/delete")
async def ask_removal(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Refused with the reason while it is active."""
    row = await _find(visitor, issuer_id)
    services = await issuers.configured(visitor.caller.database, visitor.caller.account_id)
    active = [each for each in services if each.issuer_id == row.id]
    return render(
        request,
        "authority_delete.html",
        visitor=visitor,
        calls=[call("DELETE", f"{API}/{row.id.hex}")],
        row=row,
        active=authorities.service_names(active),
    )


@router.post("/{issuer_id}/delete")
async def remove(request: Request, visitor: CaAdministrator, issuer_id: str) -> Response:
    """Remove it."""
    row = await _find(visitor, issuer_id)
    await issuers.remove(visitor.caller.database, visitor.caller.actor, visitor.caller.account_id, row.id)
    return go(request, CERTIFICATE_AUTHORITIES, f"{row.name} is deleted.")


async def _find(visitor: Visitor, issuer_id: str) -> IssuerRow:
    wanted = parse_id(issuer_id, "certificate issuer")
    return await admin.find(visitor.caller.database, visitor.caller.account_id, wanted)


async def _top(visitor: Visitor, issuer_id: str) -> tuple[IssuerRow, x509.Certificate]:
    """The CA and the highest certificate it shows of itself."""
    row = await _find(visitor, issuer_id)
    chains = await issuer_chains.listed(visitor.caller.database, visitor.caller.account_id)
    if row.id not in chains:
        raise NotFound("this CA has not shown its certificates yet; verify it, or upload them as trusted certificates")
    return row, authorities.parsed(chains[row.id])[-1]
