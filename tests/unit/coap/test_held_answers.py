"""Our answers in blocks: held until the peer has fetched them, message by message (RFC 7959 2.4)."""

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseDelivered, ResponseLost
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import BLOCK1, BLOCK2, Block
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import Peer, block1, block2, block_of, received, respond, upload


def large(peer: Peer, payload: bytes, *options: Option) -> tuple[RequestReceived, Message]:
    peer.ask(coap.POST, "est", "sen", options=options, payload=b"csr", token=b"1")
    request = received(peer)
    respond(peer, request.request_id, coap.CHANGED, options=[(12, b"\x01\x19")], payload=payload)
    return request, peer.sent_one()


def late(peer: Peer, payload: bytes) -> tuple[RequestReceived, Message]:
    """An answer that comes after the empty acknowledgement, by itself."""
    peer.ask(coap.POST, "est", "sen", payload=b"csr", token=b"1")
    request = received(peer)
    peer.wait(0.5)
    peer.sent()
    respond(peer, request.request_id, coap.CHANGED, payload=payload)
    return request, peer.sent_one()


def test_a_large_answer_is_fetched_in_blocks_and_asked_for_once() -> None:
    peer = Peer()
    payload = bytes(range(256)) * 9
    request, answer = large(peer, payload)
    body, number = answer.payload, 0
    assert block_of(answer, BLOCK2) == Block(0, True, 1024)
    while block_of(answer, BLOCK2).more:
        assert peer.happened() == []
        number += 1
        # An empty payload and a new token: only path and method tell what is fetched.
        peer.ask(coap.POST, "est", "sen", options=[block2(number, False, 1024)], token=bytes([number]))
        answer = peer.sent_one()
        assert (answer.code, answer.token) == (coap.CHANGED, bytes([number]))
        assert (12, b"\x01\x19") in answer.options
        body += answer.payload
    assert body == payload
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    peer.ask(coap.POST, "est", "sen", options=[block2(number, False, 1024)])
    assert peer.sent_one().payload == answer.payload
    assert peer.happened() == []


@pytest.mark.parametrize("size", [16, 64, 512, 1024])
def test_the_size_the_peer_asks_for_is_kept(size: int) -> None:
    peer = Peer()
    _, answer = large(peer, bytes(3000), block2(0, False, size))
    assert block_of(answer, BLOCK2) == Block(0, True, size)
    assert len(answer.payload) == size


def test_blocks_do_not_grow_while_an_answer_is_fetched() -> None:
    peer = Peer()
    large(peer, bytes(range(256)), block2(0, False, 64))
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 128)])
    answer = peer.sent_one()
    assert (block_of(answer, BLOCK2), answer.payload) == (Block(2, True, 64), bytes(range(128, 192)))


def test_a_small_answer_to_a_request_with_block2_says_it_is_the_last() -> None:
    peer = Peer()
    request, answer = large(peer, b"small", block2(0, False, 64))
    assert block_of(answer, BLOCK2) == Block(0, False, 64)
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 64)])
    assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE


def test_our_own_block_size_is_for_who_names_none() -> None:
    peer = Peer(Parameters(block_size=256))
    _, answer = large(peer, bytes(257))
    assert block_of(answer, BLOCK2) == Block(0, True, 256)
    peer = Peer(Parameters(block_size=256))
    _, answer = large(peer, bytes(3000), block2(0, False, 1024))
    assert block_of(answer, BLOCK2) == Block(0, True, 1024)


def test_a_peer_that_sends_its_request_in_blocks_named_a_size() -> None:
    peer = Peer(Parameters(block_size=256))
    _, answer = large(peer, bytes(3000), block1(0, False, 512))
    assert block_of(answer, BLOCK2) == Block(0, True, 512)


def test_no_block_is_larger_than_a_datagram() -> None:
    peer = Peer(Parameters(largest_block=256))
    _, answer = large(peer, bytes(3000), block2(0, False, 1024))
    assert block_of(answer, BLOCK2) == Block(0, True, 256)


def test_a_continuation_of_nothing_is_incomplete_and_never_a_request() -> None:
    peer = Peer()
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 64)])
    assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
    assert peer.happened() == []


def test_a_block_beyond_the_end_is_a_bad_request() -> None:
    peer = Peer()
    large(peer, bytes(2000))
    peer.ask(coap.POST, "est", "sen", options=[block2(2, False, 1024)])
    assert peer.sent_one().code == coap.BAD_REQUEST


def test_an_answer_not_fetched_to_its_end_is_lost() -> None:
    peer = Peer()
    request, _ = large(peer, bytes(2000))
    assert peer.happened() == []
    peer.wait(247.0)
    assert peer.happened() == [ResponseLost(request.request_id)]
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
    assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE


def test_asking_anew_replaces_what_is_held() -> None:
    peer = Peer()
    first, _ = large(peer, bytes(2000))
    second, _ = large(peer, b"n" * 2000)
    assert peer.happened() == [ResponseLost(first.request_id)]
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
    assert peer.sent_one().payload == b"n" * 976
    assert peer.happened() == [ResponseDelivered(second.request_id)]


