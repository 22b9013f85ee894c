"""The peer's requests and our answers, message by message."""

from typing import Any

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseDelivered, ResponseLost
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import BLOCK1, BLOCK2, MAX_AGE, REQUEST_TAG, SIZE1, Block, decode_uint
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import Peer, block1, block2, block_of


def received(peer: Peer) -> RequestReceived:
    (event,) = peer.happened()
    assert isinstance(event, RequestReceived)
    return event


def respond(peer: Peer, request_id: int, code: int, **fields: object) -> None:
    peer.exchanges.respond(request_id, code, peer.now, **fields)  # type: ignore[arg-type]


def upload(
    peer: Peer, number: int, more: bool, payload: bytes, *path: str, options: tuple[Option, ...] = ()
) -> Message:
    peer.ask(coap.POST, *(path or ("est", "sen")), options=[block1(number, more, 16), *options], payload=payload)
    return peer.sent_one()


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


class TestBlock1:
    def test_blocks_are_continued_and_the_whole_body_is_one_request(self) -> None:
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

    def test_tokens_play_no_part(self) -> None:
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
        self, first: dict[str, Any], second: dict[str, Any]
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

    def test_a_body_with_a_token_for_each_block_is_told_by_its_request_tag_and_starts_again(self) -> None:
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
        peer.ask(
            coap.PUT, "x", options=[block1(1, False, 16), (REQUEST_TAG, b"A")], payload=b"A" * 16, token=b"another"
        )
        assert received(peer).payload == b"A" * 32

    def test_of_three_bodies_at_a_time_none_gets_blocks_of_another(self) -> None:
        peer = Peer()
        for token in (b"1", b"2", b"3"):
            peer.ask(coap.PUT, "x", options=[block1(0, True, 16)], payload=token * 16, token=token)
            assert peer.sent_one().code == coap.CONTINUE
        for token in (b"1", b"2"):
            peer.ask(coap.PUT, "x", options=[block1(1, False, 16)], payload=token * 16, token=token)
            assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
        peer.ask(coap.PUT, "x", options=[block1(1, False, 16)], payload=b"3" * 16, token=b"3")
        assert received(peer).payload == b"3" * 32

    def test_a_repeated_block_is_answered_as_before_and_counted_once(self) -> None:
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

    def test_a_gap_is_answered_incomplete(self) -> None:
        peer = Peer()
        upload(peer, 0, True, b"a" * 16)
        assert upload(peer, 2, True, b"c" * 16).code == coap.REQUEST_ENTITY_INCOMPLETE
        assert upload(peer, 1, True, b"b" * 16, "other").code == coap.REQUEST_ENTITY_INCOMPLETE
        assert peer.happened() == []

    def test_64_kilobytes_are_taken_and_one_byte_more_is_not(self) -> None:
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

    def test_too_large_is_said_with_the_first_block_when_the_size_is_announced(self) -> None:
        peer = Peer()
        refusal = upload(peer, 0, True, b"a" * 16, options=((SIZE1, b"\x01\x00\x01"),))
        assert refusal.code == coap.REQUEST_ENTITY_TOO_LARGE

    def test_the_fifth_body_at_a_time_drives_out_the_oldest(self) -> None:
        peer = Peer()
        for number in range(5):
            peer.now += 1
            assert upload(peer, 0, True, b"a" * 16, str(number)).code == coap.CONTINUE
        assert upload(peer, 1, False, b"b", "0").code == coap.REQUEST_ENTITY_INCOMPLETE
        peer.ask(coap.POST, "1", options=[block1(1, False, 16)], payload=b"b")
        assert received(peer).payload == b"a" * 16 + b"b"

    def test_a_body_left_alone_is_forgotten(self) -> None:
        peer = Peer()
        upload(peer, 0, True, b"a" * 16)
        assert peer.exchanges.next_timer() == peer.now + 247.0
        peer.wait(247.0)
        assert peer.exchanges.next_timer() is None
        assert upload(peer, 1, False, b"b").code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_blocks_in_non_messages_are_answered_in_kind(self) -> None:
        peer = Peer()
        peer.say(coap.NON, coap.PUT, options=[(11, b"x"), block1(0, True, 16)], payload=b"a" * 16)
        assert (answer := peer.sent_one()).type == coap.NON
        assert answer.code == coap.CONTINUE


