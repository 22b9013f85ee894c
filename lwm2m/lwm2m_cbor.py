"""The LwM2M CBOR format (LwM2M Core 1.2 7.5.4), content format 11544, and the strict CBOR reader under it.

The payload is nested maps whose keys are identifiers or arrays of identifiers, from the object downwards:
{[0, 1]: {0: "coaps://…", 10: 101}}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TypeAlias, TypeGuard

import cbor2

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import (
    ObjectInstance,
    ObjectLink,
    Value,
    collect,
    format_link,
    typed_resources,
)
from lwm2m.paths import Path

CborKey: TypeAlias = int | str | tuple[int, ...]
CborItem: TypeAlias = "bool | int | float | str | bytes | list[CborItem] | dict[CborKey, CborItem] | None"

MAX_DEPTH = 8
"""Containers inside each other: both formats built on this reader need at most five."""
MAX_ITEMS = 8192
"""Items of one payload: more than a device's whole tree, and a bound on what a small payload can cost."""

_KEY_MIN, _KEY_MAX = -65536, 65535
_MAX_KEY_LEVELS = 4
_BREAK = 0xFF
_INDEFINITE = 31


def encode(instance: ObjectInstance) -> bytes:
    """One object instance, identifiers from the object downwards (LwM2M Core 1.2 7.5.4).

    Raises EncodeError when a value does not fit its type, or nothing would stand in a map.
    """
    resources: dict[int, object] = {}
    for id, _, value in typed_resources(instance):
        if isinstance(value, Mapping):
            if not value:
                raise EncodeError("LwM2M CBOR cannot carry a multiple resource without instances")
            resources[id] = {key: _plain(each) for key, each in sorted(value.items())}
        else:
            resources[id] = _plain(value)
    if not resources:
        raise EncodeError("LwM2M CBOR cannot carry an object instance without resources")
    return cbor2.dumps({instance.object: {instance.instance: resources}})


def opaque(id: int, value: bytes) -> bytes:
    """Key and value of one opaque resource as they stand in an encoded instance."""
    return cbor2.dumps(id) + cbor2.dumps(value)


def decode(payload: bytes, at: Path) -> tuple[ObjectInstance, ...]:
    """The instances in an answer to a read of `at` (LwM2M Core 1.2 7.5.4), typed by OBJECTS.

    Values of unknown resources keep the type CBOR gives them. Raises DecodeError.
    """
    top = read_item(payload)
    if not isinstance(top, dict):
        raise DecodeError("LwM2M CBOR is a map")
    return collect(_entries(top, ()), at)


def _plain(value: Value) -> str | int | float | bool | bytes:
    return format_link(value) if isinstance(value, ObjectLink) else value


def _entries(map: Mapping[CborKey, CborItem], above: tuple[int, ...]) -> Iterator[tuple[Path, Value]]:
    for key, item in map.items():
        if isinstance(key, str):
            raise DecodeError("a key of LwM2M CBOR is an identifier or an array of them")
        ids = above + (key if isinstance(key, tuple) else (key,))
        if len(ids) == len(above) or len(ids) > _MAX_KEY_LEVELS:
            raise DecodeError("the keys of LwM2M CBOR lead one to four levels down")
        if isinstance(item, dict):
            if not item:
                raise DecodeError("a map inside LwM2M CBOR is never empty")
            yield from _entries(item, ids)
        elif item is None or isinstance(item, list):
            raise DecodeError("a value of LwM2M CBOR is neither null nor an array")
        else:
            try:
                yield Path(*ids), item
            except EncodeError as error:
                raise DecodeError(str(error)) from None


def read_item(payload: bytes) -> CborItem:
    """Read exactly one CBOR item (RFC 8949), strictly: what a library would run for a tag never runs.

    Keys are integers of -65536..65535, texts, or arrays of such integers (as tuples), each once.
    Times (tags 0 and 1) become seconds since 1970, decimal fractions (tag 4, RFC 8428 6) floats; other tags
    are refused.
    Raises DecodeError, also past MAX_DEPTH and MAX_ITEMS.
    """
    reader = _Reader(payload)
    item = reader.item(0)
    if reader.position != len(payload):
        raise DecodeError("bytes follow the CBOR item")
    return item


