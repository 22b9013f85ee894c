"""In and out of the console."""

import time
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from server import logs
from server.admin import sign_in as admin
from server.api.access import Office
from server.api.console import door, forms
from server.api.console.background import Background
from server.api.console.door import ReaderVisits
from server.api.console.forms import Form
from server.api.console.page import ConsoleRoute, go, render
from server.api.console.throttle import Tries, source_of
from server.errors import NotAuthenticated
from server.store import operators
from server.store.audit import Actor

router = APIRouter(route_class=ConsoleRoute)
log = logs.get("console")

LONGEST = 512


@router.get("/sign-in")
async def ask(request: Request, then: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    """The form."""
    return _form(request, then=door.inside(then))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Name and password, or a key; back to the page that was wanted."""
    form = await forms.read(request)
    then = door.inside(form.text("then") or "/")
    before = door.cookie(request, "before")
    if not before:
        return _form(request, then=then, problem="The browser sent no cookie; allow cookies for this site.", status=400)
    await door.check_origin(request, before)
    office: Office = request.app.state.office
    source = source_of(request.client.host if request.client is not None else "")
    name, key = form.text("name")[:LONGEST], form.text("key")[:LONGEST]
    tries: Tries = request.app.state.tries
    wait = tries.take(source, "" if key else name, time.monotonic())
    if wait > 0:
        log.warning("sign_in_throttled", source=source, name=name, seconds=round(wait))
        problem = f"Too many tries; wait {round(wait) + 1} s."
        response = _form(request, then=then, name=name, problem=problem, status=429)
        response.headers["Retry-After"] = str(round(wait) + 1)
        return response
    try:
        operator_id, api_key_id, account_id, called = await _who(office, form, name, key)
    except NotAuthenticated as error:
        log.warning("sign_in_refused", source=source, name=name)
        background: Background = request.app.state.background
        # Not waited for: an answer takes as long for a name that nobody has.
        background.start(
            "sign_in_refused",
            admin.note_refused(
                office.database, name, key, source=source, request_id=request.state.request_id, now=office.now()
            ),
        )
        problem = error.message[0].upper() + error.message[1:] + "."
        return _form(request, then=then, name=name, by_key=bool(key), problem=problem, status=401)
    tries.worked(source, name)
    token = door.new_token()
    now = office.now()
    lasting = timedelta(hours=office.config.console.session_hours)
    await operators.trim_sessions(office.database, now=now, used_after=door.idle_after(office, now))
    await operators.begin_session(
        office.database,
        Actor(kind="console", name=called, request_id=request.state.request_id),
        account_id,
        token_sha256=door.hash_of(token),
        operator_id=operator_id,
        api_key_id=api_key_id,
        source=source,
        now=now,
        expires_at=now + lasting,
    )
    response = go(request, then)
    # A new token for a new sign-in: what somebody planted before is worth nothing.
    door.set_cookie(request, response, "session", token, seconds=round(lasting.total_seconds()))
    door.drop_cookie(request, response, "before")
    return response


@router.post("/sign-out")
async def sign_out(request: Request, visitor: ReaderVisits) -> Response:
    """Out, here and on record."""
    await operators.end_session(visitor.caller.database, door.hash_of(visitor.token))
    response = go(request, "/sign-in")
    door.drop_cookie(request, response, "session")
    return response


async def _who(office: Office, form: Form, name: str, key: str) -> tuple[UUID | None, UUID | None, UUID, str]:
    """Operator or key, its account, and what it is called; NotAuthenticated."""
    if key:
        held = await admin.by_key(office.database, key)
        return None, held.id, held.account_id, held.name
    found = await admin.by_password(office.database, name, form.values.get("password", "")[:LONGEST])
    return found.id, None, found.account_id, found.name


def _form(
    request: Request, *, then: str, name: str = "", by_key: bool = False, problem: str = "", status: int = 200
) -> Response:
    before = door.cookie(request, "before") or door.new_token()
    response = render(
        request,
        "sign_in.html",
        status=status,
        then=then,
        name=name,
        by_key=by_key,
        problem=problem,
        csrf_token=door.csrf_of(before),
    )
    door.set_cookie(request, response, "before", before, seconds=3600)
    return response
