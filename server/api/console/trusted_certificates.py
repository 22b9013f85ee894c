"""Device identity › Certificates: whose devices may come, and where issued certificates lead."""

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import trust as admin
from server.admin import withdrawals
from server.api.console import authorities, export, forms
from server.api.console.certificate import described
from server.api.console.door import AdministratorVisits, OperatorVisits, ReaderVisits, Visitor
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.navigation import CERTIFICATES
from server.api.console.page import ConsoleRoute, call, go, render
from server.api.device_enrollments import fingerprint_in, identity_of
from server.api.trusted_certificates import LONGEST_DESCRIPTION, LONGEST_NAME, Filtered, find
from server.errors import BadRequest, ServiceError
from server.store import enrollments, trust
from server.store.enrollments import Denial
from server.store.trust import Service, TrustedCertificate

router = APIRouter(route_class=ConsoleRoute, prefix=CERTIFICATES)
API = "/v3/trusted-certificates"
SERVICES: tuple[tuple[Service, str], ...] = (
    ("bootstrap", "Devices bootstrap with certificates of this CA (a factory)"),
    ("lwm2m", "Issued certificates lead to this CA (LwM2M)"),
)
# Those that show what is wrong with them beside them; a switch does not.
FIELDS = ("name", "description", "certificate", "service")


@router.get("")
async def list_trusted(request: Request, visitor: ReaderVisits, wanted: Filtered) -> Response:
    """The trusted certificates, with what is missing among them."""
    caller = visitor.caller
    now = caller.office.now()
    rows = await trust.listed(caller.database, caller.account_id)
    found = await authorities.listed(caller) if visitor.account.third_party_ca else []
    return render(
        request,
        "trusted.html",
        visitor=visitor,
        calls=[call("GET", f"{API}{'?' if request.url.query else ''}{request.url.query}")],
        rows=[row for row in rows if wanted.take(row, now)],
        total=len(rows),
        wanted=wanted,
        untrusted=[each for each in found if each.trusted is False and each.row is not None],
    )


@router.get("/list.csv")
async def as_csv(visitor: ReaderVisits, wanted: Filtered) -> Response:
    """The list for a spreadsheet."""
    caller = visitor.caller
    now = caller.office.now()
    return export.answer(
        "trusted-certificates.csv",
        [
            {
                "name": row.name,
                "service": row.service,
                "status": "ACTIVE" if row.active else "INACTIVE",
                "enrollment_mode": row.enrollment_mode,
                "subject": row.subject,
                "issuer": row.issuer,
                "ends": row.not_after,
                "fingerprint": row.fingerprint.hex(),
            }
            for row in await trust.listed(caller.database, caller.account_id)
            if wanted.take(row, now)
        ],
    )


# -- upload -----------------------------------------------------------------------------------


@router.get("/upload")
async def ask_upload(request: Request, visitor: AdministratorVisits) -> Response:
    """Name, file, and what it is for."""
    service = request.query_params.get("service", "")
    return _upload_form(request, visitor, Form({"service": service} if service in dict(SERVICES) else {}), None)


@router.post("/upload")
async def upload(request: Request, visitor: AdministratorVisits) -> Response:
    """First shown with its fields and fingerprint, saved when that was confirmed."""
    form = await forms.read(request)
    caller = visitor.caller
    if form.switch("back"):
        return _upload_form(request, visitor, form, None)
    try:
        _check(form)
        certificates = admin.parse(form.text("certificate").encode())
        lowest = admin.lowest(form.text("certificate").encode())
        der, now = lowest.public_bytes(serialization.Encoding.DER), caller.office.now()
        admin.check_useful(lowest, _service(form), now)
        found = described(lowest)
        if form.text("confirmed") != found.fingerprint.hex():
            return render(
                request,
                "trusted_preview.html",
                visitor=visitor,
                calls=[call("POST", API, _body(form))],
                form=form,
                found=found,
                doubts=list(admin.doubts(der, _service(form), now)),
                above=[described(each) for each in dict.fromkeys(certificates) if each != lowest],
                service=dict(SERVICES)[_service(form)],
            )
        row = await trust.add(
            caller.database,
            caller.actor,
            caller.account_id,
            service=_service(form),
            certificate=der,
            name=form.text("name"),
            description=form.text("description"),
            enrollment_mode=form.switch("enrollment_mode"),
            owner_id=caller.key_id,
        )
    except MENDABLE as error:
        if isinstance(error, BadRequest) and not error.field:
            error = BadRequest(error.message, field="certificate")
        return _upload_form(request, visitor, form, error)
    return go(request, CERTIFICATES, f"{row.name} is trusted.")


