"""Content formats by number (LwM2M Core 1.2 7.5), and which codec writes and reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType

from lwm2m import lwm2m_cbor, senml, tlv
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import ObjectInstance
from lwm2m.paths import Path


class ContentFormat(IntEnum):
    """Numbers of the CoAP content-format registry that LwM2M uses; the OLD ones are from before that."""

    TEXT = 0
    LINK = 40
    OCTET_STREAM = 42
    CBOR = 60
    SENML_JSON = 110
    SENML_CBOR = 112
    TLV_OLD = 1542
    JSON_OLD = 1543
    TLV = 11542
    JSON = 11543
    LWM2M_CBOR = 11544


WRITE_FORMATS: Mapping[str, ContentFormat] = MappingProxyType(
    {
        "tlv": ContentFormat.TLV,
        "senml-cbor": ContentFormat.SENML_CBOR,
        "senml-json": ContentFormat.SENML_JSON,
        "lwm2m-cbor": ContentFormat.LWM2M_CBOR,
    }
)
"""The formats a Bootstrap-Write can use, by the names profiles know."""

MAX_PAYLOAD = 65536
"""Bytes of one payload taken: what the CoAP layer puts together at most."""

_PREFERRED: Mapping[int, ContentFormat] = {format: format for format in WRITE_FORMATS.values()}

_ENCODERS: Mapping[int, Callable[[ObjectInstance], bytes]] = {
    ContentFormat.TLV: tlv.encode,
    ContentFormat.TLV_OLD: tlv.encode,
    ContentFormat.SENML_CBOR: senml.encode_cbor,
    ContentFormat.SENML_JSON: senml.encode_json,
    ContentFormat.LWM2M_CBOR: lwm2m_cbor.encode,
}

_DECODERS: Mapping[int, Callable[[bytes, Path], tuple[ObjectInstance, ...]]] = {
    ContentFormat.TLV: tlv.decode,
    ContentFormat.TLV_OLD: tlv.decode,
    ContentFormat.SENML_CBOR: senml.decode_cbor,
    ContentFormat.SENML_JSON: senml.decode_json,
    ContentFormat.LWM2M_CBOR: lwm2m_cbor.decode,
}


def encode_instance(instance: ObjectInstance, format: ContentFormat) -> bytes:
    """The payload of a write of one instance to /o/i (LwM2M Core 1.2 7.5).

    Raises EncodeError when a value does not fit its type or the format cannot hold an instance.
    """
    encoder = _ENCODERS.get(format)
    if encoder is None:
        raise EncodeError(f"content format {int(format)} cannot hold an object instance")
    return encoder(instance)


def decode_instances(payload: bytes, format: int, at: Path) -> tuple[ObjectInstance, ...]:
    """The instances in an answer to a read of `at`, in content format number `format` (LwM2M Core 1.2 7.5).

    Values are typed by OBJECTS; those of unknown resources are bytes in TLV and typed as they came elsewhere.
    Raises DecodeError for anything else than well-formed instances at or below `at`.
    """
    decoder = _DECODERS.get(format)
    if decoder is None:
        raise DecodeError(f"content format {format} does not hold object instances")
    if len(payload) > MAX_PAYLOAD:
        raise DecodeError(f"a payload has at most {MAX_PAYLOAD} bytes")
    return decoder(payload, at)


def negotiate(pct: int | None) -> ContentFormat | None:
    """The format to write in, for the `pct` of a Bootstrap-Request (LwM2M Core 1.2 6.1.7.1).

    Without pct it is TLV, the one format a 1.0 device knows. None means that pct is not supported: 4.15.
    """
    if pct is None:
        return ContentFormat.TLV
    return _PREFERRED.get(pct)
