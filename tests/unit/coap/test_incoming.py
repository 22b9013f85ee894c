"""The peer's requests and our answers, message by message."""

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import ResponseDelivered, ResponseLost
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import MAX_AGE, URI_PATH
from tests.unit.coap.peer import Peer, received, respond


def test_a_request_is_answered_in_its_acknowledgement() -> None:
    peer = Peer()
    mid = peer.ask(coap.POST, "bs", options=[(15, b"ep=a")], token=b"tok")
    request = received(peer)
    assert (request.code, request.path, request.query, request.confirmable) == (coap.POST, ("bs",), ("ep=a",), True)
    respond(peer, request.request_id, coap.CHANGED)
    assert peer.sent() == [Message(coap.ACK, coap.CHANGED, mid, b"tok", [], b"")]
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    assert peer.exchanges.next_timer() is None


def test_the_fate_of_an_answer_is_due_at_once() -> None:
    peer = Peer()
    peer.ask(coap.POST, "bs")
    request = received(peer)
    respond(peer, request.request_id, coap.CHANGED)
    assert peer.exchanges.next_timer() == peer.now
    assert peer.exchanges.handle_timer(peer.now) == [ResponseDelivered(request.request_id)]
    assert peer.exchanges.next_timer() is None


def test_a_duplicate_gets_the_same_bytes_and_is_no_second_request() -> None:
    peer = Peer()
    mid = peer.ask(coap.POST, "bs")
    respond(peer, received(peer).request_id, coap.CHANGED, payload=b"once")
    first = peer.exchanges.datagrams_to_send()
    peer.happened()
    for _ in range(3):
        peer.ask(coap.POST, "bs", mid=mid)
        assert peer.exchanges.datagrams_to_send() == first
        assert peer.happened() == []


def test_the_newest_answer_is_said_again() -> None:
    peer = Peer()
    peer.exchanges.say_again()
    assert peer.sent() == []
    for path in ("a", "b"):
        peer.ask(coap.POST, path)
        respond(peer, received(peer).request_id, coap.CHANGED, payload=path.encode())
        peer.happened()
    first, second = peer.exchanges.datagrams_to_send()
    # One that came without confirmation is answered but once, and one that is open has no answer yet.
    peer.say(coap.NON, coap.POST, options=[(URI_PATH, b"c")])
    respond(peer, received(peer).request_id, coap.CHANGED)
    peer.ask(coap.POST, "d")
    peer.exchanges.datagrams_to_send()
    peer.exchanges.say_again()
    assert peer.exchanges.datagrams_to_send() == [second] != [first]


def test_a_duplicate_of_an_open_request_is_ignored_until_it_is_acknowledged() -> None:
    peer = Peer()
    mid = peer.ask(coap.POST, "bs")
    received(peer)
    peer.ask(coap.POST, "bs", mid=mid)
    assert peer.sent() == []
    peer.wait(0.5)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, mid, b"", [], b"")]
    peer.ask(coap.POST, "bs", mid=mid)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, mid, b"", [], b"")]
    assert peer.happened() == []


def test_a_message_id_means_another_message_after_the_exchange_lifetime() -> None:
    peer = Peer()
    mid = peer.ask(coap.GET, "a")
    respond(peer, received(peer).request_id, coap.CONTENT)
    peer.happened()
    peer.wait(246.9)
    peer.ask(coap.GET, "a", mid=mid)
    assert peer.happened() == []
    peer.wait(0.1)
    peer.ask(coap.GET, "a", mid=mid)
    assert received(peer).path == ("a",)


def test_a_late_answer_is_a_message_of_its_own_until_acknowledged() -> None:
    peer = Peer()
    mid = peer.ask(coap.POST, "bs", token=b"tok")
    request = received(peer)
    peer.wait(0.5)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, mid, b"", [], b"")]
    respond(peer, request.request_id, coap.CHANGED, payload=b"late")
    separate = peer.sent_one()
    assert (separate.type, separate.code, separate.token, separate.payload) == (
        coap.CON,
        coap.CHANGED,
        b"tok",
        b"late",
    )
    assert separate.mid != mid
    assert peer.happened() == []
    peer.wait(2.0)
    assert peer.sent() == [separate]
    peer.say(coap.ACK, coap.EMPTY, separate.mid)
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    peer.wait(100.0)
    assert peer.sent() == []


