"""One UDP socket and all its DTLS associations: cookie, demultiplexing and time (RFC 6347 4.2).

A datagram costs one look-up by its source address, whatever the number of live associations. What an unproven
address can make us do is one HMAC and one answer smaller than what it sent.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from server.transport import records
from server.transport.association import Association, Upper
from server.transport.cookie import CookieJar
from server.transport.counters import Counters
from server.transport.engine import Engine, PskLookup, Refusal, TransportLimits
from server.transport.handshakes import Handshake, Handshakes
from server.transport.sockets import PKTINFO_SPACE, Flow, address_asked, bind, is_wildcard

__all__ = ["Association", "UdpEndpoint", "Upper", "bind"]

# Datagrams taken per wake-up: timers and other tasks must get their turn (coap_and_store.md 5).
DRAIN = 32
# One record is at most 2^14 bytes and more would not fit OpenSSL's own buffer; no flight of a device comes
# near.
LARGEST_DATAGRAM = 16384
# Seconds between two looks at the handshakes; OpenSSL's first retransmission is due after 1 s (dtls.md 17).
SWEEP = 0.25


class UdpEndpoint:
    """One bound, non-blocking socket, which it owns from here on, and its associations.

    `psk_lookup` fetches pre-shared keys; `on_established` gives each association its Upper; `on_refused`
    hears of peers that answered the cookie and were not admitted. `engine` may be replaced at any time:
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
        cookie: CookieJar,
        clock: Callable[[], float] = time.monotonic,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.engine = engine
        self.counters = Counters()
        self._sock = sock
        self._wildcard = is_wildcard(sock)
        self._on_established = on_established
        self._on_refused = on_refused
        self._limits = limits
        self._cookie = cookie
        self._clock = clock
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._accepting = True
        self._live: dict[Flow, Association] = {}
        self._handshakes = Handshakes(self, psk_lookup=psk_lookup, limits=limits, loop=self._loop)
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

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
        """Take datagrams from now on."""
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
        self._sock.close()

    # -- the socket -----------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Take what waits, at most `DRAIN` datagrams."""
        for _ in range(DRAIN):
            try:
                if self._wildcard:
                    datagram, ancillary, _, address = self._sock.recvmsg(LARGEST_DATAGRAM, PKTINFO_SPACE)
                    flow = address, address_asked(ancillary)
                else:
                    datagram, address = self._sock.recvfrom(LARGEST_DATAGRAM)
                    flow = address, None
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error about an earlier answer: anyone can forge one, so it ends nothing.
                self.counters.socket_errors += 1
                continue
            self.counters.received += 1
            self.route(datagram, flow)
            if self._sock.fileno() < 0:
                return

    def send(self, datagrams: list[bytes], flow: Flow) -> None:
        """Send from the address the peer asked; a full buffer loses it, DTLS and CoAP repeat (dtls.md 26)."""
        address, asked = flow
        counters = self.counters
        for datagram in datagrams:
            try:
                if asked is None:
                    self._sock.sendto(datagram, address)
                else:
                    self._sock.sendmsg((datagram,), (asked,), 0, address)
            except OSError:
                counters.dropped_sending += 1
            else:
                counters.sent += 1

    # -- demultiplexing -------------------------------------------------------------------------------------

    def route(self, datagram: bytes, flow: Flow) -> None:
        """Bring one datagram to whom it is for; a fault on the way is reported and reaches no other peer."""
        try:
            self._route(datagram, flow, self._clock())
        except Exception as error:
            self.report("a datagram could not be served", error)

    def _route(self, datagram: bytes, flow: Flow, now: float) -> None:
        if len(datagram) < records.RECORD_HEADER:
            self.counters.dropped_malformed += 1
            return
        if records.is_client_hello(datagram):
            self._client_hello(datagram, flow, now)
            return
        association = self._live.get(flow)
        handshake = self._handshakes.get(flow)
        if handshake is None:
            if association is None:
                self.counters.dropped_unknown += 1
            else:
                association.receive(datagram, now)
            return
        # Two epochs of one address: plain records are the new handshake's, protected ones may be of either,
        # and who has not the key drops them (RFC 6347 4.1.2.7).
        if association is not None and records.epoch(datagram) != 0:
            association.receive(datagram, now)
        self._handshakes.receive(handshake, datagram, now)

    def _client_hello(self, datagram: bytes, flow: Flow, now: float) -> None:
        counters = self.counters
        try:
            hello = records.parse_client_hello(datagram)
        except records.NotAClientHello as error:
            if error.fragmented:
                counters.dropped_fragmented_hello += 1
            else:
                counters.dropped_malformed += 1
            return
        if not self._accepting:
            counters.dropped_draining += 1
            return
        address = flow[0]
        name = f"{address[0]}|{address[1]}".encode()
        if not self._cookie.accepts(name, hello.cookie, now):
            counters.cookies += 1
            self.send([records.hello_verify_request(datagram, self._cookie.issue(name, now))], flow)
            return
        before = self._handshakes.get(flow)
        association = self._live.get(flow)
        if (before is not None and before.random == hello.random) or (
            association is not None and association.random == hello.random
        ):
            counters.dropped_repeated_hello += 1
            return
        if before is not None:
            # The device began anew before the first attempt was done; an association beside it stays until
            # the new handshake completes (RFC 6347 4.2.8).
            self._handshakes.discard(before)
        if self._handshakes.begin(datagram, hello.random, flow, now, established=len(self._live)):
            self._later(SWEEP, self._sweep)

    # -- for the handshakes ---------------------------------------------------------------------------------

    def handshake_completed(self, handshake: Handshake, plaintexts: list[bytes], now: float) -> None:
        """Its association takes the place of one the same address had."""
        flow, session = handshake.flow, handshake.session
        if session.peer is None:
            raise AssertionError("an established session knows its peer")
        association = Association(self, flow, session, session.peer, handshake.random, now)
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
        earliest = self._clock() - self._limits.idle_deadline
        for association in list(self._live.values()):
            if association.last_received_at <= earliest:
                self._guarded(association.farewell, "idle")
        self._later(self._idle_period, self._end_idle)

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """A fault with one peer is reported and reaches no other."""
        try:
            step(*arguments)
        except Exception as error:
            self.report("a step for one peer failed", error)
