"""The long lists of the record: filtered, sorted and paged by PostgreSQL, each from an index (`*_listed` views).

A page begins behind a row, so that rows that come meanwhile neither repeat nor hide others, and the last page is the
first one of the opposite order. A filter names a column of the view; its value always travels as a parameter.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from server.store.conditions import SPARSE, Condition, Type, Which
from server.store.database import Database

Kind = Literal["device", "session", "certificate", "audit", "certificate_enrollment"]


@dataclass(frozen=True, slots=True)
class Listing:
    """A list: its columns by their name in the API, and the sorts that have an index, the usual one first.

    A sort's columns lead to one row; the last of them is unique within the others. The index of the sort `covering`
    holds all that is filtered. `words` are all values that a column can have, where they are few: a filter by another
    one is a mistake.
    """

    fields: Mapping[str, Type]
    sorts: Mapping[str, tuple[str, ...]]
    covering: str = "created_at"
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
            # The CA that the failed bootstrap asked, or found away: its id, `own` for the embedded one, `none`.
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
        covering="updated_at",
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

# Columns that tell whether a developer certificate vouched for a device: what they say if one did, and if not.
_DEVELOPED: Mapping[str, tuple[object, object]] = {
    "device_execution_mode": (1, 0),
    "deployed_state": ("development", "production"),
}
# How many rows are looked at in the order of a sort before all that fit are gathered, and further ones a row wanted.
NEAR, NEAR_EACH = 2000, 2
# Types of which a value leads to few rows, by an index of its own or by PostgreSQL's count of them.
_FEW = frozenset({Type.ID, Type.FINGERPRINT, Type.SERIAL, Type.TEXT})
_RANGES = frozenset({"eq", "in", "gte", "lte"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a list that is wanted; `after` is the id of the row before it in the given order."""

    conditions: Sequence[Condition] = ()
    sort: str = "created_at"
    after: UUID | None = None
    ascending: bool = True
    limit: int


async def page(database: Database, account_id: UUID, kind: Kind, window: Window) -> list[Mapping[str, Any]]:
    """Rows of a list as the record holds them; none when the row to begin after is gone."""
    rows: list[Mapping[str, Any]] = []
    async with _reading(database) as connection:
        for text, arguments in await _statements(database, connection, account_id, kind, window):
            rows = list(await connection.fetch(text, *arguments))
            if len(rows) == window.limit:
                break
    return rows


async def plan(database: Database, account_id: UUID, kind: Kind, window: Window) -> str:
    """How PostgreSQL would find the page, in its own words; one line for each step of each statement."""
    found: list[str] = []
    async with _reading(database) as connection:
        for text, arguments in await _statements(database, connection, account_id, kind, window):
            found += [row[0] for row in await connection.fetch(f"EXPLAIN {text}", *arguments)]
    return "\n".join(found)


async def _told(database: Database, connection: Any, account_id: UUID, given: Sequence[Condition]) -> list[Condition]:
    """The same conditions, those on developers' devices said by the certificates that vouched: how many rows fit a
    CASE, PostgreSQL would guess."""
    found: list[Condition] = []
    for each in given:
        if each.field not in _DEVELOPED:
            found.append(each)
            continue
        rows = await connection.fetch(database.queries["trusted_developer"], account_id)
        vouching = tuple(row["fingerprint"] for row in rows)
        developed, other = ((value in each.values) == (each.op in ("eq", "in")) for value in _DEVELOPED[each.field])
        if developed != other:
            found.append(Condition("issuer_fingerprint", "in" if developed else "nin", vouching))
        elif not developed:
            found.append(Condition("id", "in", ()))
    return found


