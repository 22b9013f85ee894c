"""A request of ours that came before the answer to the device's own, and a device that leaves it unanswered for that.

An Izuma client ignores a Delete before the 2.04 to its Bootstrap-Request, and every copy of that message afterwards.
"""

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseReceived
from tests.unit.coap.peer import Peer


def asked_and_answered(peer: Peer) -> int:
    """A Bootstrap-Request of the device whose answer, it will turn out, was lost; its message id."""
    mid = peer.ask(coap.POST, "bs")
    (request,) = [event for event in peer.happened() if isinstance(event, RequestReceived)]
    peer.exchanges.respond(request.request_id, coap.CHANGED, peer.now)
    assert peer.sent_one().code == coap.CHANGED
    peer.happened()
    return mid


def again(peer: Peer, mid: int) -> list[coap.Message]:
    """What the device's request gets when it comes once more."""
    peer.ask(coap.POST, "bs", mid=mid)
    answer, *others = peer.sent()
    assert (answer.type, answer.code, answer.mid) == (coap.ACK, coap.CHANGED, mid)
    return others


@pytest.mark.parametrize("code", [coap.GET, coap.PUT, coap.DELETE])
def test_it_is_asked_anew_when_the_device_asks_again(code: int) -> None:
    peer = Peer()
    mid = asked_and_answered(peer)
    peer.exchanges.request(code, ("0",), peer.now)
    first = peer.sent_one()
    (second,) = again(peer, mid)
    assert (second.code, second.token, second.mid == first.mid) == (code, first.token, False)
    # Twice at most, as after silence; then its copies alone.
    assert len(again(peer, mid)) == 1
    assert again(peer, mid) == []
    peer.say(coap.ACK, coap.CHANGED, mid=second.mid, token=second.token)
    assert [type(event) for event in peer.happened()] == [ResponseReceived]


def test_what_must_not_be_done_twice_is_not_asked_anew() -> None:
    peer = Peer()
    mid = asked_and_answered(peer)
    peer.exchanges.request(coap.POST, ("35011", "0", "27002"), peer.now)
    peer.sent_one()
    assert again(peer, mid) == []


@pytest.mark.parametrize("code", [coap.DELETED, coap.EMPTY])
def test_nothing_is_asked_anew_once_the_device_said_something_of_our_requests(code: int) -> None:
    """A copy on a slow way says nothing then: the device has the answer."""
    peer = Peer()
    mid = asked_and_answered(peer)
    peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    first = peer.sent_one()
    peer.say(coap.ACK, code, mid=first.mid, token=first.token if code else b"")
    assert again(peer, mid) == []
    peer.exchanges.request(coap.DELETE, ("1",), peer.now)
    peer.sent()
    assert again(peer, mid) == []


def test_a_copy_of_a_request_that_is_not_answered_yet_changes_nothing() -> None:
    peer = Peer()
    mid = peer.ask(coap.POST, "bs")
    peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    peer.sent_one()
    peer.ask(coap.POST, "bs", mid=mid)
    assert peer.sent() == []