def test_a_newer_answer_in_one_message_is_not_continued_with_blocks_of_an_older_one() -> None:
    peer = Peer()
    first, _ = large(peer, bytes(2000))
    second, _ = large(peer, b"whole", (17, b"\x01\x1f"))
    assert peer.happened() == [ResponseLost(first.request_id), ResponseDelivered(second.request_id)]
    for options in ((), ((17, b"\x01\x1f"),)):
        peer.ask(coap.POST, "est", "sen", options=[*options, block2(1, False, 1024)])
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE


def test_an_answer_to_another_path_leaves_what_is_held() -> None:
    peer = Peer()
    large(peer, bytes(2000))
    peer.ask(coap.POST, "est", "sren", payload=b"csr")
    respond(peer, received(peer).request_id, coap.CHANGED, payload=b"whole")
    peer.sent()
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
    assert len(peer.sent_one().payload) == 976


def test_a_continuation_has_the_accept_and_the_query_of_its_request() -> None:
    peer = Peer()
    accepting, asking = (17, b"\x01\x1f"), (15, b"rt=ace.est")
    request, _ = large(peer, bytes(2000), asking, accepting)
    for options in ((), (asking,), (accepting,), (asking, (17, b"\x01\x19")), ((15, b"rt=core.rd"), accepting)):
        peer.ask(coap.POST, "est", "sen", options=[*options, block2(1, False, 1024)])
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
    peer.ask(coap.POST, "est", "sen", options=[asking, accepting, block2(1, False, 1024)])
    assert len(peer.sent_one().payload) == 976
    assert peer.happened() == [ResponseDelivered(request.request_id)]


def test_a_continuation_without_accept_is_known_by_the_token_of_its_request() -> None:
    # As the clients that were made from libcoap 4.2's example: they repeat URI and token and nothing else.
    peer = Peer()
    asking = (15, b"rt=ace.est")
    request, _ = large(peer, bytes(2000), asking, (17, b"\x01\x1f"))
    for token, options in ((b"2", (asking,)), (b"", (asking,)), (b"1", ()), (b"1", (asking, (17, b"\x01\x19")))):
        peer.ask(coap.POST, "est", "sen", options=[*options, block2(1, False, 1024)], token=token)
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
    peer.ask(coap.POST, "est", "sen", options=[asking, block2(1, False, 1024)], token=b"1")
    assert len(peer.sent_one().payload) == 976
    assert peer.happened() == [ResponseDelivered(request.request_id)]


def test_a_separate_answer_may_be_large_and_its_acknowledgement_is_not_the_delivery() -> None:
    peer = Peer()
    request, separate = late(peer, bytes(1500))
    assert (separate.type, block_of(separate, BLOCK2)) == (coap.CON, Block(0, True, 1024))
    peer.say(coap.ACK, coap.EMPTY, separate.mid)
    assert peer.happened() == []
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
    assert len(peer.sent_one().payload) == 476
    assert peer.happened() == [ResponseDelivered(request.request_id)]


@pytest.mark.parametrize("end", ["nothing", "a reset"])
def test_an_answer_fetched_whole_is_not_lost_with_the_acknowledgement_of_its_first_block(end: str) -> None:
    peer = Peer()
    request, separate = late(peer, bytes(1500))
    peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
    assert peer.happened() == [ResponseDelivered(request.request_id)]
    if end == "a reset":
        peer.say(coap.RST, coap.EMPTY, separate.mid)
    peer.wait(400.0)
    assert peer.happened() == []


def test_an_answer_of_which_nothing_was_fetched_is_lost_once() -> None:
    peer = Peer()
    request, _ = late(peer, bytes(1500))
    peer.wait(400.0)
    assert peer.happened() == [ResponseLost(request.request_id)]


def test_body_and_answer_may_both_come_in_blocks() -> None:
    peer = Peer()
    upload(peer, 0, True, b"a" * 16)
    peer.ask(coap.POST, "est", "sen", options=[block2(0, False, 32), block1(1, False, 16)], payload=b"b")
    request = received(peer)
    respond(peer, request.request_id, coap.CHANGED, payload=bytes(40))
    answer = peer.sent_one()
    assert (block_of(answer, BLOCK1), block_of(answer, BLOCK2)) == (Block(1, False, 16), Block(0, True, 32))


def test_an_answer_whose_size_the_peer_did_not_name_comes_in_blocks_of_its_request() -> None:
    # RFC 9148 B.2.
    peer = Peer()
    upload(peer, 0, True, b"a" * 16)
    peer.ask(coap.POST, "est", "sen", options=[block1(1, False, 16)], payload=b"b")
    request = received(peer)
    respond(peer, request.request_id, coap.CHANGED, payload=bytes(40))
    answer = peer.sent_one()
    assert (block_of(answer, BLOCK1), block_of(answer, BLOCK2)) == (Block(1, False, 16), Block(0, True, 16))
