"""lwm2m/objects.py: how values are fitted to the definitions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import (
    NO_LINK,
    ObjectInstance,
    ObjectLink,
    ResourceValue,
    Value,
    collect,
    fits,
    format_link,
    parse_link,
    typed,
    typed_resources,
)
from lwm2m.paths import Path
from lwm2m.registry import OBJECTS, Resource, ResourceType
from tests.unit.lwm2m.instances import VALUES, known_instances

T = ResourceType


def test_the_repr_of_an_instance_does_not_show_its_values() -> None:
    assert "topsecret" not in repr(ObjectInstance(0, 1, {5: b"topsecret"}))


def test_an_error_does_not_show_the_value() -> None:
    with pytest.raises(EncodeError) as caught:
        typed_resources(ObjectInstance(0, 1, {5: "topsecret"}))
    assert "topsecret" not in str(caught.value)
    assert "/0/1/5" in str(caught.value)


@settings(deadline=None)
@given(known_instances(least=0, least_values=0))
def test_values_of_the_right_type_are_given_out_with_it_in_order(instance: ObjectInstance) -> None:
    rows = OBJECTS[instance.object].resources
    ready = typed_resources(instance)
    assert ready == sorted(ready, key=lambda each: each[0])
    assert {id: value for id, _, value in ready} == instance.resources
    assert all(type is rows[id].type for id, type, _ in ready)


@pytest.mark.parametrize(
    ("object", "id", "value"),
    [
        (0, 0, b"coaps://x"),
        (0, 0, "a\0b"),
        (0, 0, "\ud800"),
        (0, 1, 1),
        (0, 2, True),
        (0, 2, 2.0),
        (0, 2, 2**63),
        (0, 5, "key"),
        (0, 13, -1),
        (0, 13, 2**64),
        (0, 16, 49320),
        (0, 16, {0: "x"}),
        (0, 16, {65535: 1}),
        (0, 10, {0: 1}),
        (0, 17, "21:0"),
        (0, 17, ObjectLink(0, 65536)),
        (1, 8, ""),
        (1, 4, {}),
        (0, 65535, "x"),
        (9, 65535, "x"),
        (9, 0, {0: 1, 1: "x"}),
        (9, 0, float("nan")),
        (9, 0, float("inf")),
    ],
)
def test_a_value_that_does_not_fit_is_our_error(object: int, id: int, value: ResourceValue) -> None:
    with pytest.raises(EncodeError):
        typed_resources(ObjectInstance(object, 0, {id: value}))


def test_an_instance_at_a_reserved_id_is_our_error() -> None:
    with pytest.raises(EncodeError):
        typed_resources(ObjectInstance(0, 65535, {}))


def test_an_unknown_resource_takes_its_type_from_its_value() -> None:
    resources: dict[int, ResourceValue] = {
        0: "s",
        1: -1,
        2: 2**63,
        3: 1.5,
        4: False,
        5: b"b",
        6: NO_LINK,
        7: {0: 1, 1: 2**64 - 1},
        8: {},
    }
    types = [type for _, type, _ in typed_resources(ObjectInstance(9, 0, resources))]
    assert types == [
        T.STRING,
        T.INTEGER,
        T.UNSIGNED,
        T.FLOAT,
        T.BOOLEAN,
        T.OPAQUE,
        T.OBJLNK,
        T.UNSIGNED,
        T.OPAQUE,
    ]


@pytest.mark.parametrize("type", list(VALUES))
@settings(deadline=None)
@given(data=st.data())
def test_each_type_takes_its_values_and_no_type_takes_none(type: ResourceType, data: st.DataObject) -> None:
    value = data.draw(VALUES[type])
    assert fits(type, value)
    assert not fits(T.NONE, value)


def _row(type: ResourceType) -> Resource:
    return Resource(0, "", type, "RW", False, False, "1.0")


@pytest.mark.parametrize(
    ("type", "came", "value"),
    [
        (T.INTEGER, 5.0, 5),
        (T.TIME, 1.367491215e9, 1367491215),
        (T.UNSIGNED, float(2**53), 2**53),
        (T.FLOAT, 3, 3.0),
        (T.OBJLNK, "10:3", ObjectLink(10, 3)),
        (T.STRING, "10:3", "10:3"),
    ],
)
def test_a_received_value_is_converted_where_its_format_cannot_say_the_type(
    type: ResourceType, came: Value, value: Value
) -> None:
    got = typed(_row(type), came, Path(9, 0, 0))
    assert got == value
    assert got.__class__ is value.__class__


@pytest.mark.parametrize(
    ("type", "came"),
    [
        (T.INTEGER, 5.5),
        (T.INTEGER, float(2**53 + 2)),
        (T.INTEGER, float("inf")),
        (T.INTEGER, True),
        (T.UNSIGNED, -1.0),
        (T.FLOAT, float("nan")),
        (T.FLOAT, True),
        (T.BOOLEAN, 1),
        (T.STRING, b"x"),
        (T.STRING, "\0"),
        (T.OPAQUE, "x"),
        (T.OBJLNK, "10"),
        (T.NONE, ""),
    ],
)
def test_a_received_value_that_does_not_fit_is_their_error(type: ResourceType, came: Value) -> None:
    with pytest.raises(DecodeError):
        typed(_row(type), came, Path(9, 0, 0))


@settings(deadline=None)
@given(VALUES[T.OBJLNK])
def test_a_link_is_read_back_from_its_text(link: ObjectLink) -> None:
    assert parse_link(format_link(link)) == link


@pytest.mark.parametrize(
    "text", ["", ":", "1", "1:", ":1", "1:2:3", "-1:0", "65536:0", "a:b", "1 :2", "²:0", "000001:0"]
)
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_link(text)


def test_the_null_link_of_the_printed_example_is_read() -> None:
    assert parse_link("FFFF:FFFF") == NO_LINK == parse_link("65535:65535")


def test_values_are_gathered_by_instance_in_order_of_appearance() -> None:
    entries: list[tuple[Path, Value]] = [
        (Path(1, 1, 0), 102),
        (Path(1, 0, 0), 101),
        (Path(1, 1, 7), "U"),
        (Path(1, 0, 25, 3), "1.1"),
        (Path(1, 0, 25, 1), "1.0"),
    ]
    assert collect(entries, Path(1)) == (
        ObjectInstance(1, 1, {0: 102, 7: "U"}),
        ObjectInstance(1, 0, {0: 101, 25: {3: "1.1", 1: "1.0"}}),
    )


def test_nothing_at_an_instance_is_an_empty_instance_and_elsewhere_nothing() -> None:
    assert collect([], Path(1, 0)) == (ObjectInstance(1, 0, {}),)
    assert collect([], Path(1)) == ()
    assert collect([], Path(None)) == ()


@pytest.mark.parametrize(
    "entries",
    [
        [(Path(2, 0, 0), 1)],
        [(Path(1, 1, 0), 1)],
        [(Path(None), 1)],
        [(Path(1), 1)],
        [(Path(1, 0), 1)],
        [(Path(1, 0, 0, 0), 1)],
        [(Path(1, 0, 25), "1.0")],
        [(Path(1, 0, 0), 1), (Path(1, 0, 0), 1)],
        [(Path(1, 0, 25, 0), "1.0"), (Path(1, 0, 25, 0), "1.0")],
        [(Path(1, 0, 99), "x"), (Path(1, 0, 99, 0), "x")],
        [(Path(1, 0, 99, 0), "x"), (Path(1, 0, 99), "x")],
    ],
)
def test_values_outside_twice_or_at_the_wrong_level_are_their_error(
    entries: list[tuple[Path, Value]],
) -> None:
    with pytest.raises(DecodeError):
        collect(entries, Path(1, 0))
