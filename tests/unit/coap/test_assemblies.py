"""The peer's requests in blocks: a body is put together, message by message (RFC 7959 2.5)."""

from typing import Any

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import ResponseDelivered
from lwm2m.coap.options import REQUEST_TAG, SIZE1, decode_uint
from tests.unit.coap.peer import Peer, block1, received, respond, upload


def test_blocks_are_continued_and_the_whole_body_is_one_request() -> None:
    peer = Peer()
    first = upload(peer, 0, True, b"a" * 16)
    assert (first.type, first.code, first.options) == (coap.ACK, coap.CONTINUE, [block1(0, True, 16)])
    second = upload(peer, 1, True, b"b" * 16)
    assert (second.code, second.options) == (coap.CONTINUE, [block1(1, True, 16)])
    assert peer.happened() == []
    peer.ask(coap.POST, "est", "sen", options=[(12, b"\x01\x1e"), block1(2, False, 16)], payload=b"c")
    request = received(peer)
    assert request.payload == b"a" * 16 + b"b" * 16 + b"c"
    assert (12, b"\x01\x1e") in request.options
    respond(peer, request.request_id, coap.CHANGED, options=[(12, b"\x01\x1f")], payload=b"certificate")
    assert peer.sent_one().options == [(12, b"\x01\x1f"), block1(2, False, 16)]
    assert peer.happened() == [ResponseDelivered(request.request_id)]


