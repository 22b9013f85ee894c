"""The long lists of the record: filtered, sorted and paged by PostgreSQL, each from an index (`*_listed` views).

A page begins behind a row, so that rows that come meanwhile neither repeat nor hide others, and the last page is the
first one of the opposite order. A filter names a column of the view; its value always travels as a parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal, assert_never
from uuid import UUID

from server.store.database import Database

Kind = Literal["device", "session", "certificate", "audit", "certificate_enrollment"]

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


@dataclass(frozen=True, slots=True)
class Listing:
    """A list: its columns by their name in the API, and the sorts that have an index, the usual one first.

    A sort's columns lead to one row; the last of them is unique within the others. `words` are all values that a column
    can have, where they are few: a filter by another one is a mistake.
    """

    fields: Mapping[str, Type]
    sorts: Mapping[str, tuple[str, ...]]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LISTINGS: Mapping[Kind, Listing] = {
    "device": Listing(
        fields={
            "id": Type.ID,
            "etag": Type.TIME,
            "account_id": Type.ID,
            "created_at": Type.TIME,
            "updated_at": Type.TIME,
            "endpoint_name": Type.TEXT,
            "name": Type.TEXT,
            "profile": Type.WORD,
            "state": Type.REGISTERED,
            "last_outcome": Type.WORD,
            "last_cause": Type.WORD,
            # The CA that the failed bootstrap asked: its id, `own` for the embedded one, `none`.
            "last_failed_ca": Type.WORD,
            "lifecycle_status": Type.WORD,
            "mechanism": Type.WORD,
            "mechanism_url": Type.WORD,
            "device_execution_mode": Type.NUMBER,
            "ca_id": Type.CA,
            "device_key": Type.HEX,
            "issuer_fingerprint": Type.HEX,
            "bootstrapped_timestamp": Type.TIME,
            "connector_expiration_date": Type.DAY,
            "bootstrap_expiration_date": Type.DAY,
            "enrolment_list_timestamp": Type.TIME,
            "deployed_state": Type.WORD,
            "description": Type.WORD,
        },
        sorts={
            "created_at": ("created_at", "id"),
            "updated_at": ("updated_at", "id"),
            "endpoint_name": ("endpoint_name",),
            "connector_expiration_date": ("connector_expiration_date", "id"),
        },
    ),
    "certificate": Listing(
        fields={
            "id": Type.ID,
            "endpoint_name": Type.TEXT,
            "device_id": Type.ID,
            "service": Type.WORD,
            "state": Type.STATE,
            "subject": Type.TEXT,
            "serial": Type.SERIAL,
            "certificate_issuer_id": Type.CA,
            "issuer_fingerprint": Type.HEX,
            "fingerprint": Type.FINGERPRINT,
            "created_at": Type.TIME,
            "not_before": Type.TIME,
            "not_after": Type.TIME,
            "revoked_at": Type.TIME,
            "revocation_reason": Type.WORD,
        },
        sorts={
            "created_at": ("created_at", "id"),
            "not_after": ("not_after", "id"),
            "endpoint_name": ("endpoint_name", "created_at", "id"),
        },
    ),
    "session": Listing(
        fields={
            "id": Type.ID,
            "endpoint_name": Type.TEXT,
            "created_at": Type.TIME,
            "ended_at": Type.TIME,
            "profile": Type.WORD,
            "credential": Type.WORD,
            "address": Type.TEXT,
            "outcome": Type.WORD,
            "cause": Type.WORD,
            "sentence": Type.PROSE,
            "certificate_id": Type.ID,
            "kind": Type.WORD,
        },
        sorts={"created_at": ("created_at", "id")},
    ),
    "audit": Listing(
        fields={
            "id": Type.ID,
            "created_at": Type.TIME,
            "actor_kind": Type.WORD,
            "actor_name": Type.WORD,
            "request_id": Type.WORD,
            "action": Type.TEXT,
            "subject_kind": Type.WORD,
            "subject": Type.TEXT,
            "detail": Type.JSON,
        },
        sorts={"created_at": ("created_at", "id")},
    ),
    "certificate_enrollment": Listing(
        fields={
            "id": Type.ID,
            "etag": Type.PROSE,
            "created_at": Type.TIME,
            "updated_at": Type.TIME,
            "device_id": Type.ID,
            "certificate_name": Type.WORD,
            "enroll_status": Type.WORD,
            "enroll_result": Type.WORD,
            "enroll_result_detail": Type.PROSE,
        },
        sorts={"created_at": ("created_at", "id")},
        words={"enroll_status": ("new", "completed"), "enroll_result": ("success", "failure")},
    ),
}

# In a filter by CA: the embedded one.
OWN_CA = "own"
# By a CA's column: the one that is filled when there is a certificate, where there need not be one.
_HELD = {"ca_id": "bootstrapped_timestamp"}
# States of an issuance that has a certificate, none of which is "delivered".
_UNDELIVERED = ("issued", "abandoned")
# Columns that few rows fill: an index holds those alone.
_SPARSE = frozenset({"description"})
# Columns that tell whether a developer certificate vouched for a device: what they say if one did, and if not.
_DEVELOPED: Mapping[str, tuple[object, object]] = {
    "device_execution_mode": (1, 0),
    "deployed_state": ("development", "production"),
}
# As `device_listed` tells them.
_DEVICE_STATES = ("registered", "bootstrapped", "unenrolled")


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter of a list: `op` is one of its column's `operations`, `values` are of its column's type."""

    field: str
    op: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a list that is wanted; `after` is the id of the row before it in the given order."""

    conditions: Sequence[Condition] = ()
    sort: str = "created_at"
    after: UUID | None = None
    ascending: bool = True
    limit: int


@dataclass(slots=True)
class _Which:
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
            # The C collation folds ASCII letters only, as `bytes.lower` does, and costs a tenth of what others cost.
            return f'lower({column} COLLATE "C") LIKE {self.parameter(_anywhere(str(values[0])))}'
        filled = f" AND {column} <> ''" if column in _SPARSE and "" not in values else ""
        if op == "eq":
            return f"{column} = {self.parameter(values[0])}{filled}"
        if op == "neq":
            return f"{column} IS DISTINCT FROM {self.parameter(values[0])}"
        if op == "in":
            return f"{column} = ANY ({self.parameter(list(values))}){filled}"
        # How many rows that leaves PostgreSQL can tell; it could not of a coalesce.
        return f"({column} <> ALL ({self.parameter(list(values))}) OR {column} IS NULL)"

    def _cas(self, column: str, op: str, values: tuple[object, ...]) -> str:
        others = tuple(value for value in values if value != OWN_CA)
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
            self.text.append("AND delivered_at IS NULL")

    def _registered(self, op: str, values: tuple[object, ...]) -> None:
        """Told from what each state means: how many rows a CASE leaves, PostgreSQL would guess."""
        wanted = {state for state in _DEVICE_STATES if (state in values) == (op in ("eq", "in"))}
        registered = "id IN (SELECT device_id FROM registration WHERE expires_at > now())"
        fits = [registered] if "registered" in wanted else []
        for state, held in (("bootstrapped", "IS NOT NULL"), ("unenrolled", "IS NULL")):
            if state in wanted:
                fits.append(f"(bootstrapped_timestamp {held} AND NOT {registered})")
        self.text.append(f"AND ({' OR '.join(fits) or 'false'})")


def _anywhere(text: str) -> str:
    """A pattern for what holds `text` in any letter case; its own % and _ stand for themselves."""
    text = text.encode().lower().decode()
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def _span(value: datetime, type: Type) -> tuple[datetime, datetime]:
    """The time that is shown like `value`: its millisecond, or its day in UTC."""
    if type is Type.DAY:
        start = value.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return start, start + timedelta(days=1)
    start = value.replace(microsecond=value.microsecond // 1000 * 1000)
    return start, start + timedelta(milliseconds=1)


async def page(database: Database, account_id: UUID, kind: Kind, window: Window) -> list[Mapping[str, Any]]:
    """Rows of a list as the record holds them; none when the row to begin after is gone."""
    which = await _part(database, account_id, kind, window)
    return [] if which is None else list(await _fetch(database, f"{kind}_page", which))


async def plan(database: Database, account_id: UUID, kind: Kind, window: Window) -> str:
    """How PostgreSQL would find the page, in its own words."""
    which = await _part(database, account_id, kind, window)
    return (
        "" if which is None else "\n".join(row[0] for row in await _fetch(database, f"{kind}_page", which, "EXPLAIN "))
    )


async def _told(database: Database, account_id: UUID, conditions: Sequence[Condition]) -> list[Condition]:
    """The same conditions, those on developers' devices said by the certificates that vouched: how many rows fit a
    CASE, PostgreSQL would guess."""
    found: list[Condition] = []
    for each in conditions:
        if each.field not in _DEVELOPED:
            found.append(each)
            continue
        rows = await database.fetch("trusted_developer", account_id)
        vouching = tuple(row["fingerprint"] for row in rows)
        developed, other = ((value in each.values) == (each.op in ("eq", "in")) for value in _DEVELOPED[each.field])
        if developed != other:
            found.append(Condition("issuer_fingerprint", "in" if developed else "nin", vouching))
        elif not developed:
            found.append(Condition("id", "in", ()))
    return found


async def _part(database: Database, account_id: UUID, kind: Kind, window: Window) -> _Which | None:
    listing = LISTINGS[kind]
    which = _Which(listing.fields, [account_id, window.limit])
    for condition in await _told(database, account_id, window.conditions):
        which.add(condition)
    columns = listing.sorts[window.sort]
    if window.after is not None:
        behind = await find(database, account_id, kind, window.after)
        if behind is None:
            return None
        place = ", ".join(which.parameter(behind[column]) for column in columns)
        which.text.append(f"AND ({', '.join(columns)}) {'>' if window.ascending else '<'} ({place})")
    which.text.append("ORDER BY " + ", ".join(f"{column}{'' if window.ascending else ' DESC'}" for column in columns))
    return which


async def find(database: Database, account_id: UUID, kind: Kind, row_id: UUID) -> Mapping[str, Any] | None:
    """The row of a list with this id."""
    which = _Which(LISTINGS[kind].fields, [account_id, 1])
    which.add(Condition("id", "eq", (row_id,)))
    rows = await _fetch(database, f"{kind}_page", which)
    return rows[0] if rows else None


async def count(
    database: Database, account_id: UUID, kind: Kind, conditions: Sequence[Condition], *, most: int | None = None
) -> int:
    """How many rows of a list fit; the counting ends at `most` if given, so that its cost has a bound."""
    which = _Which(LISTINGS[kind].fields, [account_id, most])
    for condition in await _told(database, account_id, conditions):
        which.add(condition)
    return int((await _fetch(database, f"{kind}_fitting", which))[0][0])


async def _fetch(database: Database, name: str, which: _Which, before: str = "") -> Sequence[Any]:
    async with database.reading() as connection:
        await connection.execute(database.queries["listing_session"])
        text = before + database.queries[name].replace("/* which */", " ".join(which.text))
        return await connection.fetch(text, *which.arguments)  # type: ignore[no-any-return]
