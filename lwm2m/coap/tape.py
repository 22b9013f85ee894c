"""What happened on one association, in order and with its times: enough to run it again (`lwm2m/replay.py`).

Besides the datagrams, as they were before encryption and after decryption, it holds what came from outside the
protocol: answers given, requests begun and cancelled, sessions begun and ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from lwm2m.coap.message import Option
from lwm2m.coap.options import BLOCK1, BLOCK2, content_format
from lwm2m.coap.parameters import Parameters
from lwm2m.redaction import Heard, Redaction, Secret

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
    _heard: list[Heard] = field(default_factory=list, repr=False)
    _secrets: list[Secret] = field(default_factory=list, repr=False)
    # How many entries are redacted already.
    _redacted: int = 0

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

    def heard(self, payload: bytes, options: Sequence[Option]) -> None:
        """A whole payload of the peer; one that came in blocks is kept, to tell what each of them is a part of."""
        if payload and not self.is_full and any(number in (BLOCK1, BLOCK2) for number, _ in options):
            self._heard.append((payload, content_format(options)))

    def stop(self) -> None:
        """Record nothing more, and forget what was recorded."""
        self.stopped = True
        self.limit = -1
        for kept in (self._entries, self._bodies, self._heard, self._secrets, self.sessions, self.draws):
            kept.clear()
        self._redacted = 0

    def conceal(self, secret: bytes, companion: bytes = b"") -> None:
        """Bytes that no transcript may show, and with them their nearest `companion` before them in a payload."""
        if secret and not self.is_full:
            self._secrets.append((secret, companion))

    def entries(self) -> tuple[Entry, ...]:
        """All that was recorded, with every secret blanked, sizes kept. From here on the tape holds none either."""
        redaction = Redaction(self._secrets, self._bodies, self._heard)
        for place in range(self._redacted, len(self._entries)):
            match self._entries[place]:
                case (kind, at, bytes() as datagram) if kind is Sent:
                    self._entries[place] = (Sent, at, redaction.sent(datagram))
                case (kind, at, bytes() as datagram) if kind is Received:
                    self._entries[place] = (Received, at, redaction.received(datagram))
                case _:
                    pass
        self._redacted = len(self._entries)
        for kept in (self._bodies, self._heard, self._secrets):
            kept.clear()
        return tuple(kind(*values) for kind, *values in self._entries)  # type: ignore[operator]
