"""The bodies of requests: what every one of them is checked for before its own rules."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, model_validator

from server.errors import BadRequest

_SURROGATE = re.compile("[\ud800-\udfff]")


class Body(BaseModel):
    """A JSON object of a request."""

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, given: Any) -> Any:
        """PostgreSQL has no place for a NUL or half a surrogate pair, and no name of anything needs one."""
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
