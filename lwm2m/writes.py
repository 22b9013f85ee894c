"""Plans and credentials as object instances and payloads, in the encoding a session has come to (LwM2M Core 1.2 E)."""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from lwm2m import tlv
from lwm2m.bootstrap_request import BootstrapRequest
from lwm2m.content_format import WRITE_FORMATS, ContentFormat, encode_instance, negotiate
from lwm2m.errors import EncodeError
from lwm2m.objects import ObjectInstance, ResourceValue
from lwm2m.paths import Path
from lwm2m.placement import SECURITY_OBJECT, SERVER_OBJECT, Placement
from lwm2m.plan import Credential, Learned, Plan, PskCredential, SecurityPlan, ServerPlan
from lwm2m.steps import notes
from lwm2m.template import Template

Entry: TypeAlias = tuple[int, int]
"""An object id and an index into the plan's list of its instances."""

FORMAT_NAMES: Mapping[int, str] = {
    **{format: name for name, format in WRITE_FORMATS.items()},
    ContentFormat.OCTET_STREAM: "octet-stream",
}
"""The names of profiles by content format number, and that of a single opaque value's."""


class Request(NamedTuple):
    """One write: where, how and what, and what is to be noted of it."""

    path: Path
    format: ContentFormat
    payload: bytes
    note: str


# Security Mode, resource 2 (LwM2M Core 1.2 E.1).
MODE_PSK = 0
MODE_CERTIFICATE = 2
MODE_NOSEC = 3
MODE_EST = 4

# Resources of a Security instance that may be longer than a datagram: certificates and keys.
_LONG_VALUES = (3, 4, 5)

# Why mode 2 is written where mode 4 was taken.
_UNUSED = "mode 4 was taken before and no certificate asked for"

# What no device takes for a private key.
NO_KEY = b"\0"

# Resource 4 under resource 13 (LwM2M Core 1.2 E.1, RFC 6698 2.1.3).
_MATCHING_HASHES = {1: hashlib.sha256, 2: hashlib.sha384, 3: hashlib.sha512}

_NOWHERE = Placement((), ())


