"""SenML in JSON and CBOR (RFC 8428, LwM2M Core 1.2 7.5.6 and 7.5.7), content formats 110 and 112.

One record per resource instance; the name is the path, split into a base name and the rest. LwM2M adds
the field "vlo" for object links, spelt so in CBOR too.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import cbor2

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.lwm2m_cbor import CborItem, CborKey, read_item
from lwm2m.objects import ObjectInstance, ObjectLink, Value, collect, format_link, parse_link, typed_resources
from lwm2m.paths import Path

LABELS: Mapping[str, int] = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
"""JSON label to CBOR label, RFC 8428 table 4."""

VERSION = 10
"""The version of SenML written and the highest understood, RFC 8428 4.4."""

MAX_RECORDS = 4096
"""Records of one pack: more resources than a device's whole tree holds."""

MAX_NAME = 255
"""Characters of one whole name: a path of four levels has 24."""

_NAMES: Mapping[CborKey, str] = {number: name for name, number in LABELS.items()}
_VALUE_FIELDS = ("v", "vs", "vb", "vd", "vlo")
_NUMBER_MIN = -(1 << 63)
_NUMBER_MAX = (1 << 64) - 1

_Fields: TypeAlias = dict[str, object]


def encode_cbor(instance: ObjectInstance) -> bytes:
    """One object instance as SenML CBOR (RFC 8428 6); EncodeError when a value does not fit its type."""
    pack: list[dict[int | str, object]] = []
    for name, field, value in _records(instance):
        label = LABELS.get(field, field)
        pack.append({0: name, label: value})
    pack[0] = {-2: _base_name(instance), **pack[0]}
    return cbor2.dumps(pack)


