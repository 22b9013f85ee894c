"""Errors of the service as HTTP answers: the one table, in the error shape of the Izuma API."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from issuers.errors import IssuerError
from server import logs
from server.errors import (
    BadRequest,
    Conflict,
    LimitReached,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    OutsideFailed,
    ServiceError,
    TemporarilyUnavailable,
    Unreachable,
)
from server.store.errors import StoreUnavailable

log = logs.get("api")

# Most specific first; a class finds the first row it is an instance of.
PROBLEMS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotAuthenticated, 401, "invalid_auth"),
    (LimitReached, 403, "account_limit_exceeded"),
    (NotAuthorized, 403, "forbidden"),
    (BadRequest, 400, "validation_error"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "duplicate"),
    (Unreachable, 423, "locked"),
    (OutsideFailed, 424, "failed_dependency"),
    (IssuerError, 424, "failed_dependency"),
    (TemporarilyUnavailable, 503, "service_unavailable"),
    (StoreUnavailable, 503, "service_unavailable"),
)
# What the framework itself answers, before any of our code runs.
FRAMEWORK = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One field of a request and the rule it breaks."""

    field: str
    message: str


def answer(request: Request, code: int, type: str, message: str, faults: Sequence[Fault] = ()) -> JSONResponse:
    """The error shape; each fault carries `field` and `name`, because the original's services differ."""
    fields = [
        {"field": _sendable(f.field), "name": _sendable(f.field), "message": _sendable(f.message)} for f in faults
    ]
    return JSONResponse(
        {
            "object": "error",
            "code": code,
            "type": type,
            "message": _sendable(message),
            "request_id": request_id(request),
            "fields": fields,
        },
        status_code=code,
    )


def _sendable(text: str) -> str:
    # A name in a request may hold half a surrogate pair.
    return text.encode("utf-8", "replace").decode()


def request_id(request: Request) -> str:
    """The id that ties answer, log line and audit row of a request together."""
    return str(getattr(request.state, "request_id", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a failed request is told, in whatever form; `retry_after` in seconds when waiting helps."""

    code: int
    type: str
    message: str
    field: str = ""
    retry_after: int | None = None


def judged(request: Request, error: Exception) -> Problem:
    """The row of `error`; what has none is ours, and only its id leaves the house."""
    for kind, code, type in PROBLEMS:
        if isinstance(error, kind):
            later = error.retry_after if isinstance(error, TemporarilyUnavailable) else 1.0
            return Problem(
                code=code,
                type=type,
                message=getattr(error, "message", "") or str(error),
                field=getattr(error, "field", ""),
                retry_after=max(1, round(later)) if code == HTTPStatus.SERVICE_UNAVAILABLE else None,
            )
    log.error("request_failed", request=request_id(request), path=request.url.path, exc_info=error)
    return Problem(
        code=500,
        type="internal_error",
        message=f"a fault of the server's own; its log tells more under the request id {request_id(request)}",
    )


def of(request: Request, error: Exception) -> JSONResponse:
    """The answer for `error`."""
    found = judged(request, error)
    faults = [Fault(found.field, found.message)] if found.field else ()
    # A rule says nothing to who reads the message alone, as `curl` and scripts do.
    bare = found.field and found.message.startswith("must ")
    response = answer(
        request, found.code, found.type, f"{found.field}: {found.message}" if bare else found.message, faults
    )
    if found.retry_after is not None:
        response.headers["Retry-After"] = str(found.retry_after)
    return response


def install(app: FastAPI) -> None:
    """Give every way a request can fail the same shape."""
    for kind, _, _ in PROBLEMS:
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(Exception, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, of_framework)


async def _known(request: Request, error: Exception) -> JSONResponse:
    return of(request, error)


async def of_framework(request: Request, error: Exception) -> JSONResponse:
    """The answer for what the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    code = error.status_code
    type = FRAMEWORK.get(code, HTTPStatus(code).phrase.lower().replace(" ", "_"))
    response = answer(request, code, type, framework_message(request, error))
    response.headers.update(error.headers or {})
    return response


def framework_message(request: Request, error: HTTPException) -> str:
    """What the framework refuses, in words."""
    return {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not possible at {request.url.path}",
    }.get(error.status_code, str(error.detail or HTTPStatus(error.status_code).phrase))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [Fault(_place(fault["loc"]), in_words(fault)) for fault in error.errors()]
    return answer(
        request, 400, "validation_error", "; ".join(f"{f.field}: {f.message}" for f in faults) or "invalid", faults
    )


def _place(location: Sequence[object]) -> str:
    """`("body", "issuer_credentials", "hmac_hex_key")` as `issuer_credentials.hmac_hex_key`."""
    words = [str(word) for word in location]
    if len(words) > 1 and words[0] in ("body", "query", "path", "header"):
        words = words[1:]
    return ".".join(words)


def in_words(fault: dict[str, object]) -> str:
    """The rule a field broke, and what was given as far as that is no secret: lengths and types, never values."""
    context = fault.get("ctx")
    limits = context if isinstance(context, dict) else {}
    given = fault.get("input")
    match fault["type"]:
        case "missing":
            return "is missing; give it"
        case "string_too_long":
            return f"has at most {limits['max_length']} characters, you gave {len(str(given))}"
        case "string_too_short":
            return f"has at least {limits['min_length']} characters, you gave {len(str(given))}"
        case "string_type":
            return f"must be a text, you gave {_kind(given)}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, you gave {_kind(given)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number, you gave {_kind(given)}"
        case "literal_error" | "enum":
            return f"must be one of {str(limits.get('expected', '')).replace(' or ', ', ')}"
        case "dict_type" | "model_attributes_type" | "model_type":
            return f"must be an object, you gave {_kind(given)}"
        case "list_type":
            return f"must be a list, you gave {_kind(given)}"
        case "extra_forbidden":
            return "is not known here; leave it out"
        case "value_error":
            return str(limits.get("error", "is wrong"))
        case _:
            return str(fault["msg"])


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )


def is_ours(error: Exception) -> bool:
    """Whether `error` is one that a request may end in, in other words no fault of the program."""
    return isinstance(error, ServiceError | IssuerError | StoreUnavailable)
