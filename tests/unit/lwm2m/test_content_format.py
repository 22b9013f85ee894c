"""lwm2m/content_format.py: numbers, choice of codec, negotiation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.content_format import (
    MAX_PAYLOAD,
    WRITE_FORMATS,
    ContentFormat,
    decode_instances,
    encode_instance,
    negotiate,
)
from lwm2m.errors import DecodeError, EncodeError, Lwm2mError
from lwm2m.objects import ObjectInstance, ObjectLink
from lwm2m.paths import Path
from tests.unit.lwm2m.instances import known_instances

SECURITY = ObjectInstance(
    0,
    0,
    {
        0: "coaps://lwm2m.example.com:5684",
        1: False,
        2: 2,
        3: bytes(range(256)) * 3,
        4: b"\x30\x82",
        5: bytes(138),
        10: 101,
        13: 0,
        14: "lwm2m.example.com",
        15: 2,
        16: {0: 0xC0AE, 1: 0xC023},
        17: ObjectLink(21, 0),
    },
)

CARRIERS = [*WRITE_FORMATS.values(), ContentFormat.TLV_OLD]


@pytest.mark.parametrize("format", CARRIERS)
def test_a_whole_security_instance_is_read_back(format: ContentFormat) -> None:
    assert decode_instances(encode_instance(SECURITY, format), format, Path(0, 0)) == (SECURITY,)


@pytest.mark.parametrize("format", CARRIERS)
@settings(deadline=None, max_examples=30)
@given(instance=known_instances())
def test_any_instance_is_read_back(format: ContentFormat, instance: ObjectInstance) -> None:
    at = Path(instance.object, instance.instance)
    assert decode_instances(encode_instance(instance, format), format, at) == (instance,)


@settings(deadline=None)
@given(st.binary(max_size=50), st.sampled_from([*ContentFormat, -1, 11541, 65535]))
def test_any_bytes_in_any_format_are_instances_or_a_decode_error(payload: bytes, format: int) -> None:
    try:
        decode_instances(payload, format, Path(1))
    except DecodeError:
        return
    assert format in CARRIERS


@pytest.mark.parametrize("format", set(ContentFormat) - set(CARRIERS))
def test_formats_that_hold_no_instance_are_refused_both_ways(format: ContentFormat) -> None:
    with pytest.raises(EncodeError):
        encode_instance(SECURITY, format)
    with pytest.raises(DecodeError):
        decode_instances(b"", format, Path(0, 0))


@pytest.mark.parametrize("format", CARRIERS)
def test_a_payload_over_the_limit_is_refused(format: ContentFormat) -> None:
    with pytest.raises(DecodeError):
        decode_instances(bytes(MAX_PAYLOAD + 1), format, Path(0, 0))


@pytest.mark.parametrize("format", CARRIERS)
def test_a_value_of_the_wrong_type_is_our_error_in_every_format(format: ContentFormat) -> None:
    with pytest.raises(EncodeError):
        encode_instance(ObjectInstance(0, 0, {2: "2"}), format)


@pytest.mark.parametrize(
    ("pct", "format"),
    [
        (None, ContentFormat.TLV),
        (11542, ContentFormat.TLV),
        (110, ContentFormat.SENML_JSON),
        (112, ContentFormat.SENML_CBOR),
        (11544, ContentFormat.LWM2M_CBOR),
    ],
)
def test_the_preferred_format_of_the_device_is_taken(pct: int | None, format: ContentFormat) -> None:
    assert negotiate(pct) is format


@pytest.mark.parametrize("pct", [0, 40, 42, 60, 1542, 1543, 11543, 11545, -1, 2**64])
def test_a_preferred_format_outside_the_four_is_not_supported(pct: int) -> None:
    assert negotiate(pct) is None


def test_profiles_know_four_names() -> None:
    assert set(WRITE_FORMATS) == {"tlv", "senml-cbor", "senml-json", "lwm2m-cbor"}


def test_their_errors_and_ours_share_one_root_and_nothing_else() -> None:
    assert issubclass(DecodeError, Lwm2mError)
    assert issubclass(EncodeError, Lwm2mError)
    assert not issubclass(DecodeError, EncodeError)
    assert not issubclass(EncodeError, DecodeError)
