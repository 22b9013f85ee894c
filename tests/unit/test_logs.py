import io
import json

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
