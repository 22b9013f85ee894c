import contextlib
import io
import json
import logging
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from server import logs


def test_a_secret_field_is_redacted_whatever_a_caller_passes() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logs.get("test").info("psk_added", identity="device-1", key="c0ffee", credentials={"api_secret": "hush"})
    written = stream.getvalue()
    assert "c0ffee" not in written
    assert "hush" not in written
    assert json.loads(written)["identity"] == "device-1"


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("in_the_journal", [False, True])
def test_a_log_that_has_no_room_ends_nothing(format: str, in_the_journal: bool) -> None:
    """It stands on the disk of the record, perhaps: what the full disk left unsaid kept devices from every answer."""
    stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    status = os.fstat(stream.fileno())
    logs.configure(
        format, "info", stream, journal_stream=f"{status.st_dev}:{status.st_ino}" if in_the_journal else None
    )
    logs.get("test").info("heard_by_nobody", endpoint="device-1")
    logs.get("test").error("heard_by_nobody_either")
    with contextlib.suppress(OSError):
        stream.close()


def test_a_quiet_level_says_nothing_below_it() -> None:
    stream = io.StringIO()
    logs.configure("console", "warning", stream)
    logs.get("test").info("unheard")
    logs.get("test").warning("heard")
    assert "unheard" not in stream.getvalue()
    assert "heard" in stream.getvalue()


def test_the_console_line_is_the_one_structlog_would_write() -> None:
    """The fast line against its readable twin, structlog's own renderer."""
    fields = {"endpoint": "device-1", "ms": 12, "sentence": "two words", "nothing": None, "quoted": "it's", "empty": ""}
    event = {"level": "info", "event": "bootstrap_succeeded", "at": "2026-11-28T08:12:13Z", **fields}
    twin = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=28)
    assert logs._line(None, "info", dict(event)) == twin(None, "info", dict(event))


@pytest.mark.parametrize("name", ["a\u202egpj", "a\u200bb", "a\u2066b", "a\ud83d"])
def test_a_name_that_turns_the_line_round_or_hides_is_told_as_its_escape(name: str) -> None:
    """Whoever tries to sign in writes one into the log."""
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    logs.get("test").warning("sign_in_refused", name=name)
    assert f"name={name!r} " in stream.getvalue()
    assert stream.getvalue().removesuffix("\n").isprintable()


def test_what_a_fault_says_moves_no_cursor() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    try:
        raise ValueError("\x1b[2Jof a peer")
    except ValueError:
        logs.get("test").exception("session_failed")
    assert stream.getvalue().splitlines()[-1] == r"ValueError: \x1b[2Jof a peer"


def test_a_fault_stands_below_its_line_with_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    try:
        raise ValueError("of ours")
    except ValueError:
        logs.get("test").exception("session_failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.startswith("[error    ] session_failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: of ours"


def test_what_a_library_warns_of_is_one_line_of_this_log_without_a_traceback() -> None:
    """asyncpg's pool does so every few seconds while the database is away."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    try:
        raise OSError("nobody\nis there")
    except OSError:
        logging.getLogger("asyncpg.pool").warning("retrying", exc_info=True)
    logging.getLogger("other").warning("%s of %s", 1, 2)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {name: first[name] for name in ("event", "level", "library", "text", "reason")} == {
        "event": "library_said",
        "level": "warning",
        "library": "asyncpg.pool",
        "text": "retrying",
        "reason": "nobody is there",
    }
    assert (second["library"], second["text"]) == ("other", "1 of 2")


def test_what_a_library_calls_an_error_has_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    try:
        raise ValueError("of theirs")
    except ValueError:
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=True)
    first, *rest = stream.getvalue().splitlines()
    assert first.startswith("[error    ] library_said")
    assert rest[-1] == "ValueError: of theirs"
    logging.getLogger("asyncio").error("no exception")
    assert "NoneType" not in stream.getvalue()


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()))
names = st.one_of(
    st.from_regex(r"[a-z_]{1,10}", fullmatch=True).filter(lambda name: name not in ("event", "self")),
    st.sampled_from([*sorted(logs.REDACTED), "part", "at", "level", "exception", "stack_info"]),
)


@given(st.sampled_from(["debug", "info", "warning", "error"]), st.text(), st.dictionaries(names, values, max_size=6))
def test_a_plain_line_is_the_one_structlogs_chain_would_write(level: str, event: str, fields: dict[str, Any]) -> None:
    """The line put together at once against its readable twin, structlog with the processors it was given."""
    fast, twin = io.StringIO(), io.StringIO()
    logs.configure("console", "info", fast)
    getattr(logs.get("test"), level)(event, **fields)
    logs.configure("console", "info", twin)
    getattr(structlog.get_logger(part="test"), level)(event, **fields)
    at = re.compile(r"(?<= at=)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z(?= |$)", re.MULTILINE)
    said, expected = (at.sub("now", stream.getvalue()) for stream in (fast, twin))
    assert said == expected
    assert bool(said) == (level != "debug")


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=4))
def test_the_time_of_a_line_is_the_iso_form_of_it(times: list[datetime]) -> None:
    clock = logs._Clock()
    for time in times:
        for at in (time, time + timedelta(microseconds=1), time.replace(microsecond=0)):
            nanoseconds = (at - datetime(1970, 1, 1)) // timedelta(microseconds=1) * 1000
            assert clock.text(nanoseconds + 999) == at.isoformat() + "Z"


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_line_to_the_journal_has_its_priority_in_front(tmp_path: Path, format: str) -> None:
    """sd-daemon(3); a line without one is information, and a traceback is as many entries as it has lines."""
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        logs.configure(format, "debug", stream, journal_stream=f"{status.st_dev}:{status.st_ino}")
        log = logs.get("test")
        log.debug("sought")
        log.info("said")
        log.warning("looked_at", session="one", exc_info=None)
        log.error("mended")
        try:
            raise ValueError("of ours")
        except ValueError:
            log.exception("failed")
        stream.seek(0)
        written = stream.read().splitlines()
    priorities = [line[:3] if line.startswith("<") else "" for line in written]
    assert priorities == ["<7>", "", "<4>", "<3>", *["<3>"] * (1 if format == "json" else 5)]


@pytest.mark.parametrize("told", [None, "", "0:0", "nonsense"])
def test_whose_output_goes_elsewhere_writes_no_priorities(tmp_path: Path, told: str | None) -> None:
    """A program that a service starts inherits the variable, its pipes do not lead to the journal."""
    with (tmp_path / "elsewhere").open("w+") as stream:
        logs.configure("console", "info", stream, journal_stream=told)
        logs.get("test").warning("looked_at")
        stream.seek(0)
        assert stream.read().startswith("[warning  ] looked_at")


def test_what_listens_to_structlog_hears_the_console_too() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    log = logs.get("test")
    with capture_logs() as lines:
        log.info("heard", endpoint="device-1")
    log.info("written")
    assert lines == [{"event": "heard", "endpoint": "device-1", "part": "test", "log_level": "info"}]
    assert "heard" not in stream.getvalue()
    assert "written" in stream.getvalue()


def test_a_line_goes_where_the_log_was_last_sent() -> None:
    first, last = io.StringIO(), io.StringIO()
    logs.configure("console", "info", first)
    log = logs.get("test")
    logs.configure("json", "info", last)
    log.info("written")
    assert not first.getvalue()
    assert json.loads(last.getvalue())["event"] == "written"