def encode_json(instance: ObjectInstance) -> bytes:
    """One object instance as SenML JSON (RFC 8428 5); EncodeError when a value does not fit its type."""
    pack: list[_Fields] = []
    for name, field, value in _records(instance):
        pack.append({"n": name, field: _base64url(value) if isinstance(value, bytes) else value})
    pack[0] = {"bn": _base_name(instance), **pack[0]}
    return json.dumps(pack, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def opaque_cbor(id: int, value: bytes) -> bytes:
    """The record of one opaque resource, not the first, as it stands in an encoded instance."""
    return cbor2.dumps({0: str(id), 8: value})


def opaque_json(id: int, value: bytes) -> bytes:
    """As `opaque_cbor`, in JSON."""
    return f'{{"n":"{id}","vd":"{_base64url(value)}"}}'.encode()


def decode_cbor(payload: bytes, at: Path) -> tuple[ObjectInstance, ...]:
    """The instances in a SenML CBOR pack from `at`, typed by OBJECTS; DecodeError otherwise."""
    return collect(_at_paths(read_cbor(payload)), at)


def decode_json(payload: bytes, at: Path) -> tuple[ObjectInstance, ...]:
    """The instances in a SenML JSON pack from `at`, typed by OBJECTS; DecodeError otherwise."""
    return collect(_at_paths(read_json(payload)), at)


def read_cbor(payload: bytes) -> list[tuple[str, Value]]:
    """The whole name and the value of each record of a SenML CBOR pack (RFC 8428 6). Raises DecodeError."""
    pack = read_item(payload)
    if not isinstance(pack, list):
        raise DecodeError("a SenML pack is an array")
    return _resolve([_cbor_fields(record) for record in pack])


def read_json(payload: bytes) -> list[tuple[str, Value]]:
    """The whole name and the value of each record of a SenML JSON pack (RFC 8428 5). Raises DecodeError."""
    try:
        pack: object = json.loads(payload.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique_fields)
    except (ValueError, RecursionError):
        raise DecodeError("the SenML pack is not JSON") from None
    if not isinstance(pack, list):
        raise DecodeError("a SenML pack is an array")
    return _resolve([_json_fields(record) for record in pack])


def _at_paths(records: list[tuple[str, Value]]) -> Iterator[tuple[Path, Value]]:
    for name, value in records:
        yield Path.parse(name), value


def _base_name(instance: ObjectInstance) -> str:
    return f"/{instance.object}/{instance.instance}/"


def _records(instance: ObjectInstance) -> list[tuple[str, str, str | int | float | bool | bytes]]:
    """Name below the instance, field and wire value of each record."""
    records: list[tuple[str, str, str | int | float | bool | bytes]] = []
    for id, _, value in typed_resources(instance):
        if isinstance(value, Mapping):
            if not value:
                raise EncodeError("SenML cannot carry a multiple resource without instances")
            records.extend((f"{id}/{key}", *_field(each)) for key, each in sorted(value.items()))
        else:
            records.append((str(id), *_field(value)))
    if not records:
        raise EncodeError("SenML cannot carry an object instance without resources")
    return records


def _field(value: Value) -> tuple[str, str | int | float | bool | bytes]:
    if isinstance(value, str):
        return "vs", value
    if isinstance(value, bytes):
        return "vd", value
    if isinstance(value, bool):
        return "vb", value
    if isinstance(value, ObjectLink):
        return "vlo", format_link(value)
    return "v", value


def _resolve(pack: Sequence[_Fields]) -> list[tuple[str, Value]]:
    """Give each record its whole name and its value (RFC 8428 4.6).

    Times, units and sums carry nothing that object instances hold and are passed over.
    """
    if len(pack) > MAX_RECORDS:
        raise DecodeError(f"a SenML pack has at most {MAX_RECORDS} records here")
    records: list[tuple[str, Value]] = []
    base_name = ""
    base_value: int | float | None = None
    for fields in pack:
        if any(name.endswith("_") for name in fields):
            # RFC 8428 4.4: a label ending in an underscore must be understood
            raise DecodeError("a SenML record has a field that must be understood and is not")
        if not 1 <= _number(fields.get("bver", VERSION)) <= VERSION:
            raise DecodeError(f"a SenML pack of a version above {VERSION}")
        base_name = _name(fields.get("bn", base_name))
        if "bv" in fields:
            base_value = _number(fields["bv"])
        name = base_name + _name(fields.get("n", ""))
        if len(name) > MAX_NAME:
            # a base name counts once in the payload, but once for each record in memory
            raise DecodeError(f"a SenML name has at most {MAX_NAME} characters here")
        records.append((name, _value(fields, base_value)))
    return records


def _value(fields: _Fields, base_value: int | float | None) -> Value:
    present = [name for name in _VALUE_FIELDS if name in fields]
    if len(present) > 1:
        raise DecodeError("a SenML record has two values")
    if not present:
        if base_value is None:
            raise DecodeError("a SenML record has no value")
        return base_value
    name = present[0]
    value = fields[name]
    if name == "v":
        number = _number(value)
        return number if base_value is None else _number(number + base_value)
    if name == "vb" and isinstance(value, bool):
        return value
    if name == "vs" and isinstance(value, str):
        return value
    if name == "vd" and isinstance(value, bytes):
        return value
    if name == "vlo" and isinstance(value, str):
        return parse_link(value)
    raise DecodeError(f"the SenML field {name} holds something else than its type")


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError("a SenML number is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise DecodeError("a SenML number is not finite")
    # arithmetic between a float and an unbounded integer would overflow
    if isinstance(value, int) and not _NUMBER_MIN <= value <= _NUMBER_MAX:
        raise DecodeError("a SenML number has more than 64 bits")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise DecodeError("a SenML name is not text")
    return value


def _cbor_fields(record: CborItem) -> _Fields:
    if not isinstance(record, dict):
        raise DecodeError("a SenML record is a map")
    fields: _Fields = {}
    for key, value in record.items():
        name = _NAMES.get(key) or (key if isinstance(key, str) else None)
        # numbers outside the registry are fields of later documents, RFC 8428 4.4
        if name is None:
            continue
        if name in fields:
            raise DecodeError("a SenML record has a field twice")
        fields[name] = value
    return fields


def _json_fields(record: object) -> _Fields:
    if not isinstance(record, dict):
        raise DecodeError("a SenML record is an object")
    fields: _Fields = record
    data = fields.get("vd")
    if isinstance(data, str):
        fields["vd"] = _from_base64(data)
    return fields


def _unique_fields(pairs: list[tuple[str, object]]) -> _Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise DecodeError("a SenML record has a field twice")
    return fields


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_TO_URL_ALPHABET = str.maketrans("+/", "-_")


def _from_base64(text: str) -> bytes:
    # RFC 8428 asks for base64url without padding, LwM2M Core 1.2 only for Base64: both alphabets are taken
    bare = text.rstrip("=").translate(_TO_URL_ALPHABET)
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars="-_", validate=True)
    except ValueError:
        raise DecodeError("a SenML data value is not base64") from None
