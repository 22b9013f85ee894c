"""lwm2m/senml.py against RFC 8428 and LwM2M Core 1.2 clauses 7.5.6 and 7.5.7."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m import senml
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import ObjectInstance, ObjectLink
from lwm2m.paths import Path
from tests.unit.lwm2m import vectors
from tests.unit.lwm2m.instances import known_instances

CBOR = vectors.load("lwm2m-core-1.2-7.5.7-senml-cbor.json")
JSON = vectors.load("lwm2m-core-1.2-7.5.6-senml-json.json")
RECORDS = vectors.load("rfc8428-senml.json")


@pytest.mark.parametrize("vector", CBOR, ids=lambda v: v["name"])
def test_a_cbor_pack_of_the_specification_is_read_and_written(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])
    assert senml.decode_cbor(payload, Path.parse(vector["at"])) == vectors.instances(vector)
    assert senml.encode_cbor(*vectors.instances(vector)) == payload


@pytest.mark.parametrize("vector", [v for v in JSON if "refused" not in v], ids=lambda v: v["name"])
def test_a_json_pack_of_the_specification_is_read(vector: dict[str, Any]) -> None:
    payload = vector["text"].encode()
    assert senml.decode_json(payload, Path.parse(vector["at"])) == vectors.instances(vector)


@pytest.mark.parametrize("vector", [v for v in JSON if "both" in v], ids=lambda v: v["name"])
def test_a_json_pack_of_the_specification_is_written(vector: dict[str, Any]) -> None:
    assert senml.encode_json(*vectors.instances(vector)).decode() == vector["text"]


@pytest.mark.parametrize("vector", [v for v in JSON if "refused" in v], ids=lambda v: v["name"])
def test_a_json_pack_that_is_no_answer_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        senml.decode_json(vector["text"].encode(), Path.parse(vector["at"]))


@pytest.mark.parametrize("vector", RECORDS, ids=lambda v: v["name"])
def test_the_records_of_rfc_8428_are_resolved(vector: dict[str, Any]) -> None:
    if "hex" in vector:
        records = senml.read_cbor(bytes.fromhex(vector["hex"]))
    else:
        records = senml.read_json(vector["text"].encode())
    assert records == [tuple(record) for record in vector["records"]]


@settings(deadline=None)
@given(known_instances())
def test_what_is_written_is_read_back(instance: ObjectInstance) -> None:
    for at in (Path(None), Path(instance.object), Path(instance.object, instance.instance)):
        assert senml.decode_cbor(senml.encode_cbor(instance), at) == (instance,)
        assert senml.decode_json(senml.encode_json(instance), at) == (instance,)


@settings(deadline=None)
@given(known_instances())
def test_both_forms_carry_the_same_records(instance: ObjectInstance) -> None:
    assert senml.read_cbor(senml.encode_cbor(instance)) == [
        (name, value) for name, value in senml.read_json(senml.encode_json(instance))
    ]


def test_the_base_name_stands_in_the_first_record_alone() -> None:
    instance = ObjectInstance(0, 1, {0: "coaps://x", 5: b"\x01\xff", 16: {3: 49320}, 17: ObjectLink(21, 0)})
    assert cbor2.loads(senml.encode_cbor(instance)) == [
        {-2: "/0/1/", 0: "0", 3: "coaps://x"},
        {0: "5", 8: b"\x01\xff"},
        {0: "16/3", 2: 49320},
        {0: "17", "vlo": "21:0"},
    ]
    assert json.loads(senml.encode_json(instance)) == [
        {"bn": "/0/1/", "n": "0", "vs": "coaps://x"},
        {"n": "5", "vd": "Af8"},
        {"n": "16/3", "v": 49320},
        {"n": "17", "vlo": "21:0"},
    ]


@pytest.mark.parametrize("resources", [{}, {16: {}}])
def test_what_would_have_no_record_is_our_error(resources: dict[int, dict[int, int]]) -> None:
    for encode in (senml.encode_cbor, senml.encode_json):
        with pytest.raises(EncodeError):
            encode(ObjectInstance(0, 0, resources))


def test_an_empty_pack_is_no_instance_or_an_empty_one() -> None:
    assert senml.decode_json(b"[]", Path(1)) == ()
    assert senml.decode_cbor(b"\x80", Path(1, 0)) == (ObjectInstance(1, 0, {}),)


@pytest.mark.parametrize("text", ["-_8", "-_8=", "+/8=", "+/8"])
def test_both_base64_alphabets_with_and_without_padding_are_taken(text: str) -> None:
    pack = json.dumps([{"n": "/9/0/0", "vd": text}]).encode()
    assert senml.decode_json(pack, Path(9)) == (ObjectInstance(9, 0, {0: b"\xfb\xff"}),)


def test_a_base_value_is_added_and_stands_for_a_missing_one() -> None:
    pack = b'[{"bn":"/1/0/","bv":100,"n":"1","v":20},{"n":"2"},{"bv":0,"n":"7","vs":"U"},{"n":"3","v":5}]'
    assert senml.decode_json(pack, Path(1, 0)) == (ObjectInstance(1, 0, {1: 120, 2: 100, 7: "U", 3: 5}),)


def test_integers_written_with_a_fraction_or_exponent_are_integers() -> None:
    pack = b'[{"bn":"/1/0/","n":"1","v":8.64e4},{"n":"2","v":1.0}]'
    assert senml.decode_json(pack, Path(1)) == (ObjectInstance(1, 0, {1: 86400, 2: 1}),)


def test_fields_of_later_documents_are_passed_over() -> None:
    pack = [{-2: "/1/0/", 0: "1", 2: 5, 99: "x", -99: 1, "zz": []}]
    assert senml.decode_cbor(cbor2.dumps(pack), Path(1)) == (ObjectInstance(1, 0, {1: 5}),)
    assert senml.decode_json(b'[{"n":"/1/0/1","v":5,"zz":[{}]}]', Path(1)) == (ObjectInstance(1, 0, {1: 5}),)


@pytest.mark.parametrize(
    "pack",
    [
        "",
        "{}",
        "[1]",
        "[[]]",
        "[{}]",
        '[{"n":"/1/0/1"}]',
        '[{"n":"/1/0/1","s":1}]',
        '[{"n":"/1/0/1","v":1,"vs":"x"}]',
        '[{"n":"/1/0/1","v":1,"v":1}]',
        '[{"n":"/1/0/1","v":"1"}]',
        '[{"n":"/1/0/1","v":true}]',
        '[{"n":"/1/0/1","v":null}]',
        '[{"n":"/1/0/1","v":1.5}]',
        '[{"n":"/1/0/1","v":NaN}]',
        '[{"n":"/1/0/1","v":Infinity}]',
        '[{"n":"/1/0/1","v":1e999}]',
        '[{"n":"/1/0/1","v":9223372036854775808}]',
        '[{"n":"/1/0/1","bv":1e308,"v":1e308}]',
        '[{"n":"/1/0/1","bv":true,"v":1}]',
        '[{"n":"/1/0/6","vb":1}]',
        '[{"n":"/1/0/7","vs":1}]',
        '[{"n":"/1/0/7","vs":"\\u0000"}]',
        '[{"n":"/1/0/7","vs":"\\ud800"}]',
        '[{"n":"/1/0/10","vlo":1}]',
        '[{"n":"/1/0/10","vlo":"1"}]',
        '[{"n":"/9/0/0","vd":1}]',
        '[{"n":"/9/0/0","vd":"a"}]',
        '[{"n":"/9/0/0","vd":"a b="}]',
        '[{"n":"/9/0/0","vd":"\\u00e9\\u00e9"}]',
        '[{"n":1,"v":1}]',
        '[{"bn":1,"n":"/1/0/1","v":1}]',
        '[{"n":"1/0/1","v":1}]',
        '[{"n":"/1/0","v":1}]',
        '[{"n":"/1/0/25","vs":"1.0"}]',
        '[{"n":"/1/0/1/0","v":1}]',
        '[{"n":"/2/0/0","v":1}]',
        '[{"bver":11,"n":"/1/0/1","v":1}]',
        '[{"bver":0,"n":"/1/0/1","v":1}]',
        '[{"bver":"10","n":"/1/0/1","v":1}]',
        '[{"n":"/1/0/1","v":1,"new_":0}]',
        '[{"n":"/1/0/1","v":1},{"n":"/1/0/1","v":1}]',
        '[{"n":"/1/0/1","v":1}',
        '\ufeff[{"n":"/1/0/1","v":1}]',
    ],
)
def test_a_json_pack_that_does_not_fit_is_refused(pack: str) -> None:
    with pytest.raises(DecodeError):
        senml.decode_json(pack.encode(), Path(9) if "/9/" in pack else Path(1))


@pytest.mark.parametrize(
    "pack",
    [
        b"",
        b"\x80\x00",
        cbor2.dumps({}),
        cbor2.dumps([1]),
        cbor2.dumps([{}]),
        cbor2.dumps([{"n": "/1/0/1", 0: "/1/0/1", 2: 1}]),
        cbor2.dumps([{"v": 1, 0: "/1/0/1", 2: 1}]),
        cbor2.dumps([{0: b"/1/0/1", 2: 1}]),
        cbor2.dumps([{0: "/9/0/1", 8: "text"}]),
        cbor2.dumps([{0: "/9/0/1", 2: float("nan")}]),
        cbor2.dumps([{0: "/9/0/1", 2: -(2**64)}]),
        cbor2.dumps([{0: "/9/0/1", 2: 1, "x_": 1}]),
        cbor2.dumps([{0: "/9/0/1", (1, 2): 1}]),
    ],
)
def test_a_cbor_pack_that_does_not_fit_is_refused(pack: bytes) -> None:
    with pytest.raises(DecodeError):
        senml.decode_cbor(pack, Path(None))


@pytest.mark.parametrize(
    "pack",
    [
        b"[" * 100000,
        b'[{"n":' * 50000,
        b'[{"n":"/1/0/1","v":' + b"9" * 60000 + b"}]",
        b'[{"bn":"' + b"/" * 300 + b'","n":"1","v":1}]',
        b"[" + b",".join(b'{"n":"/9/0/%d","v":1}' % id for id in range(senml.MAX_RECORDS + 1)) + b"]",
        b'[{"n":"/1/0/7","vs":"\xff"}]',
    ],
    ids=["deep arrays", "deep objects", "long number", "long name", "many records", "not UTF-8"],
)
def test_a_json_pack_made_to_cost_is_refused(pack: bytes) -> None:
    with pytest.raises(DecodeError):
        senml.decode_json(pack, Path(None))


fields = st.dictionaries(
    st.sampled_from([*senml.LABELS, "vlo", "x", "x_"]),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["/1/0/", "/1/0/1", "1", "25/0", "9/0/0", "AA", "1:2"]),
        st.text(max_size=5),
        st.lists(st.none(), max_size=1),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.lists(fields, max_size=4).map(lambda pack: json.dumps(pack).encode())))
def test_any_bytes_are_a_json_pack_or_a_decode_error(payload: bytes) -> None:
    try:
        instances = senml.decode_json(payload, Path(1))
    except DecodeError:
        return
    assert all(each.object == 1 for each in instances)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(fields, max_size=4).map(
            lambda pack: cbor2.dumps([{senml.LABELS.get(k, k): v for k, v in each.items()} for each in pack])
        ),
    )
)
def test_any_bytes_are_a_cbor_pack_or_a_decode_error(payload: bytes) -> None:
    try:
        instances = senml.decode_cbor(payload, Path(1))
    except DecodeError:
        return
    assert all(each.object == 1 for each in instances)


@settings(deadline=None)
@given(known_instances(), st.data())
def test_a_flipped_or_cut_pack_raises_nothing_else(instance: ObjectInstance, data: st.DataObject) -> None:
    for encode, decode in ((senml.encode_cbor, senml.decode_cbor), (senml.encode_json, senml.decode_json)):
        payload = bytearray(encode(instance))
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] ^= data.draw(st.integers(1, 255))
        for damaged in (bytes(payload), bytes(payload[:place])):
            try:
                decode(damaged, Path(None))
            except DecodeError:
                continue
