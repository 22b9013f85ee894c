"""One device's conversation: requests of ours, the one answer to a request of its, and its end."""

import asyncio

from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, RequestReceived, ResponseReceived
from lwm2m.coap.options import BLOCK2, URI_PATH, decode_block
from server.coap.association import Gone
from tests.unit.coap.conversation import Rig, Talk, settle
from tests.unit.coap.peer import block1, block2

# -- our requests ------------------------------------------------------------------------------------------


async def test_one_request_is_under_way_at_a_time_and_each_waiter_gets_its_own_answer() -> None:
    rig = Rig()
    talk = rig.connect()
    asked = [asyncio.create_task(talk.conversation.request(coap.DELETE, (str(number),))) for number in range(4)]
    await settle()
    for number in range(4):
        # RFC 7252 4.7, NSTART = 1.
        request = talk.sent_one()
        assert request.options == [(URI_PATH, str(number).encode())]
        await talk.answer(request, coap.DELETED, payload=str(number).encode())
    outcomes = await asyncio.gather(*asked)
    assert [outcome.payload for outcome in outcomes if isinstance(outcome, ResponseReceived)] == [
        b"0",
        b"1",
        b"2",
        b"3",
    ]


async def test_a_request_cancelled_while_it_waits_is_never_sent() -> None:
    rig = Rig()
    talk = rig.connect()
    first, second, third = (
        asyncio.create_task(talk.conversation.request(coap.DELETE, (str(number),))) for number in range(3)
    )
    await settle()
    second.cancel()
    await settle()
    await talk.answer(talk.sent_one(), coap.DELETED)
    assert isinstance(await first, ResponseReceived)
    request = talk.sent_one()
    assert request.options == [(URI_PATH, b"2")]
    await talk.answer(request, coap.DELETED)
    assert isinstance(await third, ResponseReceived)


async def test_a_write_cancelled_between_two_blocks_stops_there() -> None:
    rig = Rig()
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.PUT, ("0", "0"), payload=bytes(3000)))
    await settle()
    block = talk.sent_one()
    asked.cancel()
    await settle()
    # Its answer comes too late for anything, however it comes.
    await talk.answer(block, coap.CONTINUE, options=[block1(0, True, 1024)])
    await rig.wait(100.0)
    assert talk.sent() == []
    mid = await talk.say(coap.CON, coap.CONTINUE, token=block.token, options=[block1(0, True, 1024)])
    assert (reset := talk.sent_one()).type == coap.RST
    assert reset.mid == mid


async def test_a_request_that_may_find_silence_gets_three_messages() -> None:
    rig = Rig()
    talk = rig.connect()
    asked = asyncio.create_task(talk.conversation.request(coap.GET, (), may_be_silent=True))
    await settle()
    await rig.wait(7.0)
    assert await asked == ExchangeFailed(1, ExchangeFailure.TIMEOUT)
    messages = talk.sent()
    assert len({message.mid for message in messages}) == len(messages) == 3
    assert len({message.token for message in messages}) == 1


# -- answers ----------------------------------------------------------------------------------------------


async def test_the_first_answer_stays_and_a_second_one_is_not_delivered() -> None:
    told: list[bool] = []

    async def hasty(talk: Talk, request: RequestReceived) -> None:
        first = talk.conversation.respond(request.request_id, coap.CHANGED, payload=bytes(3000))
        second = talk.conversation.respond(request.request_id, coap.BAD_REQUEST)
        told.append(await second)
        told.append(await first)
        raise RuntimeError("after its answer")

    rig = Rig(hasty)
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs")
    assert talk.sent_one().code == coap.CHANGED
    for number in (1, 2):
        assert told == [False]
        await talk.say(coap.CON, coap.POST, "bs", options=[block2(number, False, 1024)])
        assert talk.sent_one().code == coap.CHANGED
    assert told == [False, True]


async def test_a_large_answer_to_an_impatient_device_says_which_block_it_is() -> None:
    async def large(talk: Talk, request: RequestReceived) -> None:
        talk.conversation.respond(request.request_id, coap.CONTENT, payload=bytes(range(100)))

    talk = Rig(large).connect()
    await talk.say(coap.CON, coap.GET, "bs", options=[block2(0, False, 64)])
    answer = talk.sent_one()
    assert (decode_block(dict(answer.options)[BLOCK2]), answer.payload) == ((0, True, 64), bytes(range(64)))


# -- its end ----------------------------------------------------------------------------------------------


async def test_whoever_waits_for_a_lost_device_learns_it_at_once() -> None:
    told: list[bool] = []

    async def waits(talk: Talk, request: RequestReceived) -> None:
        told.append(await talk.conversation.respond(request.request_id, coap.CHANGED, payload=bytes(3000)))

    rig = Rig(waits)
    talk = rig.connect()
    reasons: list[str] = []
    talk.conversation.on_lost(rig, reasons.append)
    await talk.say(coap.CON, coap.POST, "bs")
    asked = asyncio.create_task(talk.conversation.request(coap.GET, ()))
    await settle()
    assert told == []
    talk.lose()
    assert await asked == Gone("closed_by_peer")
    await settle()
    assert told == [False]
    assert reasons == ["closed_by_peer"]
    # And whoever comes later.
    assert await talk.conversation.request(coap.GET, ()) == Gone("closed_by_peer")
    assert not await talk.conversation.respond(1, coap.CHANGED)
    talk.conversation.abandon(1)
    talk.conversation.on_lost(rig, reasons.append)
    assert reasons == ["closed_by_peer", "closed_by_peer"]
    talk.sent()
    await rig.wait(300.0)
    assert talk.sent() == []


async def test_each_listener_is_told_once_of_the_end_however_often_it_asked() -> None:
    talk = Rig().connect()
    told: list[tuple[str, int]] = []
    for turn in range(1000):
        for listener in ("farewells", "registrations"):
            talk.conversation.on_lost(listener, lambda _reason, at=(listener, turn): told.append(at))
    talk.lose()
    assert told == [("farewells", 999), ("registrations", 999)]
