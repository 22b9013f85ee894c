"""The endpoint above many associations: routes, requests nobody answers, timers, associations that come and go."""

import asyncio
import gc
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseReceived
from lwm2m.coap.exchange import Parameters
from lwm2m.coap.options import BLOCK1, MAX_AGE, decode_block
from server.coap import association, endpoint
from server.coap.association import CoapAssociation, Gone
from server.coap.endpoint import ANY
from server.errors import BadRequest, TemporarilyUnavailable
from tests.unit.coap.conversation import Rig, Talk, Wire, settle
from tests.unit.coap.peer import block1

# -- routes -------------------------------------------------------------------------------------------------


async def test_a_path_nobody_serves_is_not_found_and_another_method_not_allowed() -> None:
    talk = Rig().connect()
    await talk.say(coap.CON, coap.POST, "rd")
    assert talk.sent_one().code == coap.NOT_FOUND
    await talk.say(coap.CON, coap.PUT, "bs")
    assert talk.sent_one().code == coap.METHOD_NOT_ALLOWED


async def test_any_segment_may_stand_where_a_route_says_so_and_a_path_in_full_comes_first() -> None:
    rig = Rig(paths=(("est", "sen"), ("est", ANY, "sen"), ("rd", ANY)))
    talk = rig.connect()
    for path in (("est", "sen"), ("est", "label", "sen"), ("rd", "5a3f")):
        await talk.say(coap.CON, coap.POST, *path)
        assert talk.sent_one().code == coap.CHANGED
    assert [request.path for request in rig.served] == [("est", "sen"), ("est", "label", "sen"), ("rd", "5a3f")]
    for path in (("est",), ("est", "label", "label", "sen"), ("est", "label", "att"), ("rd",), ("rd", "a", "b")):
        await talk.say(coap.CON, coap.POST, *path)
        assert talk.sent_one().code == coap.NOT_FOUND
    await talk.say(coap.CON, coap.PUT, "est", "label", "sen")
    assert talk.sent_one().code == coap.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("error", "code", "internal"),
    [
        (BadRequest("no"), coap.BAD_REQUEST, 0),
        (TemporarilyUnavailable("later", 7.0), coap.SERVICE_UNAVAILABLE, 0),
        (RuntimeError("a fault of ours"), coap.INTERNAL_SERVER_ERROR, 1),
    ],
)
async def test_an_error_of_a_resource_is_its_code_and_never_its_text(
    error: Exception, code: int, internal: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async def failing(_talk: Talk, _request: RequestReceived) -> None:
        raise error

    rig = Rig(failing)
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs")
    answer = talk.sent_one()
    assert (answer.code, answer.payload) == (code, b"")
    assert (MAX_AGE in dict(answer.options)) is (code == coap.SERVICE_UNAVAILABLE)
    assert rig.internal_errors == internal
    counted = {"resource": 1} if not internal else {}
    assert {kind: count for kind, count in rig.metrics.coap_refusals.values.items() if count} == counted


async def test_a_request_of_a_resource_that_takes_long_is_acknowledged_and_answered_separately() -> None:
    delivered: list[bool] = []

    async def slow(talk: Talk, request: RequestReceived) -> None:
        await ready.wait()
        delivered.append(await talk.conversation.respond(request.request_id, coap.CHANGED))

    ready = asyncio.Event()
    rig = Rig(slow)
    talk = rig.connect()
    mid = await talk.say(coap.CON, coap.POST, "bs", token=b"late")
    await rig.wait(0.4)
    assert talk.sent() == []
    await rig.wait(0.2)
    assert (acknowledgement := talk.sent_one()).code == coap.EMPTY
    assert acknowledgement.mid == mid
    ready.set()
    await settle()
    answer = talk.sent_one()
    assert (answer.type, answer.code, answer.token) == (coap.CON, coap.CHANGED, b"late")
    assert delivered == []
    await talk.say(coap.ACK, coap.EMPTY, mid=answer.mid)
    assert delivered == [True]


# -- requests nobody answers --------------------------------------------------------------------------------


async def test_a_request_its_resource_leaves_unanswered_takes_no_place_for_ever() -> None:
    async def silent(_talk: Talk, _request: RequestReceived) -> None:
        return

    rig = Rig(silent)
    talk = rig.connect()
    for _ in range(40):
        mid = await talk.say(coap.CON, coap.POST, "bs")
        # Acknowledged, so that it is not sent again; a copy of it is not served again either.
        acknowledgement = talk.sent_one()
        assert (acknowledgement.type, acknowledgement.code, acknowledgement.mid) == (coap.ACK, coap.EMPTY, mid)
        await talk.say(coap.CON, coap.POST, "bs", mid=mid)
        assert talk.sent_one() == acknowledgement
    assert len(rig.served) == 40
    assert talk.conversation.next_timer() is None


async def test_a_non_request_left_unanswered_meets_silence() -> None:
    async def silent(_talk: Talk, _request: RequestReceived) -> None:
        return

    rig = Rig(silent)
    talk = rig.connect()
    for _ in range(40):
        await talk.say(coap.NON, coap.POST, "bs")
    assert (len(rig.served), talk.sent()) == (40, [])


async def test_a_request_acknowledged_already_is_abandoned_in_silence() -> None:
    async def silent(_talk: Talk, _request: RequestReceived) -> None:
        await ready.wait()

    ready = asyncio.Event()
    rig = Rig(silent)
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs")
    await rig.wait(1.0)
    assert talk.sent_one().code == coap.EMPTY
    ready.set()
    await rig.wait(1.0)
    assert talk.sent() == []


# -- associations that come and go --------------------------------------------------------------------------


async def test_a_block_fits_one_datagram_of_the_association() -> None:
    rig = Rig(parameters=Parameters(block_size=1024))
    for mtu, size in ((1157, 1024), (1088, 1024), (1087, 512), (300, 128), (40, 16)):
        talk = rig.connect(cleartext_mtu=mtu)
        asked = asyncio.create_task(talk.conversation.request(coap.PUT, ("0", "0"), payload=bytes(3000)))
        await settle()
        assert decode_block(dict(talk.sent_one().options)[BLOCK1]).size == size
        asked.cancel()
        await settle()


async def test_what_fits_one_datagram_of_the_association_is_not_cut() -> None:
    """Zephyr's clients take records of 1024 bytes, of which 64 are for what stands before a payload."""
    rig = Rig()
    for mtu, payload, size in ((1024, 960, 960), (1024, 961, 512), (1200, 1024, 1024), (1200, 1025, 1024)):
        talk = rig.connect(cleartext_mtu=mtu)
        asked = asyncio.create_task(talk.conversation.request(coap.PUT, ("0", "0"), payload=bytes(payload)))
        await settle()
        assert len(talk.sent_one().payload) == size
        asked.cancel()
        await settle()


async def test_a_lost_association_is_let_go_within_seconds_whatever_its_timers_were() -> None:
    rig = Rig()
    talk = rig.connect()
    # A body in the making waits for 247 s; the timers of other requests come and go meanwhile.
    await talk.say(coap.CON, coap.POST, "bs", options=[block1(0, True, 1024)], payload=bytes(1024))
    for _ in range(10):
        await talk.say(coap.CON, coap.POST, "bs")
        await rig.wait(1.0)
    talk.lose()
    rig.forget(talk)
    rig.served.clear()
    del talk
    await rig.wait(5.1)
    gc.collect()
    assert [
        each for each in gc.get_objects() if isinstance(each, CoapAssociation) and each._endpoint is rig.endpoint
    ] == []


async def test_draining_waits_for_the_requests_under_way() -> None:
    async def slow(talk: Talk, request: RequestReceived) -> None:
        await ready.wait()
        talk.conversation.respond(request.request_id, coap.CHANGED)

    ready = asyncio.Event()
    rig = Rig(slow)
    await rig.connect().say(coap.CON, coap.POST, "bs")
    drained = asyncio.create_task(rig.endpoint.drained())
    await settle()
    assert (rig.endpoint.busy, drained.done()) == (1, False)
    ready.set()
    await drained
    assert rig.endpoint.busy == 0


# -- a fault of ours ----------------------------------------------------------------------------------------


def fails(*_: object) -> NoReturn:
    raise ZeroDivisionError("a fault of ours")


async def test_a_fault_with_the_timers_of_one_device_ends_its_association_and_no_other() -> None:
    rig = Rig()
    talks = [rig.connect() for _ in range(3)]
    heard: list[int] = []
    # None gets an answer, which all learn in one look at the timers.
    for number, talk in enumerate(talks):
        hears = fails if number == 1 else lambda _outcome, _now, number=number: heard.append(number)
        talk.conversation.ask(hears, coap.GET, (), rig.now, may_be_silent=True)
    with capture_logs() as lines:
        await rig.wait(10.0)
    assert heard == [0, 2]
    assert [talk.wire.closed for talk in talks] == [False, True, False]
    assert rig.internal_errors == 1
    assert [(line["event"], line["address"]) for line in lines] == [("timer_failed", Wire.address_text)]


async def test_one_that_cannot_even_be_closed_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    broken, other = rig.connect(), rig.connect()
    heard: list[float] = []
    broken.conversation.ask(fails, coap.GET, (), rig.now, may_be_silent=True)
    other.conversation.ask(lambda _outcome, now: heard.append(now), coap.GET, (), rig.now, may_be_silent=True)
    monkeypatch.setattr(broken.wire, "close", fails)
    await rig.wait(10.0)
    assert len(heard) == 1
    assert rig.internal_errors == 2


async def test_all_learn_that_the_association_is_gone_whatever_becomes_of_the_first_who_is_told() -> None:
    rig = Rig()
    talk = rig.connect()
    told: list[object] = []
    talk.conversation.ask(fails, coap.GET, (), rig.now)
    talk.conversation.ask(lambda outcome, _now: told.append(outcome), coap.GET, (), rig.now)
    talk.conversation.on_lost("first", fails)
    talk.conversation.on_lost("second", told.append)
    with capture_logs() as lines:
        talk.lose()
    assert told == [Gone("closed_by_peer"), "closed_by_peer"]
    assert rig.internal_errors == 2
    assert [(line["event"], line["address"]) for line in lines] == [("loss_not_told", Wire.address_text)] * 2


# -- time ---------------------------------------------------------------------------------------------------


async def test_a_timer_of_minutes_is_handled_when_it_is_due_all_the_same() -> None:
    rig = Rig()
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs", options=[block1(0, True, 16)], payload=bytes(16))
    assert talk.sent_one().code == coap.CONTINUE
    await rig.wait(246.0)
    assert talk.conversation.next_timer() is not None
    await rig.wait(2.0)
    assert talk.conversation.next_timer() is None
    await talk.say(coap.CON, coap.POST, "bs", options=[block1(1, False, 16)], payload=bytes(16))
    assert talk.sent_one().code == coap.REQUEST_ENTITY_INCOMPLETE


async def test_timers_are_looked_at_as_long_as_anything_will_be_due(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    class Counted:
        """asyncio, whose sleep is one turn of the loop and is counted."""

        def __getattr__(self, name: str) -> object:
            return getattr(asyncio, name)

        async def sleep(self, _seconds: float) -> None:
            looks.append(rig.now)
            await asyncio.sleep(0)

    rig = Rig()
    monkeypatch.setattr(endpoint, "asyncio", Counted())
    running = asyncio.create_task(rig.endpoint.run())
    try:
        await settle()
        assert looks == []
        talk = rig.connect()
        asked = asyncio.create_task(talk.conversation.request(coap.DELETE, ("0",)))
        await settle()
        request = talk.sent_one()
        assert looks
        rig.now += 4.0
        await settle()
        # The loop itself sent it again.
        assert talk.sent_one() == request
        await talk.answer(request, coap.DELETED)
        assert isinstance(await asked, ResponseReceived)
        rig.now += 2 * association.LOOK_AHEAD + 1000.0
        await settle()
        await settle()
        seen = len(looks)
        await settle()
        assert len(looks) == seen
        # And again from there.
        asked = asyncio.create_task(talk.conversation.request(coap.DELETE, ("0",)))
        await settle()
        assert len(looks) > seen
        asked.cancel()
    finally:
        running.cancel()


# -- what reaches no resource ----------------------------------------

IN_VAIN = [
    ("4002 0001", b"\xb5other", "path", "POST /other is not served here"),
    ("4003 0001", b"\xb2bs", "method", "PUT /bs is not served here"),
    ("4007 0001", b"\xb2bs", "method", "0.07 /bs is not served here"),
    ("4002 0001", b"\x91?\x22bs", "option", "critical option 9 is not understood"),
    ("4002 0001", b"\xff", "malformed", "payload marker without payload"),
    ("5002 0001", b"\xff", "malformed", "payload marker without payload"),
    ("6002 0001", b"\xb2bs", "malformed", "an acknowledgement or reset with a request"),
    ("7002 0001", b"\xb2bs", "malformed", "an acknowledgement or reset with a request"),
    ("4002 0001", b"\xb2bs\xd1\x03\x10\xff!", "block", "a block is missing"),
]


@pytest.mark.parametrize(("head", "rest", "reason", "words"), IN_VAIN)
async def test_a_message_that_reaches_no_resource_is_counted_and_told_once(
    head: str, rest: bytes, reason: str, words: str
) -> None:
    rig = Rig()
    talk = rig.connect()
    await talk.say_bytes(bytes.fromhex(head) + rest)
    await talk.say(coap.CON, coap.POST, "bs")
    assert rig.refused == [(reason, words)]
    assert [kind for kind, count in rig.metrics.coap_refusals.values.items() if count] == [reason]
    assert len(rig.served) == 1


async def test_a_request_that_is_one_too_many_is_counted() -> None:
    async def never(_talk: Talk, _request: RequestReceived) -> None:
        await asyncio.Event().wait()

    rig = Rig(never)
    talk = rig.connect()
    for _ in range(17):
        await talk.say(coap.CON, coap.POST, "bs")
    assert rig.refused == [("busy", "too many requests are open")]
