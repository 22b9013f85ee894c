"""What another CoAP library was found to do wrong as an internet-facing server, row by row, at the endpoint itself.

Each test quotes what was seen there; what it asserts is what should be. The message-by-message tests of the same rules
are in the modules beside this one.
"""

import asyncio
import gc
import tracemalloc

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, RequestReceived, ResponseReceived
from lwm2m.coap.message import Option
from lwm2m.coap.options import ACCEPT, BLOCK1, SIZE1, URI_PATH, URI_QUERY, decode_uint
from tests.unit.coap.conversation import Rig, Talk, settle
from tests.unit.coap.peer import block1

BS = (URI_PATH, b"bs")


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def refused(talk: Talk, options: list[Option], code: int) -> None:
    """CON is answered with `code`, NON with Reset, and nothing is executed."""
    await talk.say(coap.CON, coap.POST, options=options)
    answer = talk.sent_one()
    assert (answer.type, answer.code) == (coap.ACK, code)
    mid = await talk.say(coap.NON, coap.POST, options=options)
    answer = talk.sent_one()
    assert (answer.type, answer.code, answer.mid) == (coap.RST, coap.EMPTY, mid)
    assert talk.rig.served == []


@pytest.mark.parametrize("number", [1, 5, 9, 13, 21, 65001])
async def test_unknown_critical_option_in_con_or_non_is_not_executed(rig: Rig, number: int) -> None:
    await refused(rig.connect(), [BS, (number, b"")], coap.BAD_OPTION)


@pytest.mark.parametrize("length", range(9, 16))
async def test_token_length_9_to_15_is_a_message_format_error(rig: Rig, length: int) -> None:
    talk = rig.connect()
    await talk.say_bytes(bytes([0x40 | length, coap.POST, 0x12, 0x34]) + bytes(length) + b"\xb2bs")
    assert (answer := talk.sent_one()).type == coap.RST
    assert answer.mid == 0x1234
    assert rig.served == []


async def test_truncated_token_is_a_message_format_error(rig: Rig) -> None:
    talk = rig.connect()
    await talk.say_bytes(b"\x48\x02\x12\x34tt")
    assert talk.sent_one().type == coap.RST
    assert rig.served == []


async def test_payload_marker_without_payload_is_a_message_format_error(rig: Rig) -> None:
    talk = rig.connect()
    await talk.say_bytes(b"\x40\x02\x12\x34\xb2bs\xff")
    assert talk.sent_one().type == coap.RST
    assert rig.served == []


async def test_repeated_non_repeatable_option_is_a_bad_option_if_critical(rig: Rig) -> None:
    talk = rig.connect()
    await refused(talk, [BS, (ACCEPT, b"\x28"), (ACCEPT, b"\x28")], coap.BAD_OPTION)
    # Content-Format is elective: its second occurrence is ignored (RFC 7252 5.4.5).
    await talk.say(coap.CON, coap.POST, "bs", options=[(12, b"\x28"), (12, b"\x29")])
    assert talk.sent_one().code == coap.CHANGED


async def test_uri_path_above_255_bytes_is_a_bad_option(rig: Rig) -> None:
    talk = rig.connect()
    await refused(talk, [(URI_PATH, b"x" * 256)], coap.BAD_OPTION)
    await talk.say(coap.CON, coap.POST, options=[(URI_PATH, b"x" * 255)])
    assert talk.sent_one().code == coap.NOT_FOUND


@pytest.mark.parametrize("option", [URI_PATH, URI_QUERY])
async def test_invalid_utf_8_in_uri_path_or_query_is_a_bad_option_and_no_exception(
    rig: Rig, option: int, capfd: pytest.CaptureFixture[str]
) -> None:
    await refused(rig.connect(), [BS, (option, b"\xc3\x28")], coap.BAD_OPTION)
    assert rig.internal_errors == 0
    assert capfd.readouterr() == ("", "")