def test_tokens_play_no_part() -> None:
    peer = Peer()
    for number, more in ((0, True), (1, False)):
        peer.ask(coap.PUT, "x", options=[block1(number, more, 16)], payload=b"x" * 16, token=bytes([number]))
    assert received(peer).payload == b"x" * 32


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"token": b"A"}, {"token": b"B"}),
        ({"options": (REQUEST_TAG, b"A")}, {"options": (REQUEST_TAG, b"B")}),
        ({"options": (15, b"a=1")}, {"options": (15, b"a=2")}),
    ],
    ids=["token", "request-tag", "query"],
)
def test_of_two_bodies_at_a_time_the_later_one_counts_and_no_block_of_the_other(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    peer = Peer()

    def say(said: dict[str, Any], number: int, more: bool, payload: bytes) -> int:
        options = sorted([block1(number, more, 16), *([said["options"]] if "options" in said else [])])
        peer.ask(coap.POST, "est", "sen", options=options, payload=payload, token=said.get("token", b""))
        sent = peer.sent()
        return sent[0].code if sent else 0

    assert say(first, 0, True, b"a" * 16) == coap.CONTINUE
    assert say(second, 0, True, b"b" * 16) == coap.CONTINUE
    assert say(first, 1, True, b"a" * 16) == coap.REQUEST_ENTITY_INCOMPLETE
    assert say(first, 1, False, b"a") == coap.REQUEST_ENTITY_INCOMPLETE
    assert peer.happened() == []
    assert say(second, 1, False, b"b") == 0
    assert received(peer).payload == b"b" * 17
    assert say(first, 1, False, b"a") == coap.REQUEST_ENTITY_INCOMPLETE


def test_a_body_with_a_token_for_each_block_is_told_by_its_request_tag_and_starts_again() -> None:
    # As libcoap sends it: 4.08 for the body that was replaced, which then comes whole.
    peer = Peer()
    for number, tag, more, code in (
        (0, b"A", True, coap.CONTINUE),
        (0, b"B", True, coap.CONTINUE),
        (1, b"A", False, coap.REQUEST_ENTITY_INCOMPLETE),
        (0, b"A", True, coap.CONTINUE),
    ):
        peer.ask(
            coap.PUT,
            "x",
            options=[block1(number, more, 16), (REQUEST_TAG, tag)],
            payload=tag * 16,
            token=bytes([number, tag[0]]),
        )
        assert peer.sent_one().code == code
    peer.ask(coap.PUT, "x", options=[block1(1, False, 16), (REQUEST_TAG, b"A")], payload=b"A" * 16, token=b"another")
    assert received(peer).payload == b"A" * 32


def test_of_three_bodies_at_a_time_none_gets_blocks_of_another() -> None:
    peer = Peer()
    for token in (b"1", b"2", b"3"):
        peer.ask(coap.PUT, "x", options=[block1(0, True, 16)], payload=token * 16, token=token)
        assert peer.sent_one().code == coap.CONTINUE
    for token in (b"1", b"2"):
        peer.ask(coap.PUT, "x", options=[block1(1, False, 16)], payload=token * 16, token=token)
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
    peer.ask(coap.PUT, "x", options=[block1(1, False, 16)], payload=b"3" * 16, token=b"3")
    assert received(peer).payload == b"3" * 32


def test_a_repeated_block_is_answered_as_before_and_counted_once() -> None:
    peer = Peer()
    upload(peer, 0, True, b"a" * 16)
    mid = peer.ask(coap.POST, "est", "sen", options=[block1(1, True, 16)], payload=b"b" * 16)
    answer = peer.sent_one()
    peer.ask(coap.POST, "est", "sen", mid=mid, options=[block1(1, True, 16)], payload=b"b" * 16)
    assert peer.sent_one() == answer
    upload_again = upload(peer, 1, True, b"b" * 16)
    assert upload_again.code == coap.CONTINUE
    peer.ask(coap.POST, "est", "sen", options=[block1(2, False, 16)], payload=b"c")
    assert received(peer).payload == b"a" * 16 + b"b" * 16 + b"c"


def test_a_gap_is_answered_incomplete() -> None:
    peer = Peer()
    upload(peer, 0, True, b"a" * 16)
    assert upload(peer, 2, True, b"c" * 16).code == coap.REQUEST_ENTITY_INCOMPLETE
    assert upload(peer, 1, True, b"b" * 16, "other").code == coap.REQUEST_ENTITY_INCOMPLETE
    assert peer.happened() == []


def test_64_kilobytes_are_taken_and_one_byte_more_is_not() -> None:
    peer = Peer()
    size = 1024
    for extra in (0, 1):
        for number in range(64):
            peer.ask(
                coap.POST,
                "x",
                options=[block1(number, extra == 1 or number < 63, size)],
                payload=bytes(size),
            )
        if extra == 0:
            assert len(received(peer).payload) == 65536
            peer.sent()
        else:
            assert {message.code for message in peer.sent()} == {coap.CONTINUE}
            peer.ask(coap.POST, "x", options=[block1(64, False, size)], payload=b"x")
            refusal = peer.sent_one()
            assert refusal.code == coap.REQUEST_ENTITY_TOO_LARGE
            assert decode_uint(dict(refusal.options)[SIZE1]) == 65536
            assert peer.happened() == []


def test_too_large_is_said_with_the_first_block_when_the_size_is_announced() -> None:
    peer = Peer()
    refusal = upload(peer, 0, True, b"a" * 16, options=((SIZE1, b"\x01\x00\x01"),))
    assert refusal.code == coap.REQUEST_ENTITY_TOO_LARGE


def test_the_fifth_body_at_a_time_drives_out_the_oldest() -> None:
    peer = Peer()
    for number in range(5):
        peer.now += 1
        assert upload(peer, 0, True, b"a" * 16, str(number)).code == coap.CONTINUE
    assert upload(peer, 1, False, b"b", "0").code == coap.REQUEST_ENTITY_INCOMPLETE
    peer.ask(coap.POST, "1", options=[block1(1, False, 16)], payload=b"b")
    assert received(peer).payload == b"a" * 16 + b"b"


def test_a_body_left_alone_is_forgotten() -> None:
    peer = Peer()
    upload(peer, 0, True, b"a" * 16)
    assert peer.exchanges.next_timer() == peer.now + 247.0
    peer.wait(247.0)
    assert peer.exchanges.next_timer() is None
    assert upload(peer, 1, False, b"b").code == coap.REQUEST_ENTITY_INCOMPLETE


def test_blocks_in_non_messages_are_answered_in_kind() -> None:
    peer = Peer()
    peer.say(coap.NON, coap.PUT, options=[(11, b"x"), block1(0, True, 16)], payload=b"a" * 16)
    assert (answer := peer.sent_one()).type == coap.NON
    assert answer.code == coap.CONTINUE
