"""The witness's own reader agrees with the server's codecs, and no payload raises anything but FormatError."""

import base64
import json
import struct
from collections.abc import Callable, Mapping

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lwm2m import lwm2m_cbor, senml, tlv
from lwm2m.objects import ObjectInstance, ObjectLink, ResourceValue, Value
from lwm2m.registry import OBJECTS, ResourceType
from simulators import formats
from simulators.formats import FORMATS, KINDS, FormatError, Kind, Link, Resource, Segments
from tests.unit.lwm2m.instances import VALUES, ids

ENCODERS: Mapping[int, Callable[[ObjectInstance], bytes]] = {
    formats.TLV: tlv.encode,
    formats.SENML_CBOR: senml.encode_cbor,
    formats.SENML_JSON: senml.encode_json,
    formats.LWM2M_CBOR: lwm2m_cbor.encode,
}
MEANING = {
    Kind.STRING: {ResourceType.STRING, ResourceType.CORELNK},
    Kind.INTEGER: {ResourceType.INTEGER, ResourceType.TIME},
    Kind.UNSIGNED: {ResourceType.UNSIGNED},
    Kind.FLOAT: {ResourceType.FLOAT},
    Kind.BOOLEAN: {ResourceType.BOOLEAN},
    Kind.OPAQUE: {ResourceType.OPAQUE},
    Kind.LINK: {ResourceType.OBJLNK},
}


@st.composite
def instances(draw: st.DrawFn) -> ObjectInstance:
    """An instance of resources that both sides know."""
    object_id = draw(st.sampled_from(sorted(KINDS)))
    resources: dict[int, ResourceValue] = {}
    for number in draw(st.lists(st.sampled_from(sorted(KINDS[object_id])), unique=True, min_size=1, max_size=8)):
        row = OBJECTS[object_id].resources[number]
        values = VALUES[row.type]
        resources[number] = draw(st.dictionaries(ids, values, min_size=1, max_size=4) if row.multiple else values)
    return ObjectInstance(object_id, draw(ids), resources)


def witnessed(value: ResourceValue) -> Resource:
    """A value as the witness holds it."""
    if isinstance(value, Mapping):
        return {number: single(each) for number, each in value.items()}
    return single(value)


def single(value: Value) -> str | int | float | bool | bytes | Link:
    return Link(value.object, value.instance) if isinstance(value, ObjectLink) else value


def exact(value: Resource) -> object:
    """A value beside its type: to Python 1 and True are equal."""
    if isinstance(value, dict):
        return {number: exact(each) for number, each in value.items()}
    return type(value), value


def test_both_sides_have_the_same_types_for_the_same_resources() -> None:
    for object_id, rows in KINDS.items():
        for number, (kind, multiple) in rows.items():
            row = OBJECTS[object_id].resources[number]
            assert row.type in MEANING[kind], f"/{object_id}/x/{number}"
            assert row.multiple == multiple, f"/{object_id}/x/{number}"


@pytest.mark.parametrize("object_id", [0, 1, 2, 21])
def test_the_witness_knows_every_resource_that_bootstrap_writes(object_id: int) -> None:
    written = {row.id for row in OBJECTS[object_id].resources.values() if row.type is not ResourceType.NONE}
    assert set(KINDS[object_id]) == written


def test_every_format_a_server_writes_has_a_reader() -> None:
    assert set(FORMATS.values()) == set(ENCODERS)


@pytest.mark.parametrize("number", list(ENCODERS))
@given(instance=instances())
def test_the_witness_reads_what_the_server_writes(number: int, instance: ObjectInstance) -> None:
    read = formats.read(ENCODERS[number](instance), number, (instance.object, instance.instance))
    assert list(read) == [instance.instance]
    expected = {id: exact(witnessed(value)) for id, value in instance.resources.items()}
    assert {id: exact(value) for id, value in read[instance.instance].items()} == expected


@pytest.mark.parametrize("number", list(ENCODERS))
def test_what_only_the_server_knows_is_skipped(number: int) -> None:
    """LwM2M Core 1.2 6.1.7.5: unknown resources are no error."""
    payload = ENCODERS[number](ObjectInstance(1, 0, {0: 1, 4711: "new"}))
    assert formats.read(payload, number, (1, 0)) == {0: {0: 1}}


@pytest.mark.parametrize("number", [formats.SENML_CBOR, formats.SENML_JSON, formats.LWM2M_CBOR])
def test_formats_with_paths_may_be_written_to_the_object(number: int) -> None:
    payload = ENCODERS[number](ObjectInstance(1, 7, {0: 1, 1: 60}))
    assert formats.read(payload, number, (1,)) == {7: {0: 1, 1: 60}}


