"""What is written as whole rows reaches the record as it was, whatever it holds."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.store.database import Database
from server.store.operations import ORDER
from tests.integration.rows import end, intent, issued

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
VALUES: dict[str, st.SearchStrategy[object]] = {
    "uuid": st.uuids(),
    "uuid[]": st.lists(st.uuids(), max_size=3),
    "timestamp with time zone": TIMES,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "text": TEXT | st.sampled_from(["NULL", '"', "\\", "{}", "(,)", "\\x00", "a\nb\t'"]),
    "bytea": st.binary(),
}
KINDS = [kind for kind in ORDER if kind.whole]
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS kind
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relname = $1 ORDER BY a.attnum
"""


def written_type(database: Database, statement: str) -> str:
    """The type of the rows that a statement takes: one that got a column more has another name than at first."""
    found = re.search(r"unnest\(\$1::(\w+)\[\]\)", database.queries[statement])
    assert found is not None
    return found[1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.statement)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_row_comes_back_as_it_was_sent(database: Database, kind: type, data: st.DataObject) -> None:
    type_name = written_type(database, kind.statement)  # type: ignore[attr-defined]
    async with database.acquire() as connection:
        columns = await connection.fetch(COLUMNS, type_name)
        rows = data.draw(st.lists(st.tuples(*(st.none() | VALUES[column["kind"]] for column in columns)), max_size=4))
        query = f"SELECT w.* FROM unnest($1::{type_name}[]) WITH ORDINALITY AS w"  # noqa: S608 one of three
        back = await connection.fetch(query, rows)
    assert [tuple(row)[:-1] for row in back] == rows


async def test_each_kind_has_a_value_for_each_column_of_its_type(database: Database) -> None:
    opened = intent("device-1")
    samples = {operation.statement: operation.row() for operation in (opened, issued(opened), end(opened))}
    assert set(samples) == {kind.statement for kind in KINDS}
    async with database.acquire() as connection:
        for statement, row in samples.items():
            assert len(await connection.fetch(COLUMNS, written_type(database, statement))) == len(row)
