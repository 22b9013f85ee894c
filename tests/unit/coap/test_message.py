from collections.abc import Callable

import pytest
from aiocoap import Message as WitnessMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.message import Malformed, Message, Option, code_text, decode, encode, encode_fields, encode_options
from lwm2m.errors import DecodeError, EncodeError
from tests.unit.coap.plain_codec import read_plainly, write_plainly

codes = st.integers(1, 255).filter(lambda code: code >> 5 not in (1, 6, 7))
option_lists = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 40), st.integers(0, 65535)),
        st.one_of(st.binary(max_size=20), st.binary(min_size=12, max_size=300)),
    ),
    max_size=6,
).map(lambda options: sorted(options, key=lambda option: option[0]))
messages = st.builds(
    Message,
    st.integers(0, 3),
    codes,
    st.integers(0, 65535),
    st.binary(max_size=8),
    option_lists,
    st.binary(max_size=64),
)

# RFC 7252 appendix A, figures 16 and 17: the bytes as printed there.
RFC_7252_A = [
    (
        bytes.fromhex("40017d34bb") + b"temperature",
        Message(coap.CON, coap.GET, 0x7D34, b"", [(11, b"temperature")], b""),
    ),
    (
        bytes.fromhex("60457d34ff") + b"22.3 C",
        Message(coap.ACK, coap.CONTENT, 0x7D34, b"", [], b"22.3 C"),
    ),
    (
        bytes.fromhex("41017d3520bb") + b"temperature",
        Message(coap.CON, coap.GET, 0x7D35, b"\x20", [(11, b"temperature")], b""),
    ),
    (
        bytes.fromhex("61457d3520ff") + b"22.3 C",
        Message(coap.ACK, coap.CONTENT, 0x7D35, b"\x20", [], b"22.3 C"),
    ),
]


@pytest.mark.parametrize(("datagram", "message"), RFC_7252_A)
def test_the_messages_of_rfc_7252_appendix_a_read_and_write(datagram: bytes, message: Message) -> None:
    assert decode(datagram) == message
    assert encode(message) == datagram


@settings(deadline=None)
@given(messages)
def test_what_is_written_reads_back(message: Message) -> None:
    assert decode(encode(message)) == message


def outcome(what: Callable[[], object]) -> object:
    """What it returns, or what its error says."""
    try:
        return what()
    except Malformed as malformed:
        return malformed.type, malformed.mid, malformed.reason
    except EncodeError:
        return EncodeError


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda head, tail: bytes([0x40 | head]) + tail, st.integers(0, 63), st.binary(max_size=40)),
        st.builds(lambda message, cut: encode(message)[:cut], messages, st.integers(4, 60)),
        st.builds(lambda message, more: encode(message) + more, messages, st.binary(max_size=3)),
    )
)
def test_any_bytes_mean_what_the_standard_says_step_by_step(datagram: bytes) -> None:
    assert outcome(lambda: decode(datagram)) == outcome(lambda: read_plainly(datagram))


@settings(deadline=None, max_examples=400)
@given(
    st.builds(
        Message,
        st.one_of(st.integers(0, 3), st.integers(-1, 5)),
        st.one_of(codes, st.integers(-1, 257)),
        st.one_of(st.integers(0, 65535), st.integers(-1, 70000)),
        st.binary(max_size=9),
        st.lists(
            st.tuples(
                st.one_of(st.integers(0, 40), st.integers(-1, 70000)),
                st.one_of(
                    st.binary(max_size=20),
                    st.integers(0, 300).map(bytes),
                    st.sampled_from([65803, 65804, 65805]).map(bytes),
                ),
            ),
            max_size=6,
        ),
        st.binary(max_size=64),
    )
)
def test_any_message_is_written_as_the_standard_says_step_by_step(message: Message) -> None:
    assert outcome(lambda: encode(message)) == outcome(lambda: write_plainly(message))


@settings(deadline=None)
@given(option_lists, st.integers(0, 6))
def test_options_written_in_two_parts_are_those_written_in_one(options: list[Option], cut: int) -> None:
    first, second = options[:cut], options[cut:]
    after = first[-1][0] if first else 0
    assert encode_options(first) + encode_options(second, after) == encode_options(options)
    if after:
        with pytest.raises(EncodeError):
            encode_options([*second, (after - 1, b"")], after)