def _check(form: Form) -> None:
    _check_name(form)
    if len(form.text("description")) > LONGEST_DESCRIPTION:
        raise BadRequest(f"a description has at most {LONGEST_DESCRIPTION} characters", field="description")
    if form.text("service") not in dict(SERVICES):
        raise BadRequest("say how devices will use it", field="service")
    if not form.text("certificate"):
        raise BadRequest("is missing; choose a file or paste the PEM", field="certificate")


def _check_name(form: Form) -> None:
    if not 1 <= len(form.text("name")) <= LONGEST_NAME:
        raise BadRequest(f"a name has 1 to {LONGEST_NAME} characters", field="name")


def _service(form: Form) -> Service:
    return "lwm2m" if form.text("service") == "lwm2m" else "bootstrap"


def _body(form: Form) -> dict[str, Any]:
    return {
        "name": form.text("name"),
        "service": form.text("service"),
        "certificate": form.text("certificate"),
        "enrollment_mode": form.switch("enrollment_mode"),
    }


def _upload_form(request: Request, visitor: Visitor, form: Form, error: ServiceError | None) -> Response:
    return render(
        request,
        "trusted_upload.html",
        visitor=visitor,
        status=400 if error is not None else 200,
        calls=[call("POST", API, {"name": "Factory CA", "service": "bootstrap", "certificate": "-----BEGIN…"})],
        form=form,
        services=[("", "Select…"), *SERVICES],
        faults=forms.faults(error, FIELDS) if error is not None else Faults(),
    )


# -- one of them --------------------------------------------------------------------------------


@router.get("/trusted/{certificate_id}")
async def show(request: Request, visitor: ReaderVisits, certificate_id: str) -> Response:
    """One trusted certificate with its fields."""
    row = await find(visitor.caller, certificate_id)
    return render(
        request,
        "trusted_one.html",
        visitor=visitor,
        calls=[call("GET", f"{API}/{row.id.hex}")],
        row=row,
        found=described(x509.load_der_x509_certificate(row.certificate)),
        service=dict(SERVICES)[row.service],
        unclaimed=await _unclaimed(visitor, row),
    )


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A device that came and that nobody has claimed; `identity` as enrollment lists call it."""

    row: Denial
    identity: str


async def _unclaimed(visitor: Visitor, row: TrustedCertificate) -> list[Unclaimed]:
    """Devices of a factory in enrollment mode that came and are on nobody's list now, the newest first."""
    if row.service != "bootstrap" or not row.enrollment_mode:
        return []
    database, account_id = visitor.caller.database, visitor.caller.account_id
    came = await enrollments.denials(database, account_id, row.id)
    claimed = await enrollments.claimed(database, [each.fingerprint for each in came])
    return [
        Unclaimed(each, identity_of(each.fingerprint)) for each in reversed(came) if each.fingerprint not in claimed
    ]


@router.post("/trusted/{certificate_id}/claim")
async def claim(request: Request, visitor: OperatorVisits, certificate_id: str) -> Response:
    """Put a device that came on the enrollment list: it is let in at its next try."""
    row, caller = await find(visitor.caller, certificate_id), visitor.caller
    identity = (await forms.read(request)).text("identity")
    await enrollments.add(caller.database, caller.actor, caller.account_id, fingerprint_in(identity))
    return go(
        request, f"{CERTIFICATES}/trusted/{row.id.hex}", "It is on the enrollment list, and let in at its next try."
    )


