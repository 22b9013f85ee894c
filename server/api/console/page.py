"""A template becomes an answer: the furniture around it, the headers that guard it, notices, and errors as pages."""

import base64
import hmac
import json
import shlex
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from server.api import problems
from server.api.access import Office
from server.api.console import authorities, door, navigation, static, words
from server.api.console.door import SignInNeeded, Visitor
from server.api.problems import Problem

# Nothing inline, nothing from outside, nobody may frame us (CSP level 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
THEMES = ("light", "dark")
Tone = Literal["good", "bad"]

_pages = Environment(
    loader=PackageLoader("server.api", "templates/console"),
    # Every template is HTML, whatever it is called.
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.globals.update(
    static=static.address,
    moment=words.moment,
    day=words.day,
    fingerprint=words.fingerprint,
    number=words.number,
    NO_OWN_CAS=navigation.NO_OWN_CAS,
    label_of=authorities.label_of,
)
_pages.filters["labelled"] = authorities.labelled


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API that does what a page shows or does; `body` is JSON text."""

    method: str
    path: str
    body: str = ""

    def curl(self, base: str) -> str:
        """As a command line; the key stays in the environment."""
        parts = ["curl", '-H "Authorization: Bearer $FIRSTLIGHT_KEY"']
        if self.method != "GET":
            parts.append(f"-X {self.method}")
        if self.body:
            parts += ['-H "Content-Type: application/json"', f"-d {shlex.quote(self.body)}"]
        return " ".join((*parts, shlex.quote(base + self.path)))


def call(method: str, path: str, body: object = None) -> Call:
    """A call with its body as JSON."""
    return Call(method, path, json.dumps(body, ensure_ascii=False) if body is not None else "")


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page it is on."""
    return request.headers.get("HX-Request") == "true"


def render(
    request: Request,
    template: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    calls: Sequence[Call] = (),
    **context: Any,
) -> HTMLResponse:
    """The page of `template`; a template that extends `frame` is a dialog when htmx asks for it."""
    notice = _notice(request, visitor)
    text = text_of(request, template, visitor=visitor, calls=calls, notice=notice, **context)
    response = HTMLResponse(text, status_code=status)
    if notice is not None:
        door.drop_cookie(request, response, "notice")
    return response


def text_of(
    request: Request,
    template: str,
    *,
    visitor: Visitor | None = None,
    calls: Sequence[Call] = (),
    notice: tuple[str, str] | None = None,
    **context: Any,
) -> str:
    """The text of `template` with what every template may use."""
    office: Office = request.app.state.office
    now = office.now()
    theme = request.cookies.get("firstlight-theme", "")
    base = str(request.base_url).rstrip("/")
    return _pages.get_template(template).render(
        **context,
        visitor=visitor,
        office=office,
        now=now,
        relative=lambda at: words.relative(at, now),
        urgency=lambda at: words.urgency(at, now),
        may=visitor.may if visitor is not None else lambda _role: False,
        csrf=visitor.csrf if visitor is not None else context.get("csrf_token", ""),
        entries=navigation.entries(visitor, request.url.path) if visitor is not None else [],
        actions=navigation.actions(visitor) if visitor is not None else [],
        searches=navigation.SEARCHES,
        path=request.url.path,
        query=request.query_params,
        theme=theme if theme in THEMES else "",
        notice=notice,
        curls=[one.curl(base) for one in calls],
        frame="dialog.html" if is_fragment(request) else "card.html",
    )


def confirmation(
    request: Request,
    visitor: Visitor,
    *,
    title: str,
    follows: str,
    action: str,
    calls: Sequence[Call] = (),
    submit: str = "",
    values: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Ask before: `title` is what `action` does, `follows` what comes of it; the button has the first word of the
    title, or `submit`, and posts `values`.
    """
    return render(
        request,
        "confirmation.html",
        visitor=visitor,
        calls=calls,
        title=title,
        follows=follows,
        action=action,
        submit=submit or title.partition(" ")[0],
        values=values or {},
    )


def go(request: Request, path: str, notice: str = "", tone: Tone = "good") -> Response:
    """Send the browser to `path`, with a notice that stands on the next page once."""
    response: Response
    if is_fragment(request):
        response = Response(status_code=204, headers={"HX-Redirect": path})
    else:
        response = RedirectResponse(path, status_code=303)
    visitor = getattr(request.state, "visitor", None)
    if notice and visitor is not None:
        text = base64.urlsafe_b64encode(json.dumps([tone, notice]).encode()).decode()
        door.set_cookie(request, response, "notice", f"{text}.{_seal(visitor.token, text)}", seconds=60)
    return response


def go_dialog(request: Request, path: str, notice: str) -> Response:
    """Go on with the dialog at `path`, above which the notice stands; as a page of its own without script."""
    response = go(request, path, notice)
    if is_fragment(request):
        del response.headers["HX-Redirect"]
        response.headers["HX-Location"] = json.dumps({"path": path, "target": "#dialog", "push": "false"})
    return response


def _notice(request: Request, visitor: Visitor | None) -> tuple[str, str] | None:
    """The notice of the page before; only what we wrote ourselves to this very browser counts."""
    text, _, seal = door.cookie(request, "notice").partition(".")
    if visitor is None or not text or not hmac.compare_digest(seal.encode(), _seal(visitor.token, text).encode()):
        return None
    tone, said = json.loads(base64.urlsafe_b64decode(text))
    return str(tone), str(said)


def _seal(token: str, text: str) -> str:
    return hmac.new(token.encode(), b"notice" + text.encode(), sha256).hexdigest()


# -- routes and errors --------------------------------------------------------------------


class ConsoleRoute(APIRoute):
    """A route whose answers are pages, errors too, all with the guarding headers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, wrapped."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            # A filter that was left empty asks for nothing; forms send it all the same.
            given = parse_qsl(request.scope["query_string"].decode("latin-1"))
            request.scope["query_string"] = urlencode(given).encode()
            try:
                response = await handler(request)
            except Exception as error:
                response = failed(request, error)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return guarded


def failed(request: Request, error: Exception) -> Response:
    """`error` as a page, or the way to the sign-in."""
    if isinstance(error, SignInNeeded):
        return go(request, f"/sign-in?then={quote(error.then, safe='')}" if error.then != "/" else "/sign-in")
    found = _problem(request, error)
    response = render(
        request,
        "error.html",
        visitor=getattr(request.state, "visitor", None),
        status=found.code,
        problem=found,
        request_id=problems.request_id(request),
    )
    if found.retry_after is not None:
        response.headers["Retry-After"] = str(found.retry_after)
    return response


def _problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, HTTPException):
        return Problem(code=error.status_code, type="", message=problems.framework_message(request, error))
    if isinstance(error, RequestValidationError):
        said = "; ".join(f"{fault['loc'][-1]}: {problems.in_words(fault)}" for fault in error.errors())
        return Problem(code=400, type="validation_error", message=said)
    return problems.judged(request, error)


def install(app: FastAPI) -> None:
    """People who ask for a page that is not there get a page; programs get what they always got."""

    async def nothing_there(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        wants_page = "text/html" in request.headers.get("Accept", "")
        if request.method not in door.SAFE or not wants_page or request.url.path.startswith(("/v1/", "/v3/")):
            return await problems.of_framework(request, error)
        response = failed(request, error)
        response.headers.update(HEADERS)
        return response

    app.add_exception_handler(HTTPException, nothing_there)
