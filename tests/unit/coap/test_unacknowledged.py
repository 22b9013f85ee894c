"""Answers of ours that are messages of their own and that the peer does not acknowledge: how many there can be."""

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseDelivered, ResponseLost
from lwm2m.coap.message import Message
from lwm2m.coap.options import MAX_AGE
from tests.unit.coap.peer import Peer


def answered_late(peer: Peer, number: int) -> list[Message]:
    """So many requests, answered when their empty acknowledgements have left; the answers."""
    for _ in range(number):
        peer.ask(coap.POST, "est")
    peer.wait(0.6)
    assert [each.code for each in peer.sent()] == [coap.EMPTY] * number
    for event in peer.happened():
        assert isinstance(event, RequestReceived)
        peer.exchanges.respond(event.request_id, coap.CHANGED, peer.now, payload=bytes(200))
    return peer.sent()


def refused(peer: Peer) -> Message:
    """The answer to one more request, which is none for the endpoint."""
    peer.ask(coap.POST, "est")
    assert not [event for event in peer.happened() if isinstance(event, RequestReceived)]
    return peer.sent_one()


def test_sixteen_answers_wait_for_their_acknowledgement_and_the_seventeenth_request_is_put_off() -> None:
    peer = Peer()
    answers = answered_late(peer, 16)
    assert [answer.type for answer in answers] == [coap.CON] * 16
    answer = refused(peer)
    assert (answer.code, dict(answer.options)[MAX_AGE]) == (coap.SERVICE_UNAVAILABLE, b"\x05")
    # One acknowledged makes room for one.
    peer.say(coap.ACK, coap.EMPTY, mid=answers[3].mid)
    assert peer.happened() == [ResponseDelivered(4)]
    assert len(answered_late(peer, 1)) == 1
    assert refused(peer).code == coap.SERVICE_UNAVAILABLE


def test_open_requests_and_answers_under_way_count_together() -> None:
    peer = Peer()
    answered_late(peer, 10)
    for _ in range(6):
        peer.ask(coap.POST, "est")
    assert len(peer.happened()) == 6
    assert refused(peer).code == coap.SERVICE_UNAVAILABLE


def test_answers_that_are_given_up_make_room() -> None:
    peer = Peer()
    answered_late(peer, 16)
    peer.wait(100.0)
    peer.sent()
    assert peer.happened() == [ResponseLost(number) for number in range(1, 17)]
    assert len(answered_late(peer, 16)) == 16
