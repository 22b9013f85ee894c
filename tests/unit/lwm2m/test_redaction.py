"""lwm2m/redaction.py: of what a device said a transcript shows what a replay reads and people can use, and no key."""

import base64
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.message import Malformed, Message, decode, encode
from lwm2m.coap.options import BLOCK1, BLOCK2, CONTENT_FORMAT, Block, encode_block, encode_uint
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import Received, Tape
from lwm2m.content_format import WRITE_FORMATS, ContentFormat, encode_instance
from lwm2m.plan import Credential, PskCredential, SecurityPlan
from lwm2m.redaction import Redaction
from lwm2m.writes import security_instance
from tests import pki

# Nobody told us of it: the device came with it.
KEY = bytes(range(130, 162))
LINKS = (
    b'</>;lwm2m=1.1,</0/0>,</0/1>;ssid=101;uri="coaps://a-server-with-quite-a-long-name.example.com",</1/0>;ssid=101'
)
PKCS10 = 286


def answered(payload: bytes, format: int | None, *, code: int = coap.CONTENT, block: Block | None = None) -> bytes:
    options = [] if format is None else [(CONTENT_FORMAT, encode_uint(format))]
    if block is not None:
        options.append((BLOCK2 if code >= 0x40 else BLOCK1, encode_block(block)))
    return encode(Message(coap.ACK, code, 7, b"tok", options, payload))


def in_blocks(body: bytes, format: int | None, size: int, code: int = coap.CONTENT) -> Iterator[bytes]:
    for at in range(0, len(body), size):
        block = Block(at // size, at + size < len(body), size)
        yield answered(body[at : at + size], format, code=code, block=block)


def shown(payload: bytes, format: int | None, *, secret: bytes = b"") -> bytes:
    redaction = Redaction([(secret, b"")] if secret else [], [], [])
    datagram = answered(payload, format)
    redacted = redaction.received(datagram)
    assert len(redacted) == len(datagram)
    assert redacted[: -len(payload)] == datagram[: -len(payload)]
    return decode(redacted).payload


def holds(text: bytes, key: bytes) -> bool:
    """Whether any eight bytes of a key are in it, as they are or as people write them."""
    parts = [key[at : at + 8] for at in range(len(key) - 7)]
    written = [part for each in parts for part in (each, each.hex().encode(), each.hex(":").encode())]
    encoded = base64.urlsafe_b64encode(key).rstrip(b"=")
    return any(part in text for part in (*written, *(encoded[at : at + 10] for at in range(len(encoded) - 9))))


@pytest.mark.parametrize("format", list(WRITE_FORMATS.values()), ids=lambda format: format.name)
@pytest.mark.parametrize("said_as", ["it is", "nothing", "text"])
@pytest.mark.parametrize("mode", ["psk", "server-key"])
def test_a_security_object_that_a_device_reads_out_shows_no_key(format: ContentFormat, said_as: str, mode: str) -> None:
    held = (
        PskCredential(identity=b"factory", key=KEY)
        if mode == "psk"
        else Credential(chain=(b"leaf" * 90,), private_key_pkcs8=KEY)
    )
    plan = SecurityPlan(
        uri="coaps://bs.example.com", short_server_id=1, mode=mode, server_certificate=b"" if mode == "psk" else b"ca"
    )
    body = encode_instance(security_instance(plan, 1, held, est=False, pem=False), format)
    assert holds(body, KEY)
    told = {"it is": int(format), "nothing": None, "text": 0}[said_as]
    assert not holds(shown(body, told), KEY)
    redaction = Redaction([], [], [(body, told)])
    assert not holds(b"".join(decode(redaction.received(part)).payload for part in in_blocks(body, told, 16)), KEY)


@pytest.mark.parametrize("format", [None, 0, 42, 284, PKCS10, 60])
def test_a_private_key_is_shown_in_no_encoding(format: int | None) -> None:
    key = pki.make_key()
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    none, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"hush")
    for encoding in (serialization.Encoding.DER, serialization.Encoding.PEM):
        for kind in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
            assert not holds(shown(key.private_bytes(encoding, kind, none), format), scalar)
        sealed = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, locked)
        assert shown(sealed, format).strip(b"\0") == b""