@settings(deadline=None, max_examples=50)
@given(
    st.builds(
        Message,
        st.integers(0, 3),
        st.sampled_from([coap.GET, coap.PUT, coap.CHANGED, coap.CONTENT, coap.BAD_OPTION]),
        st.integers(0, 65535),
        st.binary(max_size=8),
        st.lists(
            st.sampled_from([(11, b"bs"), (11, b"x" * 255), (12, b"\x2d\x16"), (15, b"ep=a"), (60, b"\x08\x98")]),
            max_size=5,
            unique_by=lambda option: option if option[0] in (11, 15) else option[0],
        ).map(lambda options: sorted(options, key=lambda option: option[0])),
        st.binary(max_size=64),
    )
)
def test_an_independent_implementation_reads_the_same(message: Message) -> None:
    witness = WitnessMessage.decode(encode(message))
    assert (int(witness.mtype), int(witness.code), witness.mid) == (message.type, message.code, message.mid)
    assert (witness.token, witness.payload) == (message.token, message.payload)
    assert [(int(option.number), option.encode()) for option in witness.opt.option_list()] == message.options


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda head, tail: bytes([0x40 | head]) + tail, st.integers(0, 63), st.binary(max_size=40)),
    )
)
def test_no_bytes_raise_anything_but_malformed(datagram: bytes) -> None:
    try:
        message = decode(datagram)
    except Malformed:
        return
    # Options may be written longer than needed, so only the meaning must survive.
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        ("", "header"),
        ("400100", "header"),
        ("00010001", "version"),
        ("80010001", "version"),
        ("49010001010203040506070809", "token length"),
        ("4f010001" + "00" * 15, "token length"),
        ("44010001010203", "token beyond"),
        ("40000001ff01", "empty message"),
        ("4100000101", "empty message"),
        ("4000000100", "empty message"),
        ("40010001ff", "marker"),
        ("40010001b0ff", "marker"),
        ("40010001f0", "reserved"),
        ("400100010f", "reserved"),
        ("40010001b3aabb", "beyond"),
        ("40010001d0", "beyond"),
        ("40010001e0ff", "beyond"),
        ("400100010d", "beyond"),
        ("40010001bd05aa", "beyond"),
        ("40010001e0feff", "above 65535"),
        ("40010001e0fef2" + "10", "above 65535"),
        ("40200001", "code class"),
        ("40c00001", "code class"),
        ("40e10001", "code class"),
    ],
)
def test_every_format_error_is_told_apart(datagram: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason) as caught:
        decode(bytes.fromhex(datagram))
    assert isinstance(caught.value, DecodeError)


def test_a_format_error_knows_the_message_to_reject() -> None:
    with pytest.raises(Malformed) as caught:
        decode(bytes.fromhex("4f011234"))
    assert (caught.value.type, caught.value.mid) == (coap.CON, 0x1234)


@pytest.mark.parametrize("datagram", ["", "4001", "c0011234"])
def test_without_a_header_of_this_version_there_is_nothing_to_reject(datagram: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(bytes.fromhex(datagram))
    assert (caught.value.type, caught.value.mid) == (None, None)


def test_the_highest_option_number_is_read_and_the_next_one_is_not() -> None:
    assert decode(bytes.fromhex("40010001e0fef2")).options == [(65535, b"")]
    with pytest.raises(Malformed):
        decode(bytes.fromhex("40010001e0fef3"))


def test_options_are_written_in_order_whatever_order_they_come_in() -> None:
    datagram = encode_fields(coap.CON, coap.GET, 1, b"", [(60, b"\x01"), (11, b"b"), (3, b"host"), (11, b"a")], b"")
    assert decode(datagram).options == [(3, b"host"), (11, b"b"), (11, b"a"), (60, b"\x01")]


@pytest.mark.parametrize(
    "message",
    [
        Message(4, coap.GET, 1, b"", [], b""),
        Message(-1, coap.GET, 1, b"", [], b""),
        Message(coap.CON, 256, 1, b"", [], b""),
        Message(coap.CON, coap.GET, 65536, b"", [], b""),
        Message(coap.CON, coap.GET, -1, b"", [], b""),
        Message(coap.CON, coap.GET, 1, b"123456789", [], b""),
        Message(coap.CON, 0x20, 1, b"", [], b""),
        Message(coap.CON, 0xE1, 1, b"", [], b""),
        Message(coap.ACK, coap.EMPTY, 1, b"t", [], b""),
        Message(coap.ACK, coap.EMPTY, 1, b"", [], b"x"),
        Message(coap.CON, coap.GET, 1, b"", [(-1, b"")], b""),
        Message(coap.CON, coap.GET, 1, b"", [(65536, b"")], b""),
        Message(coap.CON, coap.GET, 1, b"", [(70000, b"")], b""),
        Message(coap.CON, coap.GET, 1, b"", [(11, bytes(65805))], b""),
    ],
)
def test_what_the_wire_cannot_say_is_not_written(message: Message) -> None:
    with pytest.raises(EncodeError):
        encode(message)


def test_a_code_reads_as_people_write_it() -> None:
    assert [code_text(code) for code in (0x01, 0x44, 0x5F, 0x8D, 0xA3)] == ["0.01", "2.04", "2.31", "4.13", "5.03"]
