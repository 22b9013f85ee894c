"""The query loader: blocks by name, and every mistake in a file is named with the file."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.store.sql import SqlFileError, load_queries, parse, together

TWO = """-- Devices.

-- name: device_by_endpoint
-- The device a Bootstrap-Request speaks for.
SELECT endpoint FROM device WHERE endpoint = $1;

--name:device_all
SELECT endpoint FROM device;
"""


def test_each_block_is_found_by_its_name() -> None:
    queries = parse([("device.sql", TWO)])
    assert list(queries) == ["device_by_endpoint", "device_all"]
    assert queries["device_all"] == "SELECT endpoint FROM device;"
    assert queries["device_by_endpoint"].endswith("WHERE endpoint = $1;")


def test_a_name_in_two_files_is_refused_and_both_are_named() -> None:
    with pytest.raises(SqlFileError, match=r"^b\.sql: query one stands in a\.sql too$"):
        parse([("a.sql", "-- name: one\nSELECT 1;"), ("b.sql", "-- name: one\nSELECT 2;")])


def test_a_name_twice_in_one_file_is_refused() -> None:
    with pytest.raises(SqlFileError, match=r"a\.sql: query one"):
        parse([("a.sql", "-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;")])


@pytest.mark.parametrize("name", ["", "One", "1st", "two words", "über", "a-b"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SqlFileError, match=r"a\.sql: .* is no query name"):
        parse([("a.sql", f"-- name: {name}\nSELECT 1;")])


def test_sql_above_the_first_name_is_refused() -> None:
    with pytest.raises(SqlFileError, match=r"a\.sql: SQL stands above"):
        parse([("a.sql", "SELECT 0;\n-- name: one\nSELECT 1;")])


@pytest.mark.parametrize("body", ["", "\n\n", "\n-- a comment alone\n"])
def test_an_empty_query_is_refused(body: str) -> None:
    with pytest.raises(SqlFileError, match=r"a\.sql: query one is empty"):
        parse([("a.sql", f"-- name: one{body}")])


@settings(deadline=None)
@given(st.text(alphabet="-: \nnameSELCT1;_x"))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(SqlFileError):
        assert all(parse([("a.sql", text)]).values())


def test_the_packaged_queries_load() -> None:
    queries = load_queries()
    assert queries["schema_migration_all"].startswith("SELECT version, checksum")


def test_queries_written_together_have_parameters_of_their_own_and_all_rows() -> None:
    one = "-- First.\nWITH a AS (\n    INSERT INTO t SELECT $1, $2\n    RETURNING id\n)\nSELECT id FROM a;"
    other = "WITH b AS (SELECT $2 + $1), c AS (SELECT 1)\nSELECT n FROM c;"
    assert together([one]) == one
    assert " ".join(together([one, other, one.replace("a", "d")]).split()) == (
        "WITH a AS ( INSERT INTO t SELECT $1, $2 RETURNING id ), b AS (SELECT $4 + $3), c AS (SELECT 1), "
        "d AS ( INSERT INTO t SELECT $5, $6 RETURNING id ) "
        "SELECT id FROM a UNION ALL SELECT n FROM c UNION ALL SELECT id FROM d"
    )


def test_what_a_bootstrap_writes_can_be_written_together() -> None:
    """The form that `together` asks for: parts whose names are taken once, then one line that selects."""
    queries = load_queries()
    parts: list[str] = []
    for name in ("write_opened", "write_issued", "write_ended"):
        text = re.sub(r"--.*", "", queries[name]).strip()
        assert re.fullmatch(r"WITH .*\n\)\nSELECT [^\n]+;", text, re.DOTALL), name
        parts += re.findall(r"^(?:WITH |\), )(\w+) AS \($", text, re.MULTILINE)
    assert len(parts) > 9
    assert len(parts) == len(set(parts))
