"""The rules of an HVCA validation policy: what a field may be, and whether a value fits (API document v2.1).

A policy's regular expressions are RE2's. They are advice here: one that Python would read differently, or could not
match in bounded time, is left to the CA, which refuses before it counts anything.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Json = Mapping[str, Any]

LONGEST_PATTERN = 200
LONGEST_VALUE = 128
MOST_PATTERNS = 100
MOST_REPETITIONS = 3
"""So that matching takes at most some milliseconds: without repeated groups, time grows with value ** repetitions."""


def presence(rule: object) -> str:
    """OPTIONAL for a field the policy says nothing about: then the CA has the last word."""
    if not isinstance(rule, Mapping):
        return "OPTIONAL"
    if "presence" in rule:
        return str(rule["presence"])
    if rule.get("static"):
        return "STATIC"
    if rule.get("maxcount") == 0:
        return "FORBIDDEN"
    return "REQUIRED" if number(rule.get("mincount")) else "OPTIONAL"


def is_fixed_to(rule: object, value: str) -> bool:
    """Whether the CA itself sets the field to `value`."""
    found = rule_of(rule)
    return presence(rule) == "STATIC" and (value == found.get("format") or value in listed_patterns(found))


def pattern_of(rule: object) -> str:
    """The regular expression of a field whose value we choose, else nothing."""
    found = rule_of(rule)
    return str(found.get("format") or "") if presence(rule) in ("OPTIONAL", "REQUIRED") else ""


def rule_of(value: object) -> Json:
    """`value` as a rule; an empty one when the policy holds none or something else there."""
    return value if isinstance(value, Mapping) else {}


def listed_patterns(rule: Json) -> list[str]:
    """The entries of a list rule."""
    found = rule.get("list")
    return [str(each) for each in found] if isinstance(found, Sequence) and not isinstance(found, str) else []


def number(value: object) -> int:
    """`value` as a number, 0 when it is none."""
    return int(value) if isinstance(value, int | float) and abs(value) < 1 << 53 else 0


def in_list(rule: Json, value: str, *, suffixes: bool = False) -> bool:
    """Whether one entry of the rule's list allows `value`, as far as can be told.

    An empty list says nothing, and a very long one is left to the CA.
    """
    patterns = listed_patterns(rule)
    if not patterns or len(patterns) > MOST_PATTERNS:
        return True
    return any(matches(each, value) or (suffixes and value.endswith(each)) for each in patterns)


def matches(pattern: str, value: str) -> bool:
    """Whether `value` matches, as far as can be told."""
    if len(pattern) > LONGEST_PATTERN or len(value) > LONGEST_VALUE:
        return True
    readable = _readable(pattern)
    return readable is None or readable.search(value) is not None


@lru_cache(maxsize=256)
def _readable(pattern: str) -> "re.Pattern[str] | None":
    """`pattern` for Python, when it means the same there as in RE2 and cannot take long; else None."""
    plain = re.sub(r"\\[dwsDWS\W]", "a", pattern)
    outside = re.sub(r"\[\^?\]?[^\]]*\]", "a", plain)
    repetitions = re.findall(r"[*+]|\{\d*,?\d*\}", outside)
    if (
        "\\" in plain
        or "[:" in plain
        or "(?" in plain.replace("(?:", "(")
        or len(repetitions) > MOST_REPETITIONS
        or re.search(r"\)[*+{]|[*+?}][*+{]|\{,", outside)
    ):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # RE2's \d, \w and \s are ASCII.
            return re.compile(pattern, re.ASCII)
    except (re.error, Warning, OverflowError):
        return None
