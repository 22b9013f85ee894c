"""Filters of a list as PostgreSQL reads them: a condition names a column, its value always travels as a parameter."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import assert_never

_WORDS = ("eq", "neq", "in", "nin")
_TIMES = (*_WORDS, "gte", "lte")


class Type(Enum):
    """What a column holds, hence which filters it takes and how its values are written."""

    WORD = "word"
    TEXT = "text"
    NUMBER = "number"
    ID = "id"
    # The id of a CA, null for the embedded one, which is asked for as `own`.
    CA = "ca"
    HEX = "hex"
    # Computed from the certificate: found by its index alone, so "not equal" is not offered.
    FINGERPRINT = "fingerprint"
    SERIAL = "serial"
    # The state of an issuance; few are not delivered, and those have an index.
    STATE = "state"
    # The state of a device: whether it is registered, else whether it holds a certificate.
    REGISTERED = "registered"
    TIME = "time"
    # The day of a time, which may be infinity for "never".
    DAY = "day"
    # Shown only.
    PROSE = "prose"
    JSON = "json"

    @property
    def operations(self) -> tuple[str, ...]:
        """The filters of such a column."""
        match self:
            case Type.TEXT:
                return (*_WORDS, "like")
            case Type.TIME | Type.DAY:
                return _TIMES
            case Type.FINGERPRINT:
                return ("eq", "in")
            case Type.PROSE | Type.JSON:
                return ()
            case Type.WORD | Type.NUMBER | Type.ID | Type.CA | Type.HEX | Type.SERIAL | Type.STATE | Type.REGISTERED:
                return _WORDS
            case _:
                assert_never(self)


# What stands for the embedded CA where CAs have ids: in filters, addresses and forms.
OWN = "own"
# By a CA's column: the one that is filled when there is a certificate, where there need not be one.
_HELD = {"ca_id": "bootstrapped_timestamp"}
# States of an issuance that has a certificate, none of which is "delivered".
_UNDELIVERED = ("issued", "abandoned")
# Columns that few rows fill: an index holds those alone.
SPARSE = frozenset({"description"})
_LETTER = re.compile("[a-z]")
# As `device_listed` tells them.
_DEVICE_STATES = ("registered", "bootstrapped", "unenrolled")


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter of a list: `op` is one of its column's `operations`, `values` are of its column's type."""

    field: str
    op: str
    values: tuple[object, ...]


@dataclass(slots=True)
class Which:
    """The conditions of a statement, as text that names columns and parameters only."""

    fields: Mapping[str, Type]
    arguments: list[object]
    text: list[str] = field(default_factory=list)

    def parameter(self, value: object) -> str:
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def add(self, condition: Condition) -> None:
        """Narrow the list by one filter."""
        column, values = condition.field, condition.values
        match self.fields[column]:
            case Type.TIME | Type.DAY as type:
                self.text.append(f"AND {self._times(column, condition.op, values, type)}")
            case Type.STATE:
                self._states(column, condition.op, values)
            case Type.CA:
                self.text.append(f"AND {self._cas(column, condition.op, values)}")
            case Type.REGISTERED:
                self._registered(condition.op, values)
            case _:
                self.text.append(f"AND {self._words(column, condition.op, values)}")

    def _words(self, column: str, op: str, values: tuple[object, ...]) -> str:
        if op == "like":
            # The C collation folds ASCII letters only, as `bytes.lower` does, and costs a tenth of what others cost. A
            # text without letters is found as it stands, and strpos finds it in less time than LIKE.
            text = str(values[0]).encode().lower().decode()
            folded = f'lower({column} COLLATE "C")' if _LETTER.search(text) else f'{column} COLLATE "C"'
            return f"strpos({folded}, {self.parameter(text)}) > 0"
        # What is not empty, as the index of such a column says it.
        filled = ""
        if column in SPARSE and (op in ("eq", "in")) != ("" in values):
            filled = f" AND {column} <> ''"
        if op == "eq":
            return f"{column} = {self.parameter(values[0])}{filled}"
        if op == "neq":
            return f"{column} IS DISTINCT FROM {self.parameter(values[0])}{filled}"
        if op == "in":
            return f"{column} = ANY ({self.parameter(list(values))}){filled}"
        # How many rows that leaves PostgreSQL can tell; it could not of a coalesce.
        return f"({column} <> ALL ({self.parameter(list(values))}) OR {column} IS NULL){filled}"

    def _cas(self, column: str, op: str, values: tuple[object, ...]) -> str:
        others = tuple(value for value in values if value != OWN)
        if len(others) == len(values):
            return self._words(column, op, values)
        held = _HELD.get(column)
        if op in ("eq", "in"):
            own = f"({column} IS NULL AND {held} IS NOT NULL)" if held else f"{column} IS NULL"
            return f"({self._words(column, 'in', others)} OR {own})" if others else own
        own = f"({column} IS NOT NULL OR {held} IS NULL)" if held else f"{column} IS NOT NULL"
        return f"({own} AND {self._words(column, 'nin', others)})" if others else own

    def _times(self, column: str, op: str, values: tuple[object, ...], type: Type) -> str:
        """Times are shown to the millisecond, days to the day: a row fits by what is shown of it."""
        spans = [_span(value, type) for value in values if isinstance(value, datetime)]
        if op == "gte":
            (start, end), value = spans[0], values[0]
            least = f"{column} >= {self.parameter(start if start == value else end)}"
            # What never ends is shown as having no end.
            return f"({least} AND {column} < 'infinity')" if type is Type.DAY else least
        if op == "lte":
            return f"{column} < {self.parameter(spans[0][1])}"
        within = [f"({column} >= {self.parameter(start)} AND {column} < {self.parameter(end)})" for start, end in spans]
        found = f"({' OR '.join(within)})"
        return found if op in ("eq", "in") else f"(NOT {found} OR {column} IS NULL)"

    def _states(self, column: str, op: str, values: tuple[object, ...]) -> None:
        if op in ("neq", "nin"):
            values = tuple(state for state in ("delivered", *_UNDELIVERED) if state not in values)
        if values == ("delivered",):
            self.text.append("AND delivered_at IS NOT NULL")
            return
        self.text.append(f"AND {column} = ANY ({self.parameter(list(values))})")
        if "delivered" not in values:
            self.text.append("AND undelivered")

    def _registered(self, op: str, values: tuple[object, ...]) -> None:
        """Told from what each state means: how many rows a CASE leaves, PostgreSQL would guess."""
        wanted = {state for state in _DEVICE_STATES if (state in values) == (op in ("eq", "in"))}
        registered = "id IN (SELECT device_id FROM registration WHERE expires_at > now())"
        fits = [registered] if "registered" in wanted else []
        for state, held in (("bootstrapped", "IS NOT NULL"), ("unenrolled", "IS NULL")):
            if state in wanted:
                fits.append(f"(bootstrapped_timestamp {held} AND NOT {registered})")
        self.text.append(f"AND ({' OR '.join(fits) or 'false'})")


def _span(value: datetime, type: Type) -> tuple[datetime, datetime]:
    """The time that is shown like `value`: its millisecond, or its day in UTC."""
    if type is Type.DAY:
        start = value.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return start, start + timedelta(days=1)
    start = value.replace(microsecond=value.microsecond // 1000 * 1000)
    return start, start + timedelta(milliseconds=1)
