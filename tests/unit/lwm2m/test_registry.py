"""lwm2m/registry.py: the definitions, against the OMA registry of objects."""

import pytest

from lwm2m.registry import OBJECTS, ResourceType


def test_the_security_object_has_31_resources_that_no_server_may_touch() -> None:
    resources = OBJECTS[0].resources
    assert list(resources) == list(range(31))
    assert {row.operations for row in resources.values()} == {""}
    assert {id for id, row in resources.items() if row.mandatory} == {0, 1, 2, 3, 4, 5}
    assert {id for id, row in resources.items() if row.multiple} == {16, 18, 19, 20, 21, 25, 27}
    assert {id for id, row in resources.items() if row.since == "1.1"} == {13, 14, 15, 16, 17}
    assert {id for id, row in resources.items() if row.since == "1.2"} == set(range(18, 31))


def test_the_server_object_has_28_resources_three_of_them_to_execute() -> None:
    resources = OBJECTS[1].resources
    assert list(resources) == list(range(28))
    assert {id for id, row in resources.items() if row.type is ResourceType.NONE} == {4, 8, 9}
    assert {id for id, row in resources.items() if row.operations == "E"} == {4, 8, 9}
    assert {id for id, row in resources.items() if row.mandatory} == {0, 1, 6, 7, 8}
    assert {id for id, row in resources.items() if row.since == "1.0"} == set(range(9))
    assert {id for id, row in resources.items() if row.since == "1.2"} == {24, 25, 26, 27}


def test_every_row_stands_under_its_own_id() -> None:
    for object, definition in OBJECTS.items():
        assert definition.id == object
        assert all(row.id == id for id, row in definition.resources.items())


def test_only_the_device_object_has_a_single_instance() -> None:
    assert [object for object, definition in OBJECTS.items() if not definition.multiple] == [3]


def test_the_definitions_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        OBJECTS[0].resources[99] = OBJECTS[0].resources[0]  # type: ignore[index]