async def test_malformed_con_is_reset_and_floods_no_log(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    talk = rig.connect()
    for mid in range(100):
        await talk.say_bytes(bytes([0x40, 0xE1, 0, mid]))
    assert [(answer.type, answer.mid) for answer in talk.sent()] == [(coap.RST, mid) for mid in range(100)]
    assert capfd.readouterr() == ("", "")


async def test_block1_with_a_gap_is_incomplete(rig: Rig) -> None:
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs", options=[block1(0, True, 16)], payload=bytes(16))
    assert talk.sent_one().code == coap.CONTINUE
    await talk.say(coap.CON, coap.POST, "bs", options=[block1(2, True, 16)], payload=bytes(16))
    assert talk.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE
    assert rig.served == []
    assert rig.internal_errors == 0


async def test_szx_7_is_a_bad_request_and_a_4_byte_block1_value_a_bad_option(rig: Rig) -> None:
    talk = rig.connect()
    await refused(talk, [BS, (BLOCK1, b"\x07")], coap.BAD_REQUEST)
    await refused(talk, [BS, (BLOCK1, bytes(4))], coap.BAD_OPTION)


async def test_2000_block1_blocks_to_a_tiny_resource_are_too_large(rig: Rig) -> None:
    talk = rig.connect()
    codes = []
    for number in range(2000):
        await talk.say(coap.CON, coap.POST, "bs", options=[block1(number, True, 1024)], payload=bytes(1024))
        answer = talk.sent_one()
        codes.append(answer.code)
        if answer.code == coap.REQUEST_ENTITY_TOO_LARGE:
            assert decode_uint(dict(answer.options)[SIZE1]) == 65536
    assert codes == [coap.CONTINUE] * 64 + [coap.REQUEST_ENTITY_TOO_LARGE] * 1936
    assert rig.served == []


def grown(before: int) -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


async def test_many_uri_query_values_with_one_block1_each_share_one_assembly(rig: Rig) -> None:
    talk = rig.connect()

    async def begin(number: int) -> None:
        await talk.say(
            coap.CON,
            coap.POST,
            options=[BS, (URI_QUERY, b"ep=%d" % number), block1(0, True, 1024)],
            payload=bytes(1024),
        )
        assert talk.sent_one().code == coap.CONTINUE

    for number in range(20):
        await begin(number)
    tracemalloc.start()
    before = grown(0)
    for number in range(300):
        await begin(number)
    # One body of a block, replaced, and sixteen remembered answers: none of 300 KB.
    assert grown(before) < 20_000
    tracemalloc.stop()


async def test_unknown_option_numbers_leave_no_state(rig: Rig) -> None:
    talk = rig.connect()

    async def datagram(number: int) -> None:
        # 200 elective options nobody ever heard of, different ones each time.
        first = 2000 + 400 * (number % 150)
        options = [(first + 2 * each, b"") for each in range(200)]
        await talk.say(coap.CON, coap.POST, "bs", options=options)
        assert talk.sent_one().code == coap.CHANGED
        rig.served.clear()

    for number in range(20):
        await datagram(number)
    tracemalloc.start()
    before = grown(0)
    for number in range(300):
        await datagram(number)
    assert grown(before) < 20_000
    tracemalloc.stop()


async def test_ack_lost_and_separate_response_arrives_is_an_implicit_ack(rig: Rig) -> None:
    talk = rig.connect()
    first = asyncio.create_task(talk.conversation.request(coap.DELETE, ("0",)))
    second = asyncio.create_task(talk.conversation.request(coap.DELETE, ("1",)))
    await settle()
    request = talk.sent_one()
    await talk.say(coap.CON, coap.DELETED, token=request.token)
    assert isinstance(await first, ResponseReceived)
    acknowledgement, following = talk.sent()
    assert (acknowledgement.type, acknowledgement.code) == (coap.ACK, coap.EMPTY)
    # The next request is not held up, and the first one is never sent again.
    assert following.options == [(URI_PATH, b"1")]
    await talk.answer(following, coap.DELETED)
    assert isinstance(await second, ResponseReceived)
    await rig.wait(100.0)
    assert talk.sent() == []


async def test_wait_for_cancels_and_the_exchange_stops(rig: Rig) -> None:
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    following = asyncio.create_task(talk.conversation.request(coap.DELETE, ("0",)))
    await settle()
    assert talk.sent_one().code == coap.GET
    # What asyncio.wait_for does when its time is up.
    asked.cancel()
    await settle()
    assert asked.cancelled()
    # Its place is free at once, and no message of it is ever sent again.
    await rig.wait(0.1)
    request = talk.sent_one()
    assert request.code == coap.DELETE
    await talk.answer(request, coap.DELETED)
    assert isinstance(await following, ResponseReceived)
    await rig.wait(100.0)
    assert talk.sent() == []


async def test_empty_ack_then_nothing_ends_by_a_timeout_of_our_own(rig: Rig) -> None:
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    await settle()
    await talk.say(coap.ACK, coap.EMPTY, mid=talk.sent_one().mid)
    await rig.wait(92.0)
    assert not asked.done()
    await rig.wait(1.5)
    assert (await asked) == ExchangeFailed(1, ExchangeFailure.TIMEOUT)


async def test_one_request_to_a_peer_times_out_and_the_others_go_on() -> None:
    async def slow(talk: Talk, request: RequestReceived) -> None:
        answer.append(request.request_id)

    answer: list[int] = []
    rig = Rig(slow)
    talk = rig.connect()
    lost = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    kept = asyncio.create_task(talk.conversation.request(coap.DELETE, ("0",)))
    await settle()
    while not lost.done():
        await rig.wait(1.0)
    assert await lost == ExchangeFailed(1, ExchangeFailure.TIMEOUT)
    request = talk.sent()[-1]
    assert request.code == coap.DELETE
    # A request of the device during it all, and our other one, end well.
    await talk.say(coap.CON, coap.POST, "bs")
    assert len(answer) == 1
    await talk.answer(request, coap.DELETED)
    assert isinstance(await kept, ResponseReceived)


async def test_rst_to_a_request_is_a_failure_by_name(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    await settle()
    await talk.say(coap.RST, coap.EMPTY, mid=talk.sent_one().mid)
    assert await asked == ExchangeFailed(1, ExchangeFailure.RESET)
    assert capfd.readouterr() == ("", "")


async def first_message(rig: Rig) -> tuple[int, bytes]:
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    await settle()
    message = talk.sent_one()
    await talk.answer(message, coap.CONTENT)
    await asked
    return message.mid, message.token


async def test_message_ids_are_counted_per_peer_and_start_at_random() -> None:
    drawn = iter([b"\x10\x00" + bytes(8), b"\xff\xff" + bytes(8)])
    rig = Rig(random_bytes=lambda _: next(drawn))
    busy = rig.connect()
    for _ in range(100):
        asked = asyncio.create_task(busy.conversation.request(coap.GET, ()))
        await settle()
        message = busy.sent_one()
        await busy.answer(message, coap.CONTENT)
        await asked
    assert message.mid == 0x1000 + 100
    # A hundred messages to one device move nothing at another.
    assert (await first_message(rig))[0] == 0


async def test_tokens_start_at_64_random_bits_for_each_association() -> None:
    asked: list[int] = []
    drawn = iter([b"\x00\x00abcdefg\x01", b"\x00\x00hijklmn\x01"])

    def random_bytes(length: int) -> bytes:
        asked.append(length)
        return next(drawn)

    rig = Rig(random_bytes=random_bytes)
    assert (await first_message(rig))[1] == b"abcdefg\x02"
    assert (await first_message(rig))[1] == b"hijklmn\x02"
    # Two for the message id, eight for the token: as many as one holds (RFC 7252 5.3.1).
    assert asked == [10, 10]


# "udp6 ICMP error immediately fails everything to that peer" is held where the socket is, by
# tests/unit/transport/test_udp.py: test_an_icmp_error_on_the_socket_ends_nothing.


async def test_no_admission_control_one_task_per_request_unbounded_is_sixteen_and_5_03() -> None:
    async def never(_talk: Talk, _request: RequestReceived) -> None:
        await asyncio.get_running_loop().create_future()

    rig = Rig(never)
    talk, other = rig.connect(), rig.connect()
    for _ in range(16):
        await talk.say(coap.CON, coap.POST, "bs")
    assert rig.endpoint.busy == 16
    assert talk.sent() == []
    await talk.say(coap.CON, coap.POST, "bs")
    assert talk.sent_one().code == coap.SERVICE_UNAVAILABLE
    assert rig.endpoint.busy == 16
    # The limit is each device's own.
    await other.say(coap.CON, coap.POST, "bs")
    assert other.sent() == []
    assert rig.endpoint.busy == 17
