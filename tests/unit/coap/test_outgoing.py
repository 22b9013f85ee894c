"""All our requests of one association: repeated, answered, given up, one after the other."""

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.exchange import Exchanges
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import uri_path, uri_query
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import Peer


def delete(peer: Peer) -> tuple[int, Message]:
    exchange = peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    return exchange, peer.sent_one()


def transmissions(peer: Peer) -> list[tuple[float, Message]]:
    """Let time pass until an event; what was sent, with the seconds since now."""
    start, sent = peer.now, []
    while not peer.events and (due := peer.exchanges.next_timer()) is not None:
        peer.wait(due - peer.now)
        sent += [(peer.now - start, message) for message in peer.sent()]
    return sent


def test_a_request_is_sent_and_its_acknowledgement_answers_it() -> None:
    peer = Peer()
    exchange = peer.exchanges.request(
        coap.PUT, ("0", "1"), peer.now, options=[(12, b"\x2d\x16")], payload=b"tlv", query=("a=b",)
    )
    request = peer.sent_one()
    assert (request.type, request.code, request.payload) == (coap.CON, coap.PUT, b"tlv")
    assert (uri_path(request.options), uri_query(request.options)) == (("0", "1"), ("a=b",))
    peer.answer(request, coap.CHANGED, [(12, b"")], b"diagnostic")
    assert peer.happened() == [ResponseReceived(exchange, coap.CHANGED, [(12, b"")], b"diagnostic", False)]
    assert peer.exchanges.next_timer() is None


def test_each_association_starts_where_it_is_told_and_every_request_has_a_new_token() -> None:
    peer = Peer()
    seen = set()
    for _ in range(3):
        _, request = delete(peer)
        assert len(request.token) == 2
        seen.add((request.mid, request.token))
        peer.answer(request, coap.DELETED)
    assert seen == {(0x11, b"\x20\x01"), (0x12, b"\x20\x02"), (0x13, b"\x20\x03")}


def test_message_ids_and_tokens_wrap() -> None:
    peer = Peer()
    peer.exchanges = Exchanges(parameters=Parameters(), first_mid=0xFFFF, token_seed=b"\xff", jitter=lambda: 0.0)
    _, request = delete(peer)
    assert (request.mid, request.token) == (0, b"\x00")


@pytest.mark.parametrize("seed", [b"", b"123456789"])
def test_a_token_seed_has_one_to_eight_bytes(seed: bytes) -> None:
    with pytest.raises(ValueError, match="seed"):
        Exchanges(parameters=Parameters(), first_mid=0, token_seed=seed, jitter=lambda: 0.0)


@pytest.mark.parametrize("size", [0, 8, 15, 48, 1000, 1025, 2048])
def test_a_block_size_is_a_power_of_two_from_16_to_1024(size: int) -> None:
    with pytest.raises(ValueError, match="block size"):
        Parameters(block_size=size)
    with pytest.raises(ValueError, match="block size"):
        Parameters(largest_block=size)
    fitted = Parameters(block_size=128).with_room(64)
    assert (fitted.block_size, fitted.largest_block) == (64, 64)
    assert Parameters(block_size=16).with_room(64).block_size == 16


def test_silence_means_retransmission_then_twice_a_new_message_with_the_same_token_then_failure() -> None:
    peer = Peer()
    exchange, first = delete(peer)
    sent = transmissions(peer)
    assert [seconds for seconds, _ in sent] == [
        *(2.0, 6.0, 14.0, 30.0),
        *(62.0, 64.0, 68.0, 76.0, 92.0),
        *(124.0, 126.0, 130.0, 138.0, 154.0),
    ]
    assert {message.token for _, message in sent} == {first.token}
    mids = [first.mid, *(message.mid for _, message in sent)]
    assert mids == [0x11] * 5 + [0x12] * 5 + [0x13] * 5
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.TIMEOUT)]
    assert peer.exchanges.next_timer() is None


def test_the_first_timeout_is_spread_by_jitter() -> None:
    peer = Peer()
    peer.exchanges = Exchanges(parameters=Parameters(), first_mid=0, token_seed=b"t", jitter=lambda: 1.0)
    delete(peer)
    assert peer.exchanges.next_timer() == peer.now + 3.0


