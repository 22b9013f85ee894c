"""Reader of what a bootstrap server writes: TLV, SenML CBOR and JSON, LwM2M CBOR (LwM2M Core 1.2 7.4).

A second implementation on purpose: it reads strictly, so that a server's encoder is held to the text.
"""

import base64
import binascii
import io
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from functools import partial
from typing import NamedTuple

import cbor2

TLV = 11542
TLV_OLD = 1542
SENML_JSON = 110
SENML_CBOR = 112
LWM2M_CBOR = 11544
LINK_FORMAT = 40
# The names a user types for the numbers of LwM2M Core 1.2 7.4.
FORMATS: Mapping[str, int] = {
    "tlv": TLV,
    "senml-json": SENML_JSON,
    "senml-cbor": SENML_CBOR,
    "lwm2m-cbor": LWM2M_CBOR,
}
# Uri-Path of an object, instance, resource and resource instance.
MAX_DEPTH = 4
MAX_ID = 65535


class FormatError(Exception):
    """A payload that a device answers with 4.00; the text says what is wrong with it."""


class Link(NamedTuple):
    """An Objlnk value."""

    object: int
    instance: int


Value = str | int | float | bool | bytes | Link
Resource = Value | dict[int, Value]
Instances = dict[int, dict[int, Resource]]
Segments = tuple[int, ...]


class Kind(Enum):
    """The data types of LwM2M Core 1.2 Appendix C that bootstrap objects use."""

    STRING = auto()
    INTEGER = auto()
    UNSIGNED = auto()
    FLOAT = auto()
    BOOLEAN = auto()
    OPAQUE = auto()
    LINK = auto()


def _kinds(**resources: str) -> dict[int, tuple[Kind, bool]]:
    """`kind="1 2 3*"` rows, the star marking a multiple resource."""
    return {
        int(word.rstrip("*")): (Kind[name], word.endswith("*"))
        for name, words in resources.items()
        for word in words.split()
    }


# Object → resource → (type, multiple); the numbers are those of the OMA registry's objects 0, 1, 2, 3 and 21.
KINDS: Mapping[int, Mapping[int, tuple[Kind, bool]]] = {
    0: _kinds(
        STRING="0 9 14 25* 30",
        BOOLEAN="1",
        INTEGER="2 6 10 11 12 28 29",
        OPAQUE="3 4 5 7 8",
        UNSIGNED="13 15 16* 18* 19* 20* 21* 22 23 24",
        LINK="17 26 27*",
    ),
    1: _kinds(
        INTEGER="0 1 2 3 5 12 26",
        BOOLEAN="6 15 16 21 23",
        STRING="7 22 25*",
        LINK="10 24*",
        UNSIGNED="11 13 14 17 18 19 20 27",
    ),
    2: _kinds(INTEGER="0 1 2* 3"),
    3: _kinds(STRING="0 1 2 14 15", INTEGER="13"),
    21: _kinds(OPAQUE="0 1 2 5 6", INTEGER="3 4"),
}


def read(payload: bytes, number: int, target: Segments) -> Instances:
    """Instances in `payload` of Content-Format `number` written to `target` (object[, instance[, resource]]).

    Resources that the tables do not know are skipped (LwM2M Core 1.2 6.1.7.5). Raises FormatError; a number
    the caller did not check first is one too.
    """
    if target[0] not in KINDS:
        raise FormatError(f"object {target[0]} is not known")
    match number:
        case 11542 | 1542:
            return _read_tlv(payload, target)
        case 112:
            return _read_senml(_cbor(payload), target, _CBOR_LABELS)
        case 110:
            return _read_senml(_json(payload), target, _JSON_LABELS)
        case 11544:
            return _read_lwm2m_cbor(_cbor(payload), target)
        case _:
            raise FormatError(f"Content-Format {number} is not known")


# -- TLV (LwM2M Core 1.2 7.4.5) ---------------------------------------------------------------------------

_OBJECT_INSTANCE, _RESOURCE_INSTANCE, _MULTIPLE, _RESOURCE = range(4)


