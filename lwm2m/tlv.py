"""The TLV format (LwM2M Core 1.2 7.5.5), content formats 11542 and 1542.

A record is a type byte (bits 7-6 kind, bit 5 width of the identifier, bits 4-3 width of the length,
bits 2-0 the length when it has no field of its own), the identifier, the length and the value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import assert_never

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import ObjectInstance, ObjectLink, ResourceValue, Value, typed, typed_resources
from lwm2m.paths import Path
from lwm2m.registry import OBJECTS, Resource, ResourceType

_KINDS = 0xC0
_OBJECT_INSTANCE = 0x00
_RESOURCE_INSTANCE = 0x40
_MULTIPLE_RESOURCE = 0x80
_RESOURCE = 0xC0
_WIDE_ID = 0x20

_MAX_LENGTH = (1 << 24) - 1

MAX_RECORDS = 4096
"""Records of one level: more resources than a device's whole tree holds."""


def encode(instance: ObjectInstance) -> bytes:
    """The records of one object instance for a write to /o/i (LwM2M Core 1.2 7.5.5), ordered by id.

    Raises EncodeError when a value does not fit its type.
    """
    # hot path: plain concatenation of bytes, three instances a bootstrap
    records = []
    for id, type, value in typed_resources(instance):
        if isinstance(value, Mapping):
            inner = b"".join(
                _record(_RESOURCE_INSTANCE, key, _value_to_bytes(type, each)) for key, each in sorted(value.items())
            )
            records.append(_record(_MULTIPLE_RESOURCE, id, inner))
        else:
            records.append(_record(_RESOURCE, id, _value_to_bytes(type, value)))
    return b"".join(records)


def opaque(id: int, value: bytes) -> bytes:
    """One opaque resource as it stands in an encoded instance; raises EncodeError when it is too long."""
    return _record(_RESOURCE, id, value)


def wrapped(id: int, records: bytes) -> bytes:
    """What `encode` gave for an instance, as a write to its object needs it: a record of the object instance."""
    return _record(_OBJECT_INSTANCE, id, records)


def decode(payload: bytes, at: Path) -> tuple[ObjectInstance, ...]:
    """The instances in an answer to a read of `at` or a write to it (LwM2M Core 1.2 7.5.5).

    `at` names an object, an instance or a resource; below an instance the instance record is optional.
    Values are typed by OBJECTS, those of unknown resources stay bytes. Raises DecodeError.
    """
    if at.object is None or at.resource_instance is not None:
        raise DecodeError(f"TLV cannot stand at {at}")
    records = list(_records(payload))
    wrapped = [record for record in records if record[0] == _OBJECT_INSTANCE]
    if wrapped and len(wrapped) != len(records):
        raise DecodeError("TLV object instances and resources stand side by side")
    definition = OBJECTS.get(at.object)
    if at.instance is not None and not wrapped:
        groups = [(at.instance, records)]
    elif records and not wrapped:
        if definition is None or definition.multiple:
            raise DecodeError(f"TLV resources without their object instance at {at}")
        groups = [(0, records)]
    else:
        groups = [(id, list(_records(value))) for _, id, value in wrapped]
    if at.instance is not None and any(id != at.instance for id, _ in groups):
        raise DecodeError(f"TLV object instance outside {at}")
    if len({id for id, _ in groups}) != len(groups):
        raise DecodeError("a TLV object instance comes twice")
    rows = definition.resources if definition else {}
    return tuple(
        ObjectInstance(at.object, id, _resources(inner, rows, at, Path(at.object, id))) for id, inner in groups
    )


