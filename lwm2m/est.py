"""EST over CoAP: what is where, in which formats, and what its payloads say (RFC 9148, RFC 7030).

Everything is binary DER. PKCS#7 is in `pkcs7.py` (leaf first by default, which is BER and not DER: see there), the
container of a server-made key in `multipart.py`. Beside the standard stand the paths and the chain format of the Izuma
device client, whose names nobody registered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import islice

from lwm2m.der import OBJECT_IDENTIFIER, SEQUENCE, SET, decode, encode, encode_object_identifier, read
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.link_format import Link
from lwm2m.multipart import encode_parts
from lwm2m.pkcs7 import Order, encode_certificates

ROOT = (".well-known", "est")
"""The default root resource (RFC 9148 5.1)."""
SHORT_ROOT = ("est",)
"""The root that device clients use in the field: found by discovery, or known beforehand."""
CORE = (".well-known", "core")
"""Where resources are discovered (RFC 6690 4)."""

LWM2M = "LWM2M"
"""The service, and so the label, of the certificate for the LwM2M server."""

MAX_CHAIN = 5
"""Certificates the Izuma client stores of one chain."""

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,50}")
_CHAIN_VERSION = 1


class MediaType(IntEnum):
    """Content-Formats of EST (RFC 9148 9.1, RFC 8710 6)."""

    MULTIPART = 62
    PKCS7 = 281
    PKCS8 = 284
    CSR_ATTRIBUTES = 285
    PKCS10 = 286
    CERTIFICATE = 287


class Function(Enum):
    """The functions of EST by their short names (RFC 9148 5.1, table 1)."""

    CA_CERTIFICATES = "crts"
    ENROLL = "sen"
    REENROLL = "sren"
    SERVER_KEY = "skg"
    SERVER_KEY_CERTIFICATE = "skc"
    CSR_ATTRIBUTES = "att"

    @property
    def is_read(self) -> bool:
        """Whether it is a GET; the others are POSTs with a CSR."""
        return self in (Function.CA_CERTIFICATES, Function.CSR_ATTRIBUTES)


FORMATS: dict[Function, tuple[MediaType, ...]] = {
    # The last for devices without PKCS#7 (draft-ietf-anima-constrained-voucher 6.7.5, which updates RFC 9148).
    Function.CA_CERTIFICATES: (MediaType.PKCS7, MediaType.CERTIFICATE, MediaType.MULTIPART),
    Function.ENROLL: (MediaType.PKCS7, MediaType.CERTIFICATE),
    Function.REENROLL: (MediaType.PKCS7, MediaType.CERTIFICATE),
    Function.SERVER_KEY: (MediaType.MULTIPART,),
    Function.SERVER_KEY_CERTIFICATE: (MediaType.MULTIPART,),
    Function.CSR_ATTRIBUTES: (MediaType.CSR_ATTRIBUTES,),
}
"""What each function answers in; the first without an Accept (RFC 9148 5.3)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One EST resource; `label` is None where the path has none, `short` when it is below `/est`."""

    function: Function
    label: str | None = None
    short: bool = False

    @property
    def service(self) -> str:
        """The service whose CA is asked: the label says it."""
        return LWM2M if self.label is None else self.label


def parse_path(segments: Sequence[str]) -> Resource | None:
    """The resource at a path: root, label if any, function (RFC 9148 5.1); None when there is none."""
    path = tuple(segments)
    root = next((root for root in (ROOT, SHORT_ROOT) if path[: len(root)] == root), None)
    if root is None:
        return None
    *labels, name = path[len(root) :] or ("",)
    if len(labels) > 1 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    try:
        function = Function(name)
    except ValueError:
        return None
    return Resource(function, labels[0] if labels else None, root == SHORT_ROOT)


def paths(any_label: str) -> Iterator[tuple[tuple[str, ...], Function]]:
    """Every path there is, with `any_label` where a label stands, and its function."""
    for root in (ROOT, SHORT_ROOT):
        for function in Function:
            yield (*root, function.value), function
            yield (*root, any_label, function.value), function


def answer_format(function: Function, accept: int | None) -> MediaType | None:
    """The format to answer in for an Accept option; None when the peer takes none of ours: 4.06 (RFC 9148 5.3)."""
    offered = FORMATS[function]
    if accept is None:
        return offered[0]
    return next((format for format in offered if format == accept), None)


def takes_request_format(resource: Resource, content_format: int | None) -> bool:
    """Whether a CSR may come in this format: 286 or none; below `/est` also 0, which the Izuma client sends."""
    return content_format in (None, MediaType.PKCS10) or (resource.short and content_format == 0)


# -- payloads ---------------------------------------------------------------------------------------------------


def encode_chain(chain: Sequence[bytes], format: MediaType, order: Order) -> bytes:
    """A chain (DER, leaf first) as one of the formats of certificates; in CERTIFICATE the first alone."""
    if format is MediaType.CERTIFICATE:
        return chain[0]
    if format is MediaType.MULTIPART:
        return encode_parts([(MediaType.CERTIFICATE, each) for each in chain])
    return encode_certificates(chain, order)


def encode_izuma_chain(chain: Sequence[bytes]) -> bytes:
    """A chain (DER, leaf first) in the Izuma client's own format: 01, count, and each with its length before it.

    Raises EncodeError for a chain or certificate that the format cannot hold.
    """
    if not 0 < len(chain) <= MAX_CHAIN:
        raise EncodeError(f"a chain has 1 to {MAX_CHAIN} certificates here")
    out = bytearray((_CHAIN_VERSION, len(chain)))
    for certificate in chain:
        if not 0 < len(certificate) <= 0xFFFF:
            raise EncodeError("a certificate has 1 to 65535 bytes here")
        out += len(certificate).to_bytes(2, "big") + certificate
    return bytes(out)


def decode_izuma_chain(payload: bytes) -> tuple[bytes, ...]:
    """The certificates of `encode_izuma_chain`; raises DecodeError."""
    if len(payload) < 2 or payload[0] != _CHAIN_VERSION or not 0 < payload[1] <= MAX_CHAIN:
        raise DecodeError("this is no certificate chain of version 1")
    found: list[bytes] = []
    position = 2
    for _ in range(payload[1]):
        start = position + 2
        position = start + int.from_bytes(payload[position:start], "big")
        if not start < position <= len(payload):
            raise DecodeError("a certificate chain ends too early, or holds an empty certificate")
        found.append(payload[start:position])
    if position != len(payload):
        raise DecodeError("bytes follow the certificate chain")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class CsrAttribute:
    """One element of CSR attributes (RFC 7030 4.5.2): an identifier alone, or with values (whole DER each)."""

    identifier: bytes
    values: tuple[bytes, ...] | None = None


def encode_csr_attributes(attributes: Iterable[CsrAttribute]) -> bytes:
    """A SEQUENCE of identifiers and attributes, in the given order."""
    elements: list[bytes] = []
    for attribute in attributes:
        identifier = encode(OBJECT_IDENTIFIER, attribute.identifier)
        if attribute.values is None:
            elements.append(identifier)
        else:
            elements.append(encode(SEQUENCE, identifier, encode(SET, *attribute.values)))
    return encode(SEQUENCE, *elements)


def decode_csr_attributes(payload: bytes) -> tuple[CsrAttribute, ...]:
    """The elements of CSR attributes; raises DecodeError."""
    tag, content = decode(payload)
    if tag != SEQUENCE:
        raise DecodeError("CSR attributes are a SEQUENCE")
    return tuple(_csr_attribute(tag, content) for tag, content, _ in read(content))


def _csr_attribute(tag: int, content: bytes) -> CsrAttribute:
    if tag == OBJECT_IDENTIFIER:
        return CsrAttribute(content)
    parts = list(read(content))
    if tag != SEQUENCE or [part[0] for part in parts] != [OBJECT_IDENTIFIER, SET]:
        raise DecodeError("an element of CSR attributes is an identifier, or one with a SET of values")
    return CsrAttribute(parts[0][1], tuple(whole for _, _, whole in read(parts[1][1])))


def _identifier(dotted: str) -> bytes:
    return decode(encode_object_identifier(dotted))[1]


_PROTECTION = frozenset(
    # id-aa-decryptKeyID (RFC 7030 4.4.1.1) and id-aa-asymmDecryptKeyID (4.4.1.2).
    (_identifier("1.2.840.113549.1.9.16.2.37"), _identifier("1.2.840.113549.1.9.16.2.54"))
)
_ATTRIBUTES = 0xA0


def asks_for_protected_key(csr: bytes) -> bool:
    """Whether a CSR (DER) wants its server-made key encrypted beyond the association (RFC 7030 4.4.1).

    Raises DecodeError.
    """
    _, request = decode(csr)
    parts = list(read(request))
    if len(parts) != 3:
        raise DecodeError("a CSR is what is asked, an algorithm and a signature")
    _, information, _ = parts[0]
    return any(
        identifier in _PROTECTION
        for tag, attributes, _ in read(information)
        if tag == _ATTRIBUTES
        for _, attribute, _ in read(attributes)
        for _, identifier, _ in islice(read(attribute), 1)
    )


WANTED_CSR = (
    # id-ecPublicKey on secp256r1, ecdsa-with-SHA256: all that LwM2M asks of every client (Transport 1.2 5.2.8).
    CsrAttribute(_identifier("1.2.840.10045.2.1"), (encode_object_identifier("1.2.840.10045.3.1.7"),)),
    CsrAttribute(_identifier("1.2.840.10045.4.3.2")),
)
"""What a CSR to this server must be made with."""


# -- discovery --------------------------------------------------------------------------------------------------


def links(labels: Iterable[str], query: Sequence[str]) -> tuple[Link, ...]:
    """The EST resources for `GET /.well-known/core` (RFC 9148 5.1), without label and below each of `labels`.

    A `query` like `rt=ace.est*` keeps the links that fit it (RFC 6690 4.1).
    """
    found = (
        Link("/" + "/".join((*root, *label, function.value)), _attributes(function))
        for label in ((), *((label,) for label in labels))
        for root in (ROOT, SHORT_ROOT)
        for function in Function
    )
    return tuple(link for link in found if all(_fits(link, condition) for condition in query))


def _attributes(function: Function) -> tuple[tuple[str, str], ...]:
    formats = " ".join(str(int(format)) for format in FORMATS[function])
    return ("rt", f"ace.est.{function.value}"), ("ct", formats)


def _fits(link: Link, condition: str) -> bool:
    """RFC 6690 4.1: a star at the end of a condition stands for any characters, and nothing else does."""
    name, _, wanted = condition.partition("=")
    values = [link.target] if name == "href" else (link.get(name) or "").split()
    if wanted.endswith("*"):
        return any(value.startswith(wanted[:-1]) for value in values)
    return wanted in values