def _records(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(payload):
        head = payload[at]
        id_size = 2 if head & 0x20 else 1
        length_size = head >> 3 & 3
        start = at + 1 + id_size + length_size
        if start > len(payload):
            raise FormatError("a TLV header runs past the payload")
        number = int.from_bytes(payload[at + 1 : at + 1 + id_size], "big")
        length = int.from_bytes(payload[start - length_size : start], "big") if length_size else head & 7
        if length_size and head & 7:
            raise FormatError("a TLV header carries two lengths")
        if start + length > len(payload):
            raise FormatError("a TLV value runs past the payload")
        yield head >> 6, number, payload[start : start + length]
        at = start + length


def _read_tlv(payload: bytes, target: Segments) -> Instances:
    records = list(_records(payload))
    instances: Instances = {}
    if len(target) == 1 or (records and records[0][0] == _OBJECT_INSTANCE):
        for kind, number, body in records:
            if kind != _OBJECT_INSTANCE:
                raise FormatError("a resource stands outside an object instance")
            if len(target) > 1 and number != target[1]:
                raise FormatError(f"instance {number} is written to instance {target[1]}")
            if number in instances:
                raise FormatError(f"instance {number} stands twice")
            instances[number] = _tlv_resources(list(_records(body)), target[0])
    else:
        instances[target[1]] = _tlv_resources(records, target[0])
    if len(target) > 2:
        _only(instances[target[1]], target[2])
    return instances


def _tlv_resources(records: list[tuple[int, int, bytes]], object_id: int) -> dict[int, Resource]:
    resources: dict[int, Resource] = {}
    seen: set[int] = set()
    for record, number, body in records:
        if record not in (_MULTIPLE, _RESOURCE):
            raise FormatError("neither a resource nor a multiple resource where one must stand")
        if number in seen:
            raise FormatError(f"resource {number} stands twice")
        seen.add(number)
        known = KINDS[object_id].get(number)
        if known is None:
            continue
        kind, multiple = known
        if multiple != (record == _MULTIPLE):
            raise FormatError(f"resource {number} is {'' if multiple else 'not '}a multiple resource")
        if multiple:
            values: dict[int, Value] = {}
            for inner, instance, value in _records(body):
                if inner != _RESOURCE_INSTANCE or instance in values:
                    raise FormatError(f"resource {number} holds something else than resource instances")
                values[instance] = _tlv_value(kind, value, number)
            resources[number] = values
        else:
            resources[number] = _tlv_value(kind, body, number)
    return resources


def _tlv_value(kind: Kind, body: bytes, number: int) -> Value:
    match kind:
        case Kind.STRING:
            return _text(body, number)
        case Kind.OPAQUE:
            return body
        case Kind.INTEGER | Kind.UNSIGNED if len(body) in (1, 2, 4, 8):
            return int.from_bytes(body, "big", signed=kind is Kind.INTEGER)
        case Kind.FLOAT if len(body) in (4, 8):
            return float(struct.unpack("!f" if len(body) == 4 else "!d", body)[0])
        case Kind.BOOLEAN if body in (b"\x00", b"\x01"):
            return body == b"\x01"
        case Kind.LINK if len(body) == 4:
            return Link(*struct.unpack("!HH", body))
        case _:
            raise FormatError(f"resource {number}: {len(body)} bytes are no {kind.name}")


def _text(body: bytes, number: int) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"resource {number} is not UTF-8") from error


# -- SenML (RFC 8428; LwM2M Core 1.2 7.4.6, 7.4.7) --------------------------------------------------------

_Labels = Mapping[object, str]
_CBOR_LABELS: _Labels = {-2: "bn", -3: "bt", 0: "n", 2: "v", 3: "vs", 4: "vb", 6: "t", 8: "vd", "vlo": "vlo"}
_JSON_LABELS: _Labels = {name: name for name in ("bn", "bt", "n", "v", "vs", "vb", "t", "vd", "vlo")}
_SENML_KINDS = {
    Kind.STRING: "vs",
    Kind.OPAQUE: "vd",
    Kind.BOOLEAN: "vb",
    Kind.INTEGER: "v",
    Kind.UNSIGNED: "v",
    Kind.FLOAT: "v",
    Kind.LINK: "vlo",
}


def _cbor(payload: bytes) -> object:
    stream = io.BytesIO(payload)
    try:
        # `loads` would take bytes after the item in silence.
        item: object = cbor2.CBORDecoder(stream, read_size=1).decode()
    except Exception as error:
        raise FormatError(f"not CBOR: {error}") from error
    if stream.tell() != len(payload):
        raise FormatError("bytes stand after the CBOR item")
    return item


def _json(payload: bytes) -> object:
    try:
        item: object = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    return item


def _read_senml(pack: object, target: Segments, labels: _Labels) -> Instances:
    if not isinstance(pack, list) or not pack:
        raise FormatError("a SenML pack is an array of records")
    base = ""
    instances: Instances = {}
    for record in pack:
        if not isinstance(record, dict):
            raise FormatError("a SenML record is a map")
        fields: dict[str, object] = {}
        for label, value in record.items():
            name = labels.get(label) if isinstance(label, int | str) and not isinstance(label, bool) else None
            if name is not None:
                fields[name] = value
            elif isinstance(label, str) and label.endswith("_"):
                # RFC 8428 4.4: a label that ends so must be understood.
                raise FormatError(f"the label {label} is not understood")
        base = _string(fields.get("bn", base))
        path = _segments(base + _string(fields.get("n", "")))
        values = {name: fields[name] for name in ("v", "vs", "vb", "vd", "vlo") if name in fields}
        if len(values) != 1:
            raise FormatError(f"{_named(path)} has {len(values)} values")
        ((name, value),) = values.items()
        _place(instances, target, path, partial(_senml_value, name, value, path))
    return instances


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise FormatError("a SenML name is a text string")
    return value


