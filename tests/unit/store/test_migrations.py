"""Migrations: in order, none missing, none changed after it ran."""

import pytest

from server.store.errors import StoreRefused
from server.store.migrations import Migration, load_migrations, parse, pending
from server.store.sql import SqlFileError

ONE = Migration(1, "record", "CREATE TABLE a ();")
TWO = Migration(2, "more", "CREATE TABLE b ();")


def test_they_come_in_the_order_of_their_numbers() -> None:
    assert parse([("0002_more.sql", TWO.text), ("0001_record.sql", ONE.text)]) == (ONE, TWO)


@pytest.mark.parametrize("file", ["1_record.sql", "0001-record.sql", "0001_Record.sql", "record.sql"])
def test_a_misnamed_file_is_refused(file: str) -> None:
    with pytest.raises(SqlFileError, match="is called like"):
        parse([(file, "")])


@pytest.mark.parametrize("files", [["0002_a.sql"], ["0001_a.sql", "0003_b.sql"], ["0001_a.sql", "0001_b.sql"]])
def test_a_missing_or_doubled_number_is_refused(files: list[str]) -> None:
    with pytest.raises(SqlFileError, match="was expected"):
        parse([(file, "") for file in files])


def test_only_what_has_not_run_is_pending() -> None:
    assert pending([ONE, TWO], {}) == (ONE, TWO)
    assert pending([ONE, TWO], {1: ONE.checksum}) == (TWO,)
    assert pending([ONE, TWO], {1: ONE.checksum, 2: TWO.checksum}) == ()


def test_a_database_ahead_of_the_program_is_accepted() -> None:
    assert pending([ONE], {1: ONE.checksum, 2: TWO.checksum}) == ()


def test_a_file_changed_after_it_ran_is_refused_in_one_line() -> None:
    with pytest.raises(StoreRefused, match="migration 0001_record of this program is not") as caught:
        pending([ONE], {1: TWO.checksum})
    assert "\n" not in str(caught.value)


def test_line_endings_do_not_change_the_checksum() -> None:
    assert Migration(1, "a", "X;\r\nY;\r\n").checksum == Migration(1, "a", "X;\nY;\n").checksum
    assert Migration(1, "a", "X;\nY;\n").checksum != Migration(1, "a", "X;\nZ;\n").checksum


def test_the_packaged_migrations_load() -> None:
    assert [migration.version for migration in load_migrations()] == list(range(1, len(load_migrations()) + 1))
