"""What an operator and the service hand to an adapter, read strictly: a key nobody knows is an error."""

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

from issuers.errors import Misconfigured

T = TypeVar("T")


def refuse_unknown(given: Mapping[str, object], known: Collection[str], what: str) -> None:
    """Raises Misconfigured with the nearest known key when `given` has one that is not in `known`."""
    for key in given:
        if key not in known:
            nearest = get_close_matches(key, known, 1, 0)[0]
            raise Misconfigured(f"{what} has no {key!r}; did you mean {nearest!r}?")


def option(given: Mapping[str, object], key: str, kind: type[T], what: str, default: T | None = None) -> T:
    """The value of `key`, of type `kind`; without a default it must be there. Raises Misconfigured."""
    value = given.get(key, default)
    # bool is an int to Python, never to an operator.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        state = f"is {type(value).__name__}" if key in given else "is missing"
        raise Misconfigured(f"{key!r} of {what} {state}; {kind.__name__} is needed")
    return value


def function(given: Mapping[str, object], key: str, what: str) -> Callable[..., object]:
    """The callable under `key`; raises Misconfigured."""
    value = given.get(key)
    if not callable(value):
        raise Misconfigured(f"{key!r} of {what} is no function")
    return value
