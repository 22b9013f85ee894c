"""The peer's answers in blocks: fetched one by one, message by message (RFC 7959 2.4)."""

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import BLOCK1, BLOCK2, Block, uri_path
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import Peer, block1, block2, block_of, write


def discover(peer: Peer) -> tuple[int, Message]:
    exchange = peer.exchanges.request(coap.GET, ("0",), peer.now, options=[(17, b"\x28")])
    return exchange, peer.sent_one()


def test_a_large_answer_is_fetched_block_by_block() -> None:
    peer = Peer()
    links = bytes(range(200))
    exchange, message = discover(peer)
    token = message.token
    peer.answer(message, coap.CONTENT, [(12, b"\x28"), block2(0, True, 64)], links[:64])
    for number in (1, 2, 3):
        message = peer.sent_one()
        assert (message.code, message.token, message.payload) == (coap.GET, token, b"")
        assert (uri_path(message.options), block_of(message, BLOCK2)) == (("0",), Block(number, False, 64))
        assert (17, b"\x28") in message.options
        assert peer.happened() == []
        more = number < 3
        peer.answer(message, coap.CONTENT, [block2(number, more, 64)], links[number * 64 : number * 64 + 64])
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.code, event.payload) == (exchange, coap.CONTENT, links)
    assert (12, b"\x28") in event.options


def test_a_single_block_is_the_whole_answer() -> None:
    peer = Peer()
    _, message = discover(peer)
    peer.answer(message, coap.CONTENT, [block2(0, False, 64)], b"</>")
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert event.payload == b"</>"


@pytest.mark.parametrize(
    "options",
    [[block2(0, True, 64)], [block2(2, True, 64)], [block2(1, True, 32)], []],
    ids=["again", "gap", "misplaced", "whole"],
)
def test_another_block_than_the_one_asked_for_fails_the_request(options: list[Option]) -> None:
    peer = Peer()
    exchange, message = discover(peer)
    peer.answer(message, coap.CONTENT, [block2(0, True, 64)], bytes(64))
    peer.answer(peer.sent_one(), coap.CONTENT, options, bytes(64))
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_BLOCK)]


def test_an_answer_that_does_not_start_at_its_start_fails_the_request() -> None:
    peer = Peer()
    exchange, message = discover(peer)
    peer.answer(message, coap.CONTENT, [block2(1, True, 64)], bytes(64))
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_BLOCK)]


def test_an_error_midway_is_the_answer() -> None:
    peer = Peer()
    exchange, message = discover(peer)
    peer.answer(message, coap.CONTENT, [block2(0, True, 64)], bytes(64))
    peer.answer(peer.sent_one(), coap.REQUEST_ENTITY_INCOMPLETE)
    assert peer.happened() == [ResponseReceived(exchange, coap.REQUEST_ENTITY_INCOMPLETE, [], b"", False)]


def test_an_endless_answer_is_too_large() -> None:
    peer = Peer()
    exchange, message = discover(peer)
    for number in range(65):
        peer.answer(message, coap.CONTENT, [block2(number, True, 1024)], bytes(1024))
        if number < 64:
            assert peer.happened() == []
            message = peer.sent_one()
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.TOO_LARGE)]
    assert peer.sent() == []


def test_a_separate_answer_that_is_too_large_is_still_acknowledged() -> None:
    peer = Peer(Parameters(max_payload=64))
    exchange, message = discover(peer)
    peer.say(coap.CON, coap.CONTENT, token=message.token, options=[block2(0, True, 128)], payload=bytes(128))
    assert peer.sent_one().type == coap.ACK
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.TOO_LARGE)]


def test_a_separate_answer_that_cannot_be_used_is_still_acknowledged() -> None:
    peer = Peer()
    exchange, message = discover(peer)
    peer.say(coap.CON, coap.CONTENT, token=message.token, options=[block2(1, True, 64)], payload=bytes(64))
    assert peer.sent_one().type == coap.ACK
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_BLOCK)]


def test_a_write_in_blocks_may_have_an_answer_in_blocks() -> None:
    peer = Peer()
    exchange, message = write(peer, bytes(1500))
    peer.answer(message, coap.CONTINUE, [block1(0, True, 1024)])
    message = peer.sent_one()
    peer.answer(message, coap.CHANGED, [block1(1, False, 1024), block2(0, True, 16)], b"a" * 16)
    message = peer.sent_one()
    assert BLOCK1 not in dict(message.options)
    assert (block_of(message, BLOCK2), message.payload) == (Block(1, False, 16), b"")
    peer.answer(message, coap.CHANGED, [block2(1, False, 16)], b"b")
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.payload) == (exchange, b"a" * 16 + b"b")