def test_a_separate_answer_is_retransmitted_and_given_up() -> None:
    peer = Peer()
    peer.ask(coap.POST, "bs")
    request = received(peer)
    peer.wait(0.5)
    peer.sent()
    respond(peer, request.request_id, coap.CHANGED)
    times = []
    first = peer.sent_one()
    start = peer.now
    while not (events := peer.happened()):
        due = peer.exchanges.next_timer()
        assert due is not None
        peer.wait(due - peer.now)
        if sent := peer.sent():
            assert sent == [first]
            times.append(peer.now - start)
    # RFC 7252 4.2: ACK_TIMEOUT 2 s, doubled; given up after 62 s.
    assert times == [2.0, 6.0, 14.0, 30.0]
    assert peer.now - start == 62.0
    assert events == [ResponseLost(request.request_id)]


def test_a_reset_separate_answer_is_lost() -> None:
    peer = Peer()
    peer.ask(coap.POST, "bs")
    request = received(peer)
    peer.wait(0.5)
    peer.sent()
    respond(peer, request.request_id, coap.CHANGED)
    peer.say(coap.RST, coap.EMPTY, peer.sent_one().mid)
    assert peer.happened() == [ResponseLost(request.request_id)]
    peer.wait(100.0)
    assert peer.sent() == []


def test_a_request_is_answered_once() -> None:
    peer = Peer()
    peer.ask(coap.POST, "bs")
    request = received(peer)
    respond(peer, request.request_id, coap.CHANGED)
    assert peer.sent_one().code == coap.CHANGED
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    respond(peer, request.request_id, coap.INTERNAL_SERVER_ERROR)
    respond(peer, 4711, coap.INTERNAL_SERVER_ERROR)
    assert peer.sent() == []
    assert peer.happened() == []


def test_a_non_request_gets_a_non_answer_and_its_duplicate_nothing() -> None:
    peer = Peer()
    mid = peer.say(coap.NON, coap.GET, token=b"n", options=[(11, b"a")])
    request = received(peer)
    assert not request.confirmable
    peer.wait(5.0)
    assert peer.sent() == []
    respond(peer, request.request_id, coap.CONTENT, payload=b"x")
    answer = peer.sent_one()
    assert (answer.type, answer.code, answer.token, answer.payload) == (coap.NON, coap.CONTENT, b"n", b"x")
    assert answer.mid != mid
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    peer.say(coap.NON, coap.GET, mid, b"n", [(11, b"a")])
    assert peer.sent() == []
    assert peer.happened() == []


@pytest.mark.parametrize("code", [coap.GET, 0x1F])
def test_an_acknowledgement_or_reset_with_a_request_is_ignored(code: int) -> None:
    peer = Peer()
    for type in (coap.ACK, coap.RST):
        peer.say(type, code)
    assert peer.sent() == []
    assert peer.happened() == []


def test_a_ping_is_answered_with_reset() -> None:
    peer = Peer()
    mid = peer.say(coap.CON, coap.EMPTY)
    assert peer.sent() == [Message(coap.RST, coap.EMPTY, mid, b"", [], b"")]
    peer.say(coap.NON, coap.EMPTY)
    assert peer.sent() == []


@pytest.mark.parametrize("datagram", ["491234aa" + "00" * 9, "4f1234aa", "400134aaff", "400134aaf0", "402034aa"])
def test_a_malformed_confirmable_message_is_reset(datagram: str) -> None:
    peer = Peer()
    data = bytes.fromhex(datagram)
    peer.say_bytes(data)
    assert peer.sent() == [Message(coap.RST, coap.EMPTY, int.from_bytes(data[2:4], "big"), b"", [], b"")]
    assert peer.happened() == []


