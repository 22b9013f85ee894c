"""How the HVCA stand-in says no: the problems of GlobalSign's API document v2.1, and faults on demand."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from simulators.https import BreakOff, Reply, Response

DESCRIPTIONS = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Quota Reached",
    404: "Not found",
    405: "Method not allowed",
    409: "Cannot revoke a REJECTED certificate",
    411: "Content-Length required",
    415: "Bad Content-Type",
    422: "Message describing the validation error",
    429: "Rate Limit Reached",
    500: "Internal error",
    503: "Service busy, please retry later",
}
"""What the document's examples say."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to `times` calls of `at` once `skip` more have passed.

    `do` is an HTTP status, a whole page of a proxy (`html`), or no whole answer at all; with `after` the call does its
    work first, so that only the answer is lost. `late`: the call does its work when the stand-in is told to go on,
    whether its client still waits or not.
    """

    at: str
    do: int | Literal["html", "hang", "reset", "half", "late"]
    times: int = 1
    skip: int = 0
    after: bool = False
    retry_after: int | None = None

    def reply(self) -> Reply:
        """In place of an answer."""
        match self.do:
            case "hang" | "reset" | "half":
                return BreakOff(self.do)
            case "html":
                return Response(502, b"<html><h1>502 Bad Gateway</h1></html>", {"Content-Type": "text/html"})
            case "late":
                raise AssertionError("a late call is answered by what it does")
            case status:
                told = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
                return problem(status, headers=told)


def due(faults: list[Fault], name: str) -> Fault | None:
    """The fault for this call, used up by it."""
    for fault in faults:
        if fault.at != name:
            continue
        if fault.skip:
            fault.skip -= 1
            continue
        fault.times -= 1
        if not fault.times:
            faults.remove(fault)
        return fault
    return None


def problem(
    status: int,
    description: str = "",
    *,
    errors: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as HVCA tells it."""
    body: dict[str, object] = {"description": description or DESCRIPTIONS.get(status, "")}
    if status >= 500:
        # What GlobalSign's support asks for.
        body["id"] = secrets.token_urlsafe(20)
    if errors:
        body["errors"] = errors
    kind = {"Content-Type": "application/problem+json;charset=utf-8"}
    return Response(status, json.dumps(body).encode(), {**kind, **(headers or {})})
