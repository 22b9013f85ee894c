"""Filters of a list: `FIELD__OP=VALUE` in the query, the same grammar for every list (izuma.md B5)."""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qsl

from fastapi import Request

from server.errors import BadRequest
from server.store.listings import Condition

# Which operations a kind of field takes.
WORD = ("eq", "neq", "in", "nin")
TEXT = (*WORD, "like")
TIME = (*WORD, "gte", "lte")
# Query parameters that are no filters.
PAGING = frozenset({"limit", "order", "after", "include", "filter"})
MOST_VALUES = 200


def conditions(request: Request, fields: Mapping[str, tuple[str, ...]]) -> list[Condition]:
    """The conditions of a request; BadRequest names a parameter nobody knows, or a value that cannot be.

    `filter=` holds further ones, encoded as a query of their own (izuma.md B5).
    """
    given = [(name, value) for name, value in request.query_params.multi_items() if name not in PAGING]
    encoded = request.query_params.get("filter")
    if encoded:
        given += parse_qsl(encoded, keep_blank_values=True)
    return [_condition(name, value, fields) for name, value in given]


def _condition(name: str, value: str, fields: Mapping[str, tuple[str, ...]]) -> Condition:
    field, separator, op = name.rpartition("__")
    if not separator:
        field, op = name, "eq"
    if field not in fields:
        raise BadRequest(f"there is no filter {name}; fields are {', '.join(sorted(fields))}", field=name)
    if op not in fields[field]:
        raise BadRequest(f"{field} has the filters {', '.join(f'{field}__{known}' for known in fields[field])}", name)
    if "\0" in value:
        raise BadRequest("a NUL character cannot be asked for", field=name)
    if op in ("gte", "lte"):
        _check_time(name, value)
    values = tuple(value.split(",")) if op in ("in", "nin") else (value,)
    if len(values) > MOST_VALUES:
        raise BadRequest(f"at most {MOST_VALUES} values, you gave {len(values)}", field=name)
    return Condition(field, op, values)


def _check_time(name: str, value: str) -> None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadRequest("must be a time like 2026-11-23T12:00:00Z", field=name)