class Writes:
    """The instances of one session and the encoding it has come to; `sequence.py` alone decides its changes.

    `leaf_only`: chains go out as the leaf in DER unless the plan fixes PEM; `est_refused`: indexes of
    `plan.securities` written with mode 2 though mode 4 was tried; `est_unused`: they are because the device never used
    it; `as_of_1_0`: objects of which resources from 13 on go unwritten; `in_parts`: the long values of a Security
    instance go out one by one.
    """

    __slots__ = (
        "_plan",
        "as_of_1_0",
        "credentials",
        "est_refused",
        "est_unused",
        "format",
        "in_parts",
        "leaf_only",
        "placement",
        "speaks_1_2",
    )

    def __init__(
        self,
        plan: Plan,
        learned: Learned,
        request: BootstrapRequest,
        credentials: Mapping[int, Credential | PskCredential],
    ) -> None:
        self._plan = plan
        self.credentials = dict(credentials)
        self.format = _first_format(plan, learned, request)
        self.leaf_only = learned.leaf_only
        self.as_of_1_0: set[int] = set()
        self.in_parts = learned.in_parts
        self.est_unused = learned.est_unused
        without = learned.est_refused or learned.est_unused
        self.est_refused = set(range(len(plan.securities))) if without else set()
        self.speaks_1_2 = request.asked_for_pack or request.pct == ContentFormat.LWM2M_CBOR
        self.placement = _NOWHERE

    def entries(self) -> list[Entry]:
        """All instances in the order they are written: Security before the Server that points at it."""
        securities = [(SECURITY_OBJECT, index) for index in range(len(self._plan.securities))]
        return securities + [(SERVER_OBJECT, index) for index in range(len(self._plan.servers))]

    def path(self, entry: Entry) -> Path:
        """Where an entry is written."""
        object, index = entry
        if self._is_to_object(entry):
            return Path(object)
        ids = self.placement.securities if object == SECURITY_OBJECT else self.placement.servers
        return _instance_path(object, ids[index])

    def requests(self, entry: Entry) -> Sequence[Request]:
        """The writes of an instance in the present encoding, one but for `in_parts`.

        Raises EncodeError when plan and credential do not make an instance.
        """
        object, index = entry
        if object == SERVER_OBJECT:
            server = self._plan.servers[index]
            if object in self.as_of_1_0:
                server = server.as_of_1_0()
            payload = server_payload(server, self.placement.servers[index], self.format)
            return (Request(self.path(entry), self.format, payload, ""),)
        credential = self.credentials.get(index)
        est, pem = self.is_est(index), self._is_pem(index)
        note = ""
        if est:
            note = "mode 4, the device makes its key"
        elif isinstance(credential, Credential):
            if pem:
                note = f"chain of {len(credential.chain)} as PEM"
            elif len(credential.chain) > 1:
                note = "leaf alone, the LwM2M server must hold its issuer"
            if self.was_unused(index):
                note = notes(_UNUSED, note)
        security, id = self._plan.securities[index], self.placement.securities[index]
        if object in self.as_of_1_0:
            security = security.as_of_1_0()
        if self.in_parts and not self._is_to_object(entry):
            return _in_parts(security_instance(security, id, credential, est=est, pem=pem), self.format, note)
        payload = security_payload(security, id, credential, self.format, est=est, pem=pem)
        if self._is_to_object(entry):
            payload = tlv.wrapped(id, payload)
        return (Request(self.path(entry), self.format, payload, note),)

    def other_formats(self) -> Iterator[ContentFormat]:
        """The formats a write could also have, the most common first."""
        present = self.format
        return (format for format in WRITE_FORMATS.values() if format is not present)

    def formats_after_refusal(self) -> Iterator[ContentFormat]:
        """The formats in which a refused write is tried once more.

        A client was seen that asks for SenML JSON and reads only the `+/` alphabet of base64 there, not that of RFC
        8428 5: it refuses every second key. TLV, which has no text, reaches it.
        """
        if self._plan.on_error.write == "other-format":
            return self.other_formats()
        if self._plan.content_format == "auto" and self.format is ContentFormat.SENML_JSON:
            return iter((ContentFormat.TLV,))
        return iter(())

    def may_fall_back(self, index: int) -> bool:
        """Whether mode 4 is written where mode 2 would do."""
        return self._plan.securities[index].mode == "est-then-server-key" and self.is_est(index)

    def was_unused(self, index: int) -> bool:
        """Whether mode 2 is written because the device took mode 4 and made no use of it."""
        return self.est_unused and self._plan.securities[index].mode == "est-then-server-key"

    def pem_may_give_way(self, index: int) -> bool:
        """Whether a chain is written as PEM because the device seems to take it, not because it must be."""
        if self._plan.securities[index].chain != "auto" or not self.speaks_1_2 or self.leaf_only:
            return False
        credential = self.credentials.get(index)
        return not self.is_est(index) and isinstance(credential, Credential) and len(credential.chain) > 1

    def may_be_1_0(self, entry: Entry) -> bool:
        """Whether resources that LwM2M 1.1 added are written and the instance would do without them."""
        object, index = entry
        plan = self._plan.servers[index] if object == SERVER_OBJECT else self._plan.securities[index]
        return object not in self.as_of_1_0 and plan.as_of_1_0() is not plan

    def may_go_in_parts(self, entry: Entry) -> bool:
        """Whether the instance goes out in one piece and could go in several."""
        return entry[0] == SECURITY_OBJECT and not self.in_parts and not self._is_to_object(entry)

    def is_est(self, index: int) -> bool:
        """Whether an instance is written with mode 4, so that the device makes its key."""
        mode = self._plan.securities[index].mode
        return mode == "est" or (mode == "est-then-server-key" and index not in self.est_refused)

    def _is_to_object(self, entry: Entry) -> bool:
        object, index = entry
        return (
            object == SECURITY_OBJECT
            and self._plan.securities[index].to_object
            and self.format in (ContentFormat.TLV, ContentFormat.TLV_OLD)
        )

    def _is_pem(self, index: int) -> bool:
        return self._plan.securities[index].chain == "pem-chain" or self.pem_may_give_way(index)