@router.get("/trusted/{certificate_id}/edit")
async def ask_change(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """What can be changed of it."""
    row = await find(visitor.caller, certificate_id)
    known = {"name": row.name, "description": row.description}
    if row.enrollment_mode:
        known["enrollment_mode"] = "true"
    return _change_form(request, visitor, row, Form(known), None)


@router.post("/trusted/{certificate_id}/edit")
async def change(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """Change name, description, enrollment mode."""
    row = await find(visitor.caller, certificate_id)
    form = await forms.read(request)
    caller = visitor.caller
    try:
        _check_name(form)
        await trust.update(
            caller.database,
            caller.actor,
            caller.account_id,
            row.id,
            name=form.text("name"),
            description=form.text("description"),
            enrollment_mode=form.switch("enrollment_mode") if row.service == "bootstrap" else None,
        )
    except MENDABLE as error:
        return _change_form(request, visitor, row, form, error)
    return go(request, CERTIFICATES, f"{form.text('name')} is changed.")


def _change_form(
    request: Request, visitor: Visitor, row: TrustedCertificate, form: Form, error: ServiceError | None
) -> Response:
    return render(
        request,
        "trusted_edit.html",
        visitor=visitor,
        status=400 if error is not None else 200,
        calls=[call("PUT", f"{API}/{row.id.hex}", {"name": form.text("name")})],
        row=row,
        form=form,
        faults=forms.faults(error, FIELDS) if error is not None else Faults(),
    )


@router.get("/trusted/{certificate_id}/deny")
async def ask_denial(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """What follows is said before."""
    return await _ask_withdrawal(request, visitor, certificate_id, removed=False)


@router.post("/trusted/{certificate_id}/deny")
async def deny(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """Deny it."""
    return await _set(request, visitor, certificate_id, active=False)


@router.post("/trusted/{certificate_id}/activate")
async def activate(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """Trust it again."""
    return await _set(request, visitor, certificate_id, active=True)


async def _set(request: Request, visitor: Visitor, certificate_id: str, *, active: bool) -> Response:
    row = await find(visitor.caller, certificate_id)
    caller = visitor.caller
    if active:
        admin.check_activation(row, caller.office.now())
    await trust.set_active(caller.database, caller.actor, caller.account_id, row.id, active)
    return go(request, CERTIFICATES, f"{row.name} is {'active' if active else 'denied'}.")


@router.get("/trusted/{certificate_id}/delete")
async def ask_removal(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """What follows is said before."""
    return await _ask_withdrawal(request, visitor, certificate_id, removed=True)


@router.post("/trusted/{certificate_id}/delete")
async def remove(request: Request, visitor: AdministratorVisits, certificate_id: str) -> Response:
    """Remove it."""
    row = await find(visitor.caller, certificate_id)
    caller = visitor.caller
    await trust.remove(caller.database, caller.actor, caller.account_id, row.id)
    return go(request, CERTIFICATES, f"{row.name} is deleted.")


async def _ask_withdrawal(request: Request, visitor: Visitor, certificate_id: str, *, removed: bool) -> Response:
    """Whom it concerns when a trusted certificate no longer counts."""
    row = await find(visitor.caller, certificate_id)
    path = f"{API}/{row.id.hex}"
    found = await withdrawals.dependents(visitor.caller.database, visitor.caller.account_id, row)
    return render(
        request,
        "trusted_withdraw.html",
        visitor=visitor,
        calls=[call("DELETE", path) if removed else call("PUT", path, {"status": "INACTIVE"})],
        row=row,
        removed=removed,
        follows=[f"{doubt.what}; {doubt.remedy}." for doubt in found.doubts(row, removed=removed)],
    )
