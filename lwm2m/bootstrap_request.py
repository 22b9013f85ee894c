"""What a device asks `POST /bs` with (LwM2M Core 1.2 6.1.7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwm2m.errors import DecodeError

MAX_ENDPOINT = 255
"""Bytes of an endpoint name: it travels in one Uri-Query option (RFC 7252 5.10)."""


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True)
class BootstrapRequest:
    """A Bootstrap-Request (LwM2M Core 1.2 6.1.7.1); `parameters` are all others, in order, kept as they came.

    `asked_for_pack`: the device tried a Bootstrap-Pack-Request before, which only 1.2 has.
    """

    endpoint: str | None
    pct: int | None
    parameters: tuple[tuple[str, str], ...] = ()
    asked_for_pack: bool = False

    def parameter(self, name: str) -> str | None:
        """The first value of another parameter."""
        return next((value for key, value in self.parameters if key == name), None)


def is_endpoint_name(text: str) -> bool:
    """Whether a device may be called so, whatever says it: a request, its certificate or the one who gave it a key."""
    return 0 < len(text) <= MAX_ENDPOINT and text.isprintable() and len(text.encode()) <= MAX_ENDPOINT


def parse_bootstrap_request(query: Sequence[str]) -> BootstrapRequest:
    """Read the Uri-Query options of a Bootstrap-Request (LwM2M Core 1.2 6.1.7.1).

    Raises DecodeError for an endpoint name that is empty, over 255 bytes or not printable, for a `pct`
    that is no number of 0..65535, and for either of them twice.
    """
    endpoint: str | None = None
    pct: int | None = None
    parameters: list[tuple[str, str]] = []
    for option in query:
        name, _, value = option.partition("=")
        if name == "ep":
            if endpoint is not None:
                raise DecodeError("ep is given twice")
            if not is_endpoint_name(value):
                raise DecodeError(f"ep is 1 to {MAX_ENDPOINT} bytes of printable text")
            endpoint = value
        elif name == "pct":
            if pct is not None:
                raise DecodeError("pct is given twice")
            if not (0 < len(value) <= 5 and value.isascii() and value.isdecimal()) or int(value) > 65535:
                raise DecodeError("pct is a content format number of 0..65535")
            pct = int(value)
        else:
            parameters.append((name, value))
    return BootstrapRequest(endpoint, pct, tuple(parameters))
