"""Certificate authorities: a checked CSR in, a certificate out. One file per CA, all of them in `ADAPTERS`."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from issuers.base import Issuer, IssuerFactory
from issuers.cfssl import CfsslIssuer
from issuers.embedded import EmbeddedIssuer
from issuers.errors import Misconfigured
from issuers.globalsign import GlobalSignIssuer
from issuers.reach import PUBLIC, Reach

ADAPTERS: Mapping[str, IssuerFactory] = MappingProxyType(
    {
        CfsslIssuer.type: CfsslIssuer.open,
        EmbeddedIssuer.type: EmbeddedIssuer.open,
        GlobalSignIssuer.type: GlobalSignIssuer.open,
    }
)
"""Type name → how to open it."""


def open_issuer(
    type: str,
    name: str,
    attributes: Mapping[str, object],
    credentials: Mapping[str, object],
    reach: Reach = PUBLIC,
) -> Issuer:
    """The issuer `name`, ready to be asked; contacts nobody yet, and never beyond `reach`. Raises Misconfigured."""
    factory = ADAPTERS.get(type)
    if factory is None:
        nearest = get_close_matches(type, ADAPTERS, 1, 0)[0]
        raise Misconfigured(f"issuer {name!r}: there is no CA type {type!r}; did you mean {nearest!r}?")
    return factory(name, attributes, credentials, reach)
