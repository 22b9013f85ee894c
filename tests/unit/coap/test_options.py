from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import options as coap_options
from lwm2m.coap.message import BAD_OPTION, BAD_REQUEST, PROXYING_NOT_SUPPORTED, Option
from lwm2m.coap.options import (
    BadOption,
    Block,
    decode_block,
    decode_uint,
    encode_block,
    encode_uint,
    read_blocks,
    read_target,
)
from lwm2m.errors import EncodeError

blocks = st.builds(
    Block,
    st.integers(0, (1 << 20) - 1),
    st.booleans(),
    st.sampled_from([16, 32, 64, 128, 256, 512, 1024]),
)
options = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([3, 7, 11, 12, 15, 17, 23, 27, 60]), st.integers(0, 300)), st.binary(max_size=8)
    ),
    max_size=8,
).map(lambda options: sorted(options, key=lambda option: option[0]))


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_an_unsigned_value_is_as_short_as_can_be_and_reads_back(value: int) -> None:
    encoded = encode_uint(value)
    assert decode_uint(encoded) == value
    assert not encoded.startswith(b"\0")


def test_a_negative_value_has_no_unsigned_form() -> None:
    with pytest.raises(EncodeError):
        encode_uint(-1)


@settings(deadline=None)
@given(blocks)
def test_a_block_value_reads_back(block: Block) -> None:
    encoded = encode_block(block)
    assert decode_block(encoded) == block
    assert len(encoded) <= 3


@pytest.mark.parametrize(
    ("value", "block"),
    [
        (b"", Block(0, False, 16)),
        (b"\x00", Block(0, False, 16)),
        (b"\x06", Block(0, False, 1024)),
        (b"\x0e", Block(0, True, 1024)),
        (b"\x1a", Block(1, True, 64)),
        (b"\x00\x00\x21", Block(2, False, 32)),
        (b"\xff\xff\xfe", Block((1 << 20) - 1, True, 1024)),
    ],
)
def test_block_values_read_as_rfc_7959_2_2_says(value: bytes, block: Block) -> None:
    assert decode_block(value) == block


@pytest.mark.parametrize(
    "block", [Block(1 << 20, False, 16), Block(0, False, 48), Block(0, False, 2048), Block(0, True, 8)]
)
def test_a_block_out_of_range_is_not_written(block: Block) -> None:
    with pytest.raises(EncodeError):
        encode_block(block)


@pytest.mark.parametrize("value", [b"\x07", b"\x0f", b"\xff\xff\xff"])
def test_block_size_exponent_7_is_a_bad_request(value: bytes) -> None:
    with pytest.raises(BadOption) as caught:
        read_target([(coap_options.BLOCK1, value)])
    assert caught.value.code == BAD_REQUEST


def test_a_bootstrap_request_is_read() -> None:
    target = read_target([(3, b"bs.example"), (7, b"\x16\x34"), (11, b"bs"), (15, b"ep=a"), (15, b"pct=112")])
    assert target == (("bs",), ("ep=a", "pct=112"), None, None, None)
    assert read_target([(17, b"\x28")]).accept == 40
    assert read_target([(17, b"")]).accept == 0


@settings(deadline=None, max_examples=300)
@given(options)
def test_no_options_raise_anything_but_bad_option(options: list[Option]) -> None:
    for read in (read_target, read_blocks, coap_options.uri_path, coap_options.uri_query):
        with suppress(BadOption):
            read(options)
    for value in (coap_options.content_format(options), coap_options.accept(options), coap_options.size1(options)):
        assert value is None or value >= 0
    assert coap_options.max_age(options) >= 0


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ([(1, b"etag")], BAD_OPTION),
        ([(5, b"")], BAD_OPTION),
        ([(9, b"")], BAD_OPTION),
        ([(13, b"")], BAD_OPTION),
        ([(19, b"")], BAD_OPTION),
        ([(65533, b"")], BAD_OPTION),
        ([(3, b"")], BAD_OPTION),
        ([(3, b"h" * 256)], BAD_OPTION),
        ([(3, b"a"), (3, b"b")], BAD_OPTION),
        ([(7, b"\1\2\3")], BAD_OPTION),
        ([(17, b"\1\2\3")], BAD_OPTION),
        ([(17, b"\1"), (17, b"\2")], BAD_OPTION),
        ([(23, b"\1\2\3\4")], BAD_OPTION),
        ([(27, b"\1\2\3\4")], BAD_OPTION),
        ([(27, b"\6"), (27, b"\6")], BAD_OPTION),
        ([(11, b"\xff")], BAD_OPTION),
        ([(11, b"\xed\xa0\x80")], BAD_OPTION),
        ([(15, b"ep=\xc3")], BAD_OPTION),
        ([(35, b"coap://other")], PROXYING_NOT_SUPPORTED),
        ([(39, b"coap")], PROXYING_NOT_SUPPORTED),
    ],
)
def test_a_critical_option_that_is_not_understood_is_refused(bad: list[Option], code: int) -> None:
    with pytest.raises(BadOption) as caught:
        read_target(bad)
    assert caught.value.code == code


@pytest.mark.parametrize("number", [coap_options.URI_PATH, coap_options.URI_QUERY])
def test_a_text_option_ends_at_255_bytes(number: int) -> None:
    read_target([(number, b"x" * 255)])
    with pytest.raises(BadOption):
        read_target([(number, b"x" * 256)])


def test_a_request_has_at_most_eight_queries() -> None:
    assert len(read_target([(15, b"q")] * 8).query) == 8
    with pytest.raises(BadOption):
        read_target([(15, b"q")] * 9)


def test_unknown_elective_options_are_ignored() -> None:
    assert read_target([(2, b"x"), (6, b""), (11, b"a"), (258, b"\x1a"), (65000, b"y" * 300)]).path == ("a",)


def test_an_elective_option_that_is_too_long_reads_as_absent() -> None:
    assert coap_options.content_format([(12, b"\1\2\3")]) is None
    assert coap_options.max_age([(14, b"\1\2\3\4\5")]) == 60
    assert coap_options.size1([(60, b"\1\2\3\4\5")]) is None


def test_of_a_repeated_elective_option_the_first_counts() -> None:
    assert coap_options.content_format([(12, b"\x28"), (12, b"\x00")]) == 40


def test_values_are_found_among_other_options() -> None:
    options = [(11, b"a"), (12, b"\x2d\x16"), (14, b"\x05"), (15, b"q=1"), (17, b"\x28"), (60, b"\x04\x00")]
    assert coap_options.uri_path(options) == ("a",)
    assert coap_options.uri_query(options) == ("q=1",)
    assert coap_options.content_format(options) == 11542
    assert coap_options.max_age(options) == 5
    assert coap_options.accept(options) == 40
    assert coap_options.size1(options) == 1024


def test_a_response_may_have_no_critical_option_but_blocks() -> None:
    assert read_blocks([(12, b""), (23, b"\x0e"), (27, b"\x06")]) == (Block(0, False, 1024), Block(0, True, 1024))
    for bad in ([(11, b"a")], [(23, b"\1\2\3\4")], [(23, b""), (23, b"")], [(9, b"")]):
        with pytest.raises(BadOption):
            read_blocks(bad)
