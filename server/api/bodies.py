"""The bodies of requests: what every one of them is checked for before its own rules, and after who asks.

The framework reads a body before it asks the dependencies of an operation. Here one that is no JSON is judged where its
model is, behind them: who may not call an operation is told so, whatever the body is.
"""

import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, model_validator

from server.errors import BadRequest


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A body that is no JSON, and what is wrong with it in words."""

    problem: str


class _Patient(Request):
    async def json(self) -> Any:
        """The JSON of the body, or what is wrong with it: `Body` refuses that later."""
        try:
            return await super().json()
        except UnicodeDecodeError:
            return _Unreadable("is no JSON: it is not in UTF-8")
        except ValueError as error:
            return _Unreadable(f"is no JSON: {error}")
        except RecursionError:
            return _Unreadable("is nested too deeply")


class BodyRoute(APIRoute):
    """A route whose operation takes a `Body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a request that judges no body."""
        handler = super().get_route_handler()

        async def patient(request: Request) -> Response:
            return await handler(_Patient(request.scope, request.receive))

        return patient


_SURROGATE = re.compile("[\ud800-\udfff]")


class Body(BaseModel):
    """A JSON object of a request."""

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, given: Any) -> Any:
        """PostgreSQL has no place for a NUL or half a surrogate pair, and no name of anything needs one."""
        if isinstance(given, _Unreadable):
            raise BadRequest(f"body: {given.problem}", field="body")
        if isinstance(given, bytes):
            # The framework reads no JSON in what does not say that it is.
            raise BadRequest("body: does not say that it is JSON; send `Content-Type: application/json`", field="body")
        if isinstance(given, dict) and (found := _unstorable(given)) is not None:
            place, what = found
            raise BadRequest(f"{place}: holds {what}; leave it out", field=place)
        return given


def _unstorable(value: object, place: str = "") -> tuple[str, str] | None:
    """Where in `value` a character is that cannot be stored, and which; None when there is none."""
    match value:
        case str() if "\0" in value:
            return place, "a NUL character"
        case str() if _SURROGATE.search(value):
            return place, "half of a surrogate pair, which is no character"
        case dict():
            pairs = ((f"{place}.{key}" if place else key, each) for key, each in value.items())
            return _first(_unstorable(word, at) for at, each in pairs for word in (at, each))
        case list():
            return _first(_unstorable(each, place) for each in value)
        case _:
            return None


def _first(found: Iterable[tuple[str, str] | None]) -> tuple[str, str] | None:
    return next((each for each in found if each is not None), None)
