"""A client's TLS handshake read from the stream, wherever TCP cut it."""

import pytest

from server.transport.tls_records import KeyExchangeReader

HELLO = b"\x01" + (41).to_bytes(3, "big") + b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\xae" + b"\1\0"
PSK_EXCHANGE = b"\x10\0\0\x05" + b"\0\x03abc"
ECDHE_EXCHANGE = b"\x10\0\0\x42" + b"\x41\x04" + bytes(64)
CHANGE_CIPHER_SPEC = b"\x14\x03\x03\0\1\1"
# Looks like a key exchange, and is not read any more.
ENCRYPTED = b"\x16\x03\x03\0\x09" + PSK_EXCHANGE


def record(messages: bytes) -> bytes:
    return b"\x16\x03\x03" + len(messages).to_bytes(2, "big") + messages


def hello(*extensions: bytes) -> bytes:
    together = b"".join(extensions)
    body = HELLO[4:] + len(together).to_bytes(2, "big") + together
    return b"\x01" + len(body).to_bytes(3, "big") + body


def fed(reader: KeyExchangeReader, stream: bytes, size: int) -> list[bytes]:
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [found for piece in pieces if (found := reader.feed(piece)) is not None]


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
def test_an_identity_is_found_once_wherever_the_stream_is_cut(size: int) -> None:
    reader = KeyExchangeReader()
    assert fed(reader, record(HELLO) + record(PSK_EXCHANGE) + CHANGE_CIPHER_SPEC + ENCRYPTED, size) == [b"abc"]
    assert reader.saw_protected


@pytest.mark.parametrize("cut", range(1, len(PSK_EXCHANGE)))
def test_a_message_in_two_records_is_put_together(cut: int) -> None:
    assert fed(KeyExchangeReader(), record(PSK_EXCHANGE[:cut]) + record(PSK_EXCHANGE[cut:]), 1000) == [b"abc"]


def test_two_messages_in_one_record_are_both_read() -> None:
    assert KeyExchangeReader().feed(record(HELLO + PSK_EXCHANGE)) == b"abc"


def test_a_key_exchange_of_elliptic_curves_names_nobody() -> None:
    assert KeyExchangeReader().feed(record(HELLO) + record(ECDHE_EXCHANGE)) is None


def test_an_identity_longer_than_any_of_ours_is_not_read() -> None:
    body = (2000).to_bytes(2, "big") + bytes(2000)
    assert KeyExchangeReader().feed(record(b"\x10" + len(body).to_bytes(3, "big") + body)) is None


@pytest.mark.parametrize(("value", "length"), [(1, 512), (2, 1024), (3, 2048), (4, 4096), (5, 16384)])
def test_the_record_limit_a_client_asks_for_is_known(value: int, length: int) -> None:
    reader = KeyExchangeReader()
    reader.feed(record(hello(b"\0\x17\0\0", b"\0\1\0\1" + bytes([value]))))
    assert reader.fragment == length


@pytest.mark.parametrize("cut", range(len(hello(b"\0\1\0\1\1"))))
def test_a_hello_that_ends_anywhere_asks_for_nothing_and_breaks_nothing(cut: int) -> None:
    body = hello(b"\0\1\0\1\1")[4:][:cut]
    reader = KeyExchangeReader()
    reader.feed(record(b"\x01" + len(body).to_bytes(3, "big") + body))
    assert reader.fragment in (512, 16384)
