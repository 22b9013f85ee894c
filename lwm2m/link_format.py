"""CoRE Link Format (RFC 6690), content format 40, and what a Bootstrap-Discover says in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.paths import Path

Attributes: TypeAlias = tuple[tuple[str, str | None], ...]

MAX_PAYLOAD = 65536
"""Bytes of one payload taken: what the CoAP layer puts together at most."""
MAX_LINKS = 4096
"""Links of one payload: more instances than a device holds."""

LONGEST_REMEMBERED = 1024
"""Bytes of an answer to a Discover that is kept for the next device that says the same."""

_SECURITY_OBJECT = 0

# each pattern consumes what it matches without alternatives that overlap, so none can backtrack far
_TARGET = re.compile(r'<([^<>"\\^`{|}\x00-\x20\x7f\ud800-\udfff]*)>')
_PARAMETER = re.compile(
    r""";([A-Za-z0-9!#$&+.^_`|~-]+\*?)"""
    r"""(?:=(?:"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"|([A-Za-z0-9!#$%&'()*+./:<=>?@\[\]^_`{|}~-]+)))?"""
)
_ESCAPED = re.compile(r"\\(.)")
_OLD_VERSION = re.compile(r'lwm2m="?([^",;<>]*)"?')
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)*")
_NAME = re.compile(r"[A-Za-z0-9!#$&+.^_`|~-]+\*?")
_QUOTABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class Link:
    """A link: its target as written between the angle brackets, and its attributes in order, unquoted."""

    target: str
    attributes: Attributes = ()

    def get(self, name: str) -> str | None:
        """The value of the first attribute of that name; RFC 6690 2 has later ones ignored."""
        return next((value for key, value in self.attributes if key == name), None)


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """An object or object instance that a device says it has.

    `short_server_id` is 1..65534, `uri` that of a Security instance, `version` that of the object.
    """

    path: Path
    short_server_id: int | None = None
    uri: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a device holds: its LwM2M version if told, object instances, and objects listed by themselves."""

    version: str | None
    instances: tuple[InventoryEntry, ...]
    objects: tuple[InventoryEntry, ...] = ()

    def bootstrap_account(self) -> Path | None:
        """The Security instance of the bootstrap server: the one without ssid (LwM2M Core 1.2 6.1.7.3).

        None when that is unclear, with none or several such instances.
        """
        without = [
            entry.path
            for entry in self.instances
            if entry.path.object == _SECURITY_OBJECT and entry.short_server_id is None
        ]
        return without[0] if len(without) == 1 else None


def parse(payload: bytes) -> tuple[Link, ...]:
    """Read a list of links (RFC 6690 2); an empty payload has none. Raises DecodeError."""
    return _links(_text(payload))


def serialise(links: Iterable[Link]) -> bytes:
    """Write a list of links (RFC 6690 2), numbers bare and all else quoted. Raises EncodeError."""
    return ",".join(map(_link_text, links)).encode()


def parse_discover(payload: bytes) -> Inventory:
    """Read the answer to a Bootstrap-Discover (LwM2M Core 1.2 6.1.7.3).

    The version is an attribute of the root link, or in the form of 1.0 an element lwm2m="1.0" before all
    links. Links to anything but objects and object instances are passed over. Raises DecodeError, also for
    an instance listed twice.
    """
    return (_remembered if len(payload) <= LONGEST_REMEMBERED else _inventory)(bytes(payload))


def _inventory(payload: bytes) -> Inventory:
    text = _text(payload)
    version = None
    if old := _OLD_VERSION.match(text):
        version = _version(old[1])
        text = text[old.end() :]
        if text and not text.startswith(",<"):
            raise DecodeError("the version of a discovery is not followed by links")
        text = text[1:]
    instances: dict[Path, InventoryEntry] = {}
    objects: dict[Path, InventoryEntry] = {}
    for link in _links(text):
        try:
            path = Path.parse(link.target)
        except DecodeError:
            continue
        if path.object is None:
            version = _version(link.get("lwm2m")) or version
        elif path.resource is None:
            entries = objects if path.instance is None else instances
            if path in entries:
                raise DecodeError(f"{path} is listed twice")
            entries[path] = InventoryEntry(
                path, _short_server_id(link.get("ssid")), link.get("uri"), _version(link.get("ver"))
            )
    return Inventory(version, tuple(instances.values()), tuple(objects.values()))


# Devices of one make say the same, thousands of times.
_remembered = lru_cache(maxsize=256)(_inventory)


def _text(payload: bytes) -> str:
    if len(payload) > MAX_PAYLOAD:
        raise DecodeError(f"a payload has at most {MAX_PAYLOAD} bytes")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise DecodeError("a link list is not UTF-8") from None


def _links(text: str) -> tuple[Link, ...]:
    links: list[Link] = []
    position = 0
    if not text:
        return ()
    while True:
        target = _TARGET.match(text, position)
        if target is None:
            raise DecodeError("a link starts with its target in angle brackets")
        position = target.end()
        attributes: list[tuple[str, str | None]] = []
        while parameter := _PARAMETER.match(text, position):
            name, quoted, token = parameter.groups()
            value = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
            attributes.append((name, value))
            position = parameter.end()
        links.append(Link(target[1], tuple(attributes)))
        if len(links) > MAX_LINKS:
            raise DecodeError(f"a link list has at most {MAX_LINKS} links here")
        if position == len(text):
            return tuple(links)
        if text[position] != ",":
            raise DecodeError("a link is followed by neither attribute nor comma")
        position += 1


def _link_text(link: Link) -> str:
    if not _TARGET.fullmatch(f"<{link.target}>"):
        raise EncodeError("a link target holds a character that cannot stand there")
    return f"<{link.target}>" + "".join(_attribute_text(name, value) for name, value in link.attributes)


def _attribute_text(name: str, value: str | None) -> str:
    if not _NAME.fullmatch(name) or not _QUOTABLE.fullmatch(value or ""):
        raise EncodeError("a link attribute holds a character that cannot stand there")
    if value is None:
        return f";{name}"
    if _PLAIN.fullmatch(value):
        return f";{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f';{name}="{escaped}"'


def _version(text: str | None) -> str | None:
    return text if text is not None and _VERSION.fullmatch(text) else None


def _short_server_id(text: str | None) -> int | None:
    """The reserved 0 and 65535 name no server (LwM2M Core 1.2 7.4), like no attribute at all."""
    if text is None:
        return None
    if not (0 < len(text) <= 5 and text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise DecodeError("a short server id is not a number of 0..65535")
    return int(text) if 0 < int(text) < 65535 else None