def _senml_value(name: str, value: object, path: Segments, kind: Kind) -> Value:
    if _SENML_KINDS[kind] != name:
        raise FormatError(f"{_named(path)}: {name} does not hold a {kind.name}")
    if kind is Kind.OPAQUE and isinstance(value, str):
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise FormatError(f"{_named(path)} is not base64url") from error
    if kind is Kind.LINK:
        return _link(value, path)
    return _typed(kind, value, path)


def _link(value: object, path: Segments) -> Link:
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in parts):
        raise FormatError(f"{_named(path)} is no object link")
    link = Link(int(parts[0]), int(parts[1]))
    if max(link) > MAX_ID:
        raise FormatError(f"{_named(path)} links to nothing that can be")
    return link


def _typed(kind: Kind, value: object, path: Segments) -> Value:
    """A value that arrived with a type of its own."""
    match kind, value:
        case Kind.STRING, str():
            return value
        case Kind.OPAQUE, bytes():
            return value
        case Kind.BOOLEAN, bool():
            return value
        case ((Kind.INTEGER | Kind.UNSIGNED), int()) if not isinstance(value, bool):
            low, high = (-(1 << 63), 1 << 63) if kind is Kind.INTEGER else (0, 1 << 64)
            if low <= value < high:
                return value
        case Kind.FLOAT, (int() | float()) if not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        case _:
            pass
    raise FormatError(f"{_named(path)} is no {kind.name}")


# -- LwM2M CBOR (LwM2M Core 1.2 7.4.8) --------------------------------------------------------------------


def _read_lwm2m_cbor(item: object, target: Segments) -> Instances:
    if not isinstance(item, dict):
        raise FormatError("LwM2M CBOR is a map")
    instances: Instances = {}
    for path, value in _leaves(item, ()):
        _place(instances, target, path, partial(_cbor_value, value, path))
    return instances


def _leaves(item: Mapping[object, object], above: Segments) -> Iterator[tuple[Segments, object]]:
    for key, value in item.items():
        parts = key if isinstance(key, tuple | list) else (key,)
        if not all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= MAX_ID for part in parts):
            raise FormatError("a key of LwM2M CBOR is an id or an array of ids")
        path = (*above, *parts)
        if not parts or len(path) > MAX_DEPTH:
            raise FormatError("LwM2M CBOR nests deeper than a resource instance")
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value


def _cbor_value(value: object, path: Segments, kind: Kind) -> Value:
    return _link(value, path) if kind is Kind.LINK else _typed(kind, value, path)


# -- placing a value where its path says ------------------------------------------------------------------


def _segments(name: str) -> Segments:
    words = name.split("/")
    if words[0] != "" or len(words) < 2:
        raise FormatError(f"{name!r} is no path")
    for word in words[1:]:
        if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= MAX_ID):
            raise FormatError(f"{name!r} is no path")
    return tuple(int(word) for word in words[1:])


def _named(path: Segments) -> str:
    return "/" + "/".join(map(str, path))


def _place(instances: Instances, target: Segments, path: Segments, typed: Callable[[Kind], Value]) -> None:
    if path[: len(target)] != target:
        raise FormatError(f"{_named(path)} is written to {_named(target)}")
    if len(path) not in (3, 4):
        raise FormatError(f"{_named(path)} is no resource")
    object_id, instance, resource = path[:3]
    resources = instances.setdefault(instance, {})
    known = KINDS[object_id].get(resource)
    if known is None:
        return
    kind, multiple = known
    if multiple != (len(path) == 4):
        raise FormatError(f"{_named(path[:3])} is {'' if multiple else 'not '}a multiple resource")
    if not multiple:
        if resource in resources:
            raise FormatError(f"{_named(path)} stands twice")
        resources[resource] = typed(kind)
        return
    values = resources.setdefault(resource, {})
    if not isinstance(values, dict) or path[3] in values:
        raise FormatError(f"{_named(path)} stands twice")
    values[path[3]] = typed(kind)


def _only(resources: Mapping[int, Resource], resource: int) -> None:
    if set(resources) - {resource}:
        raise FormatError(f"more than resource {resource} is written to it")
