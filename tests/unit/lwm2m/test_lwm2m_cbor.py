"""lwm2m/lwm2m_cbor.py against LwM2M Core 1.2 clause 7.5.4, and its CBOR reader against RFC 8949."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m import lwm2m_cbor
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.lwm2m_cbor import MAX_DEPTH, MAX_ITEMS, CborItem, read_item
from lwm2m.objects import ObjectInstance, ObjectLink
from lwm2m.paths import Path
from tests.unit.lwm2m import vectors
from tests.unit.lwm2m.instances import known_instances

VECTORS = vectors.load("lwm2m-core-1.2-7.5.4-lwm2m-cbor.json")


@pytest.mark.parametrize("vector", [v for v in VECTORS if "refused" not in v], ids=lambda v: v["name"])
def test_a_payload_of_the_specification_is_read(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])
    assert lwm2m_cbor.decode(payload, Path.parse(vector["at"])) == vectors.instances(vector)


@pytest.mark.parametrize("vector", [v for v in VECTORS if "both" in v], ids=lambda v: v["name"])
def test_a_payload_of_the_specification_is_written(vector: dict[str, Any]) -> None:
    (instance,) = vectors.instances(vector)
    assert lwm2m_cbor.encode(instance).hex() == vector["hex"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "refused" in v], ids=lambda v: v["name"])
def test_a_payload_against_the_grammar_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        lwm2m_cbor.decode(bytes.fromhex(vector["hex"]), Path.parse(vector["at"]))


@settings(deadline=None)
@given(known_instances())
def test_what_is_written_is_read_back(instance: ObjectInstance) -> None:
    payload = lwm2m_cbor.encode(instance)
    for at in (Path(None), Path(instance.object), Path(instance.object, instance.instance)):
        assert lwm2m_cbor.decode(payload, at) == (instance,)


def test_a_link_is_written_as_text() -> None:
    payload = lwm2m_cbor.encode(ObjectInstance(0, 1, {17: ObjectLink(21, 3)}))
    assert cbor2.loads(payload) == {0: {1: {17: "21:3"}}}


@pytest.mark.parametrize("resources", [{}, {16: {}}])
def test_what_would_be_an_empty_map_is_our_error(resources: dict[int, dict[int, int]]) -> None:
    with pytest.raises(EncodeError):
        lwm2m_cbor.encode(ObjectInstance(0, 0, resources))


keys = st.one_of(st.integers(-2, 70000), st.text(max_size=2), st.lists(st.integers(0, 5), max_size=5).map(tuple))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=20,
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=60), trees.map(cbor2.dumps)), st.sampled_from(["/", "/1", "/0/0", "/3/0/6"]))
def test_any_bytes_are_instances_or_a_decode_error(payload: bytes, at: str) -> None:
    path = Path.parse(at)
    try:
        instances = lwm2m_cbor.decode(payload, path)
    except DecodeError:
        return
    assert all((each.object, each.instance)[: len(path.ids)] == path.ids[:2] for each in instances)


@settings(deadline=None)
@given(known_instances(), st.data())
def test_a_flipped_or_cut_payload_raises_nothing_else(instance: ObjectInstance, data: st.DataObject) -> None:
    payload = bytearray(lwm2m_cbor.encode(instance))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(payload), bytes(payload[:place])):
        try:
            lwm2m_cbor.decode(damaged, Path(None))
        except DecodeError:
            continue


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**64), 2**64 - 1),
            st.floats(allow_nan=False),
            st.text(max_size=30),
            st.binary(max_size=30),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.integers(-65536, 65535), st.text(max_size=5)), inner, max_size=4),
        ),
        max_leaves=MAX_DEPTH,
    )
)
def test_the_reader_agrees_with_the_library_on_plain_items(item: CborItem) -> None:
    assert read_item(cbor2.dumps(item)) == item


@pytest.mark.parametrize(
    ("hex", "item"),
    [
        ("00", 0),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3bffffffffffffffff", -(2**64)),
        ("f90000", 0.0),
        ("f93e00", 1.5),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("5f42010243030405ff", bytes((1, 2, 3, 4, 5))),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9fff", []),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("a1820102 03", {(1, 2): 3}),
        ("c11a514b67b0", 1363896240),
        ("c1fb41d452d9ec200000", 1363896240.5),
        ("c074323031332d30332d32315432303a30343a30305a", 1363896240),
        ("c48221196ab3", 273.15),
        ("c482 1863 01", 1e99),
    ],
)
def test_an_item_of_rfc_8949_is_read(hex: str, item: CborItem) -> None:
    got = read_item(bytes.fromhex(hex))
    assert got == item
    assert got.__class__ is item.__class__


@pytest.mark.parametrize(
    "hex",
    [
        "",
        "18",
        "1c",
        "1f",
        "ff",
        "41",
        "5bffffffffffffffff",
        "9bffffffffffffffff00",
        "bbffffffffffffffff0000",
        "7f4100ff",
        "5f5f4100ffff",
        "5f41",
        "62c328",
        "7f61c361a9ff",
        "9f",
        "bf00ff",
        "f7",
        "f0",
        "f818",
        "0000",
        "a200010002",
        "a1f600",
        "a1f500",
        "a1410000",
        "a1a000",
        "a1f93c0000",
        "a181416100",
        "a181f500",
        "a11a0001000000",
        "a1811a0001000000",
        "c0",
        "c06161",
        "c073323031332d30332d32315432303a30343a3030",
        "c001",
        "c16161",
        "c1f5",
        "c1f6",
        "c240",
        "c249010000000000000000",
        "c4820a",
        "c48201f5",
        "c482f401",
        "c4821a3b9aca0001",
        "c4821b7fffffffffffffff02",
        "c5821a3b9aca0001",
        "d81c81d81d00",
        "d8236128",
        "d9d9f700",
        "d9010281 01",
    ],
)
def test_what_is_malformed_or_not_used_here_is_refused(hex: str) -> None:
    with pytest.raises(DecodeError):
        read_item(bytes.fromhex(hex))


@pytest.mark.parametrize("opening", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00", b"\xc1", b"\xa1", b"\xc4\x82\x00"])
def test_nesting_beyond_the_limit_is_refused_at_once(opening: bytes) -> None:
    with pytest.raises(DecodeError):
        read_item(opening * 20000)


def test_nesting_up_to_the_limit_is_read() -> None:
    assert read_item(b"\x81" * MAX_DEPTH + b"\x00") is not None
    with pytest.raises(DecodeError):
        read_item(b"\x81" * (MAX_DEPTH + 1) + b"\x00")


def test_too_many_items_are_refused() -> None:
    with pytest.raises(DecodeError):
        read_item(b"\x9f" + b"\x00" * (MAX_ITEMS + 1) + b"\xff")
    with pytest.raises(DecodeError):
        read_item(b"\x5f" + b"\x40" * (MAX_ITEMS + 1) + b"\xff")


def test_a_decimal_fraction_too_large_for_a_number_does_not_become_a_value() -> None:
    payload = bytes.fromhex("a103a100a109c482190190") + b"\x1b" + b"\xff" * 8
    with pytest.raises(DecodeError):
        lwm2m_cbor.decode(payload, Path(3))


@pytest.mark.parametrize(
    ("item", "at"),
    [
        (0, "/"),
        ([], "/"),
        ({3: 1}, "/"),
        ({3: {0: 1}}, "/"),
        ({3: {0: {9: None}}}, "/"),
        ({3: {0: {9: [1]}}}, "/"),
        ({3: {0: {6: {0: {0: 1}}}}}, "/"),
        ({"3": {0: {9: 1}}}, "/"),
        ({3: {0: {-1: 1}}}, "/"),
        ({3: {65535: {9: 1}}}, "/"),
        ({(): {3: {0: {9: 1}}}}, "/"),
        ({(3, 0): {9: 1}, 3: {0: {9: 2}}}, "/"),
        ({3: {0: {9: "x"}}}, "/"),
        ({3: {0: {9: {0: 1}}}}, "/"),
        ({3: {0: {6: 1}}}, "/"),
        ({3: {0: {9: 1}}}, "/1"),
        ({0: {9: 1}}, "/3"),
        ({9: 1}, "/3/0"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused(item: object, at: str) -> None:
    with pytest.raises(DecodeError):
        lwm2m_cbor.decode(cbor2.dumps(item), Path.parse(at))


def test_a_time_may_be_tagged() -> None:
    payload = bytes.fromhex("a103a100a10dc11a5182428f")
    assert lwm2m_cbor.decode(payload, Path(3, 0)) == (ObjectInstance(3, 0, {13: 1367491215}),)


def test_values_of_unknown_resources_keep_the_type_they_came_with() -> None:
    tree = {9: {1: {0: "s", 1: -1, 2: 1.5, 3: True, 4: b"b", 5: {7: 2**64 - 1}}}}
    assert lwm2m_cbor.decode(cbor2.dumps(tree), Path(9, 1)) == (ObjectInstance(9, 1, tree[9][1]),)


def test_an_empty_answer_is_no_instance_or_an_empty_one() -> None:
    assert lwm2m_cbor.decode(b"\xa0", Path(1)) == ()
    assert lwm2m_cbor.decode(b"\xa0", Path(1, 0)) == (ObjectInstance(1, 0, {}),)
