"""lwm2m/tlv.py against LwM2M Core 1.2 clause 7.5.5."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m import tlv
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import ObjectInstance, ObjectLink
from lwm2m.paths import Path
from lwm2m.registry import OBJECTS
from tests.unit.lwm2m import vectors
from tests.unit.lwm2m.instances import ids, known_instances

VECTORS = vectors.load("lwm2m-core-1.2-7.5.5-tlv.json")


@pytest.mark.parametrize("vector", [v for v in VECTORS if "refused" not in v], ids=lambda v: v["name"])
def test_a_payload_of_the_specification_is_read(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])
    assert tlv.decode(payload, Path.parse(vector["at"])) == vectors.instances(vector)


@pytest.mark.parametrize("vector", [v for v in VECTORS if "both" in v], ids=lambda v: v["name"])
def test_a_payload_of_the_specification_is_written(vector: dict[str, Any]) -> None:
    (instance,) = vectors.instances(vector)
    assert tlv.encode(instance).hex() == vector["hex"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "refused" in v], ids=lambda v: v["name"])
def test_a_misprinted_payload_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        tlv.decode(bytes.fromhex(vector["hex"]), Path.parse(vector["at"]))


@settings(deadline=None)
@given(known_instances(least=0, least_values=0))
def test_what_is_written_is_read_back(instance: ObjectInstance) -> None:
    payload = tlv.encode(instance)
    assert tlv.decode(payload, Path(instance.object, instance.instance)) == (instance,)


@settings(deadline=None)
@given(st.integers(100, 60000), ids, st.dictionaries(ids, st.binary(max_size=70000), max_size=3))
def test_opaque_values_of_an_unknown_object_are_read_back(object: int, id: int, values: dict[int, bytes]) -> None:
    instance = ObjectInstance(object, id, values)
    assert tlv.decode(tlv.encode(instance), Path(object, id)) == (instance,)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(list(range(0, 256, 3))), max_size=40).map(bytes)),
    st.sampled_from(["/0", "/0/0", "/1", "/1/0", "/3", "/3/0", "/9", "/9/1", "/1/0/0", "/", "/1/0/0/0"]),
)
def test_any_bytes_are_instances_or_a_decode_error(payload: bytes, at: str) -> None:
    path = Path.parse(at)
    try:
        instances = tlv.decode(payload, path)
    except DecodeError:
        return
    assert all(Path(each.object, each.instance).ids[: len(path.ids)] == path.ids[:2] for each in instances)


@settings(deadline=None)
@given(known_instances(), st.data())
def test_a_flipped_or_cut_payload_raises_nothing_else(instance: ObjectInstance, data: st.DataObject) -> None:
    payload = bytearray(tlv.encode(instance))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(payload), bytes(payload[:place])):
        try:
            tlv.decode(damaged, Path(instance.object, instance.instance))
        except DecodeError:
            continue


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, "c0 03"),
        (7, "c7 03"),
        (8, "c8 03 08"),
        (255, "c8 03 ff"),
        (256, "d0 03 0100"),
        (65535, "d0 03 ffff"),
        (65536, "d8 03 010000"),
    ],
)
def test_the_length_takes_the_narrowest_field(length: int, head: str) -> None:
    payload = tlv.encode(ObjectInstance(0, 0, {3: bytes(length)}))
    assert payload == bytes.fromhex(head) + bytes(length)
    assert tlv.decode(payload, Path(0, 0)) == (ObjectInstance(0, 0, {3: bytes(length)}),)


def test_a_value_longer_than_24_bits_can_say_is_our_error() -> None:
    with pytest.raises(EncodeError):
        tlv.encode(ObjectInstance(0, 0, {3: bytes(1 << 24)}))


def test_an_identifier_above_255_takes_two_bytes() -> None:
    assert tlv.encode(ObjectInstance(9, 0, {255: b"x"})).hex() == "c1ff78"
    assert tlv.encode(ObjectInstance(9, 0, {256: b"x"})).hex() == "e1010078"


@pytest.mark.parametrize(
    ("value", "hex"),
    [
        (0, "c10a00"),
        (127, "c10a7f"),
        (128, "c20a0080"),
        (-128, "c10a80"),
        (-129, "c20aff7f"),
        (32768, "c40a00008000"),
        (2**31, "c80a080000000080000000"),
        (-(2**63), "c80a088000000000000000"),
    ],
)
def test_a_signed_integer_takes_the_narrowest_of_four_widths(value: int, hex: str) -> None:
    assert tlv.encode(ObjectInstance(0, 0, {10: value})).hex() == hex


@pytest.mark.parametrize(("value", "hex"), [(255, "c10dff"), (256, "c20d0100"), (2**32, "c80d080000000100000000")])
def test_an_unsigned_integer_has_no_sign_bit(value: int, hex: str) -> None:
    assert tlv.encode(ObjectInstance(0, 0, {13: value})).hex() == hex


def test_other_values_are_written_as_appendix_c_says() -> None:
    assert tlv.encode(ObjectInstance(9, 0, {1: 1.5})).hex() == "c801083ff8000000000000"
    assert tlv.encode(ObjectInstance(9, 0, {1: True})).hex() == "c10101"
    assert tlv.encode(ObjectInstance(9, 0, {1: ObjectLink(66, 1)})).hex() == "c40100420001"


def test_the_unused_length_bits_beside_a_length_field_do_not_count() -> None:
    assert tlv.decode(bytes.fromhex("cf0301aa"), Path(0, 0)) == (ObjectInstance(0, 0, {3: b"\xaa"}),)


def test_more_records_than_a_device_has_resources_are_refused() -> None:
    records = [b"\xe0" + id.to_bytes(2, "big") for id in range(tlv.MAX_RECORDS + 1)]
    assert len(tlv.decode(b"".join(records[:-1]), Path(9, 0))[0].resources) == tlv.MAX_RECORDS
    with pytest.raises(DecodeError):
        tlv.decode(b"".join(records), Path(9, 0))


def test_a_single_instance_object_may_leave_its_instance_out() -> None:
    assert tlv.decode(bytes.fromhex("c10964"), Path(3)) == (ObjectInstance(3, 0, {9: 100}),)


def test_an_answer_without_bytes_is_no_instance_or_an_empty_one() -> None:
    assert tlv.decode(b"", Path(1)) == ()
    assert tlv.decode(b"", Path(1, 0)) == (ObjectInstance(1, 0, {}),)


def test_the_definitions_have_no_float_to_write_so_an_unknown_one_is_read_as_bytes() -> None:
    assert all(row.type.value != "Float" for each in OBJECTS.values() for row in each.resources.values())
    assert tlv.decode(bytes.fromhex("c4013fc00000"), Path(9, 0)) == (
        ObjectInstance(9, 0, {1: bytes.fromhex("3fc00000")}),
    )


@pytest.mark.parametrize(
    ("hex", "at"),
    [
        ("c1", "/0/0"),
        ("c803", "/0/0"),
        ("d80300", "/0/0"),
        ("c803ff", "/0/0"),
        ("dfffffffff", "/0/0"),
        ("e1ffff00", "/9/0"),
        ("c10001c10001", "/1/0"),
        ("0800020000", "/1"),
        ("080000080000", "/1"),
        ("0000", "/1/1"),
        ("0000c10001", "/1"),
        ("c10001", "/1"),
        ("c10001", "/9"),
        ("c10001", "/"),
        ("c10001", "/1/0/1"),
        ("c10001", "/1/0/0/0"),
        ("410001", "/1/0"),
        ("8400c10001ff", "/9/0"),
        ("8600410001410001", "/9/0"),
        ("8300410001", "/1/0"),
        ("c1023f", "/2/0"),
        ("c300010203", "/1/0"),
        ("c000", "/1/0"),
        ("c10602", "/1/0"),
        ("c006", "/1/0"),
        ("c207fffe", "/1/0"),
        ("c10700", "/1/0"),
        ("c20a0001", "/1/0"),
        ("c008", "/1/0"),
    ],
)
def test_a_malformed_payload_is_refused(hex: str, at: str) -> None:
    with pytest.raises(DecodeError):
        tlv.decode(bytes.fromhex(hex), Path.parse(at))