class _Reader:
    """A position in a payload, moved on by each item read."""

    __slots__ = ("items", "payload", "position")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.position = 0
        self.items = 0

    def item(self, depth: int) -> CborItem:
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise DecodeError("CBOR is nested too deep or has too many items")
        major, info = self._initial()
        if major <= 1:
            argument = self._argument(info)
            return argument if major == 0 else -1 - argument
        if major <= 3:
            data = self._string(major, info)
            return data if major == 2 else _text(data)
        if major == 4:
            return [self.item(depth + 1) for _ in self._steps(info)]
        if major == 5:
            return self._map(info, depth)
        if major == 6:
            return self._tagged(self._argument(info), depth)
        return self._simple(info)

    def _initial(self) -> tuple[int, int]:
        first = self._take(1)[0]
        return first >> 5, first & 0x1F

    def _take(self, length: int) -> bytes:
        start, end = self.position, self.position + length
        if end > len(self.payload):
            raise DecodeError("the CBOR item ends too early")
        self.position = end
        return self.payload[start:end]

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise DecodeError("reserved or misplaced CBOR length")
        return int.from_bytes(self._take(1 << info - 24), "big")

    def _at_break(self) -> bool:
        if self.position < len(self.payload) and self.payload[self.position] == _BREAK:
            self.position += 1
            return True
        return False

    def _steps(self, info: int) -> Iterator[None]:
        """One step for each member of a container of known or open length."""
        if info == _INDEFINITE:
            while not self._at_break():
                yield
        else:
            for _ in range(self._argument(info)):
                yield

    def _string(self, major: int, info: int) -> bytes:
        if info != _INDEFINITE:
            return self._take(self._argument(info))
        chunks = []
        while not self._at_break():
            self.items += 1
            chunk_major, chunk_info = self._initial()
            if chunk_major != major or self.items > MAX_ITEMS:
                raise DecodeError("a CBOR string of open length holds something else than its chunks")
            chunk = self._take(self._argument(chunk_info))
            if major == 3:
                # each chunk is a text of its own, RFC 8949 3.2.3
                _text(chunk)
            chunks.append(chunk)
        return b"".join(chunks)

    def _map(self, info: int, depth: int) -> dict[CborKey, CborItem]:
        map: dict[CborKey, CborItem] = {}
        for _ in self._steps(info):
            key = _key(self.item(depth + 1))
            if key in map:
                raise DecodeError("a CBOR map has a key twice")
            map[key] = self.item(depth + 1)
        return map

    def _tagged(self, tag: int, depth: int) -> CborItem:
        item = self.item(depth + 1)
        if tag == 0 and isinstance(item, str):
            return _epoch(item)
        if tag == 1 and _is_number(item):
            return item
        if tag == 4 and isinstance(item, list) and len(item) == 2:
            exponent, mantissa = item
            if _is_whole(exponent) and _is_whole(mantissa) and -400 <= exponent <= 400:
                # through text: the nearest double, and overflow is inf instead of an exception
                return float(f"{mantissa}e{exponent}")
        raise DecodeError(f"CBOR tag {tag} is not used here")

    def _simple(self, info: int) -> CborItem:
        match info:
            case 20 | 21:
                return info == 21
            case 22:
                return None
            case 25 | 26 | 27:
                number: float = struct.unpack({25: ">e", 26: ">f", 27: ">d"}[info], self._take(1 << info - 24))[0]
                return number
            case _:
                raise DecodeError("a CBOR simple value that is not used here")


def _key(item: CborItem) -> CborKey:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        ids = []
        for each in item:
            if not _is_whole(each):
                raise DecodeError("a CBOR map key is an array of something else than integers")
            ids.append(_bounded_key(each))
        return tuple(ids)
    if _is_whole(item):
        return _bounded_key(item)
    raise DecodeError("a CBOR map key is neither integer nor text nor array")


def _bounded_key(key: int) -> int:
    # also keeps chosen hash collisions out: hash() of a small integer is the integer itself
    if not _KEY_MIN <= key <= _KEY_MAX:
        raise DecodeError("a CBOR map key is out of range")
    return key


def _epoch(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        raise DecodeError("a CBOR time is not of RFC 3339") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DecodeError("a CBOR text is not UTF-8") from None


def _is_whole(item: CborItem) -> TypeGuard[int]:
    return isinstance(item, int) and not isinstance(item, bool)


def _is_number(item: CborItem) -> TypeGuard[int | float]:
    return _is_whole(item) or isinstance(item, float)
