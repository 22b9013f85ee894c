"""The start page."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.console.door import ReaderVisits
from server.api.console.page import ConsoleRoute, call, render

router = APIRouter(route_class=ConsoleRoute)


@router.get("/")
async def start(request: Request, visitor: ReaderVisits) -> Response:
    """Four steps from nothing to a first device."""
    return render(request, "start.html", visitor=visitor, calls=[call("GET", "/v3/accounts/me")])
