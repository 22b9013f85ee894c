"""Datagrams of an OpenSSL session, good, changed and rubbish: sizes, streams, and both doors in."""

import ctypes
import gc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.transport import records
from server.transport.engine import SessionState
from server.transport.openssl import OpenSslEngine
from server.transport.openssl_session import OpenSslSession
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import Client, psk, psk_client, x509_client
from tests.unit.transport.openssl_rig import COOKIE, accept, connect, engine, finish
from tests.unit.transport.rig import each_record

# RFC 6347 4.1.
MAX_PLAINTEXT = 16384
Door = Callable[[OpenSslSession, bytes], list[bytes]]


# What the C library has given out, beside what Python's own allocator has (mallinfo(3), glibc 2.33).
LIBC = ctypes.CDLL(None)


class Mallinfo(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def given_out() -> int:
    gc.collect()
    LIBC.mallinfo2.restype = Mallinfo
    return int(LIBC.mallinfo2().uordblks)


@pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="needs glibc 2.33")
def test_a_session_that_waits_holds_none_of_openssls_buffers(pki: Pki) -> None:
    """SSL_MODE_RELEASE_BUFFERS: 81 KB then, and 131 KB with one of 16 KB for each direction and their like."""
    made = engine(pki)

    def waiting() -> OpenSslSession:
        client = x509_client(pki)
        session = connect(made, client)
        assert session.receive_record(client.send(b"x" * 50)[0]) == b"x" * 50
        assert session.send(b"y")
        return session

    sessions = [waiting()]
    before = given_out()
    sessions += [waiting() for _ in range(10)]
    assert (given_out() - before) / 10 < 110_000


@pytest.mark.parametrize("mtu", [300, 512, 1200])
def test_our_flights_keep_the_mtu(pki: Pki, mtu: int) -> None:
    client = x509_client(pki, mtu=mtu)
    session = accept(engine(pki, mtu=mtu), client)
    waiting = session.datagrams_to_send()
    while waiting:
        assert max(map(len, waiting)) <= mtu
        for answer in [answer for datagram in waiting for answer in client.receive(datagram)]:
            session.receive(answer)
        waiting = session.datagrams_to_send()
    assert session.state is SessionState.ESTABLISHED
    assert 0 < len(session.send(b"x" * session.cleartext_mtu)) <= mtu
    assert session.datagrams_to_send() == []


@pytest.mark.parametrize("number", [1, 50])
def test_our_records_begin_with_the_number_of_the_client_hello(pki: Pki, number: int) -> None:
    """RFC 6347 4.2.1; a lower number was that of a HelloVerifyRequest, and what has it again is dropped as replayed."""
    # The client's own numbers go on with 2: one of these would be a replay to OpenSSL.
    client = x509_client(pki)
    (hello,) = client.start()
    (hello,) = client.receive(records.hello_verify_request(hello, COOKIE))
    session = engine(pki).accept(hello[:5] + number.to_bytes(6, "big") + hello[11:])
    sent: list[bytes] = []
    while waiting := session.datagrams_to_send():
        sent += waiting
        for answer in [answer for datagram in waiting for answer in client.receive(datagram)]:
            session.receive(answer)
    assert session.state is SessionState.ESTABLISHED
    plain = [records.number(each) for datagram in sent for each in each_record(datagram) if records.epoch(each) == 0]
    assert plain == list(range(number, number + len(plain)))


def test_the_timer_of_our_flight_is_told_and_ends_with_the_handshake(pki: Pki) -> None:
    client = x509_client(pki)
    session = accept(engine(pki), client)
    waiting = session.next_timer()
    assert waiting is not None
    assert 0 <= waiting <= 1
    finish(session, client)
    assert session.next_timer() is None


RUBBISH = [
    b"\x17" * 13,
    b"\x17\xfe\xfd\0\1" + b"\0" * 6 + b"\0\x40" + b"short",
    b"\x17\xfe\xfd\0\1" + b"\0" * 6 + b"\0\x10" + b"\0" * 16,
    b"\x15\xfe\xfd\0\1" + b"\0" * 6 + b"\0\2\2\0",
    b"\x15\xfe\xfd\0\0" + b"\0" * 6 + b"\0\2\2\0",
    b"\x16\xfe\xfd\0\0" + b"\0" * 6 + b"\0\x0c\1\0\0\0" + b"\0" * 8,
    b"\0" * 5000,
    b"\x17\xfe\xfd\0\1" + b"\xff" * 8 + b"\0" * 16000,
]


def by_receive(session: OpenSslSession, datagram: bytes) -> list[bytes]:
    """The door that takes every datagram."""
    return session.receive(datagram)


def by_record(session: OpenSslSession, datagram: bytes) -> list[bytes]:
    """As an association does it: the short way first."""
    plaintext = session.receive_record(datagram)
    if plaintext is None:
        return session.receive(datagram)
    return [plaintext] if plaintext else []


DOORS = [by_receive, by_record]


@pytest.fixture(scope="module")
def made(pki: Pki) -> OpenSslEngine:
    return engine(pki)


@pytest.fixture(scope="module")
def keyed() -> Client:
    """A client with a key: its handshakes are soon made."""
    return psk_client()


def fresh(made: OpenSslEngine, client: Client) -> OpenSslSession:
    """A live session that nothing has happened to."""
    client.renew()
    return connect(made, client, psk())


@pytest.fixture(scope="module")
def live(pki: Pki, made: OpenSslEngine) -> Iterator[tuple[Client, OpenSslSession]]:
    """One live session for all examples: what one leaves behind would fail the next."""
    client = x509_client(pki)
    session = connect(made, client)
    yield client, session
    session.release()


