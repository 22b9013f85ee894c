"""What every bound socket of this server has, whatever its transport: associations, handshakes and their time."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from server.transport.association import Association, Upper
from server.transport.counters import Counters
from server.transport.engine import Engine, PeerIdentity, PskLookup, Refusal, TransportLimits
from server.transport.handshakes import Handshake, Handshakes, KeyExchangeReader
from server.transport.sockets import Flow

# Datagrams or connections taken per wake-up: timers and other tasks must get their turn.
DRAIN = 32
# Seconds between two looks at the handshakes; OpenSSL's first retransmission is due after 1 s (docs/transport.md 17).
SWEEP = 0.25


class Endpoint:
    """One bound, non-blocking socket, which it owns from here on, and its associations.

    `psk_lookup` fetches pre-shared keys; `on_established` gives each association its Upper; `on_refused`
    hears of peers whose address is proven and that were not admitted. `engine` may be replaced at any time:
    handshakes begun before go on with the old one. Nothing happens before `start`.
    """

    def __init__(
        self,
        sock: socket.socket,
        engine: Engine,
        *,
        psk_lookup: PskLookup,
        on_established: Callable[[Association], Upper],
        on_refused: Callable[[Refusal], None],
        limits: TransportLimits,
        reader: Callable[[], KeyExchangeReader],
        reliable: bool,
        clock: Callable[[], float] = time.monotonic,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.engine = engine
        self.counters = Counters()
        self._sock = sock
        self._on_established = on_established
        self._on_refused = on_refused
        self._limits = limits
        self._clock = clock
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._accepting = True
        self._live: dict[Flow, Association] = {}
        self._handshakes = Handshakes(
            self, psk_lookup=psk_lookup, limits=limits, reader=reader, reliable=reliable, loop=self._loop
        )
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        # Ends an association that only waits for a device to come back, if there is one.
        self.on_full: Callable[[], object] | None = None

    @property
    def local_address(self) -> str:
        """The IP address the socket is bound to."""
        return str(self._sock.getsockname()[0])

    @property
    def established(self) -> int:
        """How many associations are up."""
        return len(self._live)

    @property
    def handshaking(self) -> int:
        """How many handshakes are under way."""
        return len(self._handshakes)

    def start(self) -> None:
        """Take peers from now on."""
        # One made from a file descriptor is blocking to Python, whatever the descriptor says.
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self._later(self._idle_period, self._end_idle)

    def stop_accepting(self) -> None:
        """Let no new handshake begin; those under way and the associations go on."""
        self._accepting = False

    def close(self) -> None:
        """End every association with close_notify and close the socket."""
        self._accepting = False
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for handshake in self._handshakes:
            self._handshakes.discard(handshake)
        for association in list(self._live.values()):
            self._guarded(association.farewell, "shutdown")
        self.flush()
        self._sock.close()

    # -- what a transport adds ------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Take what waits at the socket, at most `DRAIN` of it."""
        raise NotImplementedError

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Send to the peer of `flow`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let what `send` was given leave now, where it does not at once."""

    def _route(self, data: bytes, flow: Flow, now: float) -> None:
        raise NotImplementedError

    def _associate(self, handshake: Handshake, peer: PeerIdentity, now: float) -> Association:
        return Association(self, handshake.flow, handshake.session, peer, handshake.attempt, now)

    def _make_room(self) -> None:
        """Before a new handshake: with as many associations as allowed, one that only waits makes room."""
        if self.on_full is not None and len(self._handshakes) + len(self._live) >= self._limits.max_associations:
            self.on_full()

    # -- for the handshakes and the associations ------------------------------------------------------------

    def route(self, data: bytes, flow: Flow) -> None:
        """Bring what arrived to whom it is for; a fault on the way is reported and reaches no other peer."""
        try:
            self._route(data, flow, self._clock())
        except Exception as error:
            self.report("a datagram could not be served", error)

    def handshake_completed(self, handshake: Handshake, plaintexts: list[bytes], now: float) -> None:
        """Its association takes the place of one the same address had."""
        flow, peer = handshake.flow, handshake.session.peer
        if peer is None:
            raise AssertionError("an established session knows its peer")
        association = self._associate(handshake, peer, now)
        before = self._live.get(flow)
        self._live[flow] = association
        if before is not None:
            # No close_notify: the device that had those keys is the one that came back without them.
            self.counters.replaced += 1
            self._guarded(before.end, "replaced")
        try:
            association.attach(self._on_established(association))
        except BaseException:
            association.end("failed")
            raise
        association.deliver(plaintexts)

    def handshake_failed(self, flow: Flow) -> None:
        """The handshake of `flow` is over and no longer listed."""

    def refused(self, refusal: Refusal) -> None:
        """Pass on who was not admitted."""
        self._guarded(self._on_refused, refusal)

    def report(self, message: str, error: Exception) -> None:
        """Tell the loop's exception handler of a fault of ours."""
        self._loop.call_exception_handler({"message": message, "exception": error})

    def forget(self, flow: Flow, association: Association) -> None:
        """The association ended; its flow may already be its successor's."""
        if self._live.get(flow) is association:
            del self._live[flow]

    # -- time -----------------------------------------------------------------------------------------------

    def _later(self, delay: float, step: Callable[[], None]) -> None:
        """Run `step` once after `delay` seconds; nothing when it is already due to run."""
        if step not in self._timers:
            self._timers[step] = self._loop.call_later(delay, self._run, step)

    def _run(self, step: Callable[[], None]) -> None:
        del self._timers[step]
        step()

    def _sweep(self) -> None:
        """Look at the handshakes; runs while there are any."""
        now = self._clock()
        for handshake in self._handshakes:
            self._guarded(self._handshakes.handle_timer, handshake, now)
        if self._handshakes:
            self._later(SWEEP, self._sweep)

    @property
    def _idle_period(self) -> float:
        return max(SWEEP, self._limits.idle_deadline / 8)

    def _end_idle(self) -> None:
        """Close associations nothing was heard from; its own slow turn, as it looks at all of them."""
        now = self._clock()
        earliest = now - self._limits.idle_deadline
        for association in list(self._live.values()):
            if association.last_received_at <= earliest and association.stays_until <= now:
                self._guarded(association.farewell, "idle")
        self._later(self._idle_period, self._end_idle)

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """A fault with one peer is reported and reaches no other."""
        try:
            step(*arguments)
        except Exception as error:
            self.report("a step for one peer failed", error)