def test_what_a_replay_reads_and_what_is_public_is_shown() -> None:
    device = pki.make_device_certificate(pki.make_factory_ca(), "device-1")
    for body, format in ((LINKS, 40), (LINKS, None), (b'lwm2m="1.0",</0/0>,</1>', 40), (device.der, 287)):
        assert shown(body, format) == body
        redaction = Redaction([], [], [(body, format)])
        parts = [redaction.received(part) for part in in_blocks(body, format, 16)]
        assert parts == list(in_blocks(body, format, 16))


@pytest.mark.parametrize("format", [None, 0, PKCS10])
@pytest.mark.parametrize("size", [16, 64])
def test_a_csr_is_shown(format: int | None, size: int) -> None:
    asked = x509.CertificateSigningRequestBuilder().subject_name(pki.make_name("device-1"))
    csr = asked.sign(pki.make_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert shown(csr, format) == csr
    redaction = Redaction([], [], [(csr, format)])
    assert [redaction.received(part) for part in in_blocks(csr, format, size, coap.POST)] == list(
        in_blocks(csr, format, size, coap.POST)
    )


@pytest.mark.parametrize(
    "written",
    [
        KEY.hex(),
        KEY[:16].hex(),
        KEY.hex().upper(),
        KEY.hex(" "),
        KEY.hex(":"),
        ", ".join(f"0x{byte:02x}" for byte in KEY),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY[:16]).decode(),
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
    ],
)
def test_words_for_people_are_shown_and_what_looks_like_a_key_in_them_is_not(written: str) -> None:
    assert shown(b"no such object instance: /0/1", None) == b"no such object instance: /0/1"
    said = shown(f"bad key <{written}>".encode(), 0)
    assert not holds(said, KEY)
    assert b"MHcCAQEE" not in said
    assert said.startswith(b"bad key <0") or said.strip(b"\0") == b""


def test_a_secret_that_was_written_to_the_device_is_not_shown_when_it_says_it_back() -> None:
    """Also where it looks like words."""
    assert shown(b"bad key: open sesame, all", None, secret=b"open sesame, all").strip(b"\0") == b""


def test_a_part_of_nothing_is_blank_and_what_is_another_part_stays_another() -> None:
    redaction = Redaction([], [], [])
    parts = list(in_blocks(LINKS, 40, 16))
    once, again = ([decode(redaction.received(part)).payload for part in parts] for _ in range(2))
    assert once == again
    assert len(set(once)) == len(set(parts))
    assert all(len(set(payload)) == 1 for payload in once)


def test_a_tape_that_is_read_twice_says_the_same_twice() -> None:
    tape: Tape[object] = Tape(Parameters(), 1, b"t", lambda: 0.5)
    parts = list(in_blocks(LINKS, 40, 16))
    for part in parts:
        tape.received(1.0, part)
    tape.heard(LINKS, decode(parts[-1]).options)
    first = tape.entries()
    assert first == tuple(Received(1.0, part) for part in parts)
    assert tape.entries() == first


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\x48\x02\x00\x07" + rest))
def test_what_is_malformed_stays_so_and_what_is_not_keeps_its_head(datagram: bytes) -> None:
    redacted = Redaction([], [], []).received(datagram)
    assert len(redacted) == len(datagram)
    before, after = understood(datagram), understood(redacted)
    assert before == after
    if isinstance(before, tuple):
        assert redacted[4:].strip(b"\xf0") == b""


def understood(datagram: bytes) -> Message | tuple[int | None, int | None]:
    """All of a message but its payload; of a malformed one what its answer needs."""
    try:
        return replace(decode(datagram), payload=b"")
    except Malformed as error:
        return error.type, error.mid
