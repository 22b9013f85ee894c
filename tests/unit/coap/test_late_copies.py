"""Copies of a separate answer that come so late that its message is forgotten (RFC 7252 4.5, 5.2.2)."""

from lwm2m.coap import message as coap
from lwm2m.coap.message import Message
from tests.unit.coap.peer import Peer


def answered_separately(peer: Peer) -> tuple[Message, int]:
    """A request of ours and the message id of the answer to it."""
    peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    request = peer.sent_one()
    mid = peer.say(coap.CON, coap.DELETED, token=request.token)
    assert [(answer.type, answer.mid) for answer in peer.sent()] == [(coap.ACK, mid)]
    return request, mid


def forget(peer: Peer) -> None:
    """So many messages of the peer that none before them is remembered."""
    for _ in range(16):
        peer.ask(coap.GET, "a")
        for event in peer.happened():
            if hasattr(event, "request_id"):
                peer.exchanges.respond(event.request_id, coap.NOT_FOUND, peer.now)
    peer.sent()
    peer.happened()


def test_a_copy_that_comes_when_its_message_is_forgotten_is_acknowledged() -> None:
    peer = Peer()
    request, mid = answered_separately(peer)
    forget(peer)
    # A Reset would say that its answer was in vain.
    peer.say(coap.CON, coap.DELETED, mid=mid, token=request.token)
    answer = peer.sent_one()
    assert (answer.type, answer.code, answer.mid) == (coap.ACK, coap.EMPTY, mid)
    assert peer.happened() == []


def test_sixteen_requests_answered_so_are_known_and_not_the_one_before_them() -> None:
    peer = Peer()
    first, _ = answered_separately(peer)
    second, _ = answered_separately(peer)
    for _ in range(15):
        answered_separately(peer)
    forget(peer)
    peer.say(coap.CON, coap.DELETED, token=second.token)
    assert peer.sent_one().type == coap.ACK
    peer.say(coap.CON, coap.DELETED, token=first.token)
    assert peer.sent_one().type == coap.RST


def test_a_copy_that_comes_while_every_place_is_taken_by_an_open_request_is_acknowledged() -> None:
    peer = Peer()
    for _ in range(16):
        peer.ask(coap.GET, "a")
    peer.happened()
    request, mid = answered_separately(peer)
    assert len(peer.exchanges.messages._remembered) == 16
    peer.happened()
    peer.say(coap.CON, coap.DELETED, mid=mid, token=request.token)
    answer = peer.sent_one()
    assert (answer.type, answer.code, answer.mid) == (coap.ACK, coap.EMPTY, mid)
    assert peer.happened() == []
