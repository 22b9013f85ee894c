"""One lean device of the swarm: datagrams and time in, datagrams out (LwM2M Core 1.2 6.1).

It has the timers of RFC 6347 4.2.4 and RFC 7252 4.8, and answers what a bootstrap server asks of it; what it was
written is looked at when all is over. `device.py` is the faithful one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from lwm2m.coap import message as coap
from lwm2m.coap import options as coap_options
from lwm2m.coap.message import Malformed, Message, Option
from lwm2m.errors import DecodeError
from simulators.dtls import Credential, Stage
from simulators.formats import LINK_FORMAT
from simulators.swarm_dtls import SwarmClient, SwarmContext
from simulators.tree import MODE_CERTIFICATE, ObjectTree

# RFC 7252 4.8, 4.8.2; seconds.
ACK_TIMEOUT = 2.0
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4
EXCHANGE_LIFETIME = 247.0
# How real clients come back after a failure: 1, 2, 4 … at most 20 seconds.
FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 20.0
_BS = (coap_options.URI_PATH, b"bs")
_LINKS = ObjectTree(uri="coaps://bootstrap.example.com", mode=MODE_CERTIFICATE).links((), "1.2").encode()
_DISCOVERED: Sequence[Option] = ((coap_options.CONTENT_FORMAT, coap_options.encode_uint(LINK_FORMAT)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """How patient a device is; seconds. `attempts` are Bootstrap-Requests.

    `handshake` after which it begins a new one, `silence` of a server it asked, its own repeats included (LwM2M Core
    1.2 6.1.7.7), `total` after which it counts as failed, `linger` for which it answers repeats after the Finish unless
    the server closes. `hold`: it acknowledges the first thing the server asks and answers only when it is told to
    (`SwarmDevice.go_on`).
    """

    attempts: int = 3
    handshake: float = 60.0
    silence: float = EXCHANGE_LIFETIME
    total: float = 300.0
    linger: float = 0.0
    hold: bool = False


class _Phase(Enum):
    AWAY = auto()
    HANDSHAKE = auto()
    ASKED = auto()
    SERVED = auto()
    DONE = auto()
    OVER = auto()


@dataclass(slots=True)
class Outcome:
    """What became of one device; times in seconds of the loop's clock, `written` by path as format and payload."""

    endpoint: str
    started: float
    done: float | None = None
    reason: str = ""
    attempts: int = 0
    handshakes: int = 0
    shed: int = 0
    handshake_seconds: float = 0.0
    written: dict[tuple[int, ...], tuple[int, bytes]] = field(default_factory=dict, repr=False)


