"""The registration interface as its server sees it (LwM2M Core 1.2 6.2): who is there, for how long, with what."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from lwm2m.bootstrap_request import MAX_ENDPOINT, is_endpoint_name
from lwm2m.errors import DecodeError
from lwm2m.link_format import parse
from lwm2m.paths import Path

DEFAULT_LIFETIME = 86400
"""Seconds of a registration whose device names none (LwM2M Core 1.2 6.2.1)."""
MAX_LIFETIME = 0xFFFF_FFFF
"""Seconds; the Lifetime resource is 32 bits wide (LwM2M Core 1.2 E.2)."""
VERSIONS = ("1.0", "1.1", "1.2")
"""Enabler versions served; any other is answered 4.12 (LwM2M Core 1.2 6.2.1)."""
MAX_OBJECTS = 512
"""Objects and instances kept of one device: what an authenticated peer can make us keep has a fixed size."""

_MAX_ROOT = 4
# The letters of LwM2M Core 1.2 6.2.1; Q is of version 1.0.
_BINDINGS = frozenset("UMHTSNQ")
_ROOT_TYPE = "oma.lwm2m"
# Known parameters; others are passed over, as a server of an older version does with those of a newer one.
_PARAMETERS = ("ep", "lt", "lwm2m", "b")

Device = TypeVar("Device", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a device says it has: its objects and instances, below `root` (LwM2M Core 1.2 6.4.1, alternate path)."""

    paths: tuple[Path, ...] = ()
    root: tuple[str, ...] = ()

    def instances(self, object: int) -> tuple[int, ...]:
        """The instances of an object, by number."""
        return tuple(path.instance for path in self.paths if path.object == object and path.instance is not None)

    def segments(self, path: Path) -> tuple[str, ...]:
        """Where a request for `path` goes."""
        return self.root + path.segments


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRequest:
    """A Register operation (LwM2M Core 1.2 6.2.1); `version` may be one that is not served."""

    endpoint: str | None
    lifetime: int
    version: str
    binding: str
    holdings: Holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationUpdate:
    """An Update operation (LwM2M Core 1.2 6.2.2); what is None stays as it is."""

    lifetime: int | None = None
    binding: str | None = None
    holdings: Holdings | None = None


def parse_register(query: Sequence[str], payload: bytes) -> RegistrationRequest:
    """Read the Uri-Query options and the link list of a Register. Raises DecodeError."""
    if not payload:
        raise DecodeError("a Register lists the objects that the device has (LwM2M Core 1.2 6.2.1)")
    given = _parameters(query)
    endpoint = given.get("ep")
    if endpoint is not None and not is_endpoint_name(endpoint):
        raise DecodeError(f"ep is 1 to {MAX_ENDPOINT} bytes of printable text")
    lifetime = _lifetime(given)
    return RegistrationRequest(
        endpoint=endpoint,
        lifetime=DEFAULT_LIFETIME if lifetime is None else lifetime,
        # Version 1.0 of the standard leaves it to the client; from 1.1 on it is always there.
        version=given.get("lwm2m", "1.0"),
        binding=_binding(given) or "U",
        holdings=parse_holdings(payload),
    )


def parse_update(query: Sequence[str], payload: bytes) -> RegistrationUpdate:
    """Read the Uri-Query options and the link list, if any, of an Update. Raises DecodeError."""
    given = _parameters(query)
    return RegistrationUpdate(
        lifetime=_lifetime(given),
        binding=_binding(given),
        holdings=parse_holdings(payload) if payload else None,
    )


