"""The bodies of requests: what every one of them is checked for before its own rules."""

from typing import Any

from pydantic import BaseModel, model_validator


class Body(BaseModel):
    """A JSON object of a request."""

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, given: Any) -> Any:
        """PostgreSQL has no NUL in a text, and no name of anything needs one."""
        if isinstance(given, dict):
            for key, value in given.items():
                if _holds_nul(key) or _holds_nul(value):
                    raise ValueError(f"{key!r} holds a NUL character; leave it out")
        return given


def _holds_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(each) for pair in value.items() for each in pair)
        case list():
            return any(map(_holds_nul, value))
        case _:
            return False
