"""What an operator and the service hand to an adapter, read strictly: a key nobody knows is an error."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

from issuers.errors import Misconfigured

T = TypeVar("T")


def refuse_unknown(given: Mapping[str, object], known: Collection[str], what: str) -> None:
    """Raises Misconfigured with the nearest known key when `given` has one that is not in `known`."""
    for key in given:
        if key not in known:
            nearest = get_close_matches(key, known, 1, 0)[0]
            raise Misconfigured(f"{what} has no {key!r}; did you mean {nearest!r}?", key)


@contextmanager
def about(key: str) -> Iterator[None]:
    """What is Misconfigured within is the fault of the option `key`, unless it names another."""
    try:
        yield
    except Misconfigured as error:
        error.option = error.option or key
        raise


def option(given: Mapping[str, object], key: str, kind: type[T], what: str, default: T | None = None) -> T:
    """The value of `key`, of type `kind`; without a default it must be there. Raises Misconfigured."""
    value = given.get(key, default)
    # bool is an int to Python, never to an operator.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        state = f"is {type(value).__name__}" if key in given else "is missing"
        raise Misconfigured(f"{key!r} of {what} {state}; {kind.__name__} is needed", key)
    return value


def function(given: Mapping[str, object], key: str, what: str) -> Callable[..., object]:
    """The callable under `key`; raises Misconfigured."""
    value = given.get(key)
    if not callable(value):
        raise Misconfigured(f"{key!r} of {what} is no function", key)
    return value
