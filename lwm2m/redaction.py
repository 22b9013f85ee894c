"""What a transcript shows of a datagram: no secret, blanks of the same length, so that it can be run again.

Of what we send the secrets are known, and blanked where they stand. Of what a device says nobody knows what is one: it
may send its Security object, or say back what was written to it. Shown is what can be read as something that holds
none, which is links, a CSR, a certificate or words for people, and in those words nothing that looks like a key; all
else is blanked whole. A session reads nothing of a device's answers but links (`lwm2m/sequence.py`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from lwm2m.coap.message import Malformed, Message, decode
from lwm2m.coap.options import BLOCK1, BLOCK2, BadOption, content_format, decode_block, read_target
from lwm2m.content_format import ContentFormat
from lwm2m.der import SEQUENCE, read
from lwm2m.errors import DecodeError
from lwm2m.link_format import parse, parse_discover

Secret: TypeAlias = tuple[bytes, bytes]
"""Bytes that no transcript may show, and what is blanked with them where it stands before them in a payload."""
Heard: TypeAlias = tuple[bytes, int | None]
"""A whole payload of the peer that came in blocks, and its content format."""
Place: TypeAlias = tuple[int, int, bytes]

# RFC 7252 3.1: no option has this delta, so that what is malformed stays so.
NO_OPTION = b"\xf0"
BIT_STRING = 0x03
# A key has 16 bytes or more: so many characters in base64, or pairs in hexadecimal, whatever stands between them.
_LIKE_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{22,}")
_LIKE_HEX = re.compile(rb"(?:(?:0[xX])?[0-9A-Fa-f]{2}[\s:,;-]{0,2}){16,}")
_PRIVATE = b"PRIVATE KEY"


class Redaction:
    """What is known of one association when its datagrams are to be shown: `bodies` are ours, `heard` the peer's."""

    def __init__(self, secrets: Sequence[Secret], bodies: Sequence[bytes], heard: Sequence[Heard]) -> None:
        self._secrets = secrets
        self._bodies = [(body, found) for body in bodies if (found := tuple(self._places(body)))]
        self._heard = [(body, self._public(body, format)) for body, format in heard]
        self._parts: dict[bytes, int] = {}

    def sent(self, datagram: bytes) -> bytes:
        """A datagram of ours: answers without content, requests without secrets."""
        try:
            message = decode(datagram)
        except Malformed:
            # None of ours is; whatever it is, it is not shown.
            return bytes(len(datagram))
        payload = message.payload
        if not payload:
            return datagram
        head = datagram[: len(datagram) - len(payload)]
        if message.code >= 0x40:
            return head + bytes(len(payload))
        offset = _offset(message)
        for body, places in self._bodies:
            if body[offset : offset + len(payload)] == payload:
                payload = _blanked(body, places)[offset : offset + len(payload)]
                break
        return head + payload

    def received(self, datagram: bytes) -> bytes:
        """A datagram of the peer."""
        try:
            message = decode(datagram)
        except Malformed:
            return datagram[:4] + NO_OPTION * (len(datagram) - 4)
        payload = message.payload
        if not payload:
            return datagram
        number = BLOCK2 if message.code >= 0x40 else BLOCK1
        blocks = [value for option, value in message.options if option == number]
        head = datagram[: len(datagram) - len(payload)]
        return head + (
            self._part(payload, blocks[0]) if blocks else self._public(payload, content_format(message.options))
        )

    def _part(self, payload: bytes, block: bytes) -> bytes:
        try:
            offset = decode_block(block).offset
        except BadOption:
            offset = 0
        for body, shown in self._heard:
            if body[offset : offset + len(payload)] == payload:
                return shown[offset : offset + len(payload)]
        # Of a body that never was whole nobody can tell what it is. What differs stays different: the layer that puts
        # blocks together knows a repeated one by its content.
        return bytes((self._parts.setdefault(payload, len(self._parts)) % 256,)) * len(payload)

    def _public(self, body: bytes, format: int | None) -> bytes:
        """A whole payload of the peer with everything blanked that is a secret or may be one."""
        body = _blanked(body, tuple(self._places(body)))
        if (format in (None, ContentFormat.LINK) and _is_links(body)) or _is_signed(body):
            return body
        return _words(body) if format in (None, ContentFormat.TEXT) else bytes(len(body))

    def _places(self, body: bytes) -> Iterator[Place]:
        """Where secrets stand in a payload, and what stands there for them: zeros in the payload's own encoding."""
        for secret, companion in self._secrets:
            if companion and body == companion:
                # It goes out by itself: the secret is another write's.
                yield 0, len(body), bytes(len(body))
            for written in (_as_it_is, _in_json):
                shown, beside = written(secret), written(companion)
                start = body.find(shown)
                while start >= 0:
                    yield start, start + len(shown), written(bytes(len(secret)))
                    before = body.rfind(beside, 0, start) if beside else -1
                    if before >= 0:
                        yield before, before + len(beside), written(bytes(len(companion)))
                    start = body.find(shown, start + 1)


def _as_it_is(secret: bytes) -> bytes:
    return secret


def _in_json(secret: bytes) -> bytes:
    """An opaque value in SenML JSON (RFC 8428 4.3): base64url without padding."""
    return base64.urlsafe_b64encode(secret).rstrip(b"=")


def _offset(message: Message) -> int:
    """Where in its body the payload of a request begins (RFC 7959 2.2)."""
    try:
        block1 = read_target(message.options).block1
    except BadOption:
        return 0
    return 0 if block1 is None else block1.offset


def _blanked(body: bytes, places: Sequence[Place]) -> bytes:
    shown = bytearray(body)
    for start, end, blank in places:
        shown[start:end] = blank
    return bytes(shown)


# -- what a device said -----------------------------------------------------------------------------------------


def _is_links(body: bytes) -> bool:
    for read_links in (parse, parse_discover):
        try:
            read_links(body)
        except DecodeError:
            continue
        return True
    return False


def _is_signed(body: bytes) -> bool:
    """Whether it is a CSR or a certificate (RFC 2986 4.2, RFC 5280 4.1): what is signed, how, and the signature."""
    try:
        [(tag, content, _)] = read(body)
        tags = [inner for inner, _, _ in read(content)]
    except (DecodeError, ValueError):
        return False
    return tag == SEQUENCE and tags == [SEQUENCE, SEQUENCE, BIT_STRING]


def _words(body: bytes) -> bytes:
    """A text for people (RFC 7252 5.5.2) without what looks like a key; blanks when it is none."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return bytes(len(body))
    if _PRIVATE in body or not all(character.isprintable() or character in "\t\r\n" for character in text):
        return bytes(len(body))
    shown = body
    for pattern in (_LIKE_HEX, _LIKE_BASE64):
        shown = pattern.sub(lambda found: b"0" * len(found[0]), shown)
    # What was no list of links must not become one.
    return bytes(len(body)) if _is_links(shown) else shown