def _first_format(plan: Plan, learned: Learned, request: BootstrapRequest) -> ContentFormat:
    open_to_others = plan.content_format == "auto" or plan.on_error.write == "other-format"
    if learned.format is not None and learned.format in WRITE_FORMATS and open_to_others:
        return WRITE_FORMATS[learned.format]
    if plan.content_format != "auto":
        return WRITE_FORMATS[plan.content_format]
    # a pct nobody writes was answered with 4.15 and has no session
    return negotiate(request.pct) or ContentFormat.TLV


def security_instance(
    security: SecurityPlan, id: int, credential: Credential | PskCredential | None, *, est: bool, pem: bool
) -> ObjectInstance:
    """The Security instance of an LwM2M server (LwM2M Core 1.2 E.1, how keys are written: 5.2.8).

    `est` writes mode 4, without resources 3 and 5 (but see `SecurityPlan.clears_key`); `pem` writes the whole chain as
    PEM into resource 3 instead of the leaf as DER. Raises EncodeError when the credential is not of the mode's kind.
    """
    resources: dict[int, ResourceValue] = {0: security.uri, 1: False, 10: security.short_server_id}
    # Clients refuse mode 4 with 4.00 when 3 or 5 hold something.
    own = _own_values(security, credential, est=est, pem=pem)
    if own:
        resources[3], resources[5] = own
    elif est and security.clears_key:
        resources[5] = NO_KEY
    if security.mode == "nosec":
        resources |= {2: MODE_NOSEC, 3: b"", 4: b"", 5: b""}
    elif security.mode == "psk":
        resources |= {2: MODE_PSK, 4: b""}
    else:
        resources[2] = MODE_EST if est else MODE_CERTIFICATE
        resources[4] = _matched(security.server_certificate or b"", security.matching_type)
        if security.matching_type is not None:
            resources[13] = security.matching_type
        if security.sni is not None:
            resources[14] = security.sni
        if security.certificate_usage is not None:
            resources[15] = security.certificate_usage
    if security.ciphersuites:
        resources[16] = dict(enumerate(security.ciphersuites))
    return ObjectInstance(SECURITY_OBJECT, id, resources)


def _in_parts(instance: ObjectInstance, format: ContentFormat, note: str) -> list[Request]:
    """A Security instance without its long values, and each of these as it is (LwM2M Core 1.2 6.1.7.5, 7.5.2): none
    needs blocks, and where one does no part of an encoding is torn.
    """
    path = _instance_path(instance.object, instance.instance)
    rest: dict[int, ResourceValue] = {}
    long: list[Request] = []
    for id, value in sorted(instance.resources.items()):
        if id in _LONG_VALUES and isinstance(value, bytes) and value:
            long.append(Request(path.child(id), ContentFormat.OCTET_STREAM, value, ""))
        else:
            rest[id] = value
    short = encode_instance(ObjectInstance(instance.object, instance.instance, rest), format)
    return [Request(path, format, short, notes("in parts", note) if long else note), *long]


def security_payload(
    security: SecurityPlan,
    id: int,
    credential: Credential | PskCredential | None,
    format: ContentFormat,
    *,
    est: bool,
    pem: bool,
) -> bytes:
    """A `security_instance` encoded; raises EncodeError. Only what is the device's own is encoded anew."""
    own = _own_values(security, credential, est=est, pem=pem)
    return _usual_security(security, id, est, format).filled(own)