class TestBlock2:
    def large(self, peer: Peer, payload: bytes, *options: Option) -> tuple[RequestReceived, Message]:
        peer.ask(coap.POST, "est", "sen", options=options, payload=b"csr", token=b"1")
        request = received(peer)
        respond(peer, request.request_id, coap.CHANGED, options=[(12, b"\x01\x19")], payload=payload)
        return request, peer.sent_one()

    def late(self, peer: Peer, payload: bytes) -> tuple[RequestReceived, Message]:
        """An answer that comes after the empty acknowledgement, by itself."""
        peer.ask(coap.POST, "est", "sen", payload=b"csr", token=b"1")
        request = received(peer)
        peer.wait(0.5)
        peer.sent()
        respond(peer, request.request_id, coap.CHANGED, payload=payload)
        return request, peer.sent_one()

    def test_a_large_answer_is_fetched_in_blocks_and_asked_for_once(self) -> None:
        peer = Peer()
        payload = bytes(range(256)) * 9
        request, answer = self.large(peer, payload)
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
    def test_the_size_the_peer_asks_for_is_kept(self, size: int) -> None:
        peer = Peer()
        _, answer = self.large(peer, bytes(3000), block2(0, False, size))
        assert block_of(answer, BLOCK2) == Block(0, True, size)
        assert len(answer.payload) == size

    def test_blocks_do_not_grow_while_an_answer_is_fetched(self) -> None:
        peer = Peer()
        self.large(peer, bytes(range(256)), block2(0, False, 64))
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 128)])
        answer = peer.sent_one()
        assert (block_of(answer, BLOCK2), answer.payload) == (Block(2, True, 64), bytes(range(128, 192)))

    def test_a_small_answer_to_a_request_with_block2_says_it_is_the_last(self) -> None:
        peer = Peer()
        request, answer = self.large(peer, b"small", block2(0, False, 64))
        assert block_of(answer, BLOCK2) == Block(0, False, 64)
        assert peer.happened() == [ResponseDelivered(request.request_id)]
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 64)])
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_our_own_block_size_is_for_who_names_none(self) -> None:
        peer = Peer(Parameters(block_size=256))
        _, answer = self.large(peer, bytes(257))
        assert block_of(answer, BLOCK2) == Block(0, True, 256)
        peer = Peer(Parameters(block_size=256))
        _, answer = self.large(peer, bytes(3000), block2(0, False, 1024))
        assert block_of(answer, BLOCK2) == Block(0, True, 1024)

    def test_a_peer_that_sends_its_request_in_blocks_named_a_size(self) -> None:
        peer = Peer(Parameters(block_size=256))
        _, answer = self.large(peer, bytes(3000), block1(0, False, 512))
        assert block_of(answer, BLOCK2) == Block(0, True, 512)

    def test_no_block_is_larger_than_a_datagram(self) -> None:
        peer = Peer(Parameters(largest_block=256))
        _, answer = self.large(peer, bytes(3000), block2(0, False, 1024))
        assert block_of(answer, BLOCK2) == Block(0, True, 256)

    def test_a_continuation_of_nothing_is_incomplete_and_never_a_request(self) -> None:
        peer = Peer()
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 64)])
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
        assert peer.happened() == []

    def test_a_block_beyond_the_end_is_a_bad_request(self) -> None:
        peer = Peer()
        self.large(peer, bytes(2000))
        peer.ask(coap.POST, "est", "sen", options=[block2(2, False, 1024)])
        assert peer.sent_one().code == coap.BAD_REQUEST

    def test_an_answer_not_fetched_to_its_end_is_lost(self) -> None:
        peer = Peer()
        request, _ = self.large(peer, bytes(2000))
        assert peer.happened() == []
        peer.wait(247.0)
        assert peer.happened() == [ResponseLost(request.request_id)]
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
        assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_asking_anew_replaces_what_is_held(self) -> None:
        peer = Peer()
        first, _ = self.large(peer, bytes(2000))
        second, _ = self.large(peer, b"n" * 2000)
        assert peer.happened() == [ResponseLost(first.request_id)]
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
        assert peer.sent_one().payload == b"n" * 976
        assert peer.happened() == [ResponseDelivered(second.request_id)]

    def test_a_newer_answer_in_one_message_is_not_continued_with_blocks_of_an_older_one(self) -> None:
        peer = Peer()
        first, _ = self.large(peer, bytes(2000))
        second, _ = self.large(peer, b"whole", (17, b"\x01\x1f"))
        assert peer.happened() == [ResponseLost(first.request_id), ResponseDelivered(second.request_id)]
        for options in ((), ((17, b"\x01\x1f"),)):
            peer.ask(coap.POST, "est", "sen", options=[*options, block2(1, False, 1024)])
            assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_an_answer_to_another_path_leaves_what_is_held(self) -> None:
        peer = Peer()
        self.large(peer, bytes(2000))
        peer.ask(coap.POST, "est", "sren", payload=b"csr")
        respond(peer, received(peer).request_id, coap.CHANGED, payload=b"whole")
        peer.sent()
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
        assert len(peer.sent_one().payload) == 976

    def test_a_continuation_has_the_accept_and_the_query_of_its_request(self) -> None:
        peer = Peer()
        accepting, asking = (17, b"\x01\x1f"), (15, b"rt=ace.est")
        request, _ = self.large(peer, bytes(2000), asking, accepting)
        for options in ((), (asking,), (accepting,), (asking, (17, b"\x01\x19")), ((15, b"rt=core.rd"), accepting)):
            peer.ask(coap.POST, "est", "sen", options=[*options, block2(1, False, 1024)])
            assert peer.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
        peer.ask(coap.POST, "est", "sen", options=[asking, accepting, block2(1, False, 1024)])
        assert len(peer.sent_one().payload) == 976
        assert peer.happened() == [ResponseDelivered(request.request_id)]

    def test_a_separate_answer_may_be_large_and_its_acknowledgement_is_not_the_delivery(self) -> None:
        peer = Peer()
        request, separate = self.late(peer, bytes(1500))
        assert (separate.type, block_of(separate, BLOCK2)) == (coap.CON, Block(0, True, 1024))
        peer.say(coap.ACK, coap.EMPTY, separate.mid)
        assert peer.happened() == []
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
        assert len(peer.sent_one().payload) == 476
        assert peer.happened() == [ResponseDelivered(request.request_id)]

    @pytest.mark.parametrize("end", ["nothing", "a reset"])
    def test_an_answer_fetched_whole_is_not_lost_with_the_acknowledgement_of_its_first_block(self, end: str) -> None:
        peer = Peer()
        request, separate = self.late(peer, bytes(1500))
        peer.ask(coap.POST, "est", "sen", options=[block2(1, False, 1024)])
        assert peer.happened() == [ResponseDelivered(request.request_id)]
        if end == "a reset":
            peer.say(coap.RST, coap.EMPTY, separate.mid)
        peer.wait(400.0)
        assert peer.happened() == []

    def test_an_answer_of_which_nothing_was_fetched_is_lost_once(self) -> None:
        peer = Peer()
        request, _ = self.late(peer, bytes(1500))
        peer.wait(400.0)
        assert peer.happened() == [ResponseLost(request.request_id)]

    def test_body_and_answer_may_both_come_in_blocks(self) -> None:
        peer = Peer()
        upload(peer, 0, True, b"a" * 16)
        peer.ask(coap.POST, "est", "sen", options=[block2(0, False, 32), block1(1, False, 16)], payload=b"b")
        request = received(peer)
        respond(peer, request.request_id, coap.CHANGED, payload=bytes(40))
        answer = peer.sent_one()
        assert (block_of(answer, BLOCK1), block_of(answer, BLOCK2)) == (Block(1, False, 16), Block(0, True, 32))

    def test_an_answer_whose_size_the_peer_did_not_name_comes_in_blocks_of_its_request(self) -> None:
        # RFC 9148 B.2.
        peer = Peer()
        upload(peer, 0, True, b"a" * 16)
        peer.ask(coap.POST, "est", "sen", options=[block1(1, False, 16)], payload=b"b")
        request = received(peer)
        respond(peer, request.request_id, coap.CHANGED, payload=bytes(40))
        answer = peer.sent_one()
        assert (block_of(answer, BLOCK1), block_of(answer, BLOCK2)) == (Block(1, False, 16), Block(0, True, 16))
