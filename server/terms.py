"""On what terms a CA is asked: how many at once, how often, and what follows an answer that was lost (design 7, 8).

They stand among the attributes of an issuer, and no adapter knows them: the service takes them out before it opens one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

OnUnknown = Literal["reissue", "hold"]

MOST_AT_ONCE = 10_000
SLOWEST, FASTEST = 0.01, 10_000.0
NAMES = frozenset({"concurrency", "rate", "on_unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`concurrency` requests at once in each worker, `rate` a second in all of them together; 0 = no limit."""

    concurrency: int
    rate: float
    on_unknown: OnUnknown


def terms_of(attributes: Mapping[str, Any], usual: Terms) -> Terms:
    """The terms of an issuer with these attributes, `usual` where it has none of its own."""
    terms = usual
    if "concurrency" in attributes:
        terms = replace(terms, concurrency=int(attributes["concurrency"]))
    if "rate" in attributes:
        terms = replace(terms, rate=float(attributes["rate"]))
    if "on_unknown" in attributes:
        terms = replace(terms, on_unknown=read_on_unknown(attributes["on_unknown"]))
    return terms


def read_on_unknown(text: object) -> OnUnknown:
    """What follows a lost answer, by a setting that was checked when it was stored."""
    return "hold" if text == "hold" else "reissue"


def without_terms(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is left for the adapter."""
    return {name: value for name, value in attributes.items() if name not in NAMES}


def concurrency_problem(text: str) -> str:
    """The rule that `text` breaks as a number of requests at once; empty when it breaks none."""
    good = text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_AT_ONCE
    return "" if good else f"a whole number from 1 to {MOST_AT_ONCE}"


def rate_problem(text: str) -> str:
    """The rule that `text` breaks as requests a second; empty when it breaks none."""
    whole, _, part = text.partition(".")
    good = text.isascii() and (whole + part).isdecimal() and len(text) < 20 and SLOWEST <= float(text) <= FASTEST
    return "" if good else f"a number from {SLOWEST:g} to {FASTEST:g}"


def on_unknown_problem(text: str) -> str:
    """The rule that `text` breaks as what follows a lost answer; empty when it breaks none."""
    return "" if text in get_args(OnUnknown) else f"one of {', '.join(get_args(OnUnknown))}"
