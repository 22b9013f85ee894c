"""A lean device against the server's own transport, both in memory; its CoAP timers on a clock that a test moves."""

import asyncio
import random
from collections.abc import Callable
from uuid import UUID

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap import options as coap_options
from lwm2m.coap.exchange import Event, Exchanges, Parameters, RequestReceived, ResponseReceived
from server.transport.association import Association
from server.transport.engine import PreSharedKey
from simulators.dtls import PskCredential
from simulators.swarm_command import percentile
from simulators.swarm_device import SwarmDevice, Temper
from simulators.swarm_dtls import SwarmContext
from tests.unit.transport.certificates import Pki
from tests.unit.transport.rig import ADDRESS, Server

KEY = PreSharedKey(id=UUID(int=1), account_id=UUID(int=1), identity=b"lean", key=b"k" * 16, endpoint="lean")
COURSE: list[tuple[int, tuple[str, ...], bytes]] = [
    (coap.GET, (), b""),
    (coap.DELETE, ("0",), b""),
    (coap.PUT, ("0", "1"), b"security" * 300),
    (coap.PUT, ("1", "1"), b"server"),
    (coap.POST, ("bs",), b""),
]


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


class Bootstraps:
    """An Upper that takes every device through `COURSE`; `answer` of the Bootstrap-Request may be another."""

    def __init__(self, association: Association, now: Callable[[], float], answer: int = coap.CHANGED) -> None:
        self.association = association
        self.now = now
        self.answer = answer
        self.answers: list[int] = []
        self.exchanges = Exchanges(parameters=Parameters(), first_mid=7, token_seed=b"\1\2\3\4", jitter=lambda: 0.0)

    def datagram_received(self, plaintext: bytes) -> None:
        for event in self.exchanges.receive(plaintext, self.now()):
            self.take(event)
        self.flush()

    def take(self, event: Event) -> None:
        match event:
            case RequestReceived(request_id=request_id):
                options = [(coap_options.MAX_AGE, b"\x07")] if self.answer == coap.SERVICE_UNAVAILABLE else []
                self.exchanges.respond(request_id, self.answer, self.now(), options=options)
                if self.answer == coap.CHANGED:
                    self.next()
            case ResponseReceived(code=code):
                self.answers.append(code)
                self.next()
            case _:
                pass

    def next(self) -> None:
        if len(self.answers) < len(COURSE):
            code, path, payload = COURSE[len(self.answers)]
            self.exchanges.request(code, path, self.now(), payload=payload)

    def flush(self) -> None:
        for datagram in self.exchanges.datagrams_to_send():
            self.association.send(datagram)

    def association_lost(self, reason: str) -> None:
        pass


class Field:
    """One device and one server; `lose` swallows what the device sends."""

    def __init__(self, pki: Pki, temper: Temper, *answers: int) -> None:
        left = list(answers)

        def upper(association: Association) -> Bootstraps:
            return Bootstraps(association, lambda: self.now, left.pop(0) if left else coap.CHANGED)

        self.now = 1000.0
        self.lose = False
        self.server = Server(pki.index, pki.server, keys=[KEY], upper=upper)
        credential = PskCredential(identity=KEY.identity, key=KEY.key)
        context = SwarmContext(anchors=())
        self.device = SwarmDevice("lean", credential, context, temper, random.Random(1), self.now)

    async def carry(self) -> bool:
        """Carry what there is once to and fro; keys are looked up in tasks. Whether anything is left to carry."""
        sent, self.device.outbox = self.device.outbox, []
        answers = [] if self.lose else self.server.deliver(sent)
        for _ in range(3):
            await asyncio.sleep(0)
            answers += self.server.sent(ADDRESS)
        for datagram in answers:
            self.device.receive(datagram, self.now)
        return bool(answers or self.device.outbox)

    async def exchange(self) -> None:
        """Carry datagrams until nobody has more to say."""
        while await self.carry():
            pass

    async def wait(self) -> None:
        """Let the time come that the device waits for."""
        self.now = self.device.due
        self.device.handle_timer(self.now)
        await self.exchange()


async def test_a_device_does_what_a_bootstrap_server_asks_and_keeps_what_it_was_written(pki: Pki) -> None:
    field = Field(pki, Temper())
    await field.exchange()
    outcome = field.device.outcome
    assert (field.device.is_over, outcome.done, outcome.attempts, outcome.reason) == (True, 1000.0, 1, "")
    assert outcome.written == {(0, 1): (0, b"security" * 300), (1, 1): (0, b"server")}
    assert field.server.uppers[0].answers[-1] == coap.CHANGED


async def test_a_device_that_is_put_off_comes_back_after_max_age(pki: Pki) -> None:
    field = Field(pki, Temper(), coap.SERVICE_UNAVAILABLE)
    await field.exchange()
    assert (field.device.outcome.shed, field.device.due) == (1, 1007.0)
    await field.wait()
    assert (field.device.outcome.done, field.device.outcome.attempts) == (1007.0, 2)


async def test_a_device_has_so_many_bootstrap_requests_and_no_more(pki: Pki) -> None:
    field = Field(pki, Temper(attempts=2), coap.FORBIDDEN, coap.FORBIDDEN)
    await field.exchange()
    await field.wait()
    outcome = field.device.outcome
    assert (field.device.is_over, outcome.done, outcome.attempts, outcome.reason) == (True, None, 2, "4.03")


async def test_a_server_that_says_nothing_is_asked_again_as_rfc_7252_says(pki: Pki) -> None:
    field = Field(pki, Temper(attempts=1))
    while field.device.outcome.attempts == 0:
        await field.carry()
    field.lose = True
    waits = []
    while not field.device.is_over:
        before = field.now
        await field.wait()
        waits.append(field.now - before)
    assert len(waits) == 5, "four repeats and the end"
    assert 2 <= waits[0] <= 3
    assert waits[1:] == pytest.approx([2 * waits[0], 4 * waits[0], 8 * waits[0], 16 * waits[0]])
    assert field.device.outcome.reason == "the server says nothing"


async def test_a_device_that_holds_acknowledges_and_answers_when_it_is_told_to(pki: Pki) -> None:
    field = Field(pki, Temper(hold=True))
    await field.exchange()
    assert field.device.is_held
    assert (field.device.is_over, field.server.uppers[0].answers) == (False, [])
    field.device.go_on(field.now)
    await field.exchange()
    assert (field.device.is_held, field.device.outcome.done) == (False, 1000.0)


async def test_a_device_that_is_not_done_in_time_has_failed(pki: Pki) -> None:
    field = Field(pki, Temper(hold=True, total=50.0))
    await field.exchange()
    field.device.handle_timer(1050.0)
    assert (field.device.is_over, field.device.is_held) == (True, False)
    assert field.device.outcome.reason == "not done after 50 s"


@pytest.mark.parametrize(("percent", "milliseconds"), [(50, 2000.0), (99, 4000.0), (100, 4000.0), (1, 1000.0)])
def test_a_percentile_is_a_time_that_was_measured(percent: float, milliseconds: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == milliseconds
    assert percentile([], percent) == 0.0