def test_a_request_that_may_find_silence_can_be_given_fewer_tries() -> None:
    peer = Peer()
    exchange = peer.exchanges.request(coap.GET, (), peer.now, max_retransmit=2, repeats=0)
    first, start = peer.sent_one(), peer.now
    assert transmissions(peer) == [(2.0, first), (6.0, first)]
    assert peer.now - start == 14.0
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.TIMEOUT)]


@pytest.mark.parametrize("which", [0x11, 0x12])
def test_an_answer_to_any_message_of_a_repeated_request_counts(which: int) -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.wait(62.0)
    assert {message.mid for message in peer.sent()} == {0x11, 0x12}
    peer.say(coap.ACK, coap.DELETED, which, request.token)
    assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", False)]
    peer.wait(300.0)
    assert peer.sent() == []


def test_an_empty_acknowledgement_ends_retransmission_and_the_separate_answer_is_acknowledged() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.wait(60.0)
    assert peer.sent() == []
    mid = peer.say(coap.CON, coap.DELETED, token=request.token)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, mid, b"", [], b"")]
    assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", True)]


def test_a_duplicate_of_a_separate_answer_is_acknowledged_again() -> None:
    peer = Peer()
    _, request = delete(peer)
    mid = peer.say(coap.CON, coap.DELETED, token=request.token)
    peer.sent()
    peer.happened()
    peer.say(coap.CON, coap.DELETED, mid, request.token)
    assert peer.sent() == [Message(coap.ACK, coap.EMPTY, mid, b"", [], b"")]
    assert peer.happened() == []


def test_sixteen_separate_answers_are_remembered_and_the_seventeenth_drives_out_the_first() -> None:
    peer = Peer()
    answers = []
    for _ in range(17):
        _, request = delete(peer)
        answers.append((peer.say(coap.CON, coap.DELETED, token=request.token), request.token))
        peer.sent()
    for mid, token in answers:
        peer.say(coap.CON, coap.DELETED, mid, token)
    assert [message.type for message in peer.sent()] == [coap.RST] + [coap.ACK] * 16


def test_a_separate_answer_stands_for_a_lost_acknowledgement() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.wait(2.0)
    assert peer.sent() == [request]
    peer.say(coap.CON, coap.DELETED, token=request.token)
    assert peer.sent_one().type == coap.ACK
    assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", True)]
    peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.wait(300.0)
    assert peer.sent() == []
    assert peer.happened() == []


def test_an_acknowledged_request_without_an_answer_fails_and_is_not_sent_again() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.wait(50.0)
    peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.wait(42.9)
    assert peer.happened() == []
    peer.wait(0.1)
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.TIMEOUT)]
    assert peer.sent() == []


def test_a_request_that_takes_the_peer_long_can_be_given_more_time() -> None:
    peer = Peer()
    exchange = peer.exchanges.request(coap.POST, ("35011", "0", "27002"), peer.now, patience=600.0)
    request = peer.sent_one()
    peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.wait(599.0)
    assert peer.happened() == []
    peer.say(coap.CON, coap.CHANGED, token=request.token, payload=b"0")
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.payload) == (exchange, b"0")


def test_a_non_answer_is_taken_once_and_not_acknowledged() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    mid = peer.say(coap.NON, coap.DELETED, token=request.token)
    assert peer.sent() == []
    assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", True)]
    peer.say(coap.NON, coap.DELETED, mid, request.token)
    assert peer.sent() == []
    assert peer.happened() == []


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_reset_ends_the_request(acknowledged: bool) -> None:
    peer = Peer()
    exchange, request = delete(peer)
    if acknowledged:
        peer.say(coap.ACK, coap.EMPTY, request.mid)
    peer.say(coap.RST, coap.EMPTY, request.mid)
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.RESET)]
    peer.wait(300.0)
    assert peer.sent() == []