def parse_holdings(payload: bytes) -> Holdings:
    """Read the links of a Register or Update (LwM2M Core 1.2 6.2.1); what is no object or instance is passed over.

    Raises DecodeError.
    """
    links = parse(payload)
    root: tuple[str, ...] = ()
    for link in links:
        if _ROOT_TYPE in (link.get("rt") or "").split():
            root = tuple(segment for segment in link.target.split("/") if segment)
            if len(root) > _MAX_ROOT:
                raise DecodeError(f"an alternate path has at most {_MAX_ROOT} segments here")
            break
    prefix = "".join(f"/{segment}" for segment in root)
    paths: set[Path] = set()
    for link in links:
        if not link.target.startswith(f"{prefix}/"):
            continue
        try:
            path = Path.parse(link.target[len(prefix) :])
        except DecodeError:
            continue
        if path.object is not None and path.resource is None:
            paths.add(path)
    if len(paths) > MAX_OBJECTS:
        raise DecodeError(f"a registration has at most {MAX_OBJECTS} objects and instances here")
    return Holdings(tuple(sorted(paths)), root)


def _parameters(query: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for option in query:
        name, _, value = option.partition("=")
        if name in given and name in _PARAMETERS:
            raise DecodeError(f"{name} is given twice")
        given[name] = value
    return given


def _lifetime(given: dict[str, str]) -> int | None:
    text = given.get("lt")
    if text is None:
        return None
    if not (0 < len(text) <= 10 and text.isascii() and text.isdecimal()) or not 0 < int(text) <= MAX_LIFETIME:
        raise DecodeError(f"lt is a number of seconds from 1 to {MAX_LIFETIME}")
    return int(text)


def _binding(given: dict[str, str]) -> str | None:
    """The binding mode; the letter Q of 1.0 and the parameter Q of 1.1 both say that the device sleeps."""
    text = given.get("b")
    if text is not None and not (0 < len(text) <= 6 and set(text) <= _BINDINGS):
        raise DecodeError(f"b is one to six letters of {' '.join(sorted(_BINDINGS))}")
    if "Q" in given and "Q" not in (text or ""):
        return f"{text or 'U'}Q"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A device that is registered, until `expires_at` seconds of the caller's clock."""

    id: str
    lifetime: int
    version: str
    binding: str
    holdings: Holdings = field(repr=False)
    expires_at: float


class Registrations(Generic[Device]):
    """Who is registered now, at most once each; a `Device` is whatever names one to the caller.

    Everything that begins, changes or ends a registration stands here. Time comes in as `now`.
    """

    __slots__ = ("_by_device",)

    def __init__(self) -> None:
        self._by_device: dict[Device, Registration] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def get(self, device: Device) -> Registration | None:
        """The registration of a device."""
        return self._by_device.get(device)

    def register(self, device: Device, id: str, request: RegistrationRequest, now: float) -> Registration:
        """Begin one; the device's earlier one ends without a word (LwM2M Core 1.2 6.2.1)."""
        made = Registration(
            id=id,
            lifetime=request.lifetime,
            version=request.version,
            binding=request.binding,
            holdings=request.holdings,
            expires_at=now + request.lifetime,
        )
        self._by_device[device] = made
        return made

    def update(self, device: Device, id: str, update: RegistrationUpdate, now: float) -> Registration | None:
        """Prolong and change the one with this id; None when the device has no such (answered 4.04)."""
        known = self._find(device, id, now)
        if known is None:
            return None
        lifetime = known.lifetime if update.lifetime is None else update.lifetime
        changed = replace(
            known,
            lifetime=lifetime,
            binding=known.binding if update.binding is None else update.binding,
            holdings=known.holdings if update.holdings is None else update.holdings,
            expires_at=now + lifetime,
        )
        self._by_device[device] = changed
        return changed

    def deregister(self, device: Device, id: str, now: float) -> Registration | None:
        """End the one with this id; None when the device has no such."""
        known = self._find(device, id, now)
        if known is not None:
            del self._by_device[device]
        return known

    def expire(self, now: float) -> list[tuple[Device, Registration]]:
        """End and return what nobody prolonged in time."""
        over = [(device, known) for device, known in self._by_device.items() if known.expires_at <= now]
        for device, _ in over:
            del self._by_device[device]
        return over

    def _find(self, device: Device, id: str, now: float) -> Registration | None:
        known = self._by_device.get(device)
        return known if known is not None and known.id == id and known.expires_at > now else None
