"""The operations of a session in a row, above a device played message by message (course.py)."""

import asyncio
from typing import Any

import pytest

from lwm2m.bootstrap import BootstrapSession, Done, Failed, FailureCause, Learned, Plan, Send
from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.coap import message as coap
from lwm2m.coap.message import Message, encode
from lwm2m.coap.options import BLOCK2, CONTENT_FORMAT, URI_PATH
from lwm2m.paths import Path
from lwm2m.plan import ServerPlan
from lwm2m.steps import Step
from server.course import Course
from tests.unit.coap.conversation import Rig, Talk, settle

PLAN = Plan(discover="auto", delete=(Path(1),), servers=(ServerPlan(short_server_id=1),))
LINKS = b"</>;lwm2m=1.1,</1/0>"


def machine_for(plan: Plan = PLAN) -> BootstrapSession:
    return BootstrapSession(parse_bootstrap_request(("ep=device-1",)), plan, Learned(), credentials={})


class Under:
    """A session's course under way, and its device."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.rig = Rig()
        self.talk: Talk = self.rig.connect()
        self.machine = machine_for(plan)
        first = self.machine.start(self.rig.now)
        assert isinstance(first, Send)
        course = Course(self.talk.conversation, self.machine)
        self.task: asyncio.Task[Step] = asyncio.create_task(course.sent(first, self.rig.now))

    def hand_in(self, request: Message, code: int, **fields: Any) -> None:
        """The device's answer, in the acknowledgement; no turn of the loop is given."""
        message = Message(
            coap.ACK, code, request.mid, request.token, fields.get("options", []), fields.get("payload", b"")
        )
        self.talk.conversation.datagram_received(encode(message))


def path(request: Message) -> str:
    return "/" + "/".join(value.decode() for number, value in request.options if number == URI_PATH)


async def test_the_next_request_leaves_in_the_call_that_brings_the_answer() -> None:
    under = Under()
    await settle()
    asked: list[tuple[int, str]] = []
    answers = [
        (coap.CONTENT, {"options": [(CONTENT_FORMAT, b"\x28")], "payload": LINKS}),
        (coap.DELETED, {}),
        (coap.CHANGED, {}),
        (coap.CHANGED, {}),
    ]
    for code, fields in answers:
        request = under.talk.sent_one()
        asked.append((request.code, path(request)))
        under.hand_in(request, code, **fields)
    assert asked == [(coap.GET, "/"), (coap.DELETE, "/1"), (coap.PUT, "/1/0"), (coap.POST, "/bs")]
    assert await under.task == Done()
    assert [step.seconds for step in under.machine.log] == [0.0] * 4


async def test_the_accept_that_seems_to_be_lost_leaves_again_before_the_operation() -> None:
    plan = Plan(discover="never", delete=(Path(1),))
    rig = Rig()
    talk = rig.connect()
    await talk.say(coap.CON, coap.POST, "bs")
    accept = talk.sent_one()
    request = parse_bootstrap_request(("ep=device-1",))
    machine = BootstrapSession(request, plan, Learned(izuma=True), credentials={})
    first = machine.start(rig.now)
    assert isinstance(first, Send)
    task = asyncio.create_task(Course(talk.conversation, machine).sent(first, rig.now))
    await settle()
    deletion = talk.sent_one()
    await talk.say(coap.ACK, coap.BAD_REQUEST, mid=deletion.mid, token=deletion.token)
    again, repeated = talk.sent()
    assert again == accept
    assert (repeated.code, path(repeated), repeated.mid) == (coap.DELETE, "/1", deletion.mid + 1)
    task.cancel()
    await settle()


async def test_silence_ends_it_as_the_machine_says() -> None:
    under = Under(Plan(discover="never", delete=(Path(1),)))
    await settle()
    while not under.task.done():
        await under.rig.wait(10.0)
    assert await under.task == Failed(FailureCause.NO_ANSWER, "/1", None)


