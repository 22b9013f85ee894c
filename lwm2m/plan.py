"""What one bootstrap writes and how, and what earlier sessions learned of the device (LwM2M Core 1.2 6.1).

Names are those of the profile file. A plan holds no secrets: credentials are given to the session beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

from lwm2m.objects import ResourceValue
from lwm2m.paths import Path

Mode: TypeAlias = Literal["server-key", "est", "est-then-server-key", "psk", "nosec"]
DiscoverPolicy: TypeAlias = Literal["auto", "never", "required"]
ChainPolicy: TypeAlias = Literal["auto", "leaf", "pem-chain"]
FormatPolicy: TypeAlias = Literal["auto", "tlv", "senml-cbor", "senml-json", "lwm2m-cbor"]
OnDeleteError: TypeAlias = Literal["stop", "continue"]
OnWriteError: TypeAlias = Literal["stop", "continue", "other-format"]

_NEED_A_CREDENTIAL = frozenset({"server-key", "psk"})
# Of a device that gets no mode 4.
_NEED_A_CREDENTIAL_LATER = _NEED_A_CREDENTIAL | {"est-then-server-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate with the key made for it: `chain` in DER, leaf first, without the root."""

    chain: tuple[bytes, ...]
    private_key_pkcs8: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PskCredential:
    """A pre-shared key for the LwM2M server; a device takes identities up to 128 bytes and keys up to 64."""

    identity: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPlan:
    """One Security instance (LwM2M Core 1.2 E.1); `id` None means: never the bootstrap account's instance.

    `subject` is the template of the certificate's subject, `server_certificate` one certificate in DER,
    `certificate_usage` and `matching_type` the numbers of resources 15 and 13, written only when given.
    `to_object`: in TLV it is written to the object, as one of its instances, instead of to the instance. `clears_key`:
    with mode 4 goes a key that is none, which takes the place of one that the device kept.
    """

    uri: str
    short_server_id: int
    mode: Mode
    id: int | None = None
    service: str = "LWM2M"
    subject: str = "CN={endpoint}"
    server_certificate: bytes | None = None
    certificate_usage: int | None = None
    matching_type: int | None = None
    sni: str | None = None
    ciphersuites: tuple[int, ...] = ()
    chain: ChainPolicy = "auto"
    to_object: bool = False
    clears_key: bool = False

    @property
    def uses_certificates(self) -> bool:
        """Whether device and LwM2M server prove themselves with certificates (modes 2 and 4)."""
        return self.mode not in ("psk", "nosec")

    def as_of_1_0(self) -> SecurityPlan:
        """The same without resources 13 to 16, which LwM2M 1.1 added; `self` when it has none of them."""
        added = (self.matching_type, self.sni, self.certificate_usage)
        if added == (None, None, None) and not self.ciphersuites:
            return self
        return replace(self, matching_type=None, sni=None, certificate_usage=None, ciphersuites=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """One Server instance (LwM2M Core 1.2 E.2); `lifetime` in seconds, `optional`: further resources."""

    short_server_id: int
    id: int | None = None
    lifetime: int = 86400
    binding: str = "U"
    notification_storing: bool = True
    # no part of the hash, as it may be a dict
    optional: Mapping[int, ResourceValue] = field(default_factory=dict, hash=False)

    def as_of_1_0(self) -> ServerPlan:
        """The same without resources from 13 on, which LwM2M 1.1 and 1.2 added; `self` when it has none of them."""
        kept = {id: value for id, value in self.optional.items() if id < 13}
        return self if len(kept) == len(self.optional) else replace(self, optional=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnError:
    """What a refused operation means for the session."""

    delete: OnDeleteError = "continue"
    write: OnWriteError = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a session does to a device: discover, delete, write the instances in order, finish."""

    content_format: FormatPolicy = "auto"
    discover: DiscoverPolicy = "auto"
    delete: tuple[Path, ...] = (Path(0), Path(1))
    securities: tuple[SecurityPlan, ...] = ()
    servers: tuple[ServerPlan, ...] = ()
    on_error: OnError = OnError()

    @property
    def falls_back(self) -> frozenset[str]:
        """The services whose certificates a device may get by EST or, where it does not, with a key made for it."""
        return frozenset([each.service for each in self.securities if each.mode == "est-then-server-key"])

    def needs_credential(self, learned: Learned) -> tuple[int, ...]:
        """Indexes of `securities` that cannot be written without a credential from the start."""
        modes = _NEED_A_CREDENTIAL_LATER if learned.est_refused or learned.est_unused else _NEED_A_CREDENTIAL
        return tuple([index for index, security in enumerate(self.securities) if security.mode in modes])


@dataclass(frozen=True, slots=True)
class Learned:
    """What a device's earlier sessions showed, so that the next one does not try it again.

    `discover_silent`: it says nothing to a Discover; `leaf_only`: it refused a PEM chain and took the leaf;
    `est_refused`: it refused mode 4, and mode 2 was not what it refused; `in_parts`: it refused a Security instance in
    blocks and took it resource by resource; `format`: the name of the write format it took
    instead; `izuma`: it is an Izuma client, which says so at its Bootstrap-Request alone; `est_unused`: it took mode 4
    and never asked for a certificate, and a key made for it was not refused.
    """

    discover_silent: bool = False
    leaf_only: bool = False
    est_refused: bool = False
    in_parts: bool = False
    format: str | None = None
    izuma: bool = False
    est_unused: bool = False

    def as_json(self) -> str:
        """A JSON object with what differs from knowing nothing."""
        if self == KNOWING_NOTHING:
            return "{}"
        return json.dumps({f.name: value for f in fields(self) if (value := getattr(self, f.name))})

    @classmethod
    def from_json(cls, text: str) -> Learned:
        """Read `as_json`; what is not understood is not known, so that no row can lock a device out."""
        if text == "{}":
            return KNOWING_NOTHING
        try:
            known = json.loads(text)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(known, dict):
            return cls()
        format = known.get("format")
        return cls(
            discover_silent=known.get("discover_silent") is True,
            leaf_only=known.get("leaf_only") is True,
            est_refused=known.get("est_refused") is True,
            in_parts=known.get("in_parts") is True,
            izuma=known.get("izuma") is True,
            est_unused=known.get("est_unused") is True,
            format=format if isinstance(format, str) else None,
        )


KNOWING_NOTHING = Learned()
