"""Object instances and their values, as the definitions of `registry.py` type them (LwM2M Core 1.2 appendix C)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard, assert_never

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.paths import MAX_ID, Path
from lwm2m.registry import OBJECTS, Resource, ResourceType


@dataclass(frozen=True, slots=True)
class ObjectLink:
    """A value of type Objlnk: object and instance, each 0..65535, both 65535 for "no link"."""

    object: int
    instance: int


Value: TypeAlias = str | int | float | bool | bytes | ObjectLink
ResourceValue: TypeAlias = Value | Mapping[int, Value]
"""A mapping is a multiple resource, keyed by resource instance id."""


@dataclass(frozen=True, slots=True)
class ObjectInstance:
    """An object instance and its resources by id."""

    object: int
    instance: int
    # kept out of repr: a Security instance holds the device's secret key
    resources: Mapping[int, ResourceValue] = field(repr=False)


TypedResource: TypeAlias = tuple[int, ResourceType, ResourceValue]

_INTEGER_MIN = -(1 << 63)
_INTEGER_MAX = (1 << 63) - 1
_UNSIGNED_MAX = (1 << 64) - 1
_LINK_MAX = 65535
# an integral float beyond this no longer names one integer (IEEE 754 binary64)
_EXACT_FLOAT = 1 << 53
_WHOLE = frozenset({ResourceType.INTEGER, ResourceType.UNSIGNED, ResourceType.TIME})

_SINGLE = (str, int, float, bytes, ObjectLink)
_COUNT = ("one value", "several values")

NO_LINK = ObjectLink(_LINK_MAX, _LINK_MAX)


def typed_resources(instance: ObjectInstance) -> list[TypedResource]:
    """The resources of an instance in order of id, each with its type, ready to be encoded.

    The type comes from OBJECTS; of a resource not listed there it follows from the value.
    Raises EncodeError when a value does not fit its type or the path is out of range.
    """
    # hot path: a Path is built for the instance alone and for messages
    path = Path(instance.object, instance.instance)
    definition = OBJECTS.get(instance.object)
    rows = definition.resources if definition else {}
    ready: list[TypedResource] = []
    for id, value in sorted(instance.resources.items()):
        row = rows.get(id)
        values: Sequence[Value]
        if isinstance(value, _SINGLE):
            multiple, values = False, (value,)
        else:
            multiple, values = True, tuple(value.values())
            for key in value:
                _check_id(key, path)
        if row is None:
            _check_id(id, path)
            type = _type_of(values)
        else:
            type = row.type
            if row.multiple != multiple:
                raise EncodeError(f"{path.child(id)} takes {_COUNT[row.multiple]}")
            if type is ResourceType.NONE:
                raise EncodeError(f"{path.child(id)} can only be executed")
        for each in values:
            if not fits(type, each):
                # the value itself never goes into the message: it may be a key
                raise EncodeError(f"the value of {path.child(id)} does not fit the type {type.value}")
        ready.append((id, type, value))
    return ready


def _check_id(id: int, path: Path) -> None:
    if not 0 <= id <= MAX_ID:
        raise EncodeError(f"an identifier below {path} is not in 0..{MAX_ID}")


def fits(type: ResourceType, value: Value) -> bool:
    """Whether a value is one of the type, ranges included (LwM2M Core 1.2 appendix C)."""
    match type:
        case ResourceType.STRING | ResourceType.CORELNK:
            return isinstance(value, str) and _is_text(value)
        case ResourceType.INTEGER | ResourceType.TIME:
            return _is_int(value) and _INTEGER_MIN <= value <= _INTEGER_MAX
        case ResourceType.UNSIGNED:
            return _is_int(value) and 0 <= value <= _UNSIGNED_MAX
        case ResourceType.FLOAT:
            return isinstance(value, float) and math.isfinite(value)
        case ResourceType.BOOLEAN:
            return isinstance(value, bool)
        case ResourceType.OPAQUE:
            return isinstance(value, bytes)
        case ResourceType.OBJLNK:
            return isinstance(value, ObjectLink) and 0 <= value.object <= _LINK_MAX and 0 <= value.instance <= _LINK_MAX
        case ResourceType.NONE:
            return False
        case other:
            assert_never(other)


def typed(row: Resource | None, value: Value, place: Path) -> Value:
    """A received value as the type its row asks for; of an unknown resource (row None) as it came.

    Number formats that do not tell integers from floats, and links sent as text, are converted.
    Raises DecodeError when the value does not fit.
    """
    if row is None:
        type = _type_of([value])
    else:
        type = row.type
        if type is ResourceType.FLOAT and _is_int(value):
            # SenML has one kind of number (RFC 8428 4.3); ours are at most 64 bits, so this cannot overflow
            value = float(value)
        elif isinstance(value, float) and type in _WHOLE and value.is_integer() and abs(value) <= _EXACT_FLOAT:
            value = int(value)
        elif type is ResourceType.OBJLNK and isinstance(value, str):
            value = parse_link(value)
    if not fits(type, value):
        raise DecodeError(f"the value of {place} does not fit the type {type.value}")
    return value


def collect(entries: Iterable[tuple[Path, Value]], at: Path) -> tuple[ObjectInstance, ...]:
    """Gather single values into typed instances, in order of first appearance.

    `at` is the path the payload was asked for or sent to; without entries it is an empty instance if it
    names one. Raises DecodeError for a path outside `at` or not of a resource, for one path twice, and
    for values that do not fit OBJECTS.
    """
    base = at.ids
    instances: dict[tuple[int, int], dict[int, ResourceValue]] = {}
    if len(base) == 2:
        instances[base[0], base[1]] = {}
    for path, value in entries:
        object, instance, resource = path.object, path.instance, path.resource
        if object is None or instance is None or resource is None:
            raise DecodeError(f"{path} holds a value but is not a resource")
        if path.ids[: len(base)] != base:
            raise DecodeError(f"{path} is not below {at}")
        definition = OBJECTS.get(object)
        row = definition.resources.get(resource) if definition else None
        if row is not None and row.multiple != (path.resource_instance is not None):
            raise DecodeError(f"{path} takes {_COUNT[row.multiple]}")
        value = typed(row, value, path)
        resources = instances.setdefault((object, instance), {})
        if path.resource_instance is None:
            if resource in resources:
                raise DecodeError(f"{path} comes twice")
            resources[resource] = value
            continue
        several = resources.setdefault(resource, {})
        if not isinstance(several, dict) or path.resource_instance in several:
            raise DecodeError(f"{path} comes twice")
        several[path.resource_instance] = value
    return tuple(ObjectInstance(*ids, resources) for ids, resources in instances.items())


def parse_link(text: str) -> ObjectLink:
    """Read the text form "10:3" of an Objlnk (LwM2M Core 1.2 appendix C); DecodeError otherwise."""
    # the examples of the Core specification spell the null link in hexadecimal
    if text == "FFFF:FFFF":
        return NO_LINK
    parts = text.split(":", 2)
    if len(parts) != 2:
        raise DecodeError("an object link is two numbers around a colon")
    for part in parts:
        if not (0 < len(part) <= 5 and part.isascii() and part.isdecimal()) or int(part) > _LINK_MAX:
            raise DecodeError(f"an object link holds numbers of 0..{_LINK_MAX}")
    return ObjectLink(int(parts[0]), int(parts[1]))


def format_link(link: ObjectLink) -> str:
    """The text form "10:3" of an Objlnk (LwM2M Core 1.2 appendix C)."""
    return f"{link.object}:{link.instance}"


def _is_int(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    # a device holds strings NUL-terminated, so a NUL would cut the value there unseen
    if "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _type_of(values: Sequence[Value]) -> ResourceType:
    first = values[0] if values else b""
    if isinstance(first, bool):
        return ResourceType.BOOLEAN
    if isinstance(first, int):
        return ResourceType.UNSIGNED if any(_is_int(v) and v > _INTEGER_MAX for v in values) else ResourceType.INTEGER
    if isinstance(first, float):
        return ResourceType.FLOAT
    if isinstance(first, str):
        return ResourceType.STRING
    if isinstance(first, bytes):
        return ResourceType.OPAQUE
    return ResourceType.OBJLNK
