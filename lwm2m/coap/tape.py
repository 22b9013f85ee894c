"""What happened on one association, in order and with its times: enough to run it again (`lwm2m/replay.py`).

Besides the datagrams, as they were before encryption and after decryption, it holds what came from outside the
protocol: answers given, requests begun and cancelled, sessions begun and ended.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from lwm2m.coap.message import Malformed, Message, Option, decode
from lwm2m.coap.options import BadOption, read_target
from lwm2m.coap.parameters import Parameters

DEFAULT_LIMIT = 65536
"""Bytes of datagrams kept of one association: several bootstraps over a bad path."""
MAX_ENTRIES = 4096
MOST_SESSIONS = 16
"""Of one association: a device that fails as often has shown how."""

Session = TypeVar("Session")


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram of the peer."""

    at: float
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """A datagram of ours."""

    at: float
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """We answered a request of the peer; the payload is never kept, it may be a key made for the device."""

    at: float
    request_id: int
    code: int
    options: tuple[Option, ...]
    payload_size: int


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A request of the peer that nobody will answer."""

    at: float
    request_id: int


@dataclass(frozen=True, slots=True)
class Requested:
    """A session sent its next operation."""

    at: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The operation under way was given up from outside."""

    at: float


@dataclass(frozen=True, slots=True)
class Started:
    """The next session of the association began."""

    at: float


@dataclass(frozen=True, slots=True)
class Supplied:
    """The session got the credential it had asked for."""

    at: float
    index: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: `cause` None = it succeeded; `path` and `code` of the operation that failed."""

    at: float
    cause: str | None
    path: str | None = None
    code: int | None = None


Entry: TypeAlias = Received | Sent | Answered | Abandoned | Requested | Cancelled | Started | Supplied | Ended


@dataclass(slots=True)
class Tape(Generic[Session]):
    """One association being recorded; plain tuples and lists, because every datagram of every device passes here.

    `first_mid`, `token_seed` and `draws` are the randomness of its exchanges, `sessions` what each session began
    with. `limit` bounds the bytes of datagrams; what comes after is counted as `dropped`.
    """

    parameters: Parameters
    first_mid: int
    token_seed: bytes
    source: Callable[[], float] = field(repr=False)
    limit: int = DEFAULT_LIMIT
    draws: list[float] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    dropped: int = 0
    # Whether what was recorded is forgotten, and nothing will be recorded any more.
    stopped: bool = False
    # The kind of each, then its values.
    _entries: list[tuple[object, ...]] = field(default_factory=list, repr=False)
    _bodies: list[bytes] = field(default_factory=list, repr=False)
    _secrets: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)

    def draw(self) -> float:
        """Randomness for the exchanges, remembered."""
        value = self.source()
        if not self.is_full:
            self.draws.append(value)
        return value

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return self.limit < 0

    def begin(self, session: Session) -> None:
        """The next session begins with this; one too many fills the tape."""
        if len(self.sessions) == MOST_SESSIONS:
            self.limit = -1
        if not self.is_full:
            self.sessions.append(session)

    def received(self, at: float, datagram: bytes) -> None:
        """A datagram came."""
        self.limit -= len(datagram)
        if self.limit < 0 or len(self._entries) >= MAX_ENTRIES:
            self.dropped += 1
        else:
            self._entries.append((Received, at, datagram))

    def sent(self, at: float, datagram: bytes) -> None:
        """A datagram leaves."""
        self.limit -= len(datagram)
        if self.limit < 0 or len(self._entries) >= MAX_ENTRIES:
            self.dropped += 1
        else:
            self._entries.append((Sent, at, datagram))

    def note(self, kind: type[Entry], *values: object) -> None:
        """Something else happened: the values of an entry of this kind."""
        if self.limit < 0 or len(self._entries) >= MAX_ENTRIES:
            self.dropped += 1
        else:
            self._entries.append((kind, *values))

    def body(self, payload: bytes) -> None:
        """A whole payload that is about to be sent, maybe in blocks."""
        if payload and not self.is_full:
            self._bodies.append(payload)

    def stop(self) -> None:
        """Record nothing more, and forget what was recorded."""
        self.stopped = True
        self.limit = -1
        for kept in (self._entries, self._bodies, self._secrets, self.sessions, self.draws):
            kept.clear()

    def conceal(self, secret: bytes, companion: bytes = b"") -> None:
        """Bytes that no transcript may show, and with them their nearest `companion` before them in a payload."""
        if secret and not self.is_full:
            self._secrets.append((secret, companion))

    def entries(self) -> tuple[Entry, ...]:
        """All that was recorded, with every secret blanked, sizes kept. From here on the tape holds none either."""
        blanks = [(body, found) for body in self._bodies if (found := tuple(self._places(body)))]
        redacted: list[tuple[object, ...]] = []
        for entry in self._entries:
            if entry[0] is Sent:
                _, at, datagram = entry
                assert isinstance(datagram, bytes)
                redacted.append((Sent, at, _redacted(datagram, blanks)))
            else:
                redacted.append(entry)
        self._entries = redacted
        self._bodies.clear()
        self._secrets.clear()
        return tuple(kind(*values) for kind, *values in redacted)  # type: ignore[operator]

    def _places(self, body: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Where secrets stand in a payload, and what stands there for them: zeros in the payload's own encoding."""
        for secret, companion in self._secrets:
            if companion and body == companion:
                # It goes out by itself: the secret is another write's.
                yield 0, len(body), bytes(len(body))
            for written in (_as_it_is, _in_json):
                shown, beside = written(secret), written(companion)
                start = body.find(shown)
                while start >= 0:
                    yield start, start + len(shown), written(bytes(len(secret)))
                    before = body.rfind(beside, 0, start) if beside else -1
                    if before >= 0:
                        yield before, before + len(beside), written(bytes(len(companion)))
                    start = body.find(shown, start + 1)


def _as_it_is(secret: bytes) -> bytes:
    return secret


def _in_json(secret: bytes) -> bytes:
    """An opaque value in SenML JSON (RFC 8428 4.3): base64url without padding."""
    return base64.urlsafe_b64encode(secret).rstrip(b"=")


def _redacted(datagram: bytes, blanks: Sequence[tuple[bytes, tuple[tuple[int, int, bytes], ...]]]) -> bytes:
    """A datagram of ours as a transcript may show it: answers without content, requests without secrets."""
    try:
        message = decode(datagram)
    except Malformed:
        # None of ours is; whatever it is, it is not shown.
        return bytes(len(datagram))
    payload = message.payload
    if not payload:
        return datagram
    head = datagram[: len(datagram) - len(payload)]
    if message.code >= 0x40:
        return head + bytes(len(payload))
    offset = _offset(message)
    for body, places in blanks:
        if body[offset : offset + len(payload)] == payload:
            payload = _blanked(body, places)[offset : offset + len(payload)]
            break
    return head + payload


def _offset(message: Message) -> int:
    """Where in its body the payload of a request begins (RFC 7959 2.2)."""
    try:
        block1 = read_target(message.options).block1
    except BadOption:
        return 0
    return 0 if block1 is None else block1.offset


def _blanked(body: bytes, places: Sequence[tuple[int, int, bytes]]) -> bytes:
    shown = bytearray(body)
    for start, end, blank in places:
        shown[start:end] = blank
    return bytes(shown)
