"""Two ends of one association in one process, a bad network between them, and hostile bytes."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.events import Event, ExchangeFailed, RequestReceived, ResponseDelivered, ResponseLost, ResponseReceived
from lwm2m.coap.exchange import Exchanges
from lwm2m.coap.message import Message, encode
from lwm2m.coap.options import encode_uint
from lwm2m.coap.parameters import Parameters
from tests.unit.coap.peer import never_too_late


@dataclass
class End:
    """One end: what it asked, what it was asked, what it learned."""

    exchanges: Exchanges
    asked: dict[int, str] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    fates: dict[int, type[Event]] = field(default_factory=dict)


class Network:
    """Loses, doubles and reorders datagrams between two ends under a clock of its own.

    Of one datagram at most two copies are lost, so that five transmissions always get one through and back.
    """

    def __init__(self, random: Random, loss: float, parameters: Parameters) -> None:
        self.random = random
        self.loss = loss
        self.now = 0.0
        self.ends = [
            End(
                Exchanges(
                    parameters=parameters,
                    first_mid=random.randrange(65536),
                    token_seed=random.randbytes(4),
                    jitter=random.random,
                )
            )
            for _ in range(2)
        ]
        self.flying: list[tuple[float, int, int, bytes | tuple[int, str]]] = []
        self.count = 0
        self.losses: dict[tuple[int, bytes], int] = {}

    def later(self, seconds: float, to: int, what: bytes | tuple[int, str]) -> None:
        self.count += 1
        heappush(self.flying, (self.now + seconds, self.count, to, what))

    def send(self, by: int) -> None:
        for datagram in self.ends[by].exchanges.datagrams_to_send():
            copies = 2 if self.random.random() < self.loss else 1
            for _ in range(copies):
                lost = self.losses.get((by, datagram), 0)
                if lost < 2 and self.random.random() < self.loss:
                    self.losses[by, datagram] = lost + 1
                else:
                    self.later(self.random.uniform(0.2, 1.2), 1 - by, datagram)

    def ask(self, by: int, name: str, payload: bytes) -> None:
        end = self.ends[by]
        end.asked[end.exchanges.request(coap.POST, (name,), self.now, payload=payload)] = name
        self.send(by)

    def take(self, by: int, events: list[Event]) -> None:
        end = self.ends[by]
        for event in events:
            match event:
                case RequestReceived():
                    end.served.append(event.path[0])
                    assert event.payload == body(event.path[0])
                    # Now, or after the empty acknowledgement has left.
                    thinking = self.random.choice([0.0, 0.3, 1.5])
                    self.later(thinking, by, (event.request_id, event.path[0]))
                case ResponseReceived():
                    assert event.code == coap.CHANGED
                    end.answers[end.asked[event.exchange_id]] = event.payload
                case ExchangeFailed():
                    raise AssertionError(f"{end.asked[event.exchange_id]} failed: {event.cause}")
                case ResponseDelivered() | ResponseLost():
                    assert event.request_id not in end.fates
                    end.fates[event.request_id] = type(event)
        never_too_late(end.exchanges)
        self.send(by)

    def run(self) -> None:
        idle = 0
        while True:
            timers = [(due, by) for by in (0, 1) if (due := self.ends[by].exchanges.next_timer()) is not None]
            if self.flying and (not timers or self.flying[0][0] <= min(timers)[0]):
                at, _, to, what = heappop(self.flying)
                self.now = at
                exchanges = self.ends[to].exchanges
                if isinstance(what, bytes):
                    events = exchanges.receive(what, self.now)
                else:
                    exchanges.respond(what[0], coap.CHANGED, self.now, payload=body(what[1])[::-1])
                    events = exchanges.take_events()
                self.take(to, events)
                idle = 0
            elif timers:
                due, by = min(timers)
                self.now = max(self.now, due)
                self.take(by, self.ends[by].exchanges.handle_timer(self.now))
                idle += 1
                assert idle < 100, "the timer does not advance"
            else:
                return


def body(name: str) -> bytes:
    """The payload a request of this name has, and backwards its answer: from nothing to several blocks."""
    random = Random(name)
    return random.randbytes(random.choice([0, 1, 60, 64, 65, 200, 700]))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.15, 0.4]),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 999)), min_size=1, max_size=8, unique=True),
)
def test_over_a_bad_network_every_request_is_done_once_and_answered(
    seed: int, loss: float, requests: list[tuple[int, int]]
) -> None:
    network = Network(Random(seed), loss, Parameters(block_size=64))
    for by, number in requests:
        network.ask(by, f"{by}-{number}", body(f"{by}-{number}"))
    network.run()
    for by in (0, 1):
        names = [f"{by}-{number}" for asker, number in requests if asker == by]
        assert network.ends[by].answers == {name: body(name)[::-1] for name in names}
        assert network.ends[1 - by].served == names
        fates = network.ends[1 - by].fates
        assert len(fates) == len(names)
        assert set(fates.values()) <= {ResponseDelivered}


numbers = st.one_of(st.sampled_from([3, 11, 12, 15, 17, 23, 27, 28, 60]), st.integers(0, 70))
datagrams = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda type, code, mid, token, options, payload: encode(Message(type, code, mid, token, options, payload)),
        st.integers(0, 3),
        st.sampled_from([0x01, 0x02, 0x03, 0x41, 0x44, 0x45, 0x5F, 0x80, 0x88, 0x8D]),
        st.integers(0x0F, 0x16),
        st.sampled_from([b"", b"\x20\x01", b"\x20\x02"]),
        st.lists(
            st.tuples(
                numbers,
                st.one_of(st.binary(max_size=4), st.integers(0, 63).map(encode_uint), st.just(b"a")),
            ),
            max_size=4,
        ),
        st.binary(max_size=40),
    ),
    st.builds(lambda type, mid: bytes([0x40 | type << 4, 0, 0, mid]), st.integers(0, 3), st.integers(0x0F, 0x16)),
)
steps = st.lists(st.one_of(datagrams, st.floats(0, 100)), max_size=30)


@settings(deadline=None, max_examples=200)
@given(steps)
def test_no_bytes_at_any_time_raise_or_leave_the_timer_stuck(steps: list[bytes | float]) -> None:
    exchanges = Exchanges(
        parameters=Parameters(block_size=16), first_mid=0x10, token_seed=b"\x20\x00", jitter=lambda: 0.5
    )
    now = 0.0
    asked = {exchanges.request(coap.PUT, ("0",), now, payload=bytes(40))}
    asked.add(exchanges.request(coap.GET, ("a",), now))
    ended: list[int] = []

    def take(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ResponseReceived | ExchangeFailed):
                ended.append(event.exchange_id)
            elif isinstance(event, RequestReceived) and event.request_id % 2:
                exchanges.respond(event.request_id, coap.CONTENT, now, payload=bytes(event.request_id * 7))
        never_too_late(exchanges)

    for step in steps:
        if isinstance(step, bytes):
            take(exchanges.receive(step, now))
        else:
            now += step
            take(exchanges.handle_timer(now))
    for _ in range(300):
        due = exchanges.next_timer()
        if due is None:
            break
        now = max(now, due)
        take(exchanges.handle_timer(now))
    assert exchanges.next_timer() is None
    assert sorted(ended) == sorted(asked)
    for datagram in exchanges.datagrams_to_send():
        coap.decode(datagram)
