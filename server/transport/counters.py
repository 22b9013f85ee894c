"""What one socket counts, as plain integers; `worker.py` turns them into metrics."""

from dataclasses import dataclass, field, fields
from typing import Protocol

from server.transport.engine import RefusalReason


class _Counted(Protocol):
    def inc(self, value: str = "", by: int = 1) -> None: ...


class _Metrics(Protocol):
    @property
    def datagrams(self) -> _Counted: ...

    @property
    def cookies(self) -> _Counted: ...

    @property
    def handshakes(self) -> _Counted: ...

    @property
    def tls_handshakes(self) -> _Counted: ...

    @property
    def tls_dropped(self) -> _Counted: ...

    @property
    def drops(self) -> _Counted: ...


@dataclass(slots=True)
class Counters:
    """Since the socket was opened; each `dropped_*` says why a datagram, ClientHello or connection went no further."""

    received: int = 0
    sent: int = 0
    cookies: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    replaced: int = 0
    dropped_unknown: int = 0
    dropped_malformed: int = 0
    dropped_fragmented_hello: int = 0
    dropped_repeated_hello: int = 0
    dropped_stray: int = 0
    dropped_draining: int = 0
    dropped_behind: int = 0
    dropped_handshakes_full: int = 0
    dropped_associations_full: int = 0
    dropped_source_full: int = 0
    dropped_parked_full: int = 0
    dropped_sending: int = 0
    oversized: int = 0
    look_ups: int = 0
    socket_errors: int = 0
    refused: dict[RefusalReason, int] = field(default_factory=lambda: dict.fromkeys(RefusalReason, 0))
    _told: dict[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """All datagrams that went no further."""
        return sum(getattr(self, f"dropped_{reason}") for reason in DROPS)

    def add_to(self, metrics: _Metrics) -> None:
        """Add what a UDP socket counted since the last call."""
        metrics.datagrams.inc("received", self._since("received"))
        metrics.datagrams.inc("sent", self._since("sent"))
        metrics.datagrams.inc("dropped", self._since("dropped"))
        metrics.cookies.inc(by=self._since("cookies"))
        self._add_drops_to(metrics)
        for outcome in ("started", "completed", "failed"):
            metrics.handshakes.inc(outcome, self._since(outcome))

    def add_connections_to(self, metrics: _Metrics) -> None:
        """Add what a listening TCP socket counted since the last call."""
        for outcome in ("started", "completed", "failed"):
            metrics.tls_handshakes.inc(outcome, self._since(outcome))
        metrics.tls_dropped.inc(by=self._since("dropped"))
        self._add_drops_to(metrics)

    def _add_drops_to(self, metrics: _Metrics) -> None:
        for reason in DROPS:
            metrics.drops.inc(reason, self._since(f"dropped_{reason}"))

    def _since(self, name: str) -> int:
        now = getattr(self, name)
        before = self._told.get(name, 0)
        self._told[name] = now
        return int(now - before)


DROPS = tuple(f.name.removeprefix("dropped_") for f in fields(Counters) if f.name.startswith("dropped_"))