def test_the_old_number_of_tlv_is_read_too() -> None:
    assert formats.read(tlv.encode(ObjectInstance(1, 0, {0: 1})), formats.TLV_OLD, (1, 0)) == {0: {0: 1}}


# -- every payload ----------------------------------------------------------------------------------------

targets = st.sampled_from([(0,), (1,), (0, 0), (1, 3), (3, 0), (1, 0, 1), (0, 1, 16), (21, 0)])
numbers = st.sampled_from([*ENCODERS, formats.TLV_OLD, 40, 0])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.sampled_from(["/1/0/", "/0/", "/", "x"]) | json_values,
        "n": st.sampled_from(["1", "0/1", "1/0/1", "16/0"]) | json_values,
        "v": json_values,
        "vs": json_values,
        "vb": json_values,
        "vd": st.text(max_size=8) | json_values,
        "vlo": st.sampled_from(["1:2", "1:", ":", "99999:1", "1:2:3"]) | json_values,
        "new_": json_values,
    },
)
cbor_keys = st.integers(-10, 70000) | st.text(max_size=4) | st.lists(st.integers(-1, 70000), max_size=5).map(tuple)
cbor_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(cbor_keys, inner, max_size=4),
    max_leaves=12,
)


def only_format_errors(payload: bytes, number: int, target: Segments) -> None:
    try:
        read = formats.read(payload, number, target)
    except FormatError as error:
        assert str(error)  # noqa: PT017
        return
    assert all(len(target) == 1 or instance == target[1] for instance in read)


@given(payload=st.binary(max_size=120), number=numbers, target=targets)
def test_no_bytes_raise_anything_but_the_named_error(payload: bytes, number: int, target: Segments) -> None:
    only_format_errors(payload, number, target)


@given(pack=st.lists(fields, max_size=4) | json_values, target=targets)
def test_no_json_raises_anything_but_the_named_error(pack: object, target: Segments) -> None:
    only_format_errors(json.dumps(pack).encode(), formats.SENML_JSON, target)


@given(
    item=cbor_values | st.lists(st.dictionaries(st.integers(-4, 9), cbor_values, max_size=4), max_size=3),
    number=st.sampled_from([formats.SENML_CBOR, formats.LWM2M_CBOR]),
    target=targets,
)
def test_no_cbor_raises_anything_but_the_named_error(item: object, number: int, target: Segments) -> None:
    only_format_errors(cbor2.dumps(item), number, target)