async def _statements(
    database: Database, connection: Any, account_id: UUID, kind: Kind, window: Window
) -> list[tuple[str, list[object]]]:
    """What finds the page, with its arguments: a later one is asked when those before gave fewer rows than wanted."""
    listing = LISTINGS[kind]
    conditions = await _told(database, connection, account_id, window.conditions)
    which = Which(listing.fields, [account_id, window.limit])
    for condition in conditions:
        which.add(condition)
    fits = " ".join(which.text)
    columns = listing.sorts[window.sort]
    place = ""
    if window.after is not None:
        behind = await _find(database, connection, account_id, kind, window.after)
        if behind is None:
            return []
        values = ", ".join(which.parameter(behind[column]) for column in columns)
        place = f"AND ({', '.join(columns)}) {'>' if window.ascending else '<'} ({values})"
    order = "ORDER BY " + ", ".join(f"{column}{'' if window.ascending else ' DESC'}" for column in columns)
    text, arguments = database.queries[f"{kind}_page"], which.arguments
    if window.sort == listing.covering or not conditions or any(_leads_to_few(each, listing) for each in conditions):
        return [(text.replace("/* which */", f"{fits} {place} {order}"), arguments)]
    # PostgreSQL takes it that what fits lies all over the list. If it all lies at the other end, as with names that
    # were given in the order of time, it would walk there row by row: so not too far, then all that fits is gathered.
    given = len(arguments)
    leading = Which(listing.fields, arguments)
    for condition in conditions:
        # Where a range of the sort's own column is asked for, its walk begins there. A text that is searched for is no
        # range: the whole list would be walked for it.
        if condition.field == columns[0] and condition.op in _RANGES:
            leading.add(condition)
    near = database.queries[f"{kind}_candidates"].replace(
        "/* which */", f"{' '.join(leading.text)} {place} {order} LIMIT ${len(arguments) + 1}"
    )
    far = database.queries[f"{kind}_gathered"].replace("/* which */", f"{fits} {place} OFFSET 0")
    budget = NEAR + NEAR_EACH * window.limit
    return [
        (_within(text, near).replace("/* which */", f"{fits} {order}"), [*arguments, budget]),
        (_within(text, far).replace("/* which */", order), arguments[:given]),
    ]


def _leads_to_few(condition: Condition, listing: Listing) -> bool:
    type = listing.fields[condition.field]
    return type is Type.STATE or (condition.op in ("eq", "in") and (type in _FEW or condition.field in SPARSE))


def _within(text: str, candidates: str) -> str:
    """The page's statement, which looks among the candidates in place of the whole list."""
    return re.sub(r"/\* candidates \*/ \w+", lambda _: f"({candidates.rstrip(';')}) AS candidate", text)


async def find(database: Database, account_id: UUID, kind: Kind, row_id: UUID) -> Mapping[str, Any] | None:
    """The row of a list with this id."""
    async with _reading(database) as connection:
        return await _find(database, connection, account_id, kind, row_id)


async def _find(
    database: Database, connection: Any, account_id: UUID, kind: Kind, row_id: UUID
) -> Mapping[str, Any] | None:
    which = Which(LISTINGS[kind].fields, [account_id, 1])
    which.add(Condition("id", "eq", (row_id,)))
    text = database.queries[f"{kind}_page"].replace("/* which */", " ".join(which.text))
    rows = await connection.fetch(text, *which.arguments)
    return rows[0] if rows else None


async def count(
    database: Database, account_id: UUID, kind: Kind, conditions: Sequence[Condition], *, most: int | None = None
) -> int:
    """How many rows of a list fit; the counting ends at `most` if given, so that its cost has a bound."""
    listing = LISTINGS[kind]
    fitting = database.queries[f"{kind}_fitting"]
    which = Which(listing.fields, [account_id, most])
    async with _reading(database) as connection:
        told = await _told(database, connection, account_id, conditions)
        nearly_all = [] if most is not None else [each for each in told if _opposite(each, listing)][:1]
        for condition in told:
            if condition not in nearly_all:
                which.add(condition)
        text = fitting.replace("/* which */", " ".join(which.text))
        for opposite in [found for each in nearly_all if (found := _opposite(each, listing))]:
            which.add(opposite)
            without = fitting.replace("/* which */", " ".join(which.text))
            text = database.queries["listing_difference"].replace("0 /* all */", f"({text.rstrip(';')})")
            text = text.replace("0 /* without */", f"({without.rstrip(';')})")
        return int((await connection.fetch(text, *which.arguments))[0][0])


def _opposite(condition: Condition, listing: Listing) -> Condition | None:
    """What the rows that do not fit have in common, if few are and an index holds them; None else."""
    wanted = condition.op in ("eq", "in")
    if condition.field in SPARSE and wanted == ("" in condition.values):
        return replace(condition, op="nin" if wanted else "in")
    if listing.fields[condition.field] is Type.STATE and wanted == ("delivered" in condition.values):
        return replace(condition, op="nin" if wanted else "in")
    return None


@contextlib.asynccontextmanager
async def _reading(database: Database) -> AsyncIterator[Any]:
    async with database.reading() as connection:
        await connection.execute(database.queries["listing_session"])
        yield connection