def _resources(
    records: list[tuple[int, int, bytes]], rows: Mapping[int, Resource], at: Path, instance: Path
) -> dict[int, ResourceValue]:
    resources: dict[int, ResourceValue] = {}
    for kind, id, value in records:
        place = instance.child(id)
        row = rows.get(id)
        if at.resource is not None and id != at.resource:
            raise DecodeError(f"{place} is not below {at}")
        if id in resources:
            raise DecodeError(f"{place} comes twice")
        if row is not None and row.multiple != (kind == _MULTIPLE_RESOURCE):
            raise DecodeError(f"{place} takes {'several values' if row.multiple else 'one value'}")
        if kind == _RESOURCE:
            resources[id] = _value_from_bytes(row, value, place)
        elif kind == _MULTIPLE_RESOURCE:
            several: dict[int, Value] = {}
            for inner_kind, key, each in _records(value):
                if inner_kind != _RESOURCE_INSTANCE or key in several:
                    raise DecodeError(f"{place} does not hold resource instances, each once")
                several[key] = _value_from_bytes(row, each, place.child(key))
            resources[id] = several
        else:
            raise DecodeError(f"a TLV record of {instance} is no resource")
    return resources


def _records(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (kind, identifier, value) of the records laid end to end."""
    position, end, count = 0, len(payload), 0
    while position < end:
        count += 1
        if count > MAX_RECORDS:
            raise DecodeError(f"a TLV payload has at most {MAX_RECORDS} records side by side here")
        type = payload[position]
        id_width = 2 if type & _WIDE_ID else 1
        length_width = type >> 3 & 0x03
        start = position + 1 + id_width + length_width
        if start > end:
            raise DecodeError("a TLV record ends inside its header")
        id = int.from_bytes(payload[position + 1 : position + 1 + id_width], "big")
        if id == 65535:
            raise DecodeError("a TLV record has the reserved identifier 65535")
        if length_width:
            length = int.from_bytes(payload[start - length_width : start], "big")
        else:
            length = type & 0x07
        position = start + length
        if position > end:
            raise DecodeError("a TLV record is longer than what holds it")
        yield type & _KINDS, id, payload[start:position]


def _record(kind: int, id: int, value: bytes) -> bytes:
    length = len(value)
    wide = id > 0xFF
    head = id.to_bytes(2 if wide else 1, "big")
    if wide:
        kind |= _WIDE_ID
    if length < 8:
        return bytes((kind | length,)) + head + value
    if length > _MAX_LENGTH:
        raise EncodeError(f"a TLV value has at most {_MAX_LENGTH} bytes")
    width = 1 if length <= 0xFF else 2 if length <= 0xFFFF else 3
    return bytes((kind | width << 3,)) + head + length.to_bytes(width, "big") + value


def _value_to_bytes(type: ResourceType, value: Value) -> bytes:
    # typed_resources has matched value and type, so the shape of the value decides all but signedness
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        return _integer_to_bytes(value, signed=type is not ResourceType.UNSIGNED)
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, ObjectLink):
        return struct.pack(">HH", value.object, value.instance)
    assert_never(value)


def _integer_to_bytes(value: int, *, signed: bool) -> bytes:
    bits = (value if value >= 0 else ~value).bit_length() + signed
    width = 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8
    return value.to_bytes(width, "big", signed=signed)


def _value_from_bytes(row: Resource | None, value: bytes, place: Path) -> Value:
    if row is None:
        return value
    return typed(row, _parse_value(row.type, value, place), place)


def _parse_value(type: ResourceType, value: bytes, place: Path) -> Value:
    length = len(value)
    match type:
        case ResourceType.STRING | ResourceType.CORELNK:
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise DecodeError(f"{place} is not UTF-8") from None
        case ResourceType.OPAQUE | ResourceType.NONE:
            return value
        case ResourceType.INTEGER | ResourceType.TIME if length in (1, 2, 4, 8):
            return int.from_bytes(value, "big", signed=True)
        case ResourceType.UNSIGNED if length in (1, 2, 4, 8):
            return int.from_bytes(value, "big")
        case ResourceType.FLOAT if length in (4, 8):
            number: float = struct.unpack(">f" if length == 4 else ">d", value)[0]
            return number
        case ResourceType.BOOLEAN if value in (b"\x00", b"\x01"):
            return value == b"\x01"
        case ResourceType.OBJLNK if length == 4:
            return ObjectLink(*struct.unpack(">HH", value))
        case _:
            raise DecodeError(f"{place} has {length} bytes, which the type {type.value} does not")
