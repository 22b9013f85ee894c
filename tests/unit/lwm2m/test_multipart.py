"""lwm2m/multipart.py against RFC 8710 and RFC 9148 appendix A.3."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.multipart import decode_parts, encode_parts
from tests.unit.lwm2m import vectors

(SERVER_KEY,) = (
    bytes.fromhex(vector["hex"]) for vector in vectors.load("rfc9148-appendix-a.json") if vector["format"] == 62
)


def test_the_answer_with_a_server_made_key_is_read_and_written() -> None:
    assert encode_parts(decode_parts(SERVER_KEY)) == SERVER_KEY


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=400)), max_size=6))
def test_what_is_written_is_read_back(parts: list[tuple[int, bytes]]) -> None:
    assert decode_parts(encode_parts(parts)) == tuple(parts)


def test_a_part_left_out_is_passed_over() -> None:
    # RFC 8710 2: null instead of a representation.
    assert decode_parts(cbor2.dumps([281, None, 0, b"x"])) == ((0, b"x"),)


@pytest.mark.parametrize("items", [[1], [65536, b""], [-1, b""], [True, b""], [0, "text"], {0: b""}, [0, [b""]]])
def test_other_cbor_is_refused(items: object) -> None:
    with pytest.raises(DecodeError):
        decode_parts(cbor2.dumps(items))


@given(st.binary(max_size=40))
def test_reading_fails_in_one_way_only(payload: bytes) -> None:
    try:
        decode_parts(payload)
    except DecodeError:
        pass


def test_a_number_that_is_no_content_format_is_not_written() -> None:
    with pytest.raises(EncodeError):
        encode_parts([(65536, b"")])
