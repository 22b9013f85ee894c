"""Runs a recorded association against this version's exchanges and bootstrap session, and says where it differs.

Everything a device sent, and everything that came from outside the protocol, goes in at its recorded time; every
datagram that comes out must be the recorded one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from lwm2m.bootstrap import BootstrapSession
from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.coap import options as coap_options
from lwm2m.coap.events import Event, ExchangeFailed, RequestReceived, ResponseReceived
from lwm2m.coap.exchange import Exchanges
from lwm2m.coap.message import Malformed, code_text, decode
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import (
    Abandoned,
    Answered,
    Cancelled,
    Ended,
    Entry,
    Received,
    Requested,
    Sent,
    Started,
    Supplied,
)
from lwm2m.errors import DecodeError
from lwm2m.plan import Credential, Learned, Plan, PskCredential
from lwm2m.steps import AskCredential, Done, Failed, FailureCause, Send, Step
from lwm2m.text import escaped

MOST_DIFFERENCES = 20
"""After so many nothing new is learned."""

# What ends a session from outside: its own course does not say so.
_FROM_OUTSIDE = frozenset(cause.value for cause in FailureCause) - {
    cause.value
    for cause in (
        FailureCause.DELETE_REFUSED,
        FailureCause.WRITE_REFUSED,
        FailureCause.FORMAT_REFUSED,
        FailureCause.DISCOVER_REQUIRED,
        FailureCause.FINISH_REFUSED,
        FailureCause.FINISH_INCONSISTENT,
        FailureCause.NO_ANSWER,
        FailureCause.BAD_ANSWER,
        FailureCause.RESET,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInputs:
    """What a recorded session began with, and the credentials it was given `later`; zeros stand for secrets."""

    plan: Plan
    learned: Learned
    asked_for_pack: bool
    finish_query: tuple[str, ...]
    credentials: Mapping[int, Credential | PskCredential]
    later: Mapping[int, Credential | PskCredential]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One association: its randomness, its sessions in their order, and what happened."""

    parameters: Parameters
    first_mid: int
    token_seed: bytes
    draws: tuple[float, ...]
    sessions: tuple[SessionInputs, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where this version does something else, `at` seconds of the recording; both sides in words, or empty."""

    at: float
    recorded: str
    now: str


def replay(recording: Recording) -> list[Difference]:
    """All differences, in their order, at most `MOST_DIFFERENCES`; none when this version does the same."""
    return _Replay(recording).run()


class _Replay:
    """One run; `_now` is the time of the entry at hand."""

    def __init__(self, recording: Recording) -> None:
        draws = deque(recording.draws)
        self._recording = recording
        self._exchanges = Exchanges(
            parameters=recording.parameters,
            first_mid=recording.first_mid,
            token_seed=recording.token_seed,
            jitter=lambda: draws.popleft() if draws else 0.0,
        )
        self._sessions = deque(recording.sessions)
        self._differences: list[Difference] = []
        self._outbox: deque[bytes] = deque()
        self._now = 0.0
        # The newest Bootstrap-Request, which the next session is about.
        self._query: Sequence[str] = ()
        self._machine: BootstrapSession | None = None
        self._inputs: SessionInputs | None = None
        self._step: Step | None = None
        self._exchange: int | None = None

    def run(self) -> list[Difference]:
        for entry in self._recording.entries:
            self._now = entry.at
            self._take(entry)
            if len(self._differences) >= MOST_DIFFERENCES:
                return self._differences
        for datagram in self._outbox:
            self._differ("", f"sends {describe(datagram)}")
        return self._differences[:MOST_DIFFERENCES]

    def _take(self, entry: Entry) -> None:
        exchanges, now = self._exchanges, entry.at
        match entry:
            case Received(datagram=datagram):
                self._happened(exchanges.receive(datagram, now))
            case Sent(datagram=datagram):
                self._compare(datagram)
            case Answered(request_id=request_id, code=code):
                answered = exchanges.respond(
                    request_id, code, now, options=entry.options, payload=bytes(entry.payload_size)
                )
                if not answered:
                    self._differ(f"request {request_id} was answered {code_text(code)}", "knows no such open request")
                self._happened(exchanges.take_events())
            case Abandoned(request_id=request_id):
                exchanges.abandon(request_id, now)
            case Requested():
                self._request()
            case Cancelled():
                if self._exchange is not None:
                    exchanges.cancel(self._exchange)
                self._exchange = self._step = None
            case Started():
                self._start()
            case Supplied(index=index):
                self._supply(index)
            case Ended():
                self._end(entry)
            case _:
                assert_never(entry)
        self._outbox.extend(exchanges.datagrams_to_send())

    def _compare(self, recorded: bytes) -> None:
        if not self._outbox:
            # Nothing called for it: a timer did.
            self._timers()
        if not self._outbox:
            self._differ(f"sends {describe(recorded)}", "sends nothing")
            return
        now = self._outbox.popleft()
        if now != recorded:
            self._differ(f"sends {describe(recorded)}", f"sends {describe(now)}{_first_difference(recorded, now)}")

    def _timers(self) -> None:
        self._happened(self._exchanges.handle_timer(self._now))
        self._outbox.extend(self._exchanges.datagrams_to_send())

    def _happened(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case RequestReceived(path=("bs",)):
                    self._query = event.query
                case ResponseReceived() if event.exchange_id == self._exchange and self._machine is not None:
                    content_format = coap_options.content_format(event.options)
                    self._exchange = None
                    self._step = self._machine.answer(
                        event.code, content_format, event.payload, self._now, event.in_blocks
                    )
                case ExchangeFailed() if event.exchange_id == self._exchange and self._machine is not None:
                    self._exchange = None
                    self._step = self._machine.unanswered(event.cause, self._now)
                case _:
                    pass

    # -- the session ----------------------------------------

    def _start(self) -> None:
        if not self._sessions:
            self._differ("a session began", "has nothing that it could have begun with")
            return
        self._inputs = inputs = self._sessions.popleft()
        try:
            request = parse_bootstrap_request(self._query)
        except DecodeError as error:
            self._differ("a session began", f"cannot read its Bootstrap-Request: {error}")
            return
        if inputs.asked_for_pack:
            request = replace(request, asked_for_pack=True)
        self._machine = BootstrapSession(
            request,
            inputs.plan,
            inputs.learned,
            credentials=inputs.credentials,
            finish_query=inputs.finish_query,
        )
        self._exchange = None
        self._step = self._machine.start(self._now)

    def _request(self) -> None:
        if not isinstance(self._step, Send) or self._exchange is not None:
            # Only silence can have let the session go on here.
            self._timers()
        step = self._step
        if not isinstance(step, Send) or self._exchange is not None:
            self._differ("the session goes on with its next operation", f"does not: {_said(step)}")
            return
        operation = step.operation
        if step.accept_again:
            self._exchanges.say_again()
        self._exchange = self._exchanges.request(
            operation.code,
            operation.segments,
            self._now,
            options=operation.options,
            payload=operation.payload,
            query=operation.query,
            max_retransmit=0 if step.may_be_silent else None,
        )
        self._step = None

    def _supply(self, index: int) -> None:
        if self._machine is None or self._inputs is None or not isinstance(self._step, AskCredential):
            self._differ(f"credential {index} was asked for", f"does not ask: {_said(self._step)}")
            return
        credential = self._inputs.later.get(index)
        if self._step.index != index or credential is None:
            self._differ(f"credential {index} was asked for", f"asks for {self._step.index}")
            return
        self._step = self._machine.supply(index, credential, self._now)

    def _end(self, ended: Ended) -> None:
        if self._machine is not None and not isinstance(self._step, Done | Failed):
            self._timers()
        step, self._step = self._step, None
        machine, self._machine = self._machine, None
        if machine is None:
            return
        recorded = "it succeeded" if ended.cause is None else _failure(ended.cause, ended.path, ended.code)
        match step:
            case Done():
                now = "it succeeded"
            case Failed():
                now = _failure(step.cause.value, step.path, step.code)
            case _ if ended.cause in _FROM_OUTSIDE:
                if self._exchange is not None:
                    self._exchanges.cancel(self._exchange)
                return
            case _:
                now = f"is not at its end: {_said(step)}"
        if now != recorded:
            self._differ(recorded, now)

    def _differ(self, recorded: str, now: str) -> None:
        self._differences.append(Difference(self._now, recorded, now))


def describe(datagram: bytes) -> str:
    """A datagram in printable words: type, code, path and query, what a person compares."""
    try:
        message = decode(datagram)
    except Malformed:
        return f"{len(datagram)} bytes that are no CoAP"
    kind = ("CON", "NON", "ACK", "RST")[message.type]
    words = [kind, f"{message.mid:#06x}", _code(message.code)]
    path = [value.decode(errors="replace") for number, value in message.options if number == coap_options.URI_PATH]
    query = [value.decode(errors="replace") for number, value in message.options if number == coap_options.URI_QUERY]
    if 0 < message.code < 0x20:
        words.append(escaped("/" + "/".join(path) + ("?" + "&".join(query) if query else "")))
    for number, name in ((coap_options.BLOCK1, "block1"), (coap_options.BLOCK2, "block2")):
        for value in (value for at, value in message.options if at == number):
            try:
                block = coap_options.decode_block(value)
            except coap_options.BadOption:
                continue
            words.append(f"{name} {block.number}{'+' if block.more else ''} of {block.size}")
    if message.payload:
        words.append(f"{len(message.payload)} bytes")
    return " ".join(words)


def _code(code: int) -> str:
    methods = {0: "empty", 1: "GET", 2: "POST", 3: "PUT", 4: "DELETE"}
    return methods.get(code) or code_text(code)


def _first_difference(recorded: bytes, now: bytes) -> str:
    shorter = min(len(recorded), len(now))
    at = next((i for i in range(shorter) if recorded[i] != now[i]), shorter)
    there, here = recorded[at : at + 8].hex() or "its end", now[at : at + 8].hex() or "its end"
    return f", from byte {at}: {there} recorded, {here} now"


def _failure(cause: str, path: str | None, code: int | None) -> str:
    words = [f"it failed: {cause}"]
    if path is not None:
        words.append(f"at {path}")
    if code is not None:
        words.append(f"with {code_text(code)}")
    return " ".join(words)


def _said(step: Step | None) -> str:
    match step:
        case None:
            return "it waits for an answer"
        case Send():
            return f"it sends {step.operation.kind.value} {step.operation.path}"
        case AskCredential():
            return f"it asks for credential {step.index}"
        case Done():
            return "it succeeded"
        case Failed():
            return _failure(step.cause.value, step.path, step.code)
        case _:
            assert_never(step)