@given(instance=instances(), number=st.sampled_from(list(ENCODERS)), cut=st.integers(0, 400), flip=st.integers(0, 3200))
def test_no_damaged_write_raises_anything_but_the_named_error(
    instance: ObjectInstance, number: int, cut: int, flip: int
) -> None:
    payload = bytearray(ENCODERS[number](instance))
    payload[flip // 8 % len(payload)] ^= 1 << flip % 8
    only_format_errors(bytes(payload[: max(cut, 1)]), number, (instance.object, instance.instance))


@given(st.text(max_size=20))
@example("9" * 5000 + ":0")
@example("0:" + "9" * 5000)
@example("٣:1")
def test_no_link_raises_anything_but_the_named_error(text: str) -> None:
    only_format_errors(json.dumps([{"n": "/1/0/10", "vlo": text}]).encode(), formats.SENML_JSON, (1, 0))


# -- strictness -------------------------------------------------------------------------------------------


def said(payload: bytes, number: int, target: Segments = (1, 0)) -> str:
    with pytest.raises(FormatError) as raised:
        formats.read(payload, number, target)
    return str(raised.value)


@pytest.mark.parametrize(
    ("payload", "target", "words"),
    [
        ("c1", (1, 0), "header runs past"),
        ("c2007b", (1, 0), "value runs past"),
        ("c9000174", (1, 0), "two lengths"),
        ("c1007bc1007b", (1, 0), "resource 0 stands twice"),
        ("c3017b0101", (1, 0), "resource 1: 3 bytes are no INTEGER"),
        ("c10602", (1, 0), "resource 6: 1 bytes are no BOOLEAN"),
        ("c107ff", (1, 0), "resource 7 is not UTF-8"),
        ("8300 4100 7b".replace(" ", ""), (1, 0), "resource 0 is not a multiple resource"),
        ("c1107b", (0, 1), "resource 16 is a multiple resource"),
        ("8310c1007b".replace(" ", ""), (0, 1), "something else than resource instances"),
        ("030 1c1007b".replace(" ", ""), (1, 0), "instance 1 is written to instance 0"),
        ("0300c1007b0300c1007b", (1,), "instance 0 stands twice"),
        ("c1007b", (1,), "outside an object instance"),
        ("c1007bc1013c", (1, 0, 1), "more than resource 1"),
        ("41007b", (1, 0), "neither a resource nor a multiple resource"),
        ("c1007b", (5, 0), "object 5 is not known"),
    ],
)
def test_tlv_is_read_strictly(payload: str, target: Segments, words: str) -> None:
    assert words in said(bytes.fromhex(payload), formats.TLV, target)


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        ({}, "is an array of records"),
        ([], "is an array of records"),
        ([1], "a SenML record is a map"),
        ([{"n": "/1/0/0"}], "/1/0/0 has 0 values"),
        ([{"n": "/1/0/0", "v": 1, "vs": "1"}], "/1/0/0 has 2 values"),
        ([{"n": "/1/0/0", "vs": "1"}], "vs does not hold a INTEGER"),
        ([{"n": "/1/0/0", "v": 1.5}], "/1/0/0 is no INTEGER"),
        ([{"n": "/1/0/0", "v": True}], "/1/0/0 is no INTEGER"),
        ([{"n": "/1/0/0", "v": 2**63}], "/1/0/0 is no INTEGER"),
        ([{"n": "/1/0/11", "v": -1}], "/1/0/11 is no UNSIGNED"),
        ([{"n": "/1/0/0", "v": 1}, {"n": "/1/0/0", "v": 1}], "/1/0/0 stands twice"),
        ([{"n": "/1/1/0", "v": 1}], "/1/1/0 is written to /1/0"),
        ([{"n": "/1/0", "v": 1}], "/1/0 is no resource"),
        ([{"n": "1/0/0", "v": 1}], "'1/0/0' is no path"),
        ([{"n": "/1/0/70000", "v": 1}], "is no path"),
        ([{"n": "/1/0/0/0", "v": 1}], "/1/0/0 is not a multiple resource"),
        ([{"n": "/1/0/10", "vlo": "1"}], "/1/0/10 is no object link"),
        ([{"n": "/1/0/10", "vlo": "70000:1"}], "/1/0/10 links to nothing that can be"),
        ([{"n": "/1/0/0", "v": 1, "must_": 1}], "the label must_ is not understood"),
        ([{"n": 1, "v": 1}], "a SenML name is a text string"),
    ],
)
def test_senml_is_read_strictly(pack: object, words: str) -> None:
    assert words in said(json.dumps(pack).encode(), formats.SENML_JSON)


def test_opaque_in_json_is_base64url_without_padding() -> None:
    """RFC 8428 5."""
    value = bytes(range(250, 256))
    text = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    payload = json.dumps([{"n": "/0/1/3", "vd": text}]).encode()
    assert formats.read(payload, formats.SENML_JSON, (0, 1)) == {1: {3: value}}
    assert "is not base64url" in said(json.dumps([{"n": "/0/1/3", "vd": "+/!"}]).encode(), formats.SENML_JSON, (0, 1))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ([], "LwM2M CBOR is a map"),
        ({1: {0: {0: {0: {0: 1}}}}}, "deeper than a resource instance"),
        ({(): 1}, "deeper than a resource instance"),
        ({-1: 1}, "is an id or an array of ids"),
        ({True: 1}, "is an id or an array of ids"),
        ({"1": 1}, "is an id or an array of ids"),
        ({1: {1: {0: 1}}}, "/1/1/0 is written to /1/0"),
        ({(1, 0): 1}, "/1/0 is no resource"),
        ({(1, 0): {0: 1, (0,): 1}}, "/1/0/0 stands twice"),
        ({(1, 0, 0): "x"}, "/1/0/0 is no INTEGER"),
    ],
)
def test_lwm2m_cbor_is_read_strictly(item: object, words: str) -> None:
    assert words in said(cbor2.dumps(item), formats.LWM2M_CBOR)


@pytest.mark.parametrize("number", [formats.SENML_CBOR, formats.LWM2M_CBOR])
def test_nothing_may_stand_behind_a_cbor_item(number: int) -> None:
    payload = ENCODERS[number](ObjectInstance(1, 0, {0: 1}))
    assert "after the CBOR item" in said(payload + b"\0", number)
    assert "not CBOR" in said(payload[:-1], number)


def test_doubles_and_floats_are_both_floats_in_tlv() -> None:
    """LwM2M Core 1.2 appendix C; no object of bootstrap has one, a reader must still tell 4 bytes from 8."""
    for body in (struct.pack("!f", 1.5), struct.pack("!d", 1.5)):
        assert formats._tlv_value(Kind.FLOAT, body, 0) == 1.5
    with pytest.raises(FormatError):
        formats._tlv_value(Kind.FLOAT, b"\0\0", 0)
