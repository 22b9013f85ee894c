"""Before the body of a request: its key, and how large it may be. Whoever has no key makes nobody read anything."""

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api import access, enrollment_tasks, problems

API = ("/v1/", "/v3/")
# Nobody reads what is sent with these.
BODILESS = ("GET", "HEAD", "OPTIONS")
# The longest that anybody sends is a certificate chain; files of enrolments have a limit of their own.
LARGEST_BODY = 1 << 20
FILES = frozenset(f"/v3/{path}" for path in enrollment_tasks.PATHS.values())
# Many keys at once: `MOST_AT_ONCE` of them with names of a usual length.
LARGER = {"/v1/pre-shared-keys-batch": 4 << 20}
TOO_LARGE_CODE = 413


def _too_large(most: int) -> str:
    return f"a body has at most {most} bytes"


class Gate:
    """An ASGI layer: a body is read for a known key alone, and no further than it may be long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request as it came, its key known and its body counted; else the answer at once."""
        if scope["type"] != "http" or not scope["path"].startswith(API) or scope["method"] in BODILESS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        length = request.headers.get("Content-Length", "0")
        if length == "0" and "Transfer-Encoding" not in request.headers:
            await self._app(scope, receive, send)
            return
        try:
            request.state.caller = await access.caller(request)
        except Exception as error:
            await problems.of(request, error)(scope, receive, send)
            return
        most = LARGER.get(scope["path"], LARGEST_BODY)
        if scope["path"] in FILES:
            await self._app(scope, receive, send)
        elif length.isdecimal() and int(length) > most:
            code = TOO_LARGE_CODE
            await problems.answer(request, code, problems.FRAMEWORK[code], _too_large(most))(scope, receive, send)
        else:
            await self._app(scope, _counted(receive, most), send)


def _counted(receive: Receive, most: int) -> Receive:
    """`receive`, for a body that does not tell its length before."""
    read = 0

    async def counting() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise HTTPException(TOO_LARGE_CODE, _too_large(most))
        return message

    return counting