@pytest.mark.parametrize(
    ("type", "code", "mid", "token"),
    [
        (coap.ACK, coap.DELETED, 0x99, b"\x20\x01"),
        (coap.ACK, coap.DELETED, 0x11, b"\x20\x02"),
        (coap.ACK, coap.DELETED, 0x11, b""),
        (coap.ACK, coap.EMPTY, 0x99, b""),
        (coap.RST, coap.EMPTY, 0x99, b""),
        (coap.RST, coap.DELETED, 0x11, b"\x20\x01"),
        (coap.NON, coap.DELETED, 0x99, b"other"),
        (coap.NON, coap.EMPTY, 0x11, b""),
    ],
)
def test_what_does_not_match_is_ignored(type: int, code: int, mid: int, token: bytes) -> None:
    peer = Peer()
    exchange, request = delete(peer)
    assert (request.mid, request.token) == (0x11, b"\x20\x01")
    peer.say(type, code, mid, token)
    assert peer.sent() == []
    assert peer.happened() == []
    # It did not count as an acknowledgement either: the request is sent again.
    peer.wait(2.5)
    assert peer.sent() == [request]
    peer.answer(request, coap.DELETED)
    assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", False)]


def test_a_confirmable_answer_nobody_waits_for_is_reset() -> None:
    peer = Peer()
    mid = peer.say(coap.CON, coap.CONTENT, token=b"other")
    assert peer.sent() == [Message(coap.RST, coap.EMPTY, mid, b"", [], b"")]
    assert peer.happened() == []


@pytest.mark.parametrize("bad", [(9, b""), (23, bytes(4)), (27, b"\x07"), (11, b"path")])
def test_an_answer_with_a_critical_option_not_understood_fails_the_request(bad: Option) -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.answer(request, coap.DELETED, [bad])
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_RESPONSE)]
    assert peer.sent() == []
    exchange, request = delete(peer)
    mid = peer.say(coap.CON, coap.DELETED, token=request.token, options=[bad])
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_RESPONSE)]
    assert peer.sent() == [Message(coap.RST, coap.EMPTY, mid, b"", [], b"")]


def test_one_request_is_under_way_at_a_time_and_the_others_follow_in_order() -> None:
    peer = Peer()
    ids = [peer.exchanges.request(coap.DELETE, (str(number),), peer.now) for number in range(3)]
    for number, exchange in enumerate(ids):
        request = peer.sent_one()
        assert uri_path(request.options) == (str(number),)
        peer.answer(request, coap.DELETED)
        assert peer.happened() == [ResponseReceived(exchange, coap.DELETED, [], b"", False)]
    assert peer.sent() == []


def test_a_failed_request_lets_the_next_one_go() -> None:
    peer = Peer()
    first = peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    second = peer.exchanges.request(coap.DELETE, ("1",), peer.now)
    transmissions(peer)
    assert peer.happened() == [ExchangeFailed(first, ExchangeFailure.TIMEOUT)]
    assert peer.exchanges.next_timer() == peer.now + 2.0
    peer.wait(2.0)
    peer.answer(peer.sent_one(), coap.DELETED)
    assert peer.happened() == [ResponseReceived(second, coap.DELETED, [], b"", False)]


def test_a_cancelled_request_is_silent_and_the_next_one_is_due_at_once() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    waiting = peer.exchanges.request(coap.DELETE, ("1",), peer.now)
    never = peer.exchanges.request(coap.DELETE, ("2",), peer.now)
    peer.exchanges.cancel(never)
    peer.exchanges.cancel(exchange)
    peer.answer(request, coap.DELETED)
    assert peer.happened() == []
    peer.wait(0.0)
    following = peer.sent_one()
    assert uri_path(following.options) == ("1",)
    peer.answer(following, coap.DELETED)
    assert peer.happened() == [ResponseReceived(waiting, coap.DELETED, [], b"", False)]
    peer.wait(300.0)
    assert peer.sent() == []


def test_the_separate_answer_to_a_cancelled_request_is_reset() -> None:
    peer = Peer()
    exchange, request = delete(peer)
    peer.exchanges.cancel(exchange)
    peer.say(coap.CON, coap.DELETED, token=request.token)
    assert peer.sent_one().type == coap.RST
