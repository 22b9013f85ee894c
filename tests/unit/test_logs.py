import io
import json

import structlog

from server import logs


def test_a_secret_field_is_redacted_whatever_a_caller_passes() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logs.get("test").info("psk_added", identity="device-1", key="c0ffee", credentials={"api_secret": "hush"})
    written = stream.getvalue()
    assert "c0ffee" not in written
    assert "hush" not in written
    assert json.loads(written)["identity"] == "device-1"


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
