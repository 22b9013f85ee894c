"""Random object instances that the codecs must carry unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from lwm2m.objects import ObjectInstance, ObjectLink, ResourceValue, Value
from lwm2m.paths import MAX_ID
from lwm2m.registry import OBJECTS, ResourceType

ids = st.integers(0, MAX_ID)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)

VALUES: Mapping[ResourceType, st.SearchStrategy[Value]] = {
    ResourceType.STRING: texts,
    ResourceType.CORELNK: texts,
    ResourceType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    ResourceType.TIME: st.integers(-(2**63), 2**63 - 1),
    ResourceType.UNSIGNED: st.integers(0, 2**64 - 1),
    ResourceType.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    ResourceType.BOOLEAN: st.booleans(),
    ResourceType.OPAQUE: st.binary(max_size=300),
    ResourceType.OBJLNK: st.builds(ObjectLink, st.integers(0, 65535), st.integers(0, 65535)),
}


@st.composite
def known_instances(draw: st.DrawFn, *, least: int = 1, least_values: int = 1) -> ObjectInstance:
    """An instance of one of OBJECTS with `least` resources or more, multiple ones with `least_values`."""
    definition = draw(st.sampled_from(list(OBJECTS.values())))
    rows = [row for row in definition.resources.values() if row.type is not ResourceType.NONE]
    resources: dict[int, ResourceValue] = {}
    for row in draw(st.lists(st.sampled_from(rows), unique=True, min_size=least, max_size=8)):
        values = VALUES[row.type]
        if row.multiple:
            resources[row.id] = draw(st.dictionaries(ids, values, min_size=least_values, max_size=4))
        else:
            resources[row.id] = draw(values)
    return ObjectInstance(definition.id, draw(ids), resources)
