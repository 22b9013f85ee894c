"""Device identity › Server: where devices go and whom they must trust there."""

from cryptography import x509
from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import server_credentials as admin
from server.api.console import navigation
from server.api.console.certificate import Described, described
from server.api.console.door import ReaderVisits
from server.api.console.page import ConsoleRoute, call, render
from server.errors import NotFound

router = APIRouter(route_class=ConsoleRoute)


@router.get(navigation.SERVER)
async def server(request: Request, visitor: ReaderVisits) -> Response:
    """This server, and the LwM2M server that the default profile sends devices to."""
    caller = visitor.caller
    office = caller.office
    bootstrap = await admin.bootstrap(office.database, office.sealer, office.config, caller.account_id, office.coaps)
    try:
        lwm2m = await admin.lwm2m(office.database, caller.account_id)
    except NotFound:
        lwm2m = None
    return render(
        request,
        "server.html",
        visitor=visitor,
        calls=[call("GET", "/v3/server-credentials")],
        bootstrap=bootstrap,
        bootstrap_ca=_first(bootstrap.certificate),
        lwm2m=lwm2m,
        lwm2m_ca=_first(lwm2m.certificate) if lwm2m is not None else None,
    )


def _first(pem: str) -> Described | None:
    return described(x509.load_pem_x509_certificates(pem.encode())[0]) if pem else None
