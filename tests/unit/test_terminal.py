"""Tables for people: whole in a pipe, and with times that can be read."""

import io
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer
from rich.console import Console

from server.cli import options
from server.terminal import terminal

SERIAL = "4f60ce5bb082a759734ad2d7b976d3f406d0ce48"


def test_a_pipe_folds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    written = io.StringIO()
    monkeypatch.setattr(options, "console", terminal(written))
    rows = [{"endpoint": "urn:imei:350000000000001", "serial": SERIAL, "issuer": "CN=Firstlight Issuing CA"}]
    options.show(rows, ("endpoint", "serial", "issuer"), as_json=False, empty="")
    [_, row] = written.getvalue().splitlines()
    assert row.split("  ") == ["urn:imei:350000000000001", SERIAL, "CN=Firstlight Issuing CA"]


@pytest.mark.parametrize("name", ["[/bold]", "[[security]] 1", "urn:key:1", "[red]x"])
def test_what_a_device_is_called_is_no_markup(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    written = io.StringIO()
    monkeypatch.setattr(options, "console", terminal(written))
    options.show([{"identity": name}], ("identity",), as_json=False, empty="")
    options.console.print(f"warning: {name}", highlight=False)
    assert [line.strip() for line in written.getvalue().splitlines()[1:]] == [name, f"warning: {name}"]


def test_what_anybody_is_called_moves_no_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(options, "console", terminal(written))
    options.show([{"identity": "\x1b[2Jx"}], ("identity",), as_json=False, empty="")
    options.show([], (), as_json=False, empty="\u202ex")
    assert [line.strip() for line in written.getvalue().splitlines()[1:]] == [r"\x1b[2Jx", r"\u202ex"]
    with pytest.raises(typer.Exit):
        options.fail("\x1b[2Jx")
    assert capsys.readouterr().err == "firstlight: \\x1b[2Jx\n"


def test_a_user_without_a_name_acts_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run --user 54321`; nobody is called so."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert options.actor().name == "uid 54321"


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_times_are_told_in_utc_to_the_second(monkeypatch: pytest.MonkeyPatch, zone: timezone) -> None:
    written = io.StringIO()
    monkeypatch.setattr(options, "console", Console(file=written, width=120))
    moment = datetime(2026, 11, 28, 9, 43, 56, 896406, UTC).astimezone(zone)
    options.show([{"first_seen": moment}], ("first_seen",), as_json=False, empty="")
    assert written.getvalue().split("\n")[1].strip() == "2026-11-28 09:43:56Z"
