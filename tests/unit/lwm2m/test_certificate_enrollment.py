"""lwm2m/certificate_enrollment.py against what Izuma's client does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.certificate_enrollment import (
    MAX_NAME,
    RENEW,
    EnrollmentStatus,
    decode_request,
    encode_request,
    parse_status,
)
from lwm2m.errors import DecodeError, EncodeError

LWM2M = bytes.fromhex("000100064c574d324d00")


def test_the_published_example_is_written_and_read() -> None:
    assert encode_request("LWM2M") == LWM2M
    assert decode_request(LWM2M) == "LWM2M"
    assert str(RENEW) == "/35011/0/27002"


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=MAX_NAME)


@settings(deadline=None)
@given(names)
def test_every_name_comes_back(name: str) -> None:
    assert decode_request(encode_request(name)) == name


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 51, "\ud800"])
def test_a_name_that_cannot_be_is_not_written(name: str) -> None:
    with pytest.raises(EncodeError):
        encode_request(name)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_the_named_error(payload: bytes) -> None:
    for read in (decode_request, parse_status):
        try:
            read(payload)
        except DecodeError:
            pass


def test_an_optional_field_is_passed_over_and_a_required_one_is_not() -> None:
    assert decode_request(bytes.fromhex("80050001ff") + LWM2M) == "LWM2M"
    with pytest.raises(DecodeError, match="unknown type 5"):
        decode_request(bytes.fromhex("00050001ff") + LWM2M)


@pytest.mark.parametrize(
    "payload", ["", "0001", "00010006", "000100064c574d324d", "000100054c574d324d", "0001000100", "000100024100ff"]
)
def test_what_is_cut_short_or_without_its_nul_is_refused(payload: str) -> None:
    with pytest.raises(DecodeError):
        decode_request(bytes.fromhex(payload))


def test_the_list_of_codes_is_the_published_one_and_each_has_words_of_its_own() -> None:
    assert sorted(EnrollmentStatus) == [0, *range(1280, 1298), 0x5FF]
    words = [status.words for status in EnrollmentStatus]
    assert all(words)
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("status", list(EnrollmentStatus))
def test_a_status_is_read_from_its_decimal_text(status: EnrollmentStatus) -> None:
    assert parse_status(str(status.value).encode()) is status


@pytest.mark.parametrize("payload", [b"", b"-1", b"1279", b"0x0", b"99999", b"000000", b"1 ", "٣".encode()])
def test_any_other_text_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_status(payload)
