"""Filters of a list: `FIELD__OP=VALUE` in the query, the same grammar for every list."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import assert_never
from urllib.parse import parse_qsl
from uuid import UUID

from server.errors import BadRequest
from server.store.certificates import serial_bytes
from server.store.conditions import OWN, Condition, Type
from server.store.listings import Listing

# Query parameters that are no filters.
PAGING = frozenset({"limit", "order", "sort", "after", "include", "filter"})
MOST_VALUES = 200


def conditions(given: Iterable[tuple[str, str]], listing: Listing) -> list[Condition]:
    """The conditions of a query; BadRequest names a parameter nobody knows, or a value that cannot be.

    `filter=` holds further ones, encoded as a query of their own.
    """
    found: list[Condition] = []
    for name, value in given:
        if name == "filter":
            found += [_condition(*pair, listing) for pair in parse_qsl(value, keep_blank_values=True)]
        elif name not in PAGING:
            found.append(_condition(name, value, listing))
    return found


def _condition(name: str, value: str, listing: Listing) -> Condition:
    field, separator, op = name.rpartition("__")
    if not separator:
        field, op = name, "eq"
    type = listing.fields.get(field)
    if type is None or not type.operations:
        known = ", ".join(sorted(known for known, type in listing.fields.items() if type.operations))
        raise BadRequest(f"there is no filter {name}; fields are {known}", field=name)
    if op not in type.operations:
        known = ", ".join(f"{field}__{known}" for known in type.operations)
        raise BadRequest(f"{field} has the filters {known}", field=name)
    if "\0" in value:
        raise BadRequest("a NUL character cannot be asked for", field=name)
    texts = value.split(",") if op in ("in", "nin") else [value]
    if len(texts) > MOST_VALUES:
        raise BadRequest(f"at most {MOST_VALUES} values, you gave {len(texts)}", field=name)
    words = listing.words.get(field)
    if words is not None and not set(texts) <= set(words):
        raise BadRequest(f"{field} is one of {', '.join(words)}", field=name)
    return Condition(field, op, tuple(_value(name, type, text) for text in texts))


def _value(name: str, type: Type, text: str) -> object:
    try:
        match type:
            case Type.WORD | Type.TEXT | Type.STATE | Type.REGISTERED | Type.PROSE | Type.JSON:
                return text
            case Type.NUMBER:
                rule = "must be a whole number"
                return _small(int(text))
            case Type.ID:
                rule = "must be an id of 32 hexadecimal characters"
                return UUID(text)
            case Type.CA:
                rule = f"must be an id of 32 hexadecimal characters, or {OWN} for the embedded CA"
                return text if text == OWN else UUID(text)
            case Type.HEX | Type.FINGERPRINT:
                rule = "must be hexadecimal"
                return bytes.fromhex(text.replace(":", ""))
            case Type.SERIAL:
                rule = "a serial number is hexadecimal"
                return serial_bytes(int(text.replace(":", ""), 16))
            case Type.TIME:
                rule = "must be a time like 2026-11-23T12:00:00Z"
                return _aware(datetime.fromisoformat(text))
            case Type.DAY:
                rule = "must be a day like 2026-11-23, or a time"
                moment = datetime.fromisoformat(text)
                return _aware(moment if len(text) > 10 else moment.replace(tzinfo=UTC))
            case _:
                assert_never(type)
    except (ValueError, OverflowError):
        raise BadRequest(rule, field=name) from None


def _small(number: int) -> int:
    if abs(number) >= 2**31:
        raise ValueError(number)
    return number


def _aware(moment: datetime) -> datetime:
    # Ends of the calendar leave no room for the span that a filter looks through.
    if moment.tzinfo is None or not 1 < moment.year < 9999:
        raise ValueError(moment)
    return moment
