"""Device identity › Certificates › New certificate › developer certificate: made here, its key shown once."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import developer_certificates as admin
from server.admin import server_credentials
from server.api.console import forms
from server.api.console.door import AdministratorVisits, Visitor
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.navigation import CERTIFICATES
from server.api.console.page import ConsoleRoute, call, render
from server.api.trusted_certificates import LONGEST_DESCRIPTION, LONGEST_NAME
from server.errors import BadRequest, ServiceError

router = APIRouter(route_class=ConsoleRoute, prefix=CERTIFICATES)


@router.get("/developer")
async def ask(request: Request, visitor: AdministratorVisits) -> Response:
    """Its name."""
    return _form(request, visitor, Form({}), None)


@router.post("/developer")
async def make(request: Request, visitor: AdministratorVisits) -> Response:
    """Make it; this answer is the only one with its key."""
    form = await forms.read(request)
    caller = visitor.caller
    office = caller.office
    name, description = form.text("name"), form.text("description")
    bootstrap = await server_credentials.bootstrap(
        office.database, office.sealer, office.config, caller.account_id, office.coaps
    )
    try:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise BadRequest(f"a name has 1 to {LONGEST_NAME} characters", field="name")
        if len(description) > LONGEST_DESCRIPTION:
            raise BadRequest(f"a description has at most {LONGEST_DESCRIPTION} characters", field="description")
        made = await admin.make(
            caller.database,
            caller.actor,
            caller.account_id,
            name=name,
            description=description,
            owner_id=caller.key_id,
            bootstrap=bootstrap,
            now=office.now(),
        )
    except MENDABLE as error:
        return _form(request, visitor, form, error)
    return render(request, "developer_made.html", visitor=visitor, made=made)


def _form(request: Request, visitor: Visitor, form: Form, error: ServiceError | None) -> Response:
    return render(
        request,
        "developer.html",
        visitor=visitor,
        status=400 if error is not None else 200,
        calls=[call("POST", "/v3/developer-certificates", {"name": form.text("name") or "desk"})],
        form=form,
        faults=forms.faults(error, ("name", "description")) if error is not None else Faults(),
    )