@pytest.mark.parametrize("datagram", ["", "40", "c00134aa", "5f1234aa", "500134aaff", "6f1234aa", "7f1234aa"])
def test_any_other_malformed_datagram_is_ignored(datagram: str) -> None:
    peer = Peer()
    peer.say_bytes(bytes.fromhex(datagram))
    assert peer.sent() == []
    assert peer.happened() == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([(9, b"")], coap.BAD_OPTION),
        ([(65001, b"x")], coap.BAD_OPTION),
        ([(11, b"\xff\xfe")], coap.BAD_OPTION),
        ([(11, b"x" * 256)], coap.BAD_OPTION),
        ([(15, b"\xc3(")], coap.BAD_OPTION),
        ([(15, b"x=1")] * 9, coap.BAD_OPTION),
        ([(17, b""), (17, b"")], coap.BAD_OPTION),
        ([(27, bytes(4))], coap.BAD_OPTION),
        ([(27, b"\x07")], coap.BAD_REQUEST),
        ([(23, b"\x07")], coap.BAD_REQUEST),
        ([(35, b"coap://x")], coap.PROXYING_NOT_SUPPORTED),
    ],
)
def test_a_bad_option_is_refused_and_never_executed(options: list[Option], code: int) -> None:
    peer = Peer()
    mid = peer.say(coap.CON, coap.POST, token=b"t", options=options)
    assert peer.sent() == [Message(coap.ACK, code, mid, b"t", [], b"")]
    mid = peer.say(coap.NON, coap.POST, token=b"t", options=options)
    assert peer.sent() == [Message(coap.RST, coap.EMPTY, mid, b"", [], b"")]
    assert peer.happened() == []


def test_the_seventeenth_open_request_is_put_off() -> None:
    peer = Peer()
    for number in range(16):
        peer.ask(coap.POST, str(number))
    assert len(peer.happened()) == 16
    # Acknowledged or not, a request is open until it is answered.
    peer.wait(1.0)
    assert len(peer.sent()) == 16
    peer.ask(coap.POST, "one", "more")
    put_off = peer.sent_one()
    assert (put_off.code, put_off.options) == (coap.SERVICE_UNAVAILABLE, [(MAX_AGE, b"\x05")])
    peer.say(coap.NON, coap.POST)
    assert peer.sent_one().type == coap.RST
    assert peer.happened() == []
    respond(peer, 1, coap.CHANGED)
    peer.say(coap.ACK, coap.EMPTY, mid=peer.sent_one().mid)
    peer.happened()
    peer.ask(coap.POST, "one", "more")
    assert received(peer).path == ("one", "more")


def test_sixteen_answered_requests_are_remembered_and_the_seventeenth_drives_out_the_first() -> None:
    peer = Peer()
    mids = []
    for _ in range(16):
        mids.append(peer.ask(coap.GET, "a"))
        respond(peer, received(peer).request_id, coap.CONTENT)
        peer.happened()
    for mid in mids:
        peer.ask(coap.GET, "a", mid=mid)
    assert peer.happened() == []
    peer.ask(coap.GET, "a")
    respond(peer, received(peer).request_id, coap.CONTENT)
    peer.happened()
    for mid in mids[1:]:
        peer.ask(coap.GET, "a", mid=mid)
    assert peer.happened() == []
    peer.ask(coap.GET, "a", mid=mids[0])
    assert received(peer).path == ("a",)


def test_an_open_request_is_not_forgotten_however_many_follow() -> None:
    peer = Peer()
    open_mid = peer.ask(coap.POST, "bs")
    received(peer)
    peer.wait(0.5)
    for _ in range(40):
        peer.ask(coap.GET, "a")
        respond(peer, received(peer).request_id, coap.CONTENT)
        peer.happened()
    peer.sent()
    peer.ask(coap.POST, "bs", mid=open_mid)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, open_mid, b"", [], b"")]
    assert peer.happened() == []