async def test_a_reset_ends_it_as_the_machine_says() -> None:
    under = Under(Plan(discover="never", delete=(Path(1),)))
    await settle()
    await under.talk.say(coap.RST, coap.EMPTY, mid=under.talk.sent_one().mid)
    assert await under.task == Failed(FailureCause.RESET, "/1", None)


async def test_an_answer_that_cannot_be_used_is_not_taken_for_silence() -> None:
    under = Under()
    await settle()
    # What it holds is not known, and it is not of those that say nothing to a Discover.
    under.hand_in(under.talk.sent_one(), coap.CONTENT, options=[(9, b"?")], payload=LINKS)
    under.hand_in(under.talk.sent_one(), coap.DELETED)
    under.hand_in(under.talk.sent_one(), coap.CHANGED, options=[(9, b"?")])
    ended = await under.task
    assert ended == Failed(
        FailureCause.BAD_ANSWER, "/1/0", None, "the answer has a critical option that has no meaning there"
    )
    assert under.machine.learned == Learned()


async def test_a_device_that_goes_ends_it_and_one_that_is_gone_is_asked_nothing() -> None:
    under = Under()
    await settle()
    under.talk.sent()
    under.talk.lose()
    gone = await under.task
    assert isinstance(gone, Failed)
    assert (gone.cause, gone.path, gone.detail) == (FailureCause.ASSOCIATION_LOST, "/", "closed_by_peer")
    machine = machine_for()
    first = machine.start()
    assert isinstance(first, Send)
    again = await Course(under.talk.conversation, machine).sent(first, under.rig.now)
    assert isinstance(again, Failed)
    assert again.cause is FailureCause.ASSOCIATION_LOST
    assert under.talk.sent() == []


async def test_cancelled_it_sends_no_more_whatever_comes() -> None:
    under = Under()
    await settle()
    request = under.talk.sent_one()
    under.task.cancel()
    # Before the task has had its turn, and after it.
    under.hand_in(request, coap.CONTENT, options=[(CONTENT_FORMAT, b"\x28")], payload=LINKS)
    await settle()
    assert under.task.cancelled()
    await under.rig.wait(100.0)
    assert under.talk.sent() == []
    assert under.machine.log == []


async def test_a_fault_of_ours_ends_the_session_and_not_who_brings_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    under = Under()
    await settle()

    def broken(*_: object) -> Step:
        raise ZeroDivisionError

    monkeypatch.setattr(BootstrapSession, "answer", broken)
    under.hand_in(under.talk.sent_one(), coap.CONTENT, options=[(CONTENT_FORMAT, b"\x28")], payload=LINKS)
    with pytest.raises(ZeroDivisionError):
        await under.task
    assert under.rig.internal_errors == 0


async def test_a_discover_answered_in_blocks_is_read_whole() -> None:
    under = Under()
    await settle()
    first = under.talk.sent_one()
    under.hand_in(first, coap.CONTENT, options=[(CONTENT_FORMAT, b"\x28"), (BLOCK2, b"\x08")], payload=LINKS[:16])
    second = under.talk.sent_one()
    assert second.code == coap.GET
    under.hand_in(second, coap.CONTENT, options=[(CONTENT_FORMAT, b"\x28"), (BLOCK2, b"\x10")], payload=LINKS[16:])
    assert path(under.talk.sent_one()) == "/1"
    under.task.cancel()
    await settle()


async def test_cancelled_after_the_last_answer_it_has_ended_as_the_device_says() -> None:
    under = Under(Plan(discover="never", delete=(), servers=()))
    await settle()
    finish = under.talk.sent_one()
    assert path(finish) == "/bs"
    under.hand_in(finish, coap.CHANGED)
    # The deadline or a newer session, before the task has had its turn.
    under.task.cancel()
    await settle()
    assert under.task.cancelled()
    assert under.machine.interrupt(FailureCause.DEADLINE) == Done()
    assert not under.machine.finish_unanswered


async def test_cancelled_while_the_device_is_silent_it_repeats_nothing() -> None:
    under = Under()
    await settle()
    under.talk.sent_one()
    under.task.cancel()
    await settle()
    assert under.task.cancelled()
    await under.rig.wait(100.0)
    assert under.talk.sent() == []
