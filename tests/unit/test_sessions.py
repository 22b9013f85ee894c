"""How a session that ends outside its course is answered (sessions.py)."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import pytest

from lwm2m.bootstrap import BootstrapSession, Done, Learned, Plan
from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.coap import message as coap
from lwm2m.coap.exchange import RequestReceived
from lwm2m.coap.options import MAX_AGE, encode_uint
from lwm2m.steps import Failed, FailureCause
from server.config import LimitsConfig
from server.metrics import Metrics
from server.policy import Admitted
from server.profile import default_profile, parse_profile
from server.sessions import Running, Sessions
from server.store.errors import StoreUnavailable
from tests import pki

REQUEST = RequestReceived(7, coap.POST, ("bs",), ("ep=device-1",), (), b"", True)


@dataclass
class Conversation:
    """Notes what a device is answered."""

    said: list[tuple[int, int, list[tuple[int, bytes]]]] = field(default_factory=list)

    def respond(self, request_id: int, code: int, *, options: Any = (), payload: bytes = b"") -> None:
        self.said.append((request_id, code, list(options)))


def running(conversation: Conversation, *, answered: bool) -> Running:
    text, files = default_profile("coaps://lwm2m.example:5684"), {"server-ca.pem": pki.make_factory_ca().pem}
    admitted = Admitted(
        account_id=uuid4(),
        endpoint="device-1",
        request=parse_bootstrap_request(("ep=device-1",)),
        profile=parse_profile(text, files, name="default"),
    )
    return Running(uuid4(), admitted, cast(Any, conversation), datetime.now(UTC), 0.0, answered=answered)


def sessions(
    monkeypatch: pytest.MonkeyPatch,
    ends_with: Exception | None,
    limits: LimitsConfig | None = None,
    jitter: float = 0.0,
) -> Sessions:
    """Sessions whose every course ends with this error, or has no end."""
    nothing: Any = None

    async def drive(*_: object) -> None:
        if ends_with is not None:
            raise ends_with
        await asyncio.Event().wait()

    monkeypatch.setattr(Sessions, "_drive", drive)
    return Sessions(
        credentials=nothing,
        outcomes=nothing,
        limits=limits or LimitsConfig(),
        clock=lambda: 0.0,
        now=lambda: datetime.now(UTC),
        jitter=lambda: jitter,
        metrics=Metrics(),
        farewells=nothing,
    )


async def test_a_device_hears_when_to_come_back_while_the_record_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation()
    under_test = sessions(monkeypatch, StoreUnavailable("the database is away", 4.2), jitter=0.5)
    verdict = await under_test._bounded(running(conversation, answered=False), REQUEST)
    assert conversation.said == [(7, coap.SERVICE_UNAVAILABLE, [(MAX_AGE, encode_uint(7))])]
    assert isinstance(verdict, Failed)
    assert (verdict.cause, verdict.code) == (FailureCause.STORE_UNAVAILABLE, coap.SERVICE_UNAVAILABLE)


async def test_a_device_that_has_its_answer_gets_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation()
    under_test = sessions(monkeypatch, StoreUnavailable("the database is away"))
    verdict = await under_test._bounded(running(conversation, answered=True), REQUEST)
    assert conversation.said == []
    assert isinstance(verdict, Failed)
    assert (verdict.cause, verdict.code) == (FailureCause.STORE_UNAVAILABLE, None)


async def test_a_session_without_end_is_ended_and_the_task_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation()
    under_test = sessions(monkeypatch, None, replace(LimitsConfig(), session_seconds=0.001))
    session = running(conversation, answered=False)
    session.task = asyncio.current_task()
    assert session.task is not None
    verdict = await under_test._bounded(session, REQUEST)
    assert isinstance(verdict, Failed)
    assert verdict.cause is FailureCause.DEADLINE
    assert conversation.said == [(7, coap.SERVICE_UNAVAILABLE, [(MAX_AGE, encode_uint(5))])]
    # What is written down next may have a time limit of its own.
    assert session.task.cancelling() == 0


@pytest.mark.parametrize("interrupted", [True, False])
async def test_a_cancelled_session_has_a_verdict_if_it_was_ended_and_none_if_the_server_was(
    monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    under_test = sessions(monkeypatch, None)
    session = running(Conversation(), answered=True)
    session.task = task = asyncio.create_task(cast(Any, under_test._bounded(session, REQUEST)))
    await asyncio.sleep(0)
    if interrupted:
        session.interrupted = (FailureCause.SUPERSEDED, "")
    task.cancel()
    verdict = (await asyncio.gather(task, return_exceptions=True))[0]
    if interrupted:
        assert isinstance(verdict, Failed)
        assert verdict.cause is FailureCause.SUPERSEDED
    else:
        assert isinstance(verdict, asyncio.CancelledError)


@pytest.mark.parametrize("cause", [FailureCause.SUPERSEDED, FailureCause.DEADLINE])
async def test_a_session_ended_when_its_device_has_just_taken_the_finish_is_a_success(
    monkeypatch: pytest.MonkeyPatch, cause: FailureCause
) -> None:
    under_test = sessions(monkeypatch, None)
    session = running(Conversation(), answered=True)
    nothing_to_do = Plan(discover="never", delete=())
    session.machine = BootstrapSession(session.admitted.request, nothing_to_do, Learned(), credentials={})
    session.machine.start(0.0)
    assert session.machine.answer(coap.CHANGED, None, b"", 0.1) == Done()
    session.task = task = asyncio.create_task(cast(Any, under_test._bounded(session, REQUEST)))
    await asyncio.sleep(0)
    session.interrupted = (cause, "")
    task.cancel()
    # Called a failure, the certificate that the device is at work with would be revoked.
    assert await task == Done()
