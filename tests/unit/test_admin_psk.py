"""Pre-shared keys as operators give them: hexadecimal, in a file of one or lines of many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admin.psk import LONGEST_IDENTITY, LONGEST_KEY, SHORTEST_KEY, new_key, parse_key, parse_lines
from server.errors import BadRequest

HEX = "00112233445566778899aabbccddeeff"
KEY = bytes.fromhex(HEX)

keys = st.binary(min_size=SHORTEST_KEY, max_size=LONGEST_KEY)
# A name may hold colons; a part of it that looks like a key would be taken for one.
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20).filter(
    lambda word: not (len(word) >= 32 and set(word) <= set("0123456789abcdef"))
)
names = st.lists(words, min_size=1, max_size=3).map(":".join)


def wrong(text: str) -> str:
    with pytest.raises(BadRequest) as raised:
        parse_key(text)
    return raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        f"{HEX}\n",
        f"{HEX}\r\n",
        f"  {HEX}\t\n\n",
        " ".join(HEX[i : i + 2] for i in range(0, 32, 2)),
        f"{HEX[:16]}\n{HEX[16:]}\n",
    ],
)
def test_a_key_is_read_however_an_editor_left_it(text: str) -> None:
    assert parse_key(text) == KEY


@given(keys, st.sampled_from(["", "\n", "\r\n", " \n"]), st.booleans())
def test_every_key_of_16_to_64_bytes_is_read(key: bytes, end: str, upper: bool) -> None:
    text = key.hex()
    assert parse_key((text.upper() if upper else text) + end) == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a key has 16 to 64 bytes, 0 were given"),
        ("00" * 15, "15 were given"),
        ("00" * 65, "65 were given"),
        ("0" * 31, "31 characters were given, an odd number"),
        ("zz" * 16, "32 characters were given, not all of them hexadecimal"),
        ("0x" + HEX, "not all of them hexadecimal"),
        # Base64 of the same key: it would be another key if it were taken for one.
        ("ABEiM0RVZneImaq7zN3u/w==", "24 characters were given, not all of them hexadecimal"),
        ("ABEiM0RVZneImaq7zN3u/w", "not all of them hexadecimal"),
        ("correct horse battery", "an odd number"),
        ("٣" * 32, "not all of them hexadecimal"),
    ],
)
def test_what_is_no_key_is_said_with_the_rule(text: str, said: str) -> None:
    assert said in wrong(text)


@given(st.text(max_size=140))
def test_no_text_raises_anything_else_and_none_is_quoted(text: str) -> None:
    try:
        key = parse_key(text)
    except BadRequest as error:
        if len(text.strip()) > 6:
            assert text.strip() not in error.message  # noqa: PT017
        return
    assert SHORTEST_KEY <= len(key) <= LONGEST_KEY


def test_identity_and_endpoint_have_their_lengths() -> None:
    assert new_key("i" * LONGEST_IDENTITY, HEX, "e" * 255).endpoint == "e" * 255
    for identity in ("", "i" * 129, "ä" * 65, "a\0b"):
        with pytest.raises(BadRequest, match="an identity has 1 to 128 bytes and no NUL"):
            new_key(identity, HEX, "dev")
    for endpoint in ("", "e" * 256, "ä" * 128, "e\n", "e\0"):
        with pytest.raises(BadRequest, match="an endpoint name is 1 to 255 bytes of printable text"):
            new_key("id", HEX, endpoint)


def test_a_key_does_not_show() -> None:
    assert "001122" not in repr(new_key("id", HEX, "dev"))
    assert repr(KEY) not in repr(new_key("id", HEX, "dev"))


def test_lines_of_many_keys() -> None:
    text = f"# identity:key:endpoint\n\n  dev-1:{HEX}:one  \r\ndev-2:{HEX}:two\n#dev-3:{HEX}:three\n"
    assert [(each.identity, each.key, each.endpoint) for each in parse_lines(text)] == [
        (b"dev-1", KEY, "one"),
        (b"dev-2", KEY, "two"),
    ]


def test_names_with_colons_are_told_from_the_key() -> None:
    [key] = parse_lines(f"urn:imei:350000000000001:{HEX}:urn:imei:350000000000001")
    assert (key.identity, key.key, key.endpoint) == (b"urn:imei:350000000000001", KEY, "urn:imei:350000000000001")


@given(st.lists(st.tuples(names, keys, names), min_size=1, max_size=5, unique_by=lambda row: row[0]))
def test_what_is_written_line_by_line_is_what_is_read(rows: list[tuple[str, bytes, str]]) -> None:
    text = "".join(f"{identity}:{key.hex()}:{endpoint}\n" for identity, key, endpoint in rows)
    found = [(each.identity.decode(), each.key, each.endpoint) for each in parse_lines(text)]
    assert found == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key in the file"),
        ("# nothing\n\n", "there is no key in the file"),
        (f"a:{HEX}:b\nc:{HEX}\n", "line 2: a line is identity:key:endpoint"),
        (f"a:{HEX}:b\n\n\nc:00:d\n", "line 4: a key has 16 to 64 bytes, 1 were given"),
        (f":{HEX}:b", "line 1: an identity has 1 to 128 bytes"),
        (f"a:{HEX}:", "line 1: an endpoint name is 1 to 255 bytes of printable text"),
        ("a:b:c:d", "line 1: a line is identity:key:endpoint"),
        (HEX, "line 1: a line is identity:key:endpoint"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(text: str, said: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_lines(text)
    assert said in raised.value.message
    assert HEX not in raised.value.message


@given(st.text(max_size=200))
def test_no_file_raises_anything_else(text: str) -> None:
    try:
        assert parse_lines(text)
    except BadRequest as error:
        assert error.message  # noqa: PT017
