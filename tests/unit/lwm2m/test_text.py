import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m.text import escaped


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("urn:dev:os:0001", "urn:dev:os:0001"),
        ("zähler 1", "zähler 1"),
        ("\x1b]0;you are root\x07", "\\x1b]0;you are root\\x07"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("two\nlines", "two\\nlines"),
        ("half \ud83d", "half \\ud83d"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_does_not_print_is_told_as_its_escape(text: str, told: str) -> None:
    assert escaped(text) == told


@given(st.text())
def test_what_comes_out_prints(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)
    assert escaped(text, kept="\n").replace("\n", "").isprintable()


def test_what_is_to_be_kept_is() -> None:
    assert escaped("one\n\ttwo\r", kept="\n\t") == "one\n\ttwo\\r"
