"""lwm2m/coap/tape.py: what is recorded, what is bounded, and that no secret is shown, in any block size and format."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import Exchanges
from lwm2m.coap.message import Message, decode, encode
from lwm2m.coap.options import BLOCK1, Block, encode_block
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import MAX_ENTRIES, Ended, Received, Requested, Sent, Tape
from lwm2m.content_format import WRITE_FORMATS, ContentFormat, encode_instance
from lwm2m.plan import Credential, PskCredential, SecurityPlan
from lwm2m.writes import security_instance

KEY = bytes(range(100, 232))
PLAN = SecurityPlan(
    uri="coaps://lwm2m.example.com", short_server_id=1, mode="server-key", server_certificate=bytes(300)
)
PSK_PLAN = SecurityPlan(uri="coaps://lwm2m.example.com", short_server_id=1, mode="psk")


def tape(limit: int = 65536) -> Tape[object]:
    return Tape(Parameters(), 1, b"t", lambda: 0.25, limit)


def in_blocks(body: bytes, size: int, *, upto: int | None = None) -> list[bytes]:
    """The datagrams of a write, the last ones missing when it was cut short."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return [
        encode(
            Message(
                coap.CON,
                coap.PUT,
                7 + number,
                b"tok",
                [(11, b"0"), (11, b"1"), (BLOCK1, encode_block(Block(number, number + 1 < len(parts), size)))],
                part,
            )
        )
        for number, part in enumerate(parts[:upto])
    ]


def body_of(datagrams: list[bytes]) -> bytes:
    return b"".join(decode(datagram).payload for datagram in datagrams)


def redacted(body: bytes, datagrams: list[bytes], secret: bytes, companion: bytes = b"") -> list[bytes]:
    recording = tape()
    recording.conceal(secret, companion)
    recording.body(body)
    for datagram in datagrams:
        recording.sent(1.0, datagram)
    entries = recording.entries()
    assert all(isinstance(entry, Sent) for entry in entries)
    return [entry.datagram for entry in entries if isinstance(entry, Sent)]


@pytest.mark.parametrize("format", list(WRITE_FORMATS.values()), ids=lambda format: format.name)
@pytest.mark.parametrize("size", [16, 64, 1024])
def test_a_private_key_is_blanked_in_every_format_and_block_size(format: ContentFormat, size: int) -> None:
    made, blank = (
        encode_instance(
            security_instance(PLAN, 1, Credential(chain=(b"leaf" * 90,), private_key_pkcs8=key), est=False, pem=False),
            format,
        )
        for key in (KEY, bytes(len(KEY)))
    )
    shown = redacted(made, in_blocks(made, size), KEY)
    assert body_of(shown) == blank
    # Whatever the run was cut to, the part that was sent is blank too.
    for upto in range(1, len(in_blocks(made, size))):
        part = redacted(made, in_blocks(made, size, upto=upto), KEY)
        assert body_of(part) == blank[: upto * size]


@pytest.mark.parametrize("format", list(WRITE_FORMATS.values()), ids=lambda format: format.name)
@pytest.mark.parametrize("identity", [b"lwm2m", b"idn", b"identity-of-the-device"])
def test_a_pre_shared_key_goes_with_its_identity_and_nothing_else(format: ContentFormat, identity: bytes) -> None:
    """Also when the identity is a word of the URI."""
    key = bytes(range(200, 216))
    made, blank = (
        encode_instance(security_instance(PSK_PLAN, 1, credential, est=False, pem=False), format)
        for credential in (
            PskCredential(identity=identity, key=key),
            PskCredential(identity=bytes(len(identity)), key=bytes(len(key))),
        )
    )
    assert body_of(redacted(made, in_blocks(made, 1024), key, identity)) == blank


@pytest.mark.parametrize("value", [b"identity-of-the-device", bytes(range(200, 216))])
def test_a_pre_shared_key_and_its_identity_are_blanked_when_each_goes_out_by_itself(value: bytes) -> None:
    identity, key = b"identity-of-the-device", bytes(range(200, 216))
    assert body_of(redacted(value, in_blocks(value, 16), key, identity)) == bytes(len(value))


@settings(deadline=None)
@given(
    st.binary(min_size=16, max_size=150),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.sampled_from([16, 32, 64, 128, 1024]),
    st.integers(1, 40),
)
def test_no_part_of_a_secret_is_shown_wherever_it_lies(
    secret: bytes, before: bytes, after: bytes, size: int, upto: int
) -> None:
    body = before + secret + after
    shown = redacted(body, in_blocks(body, size, upto=upto), secret)
    for datagram, real in zip(shown, in_blocks(body, size, upto=upto), strict=True):
        assert len(datagram) == len(real)
    whole = body_of(shown)
    assert whole[len(before) : len(before) + len(secret)].strip(b"\0") == b""
    assert whole[: len(before)] == before[: len(whole)] or secret in before + secret[:-1]


def test_our_answers_are_shown_without_their_content() -> None:
    recording = tape()
    secret = bytes(range(1, 200))
    datagram = encode(Message(coap.ACK, coap.CONTENT, 5, b"t", [(12, b"\x00")], secret))
    recording.sent(0.0, datagram)
    (entry,) = recording.entries()
    assert isinstance(entry, Sent)
    assert len(entry.datagram) == len(datagram)
    assert decode(entry.datagram).payload == bytes(len(secret))
    assert decode(entry.datagram).options == decode(datagram).options


def test_a_tape_that_was_read_holds_no_secret_and_goes_on() -> None:
    recording = tape()
    recording.conceal(KEY)
    recording.body(b"xx" + KEY)
    recording.sent(1.0, in_blocks(b"xx" + KEY, 1024)[0])
    first = recording.entries()
    assert KEY not in repr(recording._entries).encode("latin-1", "ignore")
    assert all(KEY not in str(getattr(recording, name)).encode() for name in ("_bodies", "_secrets"))
    recording.received(2.0, b"\x60\x00\x00\x01")
    assert recording.entries() == (*first, Received(2.0, b"\x60\x00\x00\x01"))


def test_what_is_kept_is_bounded_and_the_rest_is_counted() -> None:
    recording = tape(limit=100)
    for _ in range(30):
        recording.received(0.0, bytes(10))
    recording.note(Requested, 0.0)
    assert len(recording.entries()) == 10
    assert recording.dropped == 21
    endless = tape()
    for _ in range(MAX_ENTRIES + 5):
        endless.note(Requested, 0.0)
    assert (len(endless.entries()), endless.dropped) == (MAX_ENTRIES, 5)


def test_a_stopped_tape_keeps_nothing() -> None:
    recording = tape()
    recording.received(0.0, b"x")
    recording.stop()
    recording.received(0.0, b"x")
    recording.note(Ended, 0.0, None)
    assert recording.entries() == ()


def test_randomness_is_remembered_in_its_order() -> None:
    values = iter([0.1, 0.2, 0.3])
    recording: Tape[object] = Tape(Parameters(), 1, b"t", lambda: next(values))
    exchanges = Exchanges(parameters=Parameters(), first_mid=1, token_seed=b"t", jitter=recording.draw)
    exchanges.request(coap.GET, (), 0.0)
    exchanges.handle_timer(3.0)
    assert recording.draws == [0.1]