def _own_values(
    security: SecurityPlan, credential: Credential | PskCredential | None, *, est: bool, pem: bool
) -> tuple[bytes, ...]:
    """Resources 3 and 5 of a device; none when every device gets the same. Raises EncodeError."""
    if security.mode == "nosec":
        return ()
    if security.mode == "psk":
        if not isinstance(credential, PskCredential):
            raise EncodeError("mode psk needs a pre-shared key")
        return credential.identity, credential.key
    if security.server_certificate is None:
        raise EncodeError(f"mode {security.mode} needs the certificate of the LwM2M server or its CA")
    if est:
        return ()
    if not isinstance(credential, Credential) or not credential.chain:
        raise EncodeError(f"mode {security.mode} needs a certificate and its key")
    return pem_bundle(credential.chain) if pem else credential.chain[0], credential.private_key_pkcs8


# Stand in a template where each device's own will stand; drawn once, so that no profile holds them.
_GAP_3 = bytes.fromhex("8f1d2c5e77a94b06b3e0c9d4516af8223e90b7c46d1f4a85a2d35be7096cf14d")
_GAP_5 = bytes.fromhex("c47a90e31b5d4f68920fd6a7be3c15844af6182d95e04b7c83d91a5e60f7b2c9")


@lru_cache(maxsize=256)
def _usual_security(security: SecurityPlan, id: int, est: bool, format: ContentFormat) -> Template:
    gaps: Credential | PskCredential
    if security.mode == "psk":
        gaps = PskCredential(identity=_GAP_3, key=_GAP_5)
    else:
        gaps = Credential(chain=(_GAP_3,), private_key_pkcs8=_GAP_5)
    instance = security_instance(security, id, gaps, est=est, pem=False)
    return Template(instance, (3, 5) if _own_values(security, gaps, est=est, pem=False) else (), format)


def server_instance(server: ServerPlan, id: int) -> ObjectInstance:
    """The Server instance of an LwM2M server (LwM2M Core 1.2 E.2)."""
    resources: dict[int, ResourceValue] = {
        0: server.short_server_id,
        1: server.lifetime,
        6: server.notification_storing,
        7: server.binding,
        **server.optional,
    }
    return ObjectInstance(SERVER_OBJECT, id, resources)


def server_payload(server: ServerPlan, id: int, format: ContentFormat) -> bytes:
    """A Server instance encoded; raises EncodeError. It names no device, so that of a usual plan is encoded once."""
    if server.optional:
        return encode_instance(server_instance(server, id), format)
    return _usual_server(
        server.short_server_id, server.lifetime, server.notification_storing, server.binding, id, format
    )


@lru_cache(maxsize=256)
def _usual_server(
    short_server_id: int, lifetime: int, notification_storing: bool, binding: str, id: int, format: ContentFormat
) -> bytes:
    server = ServerPlan(
        short_server_id=short_server_id,
        lifetime=lifetime,
        notification_storing=notification_storing,
        binding=binding,
    )
    return encode_instance(server_instance(server, id), format)


def pem_bundle(chain: Sequence[bytes]) -> bytes:
    """A chain in DER as one text of PEM blocks in the same order (RFC 7468 5.1)."""
    return b"".join([_pem(chain[0]), *map(_pem_of_a_ca, chain[1:])]) if chain else b""


def _pem(certificate: bytes) -> bytes:
    # 48 bytes are a line of 64 characters, and its end comes with it
    lines = [b2a_base64(certificate[start : start + 48]) for start in range(0, len(certificate), 48)]
    return b"".join((b"-----BEGIN CERTIFICATE-----\n", *lines, b"-----END CERTIFICATE-----\n"))


# What stands above the leaf is the same for every device of a CA.
_pem_of_a_ca = lru_cache(maxsize=256)(_pem)


@lru_cache(maxsize=1024)
def _instance_path(object: int, id: int) -> Path:
    return Path(object, id)


def _matched(certificate: bytes, matching_type: int | None) -> bytes:
    if matching_type in (None, 0):
        return certificate
    hash = _MATCHING_HASHES.get(matching_type) if matching_type is not None else None
    if hash is None:
        raise EncodeError(f"matching type {matching_type} is not in 0..3")
    return hash(certificate).digest()
