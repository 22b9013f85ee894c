"""Paths of the LwM2M tree: object, instance, resource, resource instance (LwM2M Core 1.2 7.4)."""

from __future__ import annotations

from dataclasses import dataclass

from lwm2m.errors import DecodeError, EncodeError

MAX_ID = 65534
"""Highest identifier; 65535 is reserved (LwM2M Core 1.2 7.4)."""

_LEVELS = 4


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the tree (LwM2M Core 1.2 7.4); Path(None) is the root "/".

    Ids are 0..65534 and only trailing levels may be absent, else EncodeError.
    Paths sort as the tree reads: a parent before its children, siblings by number.
    """

    object: int | None = None
    instance: int | None = None
    resource: int | None = None
    resource_instance: int | None = None

    def __post_init__(self) -> None:
        ended = False
        for level in (self.object, self.instance, self.resource, self.resource_instance):
            if level is None:
                ended = True
            elif ended:
                raise EncodeError("a path has no level below an absent one")
            elif not 0 <= level <= MAX_ID:
                raise EncodeError(f"path identifier {level} is not in 0..{MAX_ID}")

    @classmethod
    def parse(cls, text: str) -> Path:
        """Read "/0/1/3" (LwM2M Core 1.2 7.4), no leading zeros, no trailing slash; DecodeError otherwise."""
        if text == "/":
            return cls()
        if not text.startswith("/"):
            raise DecodeError("a path starts with a slash")
        segments = text[1:].split("/", _LEVELS)
        if len(segments) > _LEVELS:
            raise DecodeError(f"a path has at most {_LEVELS} levels")
        ids = [parse_id(segment) for segment in segments]
        return cls(ids[0], *ids[1:])

    @property
    def ids(self) -> tuple[int, ...]:
        """The identifiers from the object downwards; empty for the root."""
        # hot path: spelt out, as only trailing levels may be absent
        if self.object is None:
            return ()
        if self.instance is None:
            return (self.object,)
        if self.resource is None:
            return self.object, self.instance
        if self.resource_instance is None:
            return self.object, self.instance, self.resource
        return self.object, self.instance, self.resource, self.resource_instance

    @property
    def segments(self) -> tuple[str, ...]:
        """One text per Uri-Path option (RFC 7252 5.10.1); empty for the root."""
        return tuple(map(str, self.ids))

    def child(self, id: int) -> Path:
        """The path one level below; EncodeError below a resource instance or for an id out of range."""
        ids = (*self.ids, id)
        if len(ids) > _LEVELS:
            raise EncodeError("nothing lies below a resource instance")
        return Path(*ids)

    def __str__(self) -> str:
        return "/" + "/".join(self.segments)

    def __lt__(self, other: Path) -> bool:
        return self.ids < other.ids

    def __le__(self, other: Path) -> bool:
        return self.ids <= other.ids

    def __gt__(self, other: Path) -> bool:
        return self.ids > other.ids

    def __ge__(self, other: Path) -> bool:
        return self.ids >= other.ids


def parse_id(text: str) -> int:
    """One decimal identifier 0..65534 without leading zeros (LwM2M Core 1.2 7.4); DecodeError otherwise."""
    # isdecimal alone would take digits of other scripts; the length bound keeps int() cheap
    if not (0 < len(text) <= 5 and text.isascii() and text.isdecimal()):
        raise DecodeError("a path identifier is a decimal number of one to five digits")
    if text[0] == "0" and len(text) > 1:
        raise DecodeError("a path identifier has no leading zeros")
    value = int(text)
    if value > MAX_ID:
        raise DecodeError(f"path identifier {value} is not in 0..{MAX_ID}")
    return value