class SwarmDevice:
    """One device: datagrams and time in, `outbox` out; `due` is when `handle_timer` wants to be called."""

    __slots__ = (
        "_acknowledged",
        "_answers",
        "_back_off",
        "_bodies",
        "_client",
        "_context",
        "_credential",
        "_dice",
        "_handshake_until",
        "_held",
        "_mid",
        "_pct",
        "_phase",
        "_request",
        "_request_mid",
        "_retransmissions",
        "_silent_until",
        "_temper",
        "_timeout",
        "due",
        "outbox",
        "outcome",
    )
    _mid: int
    _timeout: float
    _request: bytes

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        context: SwarmContext,
        temper: Temper,
        dice: random.Random,
        now: float,
        *,
        pct: int = 112,
    ) -> None:
        self._credential = credential
        self._context = context
        self._temper = temper
        self._dice = dice
        self._pct = pct
        self._back_off = FIRST_BACK_OFF
        self.outcome = Outcome(endpoint, now)
        self.outbox: list[bytes] = []
        self._client: SwarmClient | None = None
        self._held: Message | None = None
        self._begin(now)

    @property
    def is_held(self) -> bool:
        """The server asked for something and waits for the answer."""
        return self._held is not None

    def go_on(self, now: float) -> None:
        """Give the answer that was held back, in a message of its own (RFC 7252 5.2.2)."""
        held, self._held = self._held, None
        if held is not None:
            answer = self._operation(held, now)
            self._answers[held.mid] = answer
            mid = self._mid = (self._mid + 1) & 0xFFFF
            self._send(bytes((answer[0] & 0xCF | coap.CON << 4, answer[1])) + mid.to_bytes(2, "big") + answer[4:])

    @property
    def is_over(self) -> bool:
        """Nothing more will happen."""
        return self._phase is _Phase.OVER

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram of the server."""
        client = self._client
        if client is None:
            return
        for plaintext in client.receive(datagram):
            self._message(plaintext, now)
        if self._client is not client:
            return
        if self._phase is _Phase.HANDSHAKE:
            if client.stage is Stage.ESTABLISHED:
                self.outcome.handshake_seconds = now - self.outcome.started
                self._ask(now)
            elif client.stage is Stage.HANDSHAKING:
                self._await_flight(client, now)
        self.outbox += client.datagrams_to_send()
        if client.stage is Stage.CLOSED:
            self._closed(client.reason, now)

    def handle_timer(self, now: float) -> None:
        """Repeat, give up or come back, whatever is due."""
        if self._phase is not _Phase.DONE and now >= self.outcome.started + self._temper.total:
            self._give_up(self.outcome.reason or f"not done after {self._temper.total:g} s")
            return
        match self._phase:
            case _Phase.AWAY:
                self._begin(now)
            case _Phase.HANDSHAKE:
                self._handshake_timer(now)
            case _Phase.ASKED if self._may_repeat(now):
                self._retransmissions += 1
                self._timeout *= 2
                self.due = min(now + self._timeout, self._silent_until)
                self._send(self._request)
            case _Phase.ASKED | _Phase.SERVED:
                self._failed("the server says nothing", now)
            case _Phase.DONE:
                self._finish()
            case _Phase.OVER:
                self.due = float("inf")

    # -- association --------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._phase = _Phase.HANDSHAKE
        self.outcome.handshakes += 1
        self._handshake_until = now + self._temper.handshake
        self._client = client = SwarmClient(self._context, self._credential)
        self._await_flight(client, now)
        self.outbox += client.datagrams_to_send()

    def _await_flight(self, client: SwarmClient, now: float) -> None:
        wait = client.next_timer()
        self.due = self._handshake_until if wait is None else min(now + wait, self._handshake_until)

    def _handshake_timer(self, now: float) -> None:
        client = self._client
        if client is None or now >= self._handshake_until:
            self._away(now, "the handshake did not end", self._next_back_off())
            return
        client.handle_timer()
        self.outbox += client.datagrams_to_send()
        if client.stage is Stage.CLOSED:
            self._away(now, client.reason, self._next_back_off())
        else:
            self._await_flight(client, now)

    def _closed(self, reason: str, now: float) -> None:
        match self._phase:
            case _Phase.DONE:
                self._finish()
            case _Phase.HANDSHAKE:
                self._away(now, f"handshake: {reason}", self._next_back_off())
            case _Phase.ASKED | _Phase.SERVED:
                self._failed(f"association: {reason}", now)
            case _:
                pass

    def _send(self, plaintext: bytes) -> None:
        client = self._client
        if client is not None and client.stage is Stage.ESTABLISHED:
            client.send(plaintext)
            self.outbox += client.datagrams_to_send()

    # -- ends of attempts ---------------------------------------------------------------------------------

    def _next_back_off(self) -> float:
        wait, self._back_off = self._back_off, min(self._back_off * 2, LONGEST_BACK_OFF)
        return wait

    def _failed(self, reason: str, now: float, wait: float | None = None) -> None:
        """This attempt is over; another one follows unless it was the last."""
        if self.outcome.attempts >= self._temper.attempts:
            self._give_up(reason)
        else:
            self._away(now, reason, self._next_back_off() if wait is None else wait)

    def _away(self, now: float, reason: str, wait: float) -> None:
        self.outcome.reason = reason
        self._drop()
        self._phase = _Phase.AWAY
        self.due = min(now + wait, self.outcome.started + self._temper.total)

    def _give_up(self, reason: str) -> None:
        self.outcome.reason = reason
        self._finish()

    def _finish(self) -> None:
        self._drop()
        self._phase = _Phase.OVER
        self.due = float("inf")

    def _drop(self) -> None:
        self._held = None
        client, self._client = self._client, None
        if client is not None:
            client.close()
            self.outbox += client.datagrams_to_send()
            client.release()

    # -- the Bootstrap-Request ----------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self.outcome.attempts += 1
        self._phase = _Phase.ASKED
        self._acknowledged = False
        self._retransmissions = 0
        self._answers: dict[int, bytes] = {}
        self._bodies: dict[tuple[int, ...], bytearray] = {}
        self.outcome.written.clear()
        self._mid = self._request_mid = self._dice.getrandbits(16)
        query = (b"ep=" + self.outcome.endpoint.encode(), b"pct=%d" % self._pct)
        options = (_BS, *((coap_options.URI_QUERY, value) for value in query))
        self._request = coap.encode_fields(coap.CON, coap.POST, self._mid, b"\x5a", options, b"")
        self._timeout = ACK_TIMEOUT * (1 + (ACK_RANDOM_FACTOR - 1) * self._dice.random())
        self._silent_until = now + self._temper.silence
        self.due = min(now + self._timeout, self._silent_until)
        self._send(self._request)

    def _may_repeat(self, now: float) -> bool:
        return not self._acknowledged and self._retransmissions < MAX_RETRANSMIT and now < self._silent_until

    def _answered(self, message: Message, now: float) -> None:
        """The server's answer to the Bootstrap-Request, in its acknowledgement or by itself."""
        if message.token != b"\x5a" or (message.type == coap.ACK and message.mid != self._request_mid):
            return
        if message.type == coap.CON:
            self._send(coap.encode_fields(coap.ACK, coap.EMPTY, message.mid, b"", (), b""))
        if self._phase is not _Phase.ASKED:
            return
        if message.code == coap.CHANGED:
            self._phase = _Phase.SERVED
            self.due = now + self._temper.silence
        elif message.code == coap.SERVICE_UNAVAILABLE:
            self.outcome.shed += 1
            self._failed("5.03", now, float(coap_options.max_age(message.options)))
        else:
            self._failed(coap.code_text(message.code), now)

    # -- what the server asks -----------------------------------------------------------------------------

    def _message(self, plaintext: bytes, now: float) -> None:
        try:
            message = coap.decode(plaintext)
        except Malformed:
            return
        if message.code == coap.EMPTY:
            self._empty(message, now)
        elif message.code >= 0x40:
            self._answered(message, now)
        elif message.type == coap.CON and self._phase in (_Phase.SERVED, _Phase.DONE):
            again = self._answers.get(message.mid)
            if again is None and self._temper.hold and not self._answers:
                # From here on a repeat is acknowledged again.
                self._held = message
                again = self._answers[message.mid] = coap.encode_fields(coap.ACK, coap.EMPTY, message.mid, b"", (), b"")
            elif again is None:
                again = self._answers[message.mid] = self._operation(message, now)
            self._send(again)
            if self._phase is _Phase.DONE and not self._temper.linger:
                self._finish()

    def _empty(self, message: Message, now: float) -> None:
        if message.type == coap.CON:
            self._send(coap.encode_fields(coap.RST, coap.EMPTY, message.mid, b"", (), b""))
        elif self._phase is _Phase.ASKED and message.mid == self._request_mid:
            if message.type == coap.RST:
                self._failed("reset", now)
            else:
                self._acknowledged = True
                self.due = now + self._temper.silence

    def _operation(self, message: Message, now: float) -> bytes:
        """The answer to one new request: Delete, Discover, Write or Finish."""
        self.due = now + self._temper.silence
        options: Sequence[Option] = ()
        payload = b""
        try:
            target = coap_options.read_target(message.options)
            match message.code:
                case coap.DELETE:
                    code = coap.DELETED
                case coap.GET:
                    code, options, payload = coap.CONTENT, _DISCOVERED, _LINKS
                case coap.PUT:
                    code, options = self._write(message, target)
                case coap.POST if target.path == ("bs",):
                    code = self._finished(now)
                case _:
                    code = coap.METHOD_NOT_ALLOWED
        except (DecodeError, ValueError):
            code = coap.BAD_REQUEST
        return coap.encode_fields(coap.ACK, code, message.mid, message.token, options, payload)

    def _write(self, message: Message, target: coap_options.Target) -> tuple[int, Sequence[Option]]:
        path = tuple(map(int, target.path))
        number = coap_options.content_format(message.options) or 0
        block = target.block1
        if block is None:
            self.outcome.written[path] = (number, message.payload)
            return coap.CHANGED, ()
        if block.number == 0:
            # The server may begin again at any time (RFC 7959 2.5).
            self._bodies[path] = bytearray()
        body = self._bodies.get(path)
        if body is None or len(body) != block.offset:
            return coap.REQUEST_ENTITY_INCOMPLETE, ()
        body += message.payload
        options = ((coap_options.BLOCK1, coap_options.encode_block(block)),)
        if block.more:
            return coap.CONTINUE, options
        self.outcome.written[path] = (number, bytes(self._bodies.pop(path)))
        return coap.CHANGED, options

    def _finished(self, now: float) -> int:
        written = {path[0] for path in self.outcome.written}
        if not {0, 1} <= written:
            return coap.NOT_ACCEPTABLE
        if self._phase is _Phase.SERVED:
            self._phase = _Phase.DONE
            self.outcome.done = now
            self.outcome.reason = ""
            self.due = now + self._temper.linger
        return coap.CHANGED
