"""DER: what is written reads back, and what is no DER fails in one way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m import der
from lwm2m.errors import DecodeError

# One-byte tags: the lower five bits of one are never all set (X.690 8.1.2.4).
TAGS = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)
SIZES = st.sampled_from([0, 1, 127, 128, 255, 256, 65535, 65536]) | st.integers(0, 70_000)


@given(st.lists(st.tuples(TAGS, SIZES), max_size=4))
def test_what_is_written_is_read_back(values: list[tuple[int, int]]) -> None:
    contents = [(tag, bytes(size)) for tag, size in values]
    written = [der.encode(tag, content) for tag, content in contents]
    assert list(der.read(b"".join(written))) == [
        (tag, content, whole) for (tag, content), whole in zip(contents, written, strict=True)
    ]
    for (tag, content), whole in zip(contents, written, strict=True):
        assert der.decode(whole) == (tag, content)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_named_error(data: bytes) -> None:
    try:
        values = list(der.read(data))
    except DecodeError:
        return
    assert b"".join(whole for _, _, whole in values) == data
    # There is one way to write a value: what was read is written the same.
    assert [der.encode(tag, content) for tag, content, _ in values] == [whole for _, _, whole in values]


@pytest.mark.parametrize(
    "data",
    [
        b"\x30",
        b"\x30\x80\0\0",
        b"\x30\x81\x01\0",
        b"\x30\x82\0\x80",
        b"\x30\x02\0",
        b"\x1f\x81\0",
        b"\x30\x85\1\0\0\0\0",
    ],
)
def test_what_is_no_der_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        list(der.read(data))


@pytest.mark.parametrize("data", [b"", b"\x30\0\x30\0"])
def test_one_value_is_one(data: bytes) -> None:
    with pytest.raises(DecodeError, match="one DER value"):
        der.decode(data)


# X.690 8.19.5's own example, and the arcs that PKCS#7 uses (RFC 2315 14).
@pytest.mark.parametrize(
    ("dotted", "written"),
    [("2.999.3", "0603883703"), ("1.2.840.113549.1.7.2", "06092a864886f70d010702"), ("0.0", "060100")],
)
def test_an_object_identifier_is_written_as_the_standard_shows(dotted: str, written: str) -> None:
    assert der.encode_object_identifier(dotted).hex() == written
