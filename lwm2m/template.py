"""An object instance encoded once for many devices, with gaps for the opaque resources that are each one's own.

The readable way is `content_format.encode_instance`; this one gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lwm2m import lwm2m_cbor, senml, tlv
from lwm2m.content_format import ContentFormat, encode_instance
from lwm2m.errors import EncodeError
from lwm2m.objects import ObjectInstance

_OPAQUE: Mapping[int, Callable[[int, bytes], bytes]] = {
    ContentFormat.TLV: tlv.opaque,
    ContentFormat.SENML_CBOR: senml.opaque_cbor,
    ContentFormat.SENML_JSON: senml.opaque_json,
    ContentFormat.LWM2M_CBOR: lwm2m_cbor.opaque,
}


class Template:
    """The encoding of an instance without the resources `own`, in ascending order, none of them its first resource."""

    __slots__ = ("_encode", "_own", "_parts", "_tail")

    def __init__(self, instance: ObjectInstance, own: Sequence[int], format: ContentFormat) -> None:
        """`instance` holds in each of `own` opaque bytes that stand nowhere else in it.

        Raises EncodeError as `encode_instance`, and when such bytes cannot be told from the rest.
        """
        self._encode = _OPAQUE[format]
        self._own = tuple(own)
        self._parts: list[bytes] = []
        rest = encode_instance(instance, format)
        for id in own:
            value = instance.resources[id]
            record = self._encode(id, value) if isinstance(value, bytes) else b""
            if not record or rest.count(record) != 1:
                raise EncodeError(f"resource {id} of a template stands in it other than once")
            part, _, rest = rest.partition(record)
            self._parts.append(part)
        self._tail = rest

    def filled(self, values: Sequence[bytes]) -> bytes:
        """The whole encoding with `values` in the gaps; EncodeError when one is no bytes or too long for the format."""
        encode = self._encode
        pieces: list[bytes] = []
        for part, id, value in zip(self._parts, self._own, values, strict=True):
            if not isinstance(value, bytes):
                raise EncodeError(f"the value of resource {id} is not opaque")
            pieces += (part, encode(id, value))
        pieces.append(self._tail)
        return b"".join(pieces)
