"""lwm2m/multipart.py against RFC 8710 and RFC 9148 appendix A.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m.errors import EncodeError
from lwm2m.multipart import encode_parts
from tests.multipart import parts_of
from tests.unit.lwm2m import vectors

(SERVER_KEY,) = (
    bytes.fromhex(vector["hex"]) for vector in vectors.load("rfc9148-appendix-a.json") if vector["format"] == 62
)


def test_the_answer_with_a_server_made_key_is_written() -> None:
    assert encode_parts(parts_of(SERVER_KEY)) == SERVER_KEY


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=400)), max_size=6))
def test_a_library_reads_what_is_written(parts: list[tuple[int, bytes]]) -> None:
    assert parts_of(encode_parts(parts)) == parts


def test_a_number_that_is_no_content_format_is_not_written() -> None:
    with pytest.raises(EncodeError):
        encode_parts([(65536, b"")])
