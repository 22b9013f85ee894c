"""Our requests in blocks, message by message (RFC 7959 2.5)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.events import Event, ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import BLOCK1, SIZE1, Block, decode_uint, encode_uint
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import Peer, block1, block_of, write


def test_a_large_write_goes_out_in_blocks_under_one_token() -> None:
    peer = Peer()
    payload = bytes(range(250)) * 9
    exchange, message = write(peer, payload)
    assert decode_uint(dict(message.options)[SIZE1]) == len(payload)
    body, tokens, numbers = b"", set(), []
    while True:
        body += message.payload
        tokens.add(message.token)
        numbers.append(block_of(message, BLOCK1).number)
        assert (12, b"\x2d\x16") in message.options
        if not block_of(message, BLOCK1).more:
            break
        peer.answer(message, coap.CONTINUE, [block1(numbers[-1], True, 1024)])
        assert peer.happened() == []
        message = peer.sent_one()
        assert SIZE1 not in dict(message.options)
    assert (body, len(tokens), numbers) == (payload, 1, [0, 1, 2])
    peer.answer(message, coap.CHANGED, [block1(2, False, 1024)])
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.code) == (exchange, coap.CHANGED)


def test_a_payload_of_one_block_goes_out_whole() -> None:
    peer = Peer(Parameters(block_size=64))
    _, message = write(peer, bytes(64))
    assert BLOCK1 not in dict(message.options)
    assert len(message.payload) == 64


def test_a_lost_block_is_retransmitted_alone() -> None:
    peer = Peer()
    _, first = write(peer, bytes(2000))
    peer.answer(first, coap.CONTINUE, [block1(0, True, 1024)])
    second = peer.sent_one()
    peer.wait(2.0)
    assert peer.sent() == [second]
    peer.answer(first, coap.CONTINUE, [block1(0, True, 1024)])
    assert peer.sent() == []
    peer.answer(second, coap.CHANGED, [block1(1, False, 1024)])
    assert len(peer.happened()) == 1


def test_a_smaller_size_is_honoured_and_kept_for_later_writes() -> None:
    peer = Peer()
    _, first = write(peer, bytes(2000))
    peer.answer(first, coap.CONTINUE, [block1(0, True, 256)])
    message = peer.sent_one()
    assert block_of(message, BLOCK1) == Block(4, True, 256)
    for number in range(4, 7):
        peer.answer(message, coap.CONTINUE, [block1(number, True, 256)])
        message = peer.sent_one()
    assert block_of(message, BLOCK1) == Block(7, False, 256)
    peer.answer(message, coap.CHANGED, [block1(7, False, 256)])
    assert len(peer.happened()) == 1
    _, again = write(peer, bytes(300))
    assert block_of(again, BLOCK1) == Block(0, True, 256)


@pytest.mark.parametrize("options", [[block1(0, False, 512)], [(SIZE1, encode_uint(512))], []])
def test_what_was_sent_whole_beyond_a_block_goes_out_in_blocks_when_asked_for_and_so_does_what_follows(
    options: list[Option],
) -> None:
    peer = Peer(Parameters().with_room(900))
    _, whole = write(peer, bytes(700))
    assert len(whole.payload) == 700
    peer.answer(whole, coap.REQUEST_ENTITY_TOO_LARGE, options)
    first = peer.sent_one()
    assert (block_of(first, BLOCK1), len(first.payload)) == (Block(0, True, 512), 512)
    peer.answer(first, coap.CONTINUE, [block1(0, True, 512)])
    peer.answer(peer.sent_one(), coap.CHANGED, [block1(1, False, 512)])
    assert [type(event) for event in peer.happened()] == [ResponseReceived]
    _, again = write(peer, bytes(700))
    assert block_of(again, BLOCK1) == Block(0, True, 512)


def test_incomplete_midway_starts_again_once() -> None:
    peer = Peer()
    exchange, first = write(peer, bytes(2000))
    peer.answer(first, coap.CONTINUE, [block1(0, True, 1024)])
    peer.answer(peer.sent_one(), coap.REQUEST_ENTITY_INCOMPLETE)
    assert peer.happened() == []
    again = peer.sent_one()
    assert (again.token, block_of(again, BLOCK1)) == (first.token, Block(0, True, 1024))
    peer.answer(again, coap.CONTINUE, [block1(0, True, 1024)])
    peer.answer(peer.sent_one(), coap.REQUEST_ENTITY_INCOMPLETE)
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.code) == (exchange, coap.REQUEST_ENTITY_INCOMPLETE)
    assert peer.sent() == []


@pytest.mark.parametrize(("length", "hint"), [(2000, block1(0, True, 512)), (900, (SIZE1, b"\x02\x00"))])
def test_too_large_with_a_smaller_size_starts_again_with_it(length: int, hint: Option) -> None:
    peer = Peer()
    _, message = write(peer, bytes(length))
    peer.answer(message, coap.REQUEST_ENTITY_TOO_LARGE, [hint])
    again = peer.sent_one()
    assert again.token == message.token
    assert block_of(again, BLOCK1) == Block(0, True, 512)
    assert peer.happened() == []


@pytest.mark.parametrize(("length", "sizes"), [(10, []), (64, []), (100, [64]), (600, [512, 256, 128, 64])])
def test_too_large_without_a_hint_is_the_answer_when_no_smaller_block_is_taken(length: int, sizes: list[int]) -> None:
    peer = Peer()
    exchange, message = write(peer, bytes(length))
    peer.answer(message, coap.REQUEST_ENTITY_TOO_LARGE)
    for size in sizes:
        message = peer.sent_one()
        assert block_of(message, BLOCK1) == Block(0, True, size)
        peer.answer(message, coap.REQUEST_ENTITY_TOO_LARGE)
    assert peer.happened() == [ResponseReceived(exchange, coap.REQUEST_ENTITY_TOO_LARGE, [], b"", False, bool(sizes))]


def test_a_device_that_cuts_datagrams_off_is_written_to_in_blocks_that_it_takes() -> None:
    """Its 4.13 has no Block1 and no Size1: it has read neither (Anjay with an input buffer of 600 bytes)."""
    peer = Peer()
    payload = bytes(number % 251 for number in range(2000))
    exchange, refused = write(peer, payload)
    peer.answer(refused, coap.REQUEST_ENTITY_TOO_LARGE)
    body = b""
    for number in range(4):
        message = peer.sent_one()
        block = block_of(message, BLOCK1)
        assert block == Block(number, number < 3, 512)
        body += message.payload
        peer.answer(message, coap.CONTINUE if block.more else coap.CHANGED, [block1(number, block.more, 512)])
    assert body == payload
    [event] = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.code) == (exchange, coap.CHANGED)
    # The next request keeps to what was found out.
    _, message = write(peer, payload)
    assert block_of(message, BLOCK1) == Block(0, True, 512)


def test_too_large_is_the_answer_to_a_request_without_a_body_whatever_its_hint() -> None:
    peer = Peer()
    exchange, message = write(peer, b"")
    hint = (SIZE1, b"\x10")
    peer.answer(message, coap.REQUEST_ENTITY_TOO_LARGE, [hint])
    assert peer.happened() == [ResponseReceived(exchange, coap.REQUEST_ENTITY_TOO_LARGE, [hint], b"", False)]
    assert peer.sent() == []


def test_go_on_is_the_answer_to_a_request_that_was_sent_whole() -> None:
    peer = Peer()
    exchange, message = write(peer, bytes(10))
    peer.answer(message, coap.CONTINUE)
    assert peer.happened() == [ResponseReceived(exchange, coap.CONTINUE, [], b"", False)]


def test_an_error_to_any_block_is_the_answer() -> None:
    peer = Peer()
    exchange, message = write(peer, bytes(2000))
    peer.answer(message, coap.BAD_REQUEST, payload=b"no")
    assert peer.happened() == [ResponseReceived(exchange, coap.BAD_REQUEST, [], b"no", False, True)]
    assert peer.sent() == []


@pytest.mark.parametrize(
    ("room", "whole", "size"), [(960, 960, 512), (1023, 1023, 512), (2000, 1024, 1024), (300, 300, 256)]
)
def test_what_a_datagram_has_room_for_goes_out_whole_though_no_block_is_so_large(
    room: int, whole: int, size: int
) -> None:
    """Zephyr takes records of 1024 bytes, which hold no block of that size, and no instance that comes in blocks."""
    peer = Peer(Parameters().with_room(room))
    _, message = write(peer, bytes(whole))
    assert (BLOCK1 in dict(message.options), len(message.payload)) == (False, whole)
    peer.answer(message, coap.CHANGED)
    _, message = write(peer, bytes(whole + 1))
    assert block_of(message, BLOCK1) == Block(0, True, size)
    # A device that asks for smaller blocks gets nothing larger any more.
    hint = block1(0, True, 64)
    peer.answer(message, coap.REQUEST_ENTITY_TOO_LARGE, [hint])
    peer.answer(peer.sent_one(), coap.BAD_REQUEST)
    _, message = write(peer, bytes(65))
    assert block_of(message, BLOCK1) == Block(0, True, 64)


@pytest.mark.parametrize("size", [16, 256])
def test_an_operator_who_asks_for_small_blocks_gets_no_larger_message(size: int) -> None:
    peer = Peer(Parameters(block_size=size).with_room(960))
    _, message = write(peer, bytes(size + 1))
    assert block_of(message, BLOCK1) == Block(0, True, size)


@pytest.mark.parametrize(
    ("code", "options"), [(coap.CONTINUE, [block1(1, True, 1024)]), (coap.CHANGED, []), (coap.CHANGED, [(12, b"")])]
)
def test_an_answer_to_another_block_fails_the_write(code: int, options: list[Option]) -> None:
    peer = Peer()
    exchange, message = write(peer, bytes(2000))
    peer.answer(message, code, options)
    assert peer.happened() == [ExchangeFailed(exchange, ExchangeFailure.BAD_BLOCK)]


def test_separate_answers_to_blocks_work_and_a_late_one_is_only_acknowledged() -> None:
    peer = Peer()
    exchange, first = write(peer, bytes(2000))
    peer.say(coap.ACK, coap.EMPTY, first.mid)
    peer.say(coap.CON, coap.CONTINUE, token=first.token, options=[block1(0, True, 1024)])
    acknowledgement, second = peer.sent()
    assert (acknowledgement.type, block_of(second, BLOCK1).number) == (coap.ACK, 1)
    # The same block answered once more under another message id: two copies of it had arrived.
    peer.say(coap.CON, coap.CONTINUE, token=first.token, options=[block1(0, True, 1024)])
    assert peer.sent_one().type == coap.ACK
    assert peer.happened() == []
    peer.answer(second, coap.CHANGED, [block1(1, False, 1024)])
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert event.exchange_id == exchange


def silent_until_repeated(peer: Peer) -> Message:
    """The message that repeats one under a new message id, when nothing was said to that and its retransmissions."""
    mids: list[int] = []
    while True:
        peer.wait(1.0)
        for message in peer.sent():
            if mids and message.mid not in mids:
                return message
            mids.append(message.mid)


def test_a_device_that_throws_large_datagrams_away_is_written_to_in_smaller_blocks() -> None:
    peer = Peer()
    payload = bytes(range(250)) * 9
    exchange, first = write(peer, payload)
    began = peer.now
    while not (sent := [message for message in peer.sent() if message.mid != first.mid]):
        peer.wait(1.0)
    sizes = [block_of(message, BLOCK1).size for message in sent]
    # a Wakaama that has said nothing for 40 s begins with a new handshake
    assert peer.now - began < 25
    message = silent_until_repeated(peer)
    body = b""
    while (block := block_of(message, BLOCK1)).more:
        body += message.payload
        peer.answer(message, coap.CONTINUE, [block1(block.number, True, block.size)])
        message = peer.sent_one()
    peer.answer(message, coap.CHANGED, [block1(block.number, False, block.size)])
    assert (sizes, block.size, body + message.payload) == ([256], 64, payload)
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert (event.exchange_id, event.code) == (exchange, coap.CHANGED)
    # it keeps to what it was seen to take
    _, message = write(peer, payload)
    assert block_of(message, BLOCK1).size == 64


def test_a_late_answer_to_the_larger_block_costs_a_new_start_and_no_more() -> None:
    peer = Peer()
    exchange, first = write(peer, bytes(2000))
    assert block_of(silent_until_repeated(peer), BLOCK1).size == 256
    peer.answer(first, coap.CONTINUE, [block1(0, True, 1024)])
    second = peer.sent_one()
    peer.answer(second, coap.REQUEST_ENTITY_INCOMPLETE, [])
    message = peer.sent_one()
    assert block_of(message, BLOCK1) == Block(0, True, 256)
    while (block := block_of(message, BLOCK1)).more:
        peer.answer(message, coap.CONTINUE, [block1(block.number, True, 256)])
        message = peer.sent_one()
    peer.answer(message, coap.CHANGED, [block1(block.number, False, 256)])
    (event,) = peer.happened()
    assert isinstance(event, ResponseReceived)
    assert event.exchange_id == exchange


def test_a_block_that_follows_an_answered_one_is_repeated_as_it_is() -> None:
    peer = Peer()
    _, first = write(peer, bytes(3000))
    peer.answer(first, coap.CONTINUE, [block1(0, True, 1024)])
    peer.sent_one()
    assert block_of(silent_until_repeated(peer), BLOCK1) == Block(1, True, 1024)


def test_a_copy_of_a_separate_answer_that_names_no_block_is_not_the_next_ones_answer() -> None:
    peer = Peer()
    exchange, first = write(peer, bytes(3000))
    peer.say(coap.ACK, coap.EMPTY, first.mid)
    mid = peer.say(coap.CON, coap.CONTINUE, token=first.token)
    acknowledgement, second = peer.sent()
    assert block_of(second, BLOCK1).number == 1
    # All blocks have one token: its message ID alone tells that it was here before.
    peer.say(coap.CON, coap.CONTINUE, mid, first.token)
    assert peer.sent() == [acknowledgement]
    peer.answer(second, coap.CONTINUE, [block1(1, True, 1024)])
    third = peer.sent_one()
    peer.answer(third, coap.CHANGED, [block1(2, False, 1024)])
    assert peer.happened() == [
        ResponseReceived(exchange, coap.CHANGED, [block1(2, False, 1024)], b"", False, True),
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([coap.CONTINUE, coap.CONTINUE, coap.CHANGED, 0x80, 0x88, 0x8D]),
            st.sampled_from([16, 32, None]),
            st.integers(-1, 1),
        ),
        max_size=8,
    )
)
def test_an_answer_that_names_its_block_as_it_was_named_means_what_it_means_in_more_bytes(
    answers: list[tuple[int, int | None, int]],
) -> None:
    """The two ends of a conversation are the same, whether the block is recognised or read."""
    short, long = Peer(Parameters(block_size=32)), Peer(Parameters(block_size=32))
    for peer in (short, long):
        peer.exchanges.request(coap.PUT, ("0", "1"), peer.now, payload=bytes(range(100)))
    asked = short.exchanges.datagrams_to_send()
    assert asked == long.exchanges.datagrams_to_send()
    for code, size, off in answers:
        if not asked:
            break
        request = coap.decode(asked[0])
        block = block_of(request, BLOCK1)
        number, named = block1(max(0, block.number + off), block.more, size or block.size)
        short.answer(request, code, [(number, named)])
        # Leading zeros are allowed (RFC 7252 3.2).
        long.answer(request, code, [(number, bytes(3 - len(named)) + named)])
        assert without_options(short) == without_options(long)
        asked = short.exchanges.datagrams_to_send()
        assert asked == long.exchanges.datagrams_to_send()


def without_options(peer: Peer) -> list[Event]:
    """What happened, whatever options it came with."""
    return [replace(event, options=()) if isinstance(event, ResponseReceived) else event for event in peer.happened()]


def test_each_block_has_all_the_tries_of_the_first() -> None:
    peer = Peer(Parameters(block_size=16, max_retransmit=0, repeats=2))
    peer.exchanges.request(coap.PUT, ("0",), peer.now, payload=bytes(20))
    for number, code in ((0, coap.CONTINUE), (1, coap.CHANGED)):
        # Lost twice, and answered at the last.
        messages = peer.sent()
        for _ in range(2):
            peer.wait(2.5)
            messages += peer.sent()
        assert [block_of(message, BLOCK1).number for message in messages] == [number] * 3
        assert len({message.mid for message in messages}) == 3
        peer.answer(messages[-1], code, [(BLOCK1, dict(messages[-1].options)[BLOCK1])])
    (response,) = peer.happened()
    assert isinstance(response, ResponseReceived)