def test_close_notify_closes_and_is_answered(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    for datagram in client.close():
        assert session.receive(datagram) == []
    assert (session.state, session.closed_by_peer) == (SessionState.CLOSED, True)
    assert [datagram[0] for datagram in session.datagrams_to_send()] == [records.ALERT]


def test_a_released_session_may_be_released_again(pki: Pki) -> None:
    session = connect(engine(pki), x509_client(pki))
    session.release()
    session.release()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_before_a_good_datagram_does_not_swallow_it(pki: Pki, rubbish: bytes, door: Door) -> None:
    """docs/transport.md 14."""
    client = x509_client(pki)
    session = connect(engine(pki), client)
    assert door(session, rubbish) == []
    (datagram,) = client.send(b"good")
    assert door(session, datagram) == [b"good"]
    assert session.state is SessionState.ESTABLISHED


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 7), st.binary(min_size=1, max_size=1171)), max_size=12), st.booleans())
def test_the_short_way_in_gives_what_the_long_one_does(
    made: OpenSslEngine, keyed: Client, talk: list[tuple[int, bytes]], ends: bool
) -> None:
    """Both doors hear the same conversation with its faults, each of a client of its own."""
    heard = []
    for door in DOORS:
        client, session = keyed, fresh(made, keyed)
        said: list[object] = []
        last = b""
        for kind, plaintext in talk:
            (datagram,) = client.send(plaintext)
            whole = datagram
            if kind == 1:
                datagram = datagram[:-1] + bytes((datagram[-1] ^ 1,))
            elif kind == 2:
                datagram = last or datagram
            elif kind == 3:
                datagram += client.send(plaintext)[0]
            elif kind == 4:
                datagram = datagram[:-3]
            elif kind == 5:
                datagram += b"\x17"
            elif kind == 6:
                datagram = datagram[:3] + b"\0\0" + datagram[5:]
            last = whole
            said.append((door(session, datagram), session.state))
            # A repeated handshake would be answered, nothing else is.
            assert session.datagrams_to_send() == []
        if ends:
            for datagram in client.close():
                said.append((door(session, datagram), session.state, session.closed_by_peer))
            said.append(len(session.datagrams_to_send()))
        heard.append(said)
    assert heard[0] == heard[1]


def test_the_short_way_in_takes_one_whole_record_of_application_data_and_nothing_else(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    (one,) = client.send(b"one")
    (two,) = client.send(b"two")
    assert [session.receive_record(one[:cut]) for cut in range(len(one))] == [None] * len(one)
    assert session.receive_record(one + two) is None
    assert session.receive_record(b"\x16" + one[1:]) is None
    assert session.receive_record(one) == b"one"
    assert session.receive_record(one) == b""
    assert session.receive_record(two) == b"two"
    (goodbye,) = client.close()
    assert session.receive_record(goodbye) is None
    assert session.state is SessionState.ESTABLISHED


def test_a_session_that_failed_has_no_record_to_send(pki: Pki) -> None:
    session = connect(engine(pki), x509_client(pki))
    assert session.send(b"x" * (MAX_PLAINTEXT + 1)) == b""
    assert session.state is SessionState.CLOSED
    assert session.detail


@settings(deadline=None, max_examples=300)
@given(st.binary(min_size=13, max_size=200), st.booleans(), st.sampled_from(DOORS))
def test_no_bytes_disturb_a_live_session(
    live: tuple[Client, OpenSslSession], datagram: bytes, as_record: bool, door: Door
) -> None:
    client, session = live
    if as_record:
        datagram = (
            datagram[:1] + b"\xfe\xfd\0\1" + datagram[5:11] + (len(datagram) - 13).to_bytes(2, "big") + datagram[13:]
        )
    assert door(session, datagram) == []
    (good,) = client.send(b"good")
    assert door(session, good) == [b"good"]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_changed_handshake_never_proves_more_than_the_true_one(
    pki: Pki, made: OpenSslEngine, data: st.DataObject
) -> None:
    """Any bytes changed in any datagram after the cookie: up with the right identity, waiting, or refused in words."""
    client = x509_client(pki, mtu=400)
    session = accept(made, client)
    answers = [answer for datagram in session.datagrams_to_send() for answer in client.receive(datagram)]
    # Signatures differ in length from run to run, so what is drawn must not depend on it.
    changes = data.draw(st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), max_size=2))
    touched = data.draw(st.sets(st.integers(0, 5), min_size=1, max_size=3))
    for number, answer in enumerate(answers):
        changed = bytearray(answer)
        for at, bits in changes if number in touched else ():
            changed[at % len(changed)] ^= bits
        session.receive(bytes(changed))
        if session.state is SessionState.CLOSED:
            break
    match session.state:
        case SessionState.ESTABLISHED:
            assert session.peer is not None
            assert session.peer.chain[0] == pki.device.der
        case SessionState.CLOSED:
            assert session.refusal is not None
            assert session.detail
        case SessionState.HANDSHAKING:
            assert session.peer is None
    session.release()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_client_hello_makes_a_session_or_a_refusal(
    pki: Pki, made: OpenSslEngine, data: st.DataObject
) -> None:
    client = x509_client(pki)
    (hello,) = client.start()
    (hello,) = client.receive(records.hello_verify_request(hello, COOKIE))
    changed = bytearray(hello)
    for at, bits in data.draw(st.lists(st.tuples(st.integers(0, 299), st.integers(1, 255)), min_size=1, max_size=4)):
        changed[at % len(changed)] ^= bits
    session = made.accept(bytes(changed))
    assert session.state is not SessionState.ESTABLISHED
    assert (session.state is SessionState.CLOSED) == (session.refusal is not None)
    session.release()
