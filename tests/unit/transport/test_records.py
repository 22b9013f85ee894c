"""What is read of DTLS without a key: real ClientHellos, broken ones, and identities in pieces."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.transport import records
from server.transport.records import ClientHello, KeyExchangeReader, NotAClientHello, psk_identity
from tests.unit.transport.client import PSK_SUITES, Client

COOKIE = bytes(range(32))


def record(kind: int, epoch: int, number: int, body: bytes) -> bytes:
    """RFC 6347 4.1."""
    return (
        bytes([kind])
        + b"\xfe\xfd"
        + epoch.to_bytes(2, "big")
        + number.to_bytes(6, "big")
        + len(body).to_bytes(2, "big")
        + body
    )


def handshake(kind: int, sequence: int, body: bytes, *, offset: int = 0, total: int | None = None) -> bytes:
    """RFC 6347 4.2.2."""
    return (
        bytes([kind])
        + (len(body) if total is None else total).to_bytes(3, "big")
        + sequence.to_bytes(2, "big")
        + offset.to_bytes(3, "big")
        + len(body).to_bytes(3, "big")
        + body
    )


def client_hello(*, random: bytes = b"r" * 32, session: bytes = b"", cookie: bytes = b"", rest: bytes = b"") -> bytes:
    body = b"\xfe\xfd" + random + bytes([len(session)]) + session + bytes([len(cookie)]) + cookie + rest
    return record(22, 0, 0, handshake(1, 0, body))


# -- ClientHello ----------------------------------------------------------------------------------------------


def test_a_real_client_hello_is_read_before_and_after_the_cookie() -> None:
    client = Client(suites=PSK_SUITES, identity=b"x")
    (first,) = client.start()
    hello = records.parse_client_hello(first)
    assert hello.cookie == b""
    (second,) = client.receive(records.hello_verify_request(first, COOKIE))
    assert records.parse_client_hello(second) == ClientHello(hello.random, COOKIE)


# One suite, no compression, and two extensions: extended_master_secret and max_fragment_length with its value left out.
SHORT_RECORDS = b"\0\2\xc0\xae\1\0" + b"\0\x09" + b"\0\x17\0\0" + b"\0\1\0\1"


@pytest.mark.parametrize(("value", "length"), [(1, 512), (2, 1024), (3, 2048), (4, 4096), (5, 16384)])
def test_the_record_limit_a_client_asks_for_is_known(value: int, length: int) -> None:
    hello = client_hello(session=b"s" * 32, cookie=COOKIE, rest=SHORT_RECORDS + bytes([value]))
    assert records.longest_plaintext(hello) == length


@pytest.mark.parametrize("cut", range(len(SHORT_RECORDS) + 1))
def test_a_hello_that_ends_anywhere_asks_for_no_record_limit(cut: int) -> None:
    hello = client_hello(session=b"s" * 32, cookie=COOKIE, rest=SHORT_RECORDS[:cut])
    assert records.longest_plaintext(hello) == 16384


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=32), st.binary(max_size=255), st.binary(max_size=99))
def test_random_and_cookie_are_found_behind_any_session_id(
    random: bytes, session: bytes, cookie: bytes, rest: bytes
) -> None:
    datagram = client_hello(random=random, session=session, cookie=cookie, rest=rest)
    assert records.is_client_hello(datagram)
    assert records.parse_client_hello(datagram) == ClientHello(random, cookie)


@given(st.data())
def test_a_client_hello_cut_anywhere_is_none(data: st.DataObject) -> None:
    whole = client_hello(session=b"s" * 8, cookie=COOKIE, rest=b"\0\2\xc0\xae\1\0")
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(NotAClientHello):
        records.parse_client_hello(whole[:cut])


@given(st.integers(0, 80))
def test_a_body_cut_anywhere_before_its_cookie_ends_is_none(length: int) -> None:
    body = (b"\xfe\xfd" + b"r" * 32 + b"\x08" + b"s" * 8 + b"\x20" + COOKIE)[:length]
    datagram = record(22, 0, 0, handshake(1, 0, body))
    if length < 76:
        with pytest.raises(NotAClientHello):
            records.parse_client_hello(datagram)
    else:
        assert records.parse_client_hello(datagram).cookie == COOKIE


@settings(max_examples=500)
@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda tail: b"\x16\xfe\xfd\0\0" + tail))
def test_any_bytes_are_read_or_refused(datagram: bytes) -> None:
    try:
        hello = records.parse_client_hello(datagram)
    except NotAClientHello:
        return
    assert len(hello.random) == 32


def test_a_part_of_a_client_hello_is_told_from_rubbish() -> None:
    part = record(22, 0, 0, handshake(1, 0, b"\xfe\xfd" + b"r" * 20, total=100))
    with pytest.raises(NotAClientHello) as refused:
        records.parse_client_hello(part)
    assert refused.value.fragmented
    with pytest.raises(NotAClientHello) as refused:
        records.parse_client_hello(client_hello()[:30])
    assert not refused.value.fragmented


@pytest.mark.parametrize(
    "datagram",
    [
        client_hello()[:11] + b"\0\x0c" + client_hello()[13:],
        client_hello(session=b"s" * 33),
        b"\x16\x03\x03" + client_hello()[3:],
        record(22, 1, 0, handshake(1, 0, b"\xfe\xfd" + b"r" * 34)),
        record(23, 0, 0, handshake(1, 0, b"\xfe\xfd" + b"r" * 34)),
        record(22, 0, 0, handshake(16, 0, b"\xfe\xfd" + b"r" * 34)),
    ],
    ids=["record too short", "session id too long", "TLS", "epoch 1", "application data", "another message"],
)
def test_what_is_not_quite_a_client_hello_is_refused(datagram: bytes) -> None:
    with pytest.raises(NotAClientHello):
        records.parse_client_hello(datagram)


def test_a_hello_verify_request_has_the_bytes_of_rfc_6347() -> None:
    hello = client_hello()
    hello = hello[:5] + bytes.fromhex("0000000000ab") + hello[11:]
    assert records.hello_verify_request(hello, COOKIE) == (
        bytes.fromhex("16 fefd 0000 0000000000ab 002f 03 000023 0000 000000 000023 feff 20") + COOKIE
    )


@pytest.mark.parametrize("version", [b"\xfe\xff", b"\xfe\xfd"])
def test_a_hello_verify_request_comes_in_a_record_of_the_clients_version(version: bytes) -> None:
    """Contiki-NG's TinyDTLS looks at no record of another one than its own, DTLS 1.2; OpenSSL's clients say 1.0."""
    hello = client_hello()
    request = records.hello_verify_request(hello[:1] + version + hello[3:], COOKIE)
    assert (request[1:3], request[25:27]) == (version, b"\xfe\xff")


# -- datagrams ------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=600), max_size=12), st.integers(300, 1200))
def test_output_is_cut_at_records_and_packed_up_to_the_mtu(bodies: list[bytes], mtu: int) -> None:
    made = [record(22, 0, number, body) for number, body in enumerate(bodies)]
    packed = records.datagrams(b"".join(made), mtu)
    assert b"".join(packed) == b"".join(made)
    starts = {sum(map(len, made[:index])) for index in range(len(made))}
    at = 0
    for index, datagram in enumerate(packed):
        assert at in starts
        at += len(datagram)
        if index + 1 < len(packed):
            following = made[[sum(map(len, made[:i])) for i in range(len(made))].index(at)]
            assert len(datagram) + len(following) > mtu
        assert len(datagram) <= mtu or len(datagram) in map(len, made)


def test_records_of_epoch_0_alone_are_renumbered() -> None:
    bodies = (22, 0, b"a"), (20, 0, b"bc"), (22, 1, b""), (22, 0, b"d" * 300)

    def numbered(*numbers: int) -> bytes:
        pairs = zip(bodies, numbers, strict=True)
        return b"".join(record(kind, epoch, number, body) for (kind, epoch, body), number in pairs)

    assert records.renumbered(numbered(1, 2, 0, 3), 4) == numbered(5, 6, 0, 7)
    # A number has 48 bits; who names the last one harms nobody else.
    assert records.renumbered(numbered(1, 2, 0, 3), (1 << 48) - 2) == numbered((1 << 48) - 1, 0, 0, 1)


@pytest.mark.parametrize(
    ("datagram", "expected"), [(record(23, 1, 5, b"x"), 1), (record(22, 0, 5, b"x"), 0), (b"short", -1)]
)
def test_the_epoch_is_that_of_the_first_record(datagram: bytes, expected: int) -> None:
    assert records.epoch(datagram) == expected


# -- the PSK identity -----------------------------------------------------------------------------------------


def psk_body(identity: bytes, point: bytes | None = None) -> bytes:
    """RFC 4279 2; with a point RFC 5489 2."""
    body = len(identity).to_bytes(2, "big") + identity
    return body if point is None else body + bytes([len(point)]) + point


@given(st.binary(max_size=300), st.none() | st.binary(min_size=32, max_size=133))
def test_the_identity_of_a_psk_key_exchange_is_read_whole(identity: bytes, point: bytes | None) -> None:
    assert psk_identity(psk_body(identity, point)) == identity


@given(
    st.sampled_from([32, 65, 97, 133]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
)
def test_a_key_exchange_without_psk_is_never_taken_for_an_identity(point: bytes) -> None:
    # An uncompressed point begins with 4 (SEC 1 2.3.3), an X25519 key with anything.
    body = bytes([len(point)]) + (point if len(point) == 32 else b"\x04" + point[1:])
    assert psk_identity(body) is None


@settings(max_examples=300)
@given(
    st.binary(max_size=60),
    st.none() | st.binary(min_size=32, max_size=65),
    st.data(),
)
def test_an_identity_in_pieces_is_found_with_the_last_piece(
    identity: bytes, point: bytes | None, data: st.DataObject
) -> None:
    body = psk_body(identity, point)
    cuts = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=6))})
    spans = list(itertools.pairwise(cuts))
    shuffled = data.draw(st.permutations(spans))
    reader = KeyExchangeReader()
    for index, (start, end) in enumerate(shuffled):
        piece = record(22, 0, index, handshake(16, 2, body[start:end], offset=start, total=len(body)))
        assert reader.feed(piece) == (identity if index == len(shuffled) - 1 else None)


def test_several_messages_and_records_of_one_datagram_are_read() -> None:
    certificate = handshake(11, 2, b"\0\0\0")
    exchange = handshake(16, 3, psk_body(b"me"))
    reader = KeyExchangeReader()
    assert reader.feed(record(22, 0, 1, certificate + exchange) + record(20, 0, 2, b"\1")) == b"me"
    assert KeyExchangeReader().feed(record(22, 0, 1, certificate) + record(22, 0, 2, exchange)) == b"me"
    assert not reader.saw_protected
    reader.feed(record(22, 1, 0, b"sealed"))
    assert reader.saw_protected


def test_pieces_of_two_messages_are_not_put_together() -> None:
    body = psk_body(b"abcd")
    reader = KeyExchangeReader()
    assert reader.feed(record(22, 0, 1, handshake(16, 2, body[:3], offset=0, total=6))) is None
    assert reader.feed(record(22, 0, 2, handshake(16, 3, body[3:], offset=3, total=6))) is None
    assert reader.feed(record(22, 0, 3, handshake(16, 3, body[:3], offset=0, total=6))) == b"abcd"


@pytest.mark.parametrize("total", [records.MAX_KEY_EXCHANGE + 1, 0xFFFFFF])
def test_a_key_exchange_that_says_it_is_huge_costs_nothing(total: int) -> None:
    reader = KeyExchangeReader()
    assert reader.feed(record(22, 0, 1, handshake(16, 2, b"\0\1", offset=0, total=total))) is None
    assert len(reader._body) == 0


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_what_follows_the_first_record_are_the_others(bodies: list[bytes]) -> None:
    made = [record(22, 0, number, body) for number, body in enumerate(bodies)]
    assert records.after_first(b"".join(made)) == b"".join(made[1:])


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: record(22, 0, 0, b)), max_size=4))
def test_any_bytes_can_be_fed(datagrams: list[bytes]) -> None:
    reader = KeyExchangeReader()
    for datagram in datagrams:
        found = reader.feed(datagram)
        assert found is None or found in datagram
