"""One UDP socket and all its DTLS associations: cookie and demultiplexing (RFC 6347 4.2).

A datagram costs one look-up by its source address, whatever the number of live associations. What an unproven
address can make us do is one keyed hash and one answer smaller than what it sent.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice, repeat
from math import inf

from server.transport import records
from server.transport.association import Association, Upper
from server.transport.cookie import CookieJar
from server.transport.endpoint import DRAIN, SWEEP, Endpoint
from server.transport.engine import Engine, PskLookup, Refusal, TransportLimits
from server.transport.sockets import (
    MEASURED_SPACE,
    PKTINFO_SPACE,
    SO_TIMESTAMPNS,
    Flow,
    address_asked,
    arrived_at,
    bind,
    is_wildcard,
)

__all__ = ["DRAIN", "Association", "UdpEndpoint", "Upper", "bind"]

# One record is at most 2^14 bytes and more would not fit OpenSSL's own buffer; no flight of a device comes
# near.
LARGEST_DATAGRAM = 16384
# Seconds that the kernel's queue may stand before new handshakes wait outside: answers that lie there for two are
# asked for again, and what is asked twice is work twice.
BEHIND = 1.0
# Seconds of one wake-up after which no further `DRAIN` datagrams are taken: a crowd that is turned away goes at once.
LONG_DRAIN = 0.005
# With `waited`, the wait of one datagram in so many is told; odd, so that it is not always the same of a conversation.
SAMPLE = 23
# The type of a record as the byte it begins with: bytes of a datagram compare sooner than numbers.
_APPLICATION_DATA = bytes((records.APPLICATION_DATA,))


class UdpEndpoint(Endpoint):
    """An `Endpoint` on a UDP socket; `cookie` proves the address of a peer before it costs anything.

    `waited` hears, for measurements, how many seconds one datagram in `SAMPLE` lay in the kernel.
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
        waited: Callable[[float], None] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            sock,
            engine,
            psk_lookup=psk_lookup,
            on_established=on_established,
            on_refused=on_refused,
            limits=limits,
            reader=records.KeyExchangeReader,
            reliable=False,
            clock=clock,
            loop=loop,
        )
        self._cookie = cookie
        # Cookies are good on every node, and nodes share no other clock.
        self._wall_clock = wall_clock
        # Since when no wake-up has emptied the kernel's queue.
        self._behind_since = inf
        # What leaves at the end of the wake-up, or of this turn of the loop.
        self._leaving: list[tuple[bytes, Flow]] = []
        self._flush_due = False
        self._waited = waited
        usual = self._addressed if is_wildcard(sock) else self._plain
        # How each datagram is taken, in turn.
        self._receivers: Iterator[Callable[[], tuple[bytes, Flow]]] = repeat(usual)
        if waited is not None:
            self._receivers = cycle((self._measured, *repeat(usual, SAMPLE - 1)))
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    # -- the socket -----------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Take what waits: `DRAIN` datagrams, and as many more as long as they were little work."""
        self._flush_due = True
        try:
            self._drain()
        finally:
            self.flush()

    def _drain(self) -> None:
        """As many datagrams as one wake-up takes; one reading of the clock serves `DRAIN` of them."""
        counters, live, handshaking = self.counters, self._live, self._handshakes.by_flow
        began = now = self._clock()
        while True:
            for receive in islice(self._receivers, DRAIN):
                try:
                    datagram, flow = receive()
                except (BlockingIOError, InterruptedError):
                    self._behind_since = inf
                    return
                except OSError:
                    if self._sock.fileno() < 0:
                        return
                    # An ICMP error about an earlier answer: anyone can forge one, so it ends nothing.
                    counters.socket_errors += 1
                    continue
                counters.received += 1
                try:
                    # What `_route` would do, without the way there, for three of four datagrams.
                    if (
                        (association := live.get(flow)) is not None
                        and datagram[:1] == _APPLICATION_DATA
                        and len(datagram) >= records.RECORD_HEADER
                        and flow not in handshaking
                    ):
                        association.receive(datagram, now)
                    else:
                        self._route(datagram, flow, now)
                except Exception as error:
                    self.report("a datagram could not be served", error)
            # More than one wake-up can take: the queue stands, at least since this one.
            self._behind_since = min(self._behind_since, began)
            now = self._clock()
            if now - began >= LONG_DRAIN:
                return

    def _plain(self) -> tuple[bytes, Flow]:
        """One datagram of a socket with one address."""
        datagram, address = self._sock.recvfrom(LARGEST_DATAGRAM)
        return datagram, (address, None)

    def _addressed(self) -> tuple[bytes, Flow]:
        """One datagram of a wildcard socket, and the address it asked."""
        datagram, ancillary, _, address = self._sock.recvmsg(LARGEST_DATAGRAM, PKTINFO_SPACE)
        return datagram, (address, address_asked(ancillary))

    def _measured(self) -> tuple[bytes, Flow]:
        """One datagram of any socket; how long it waited is told."""
        datagram, ancillary, _, address = self._sock.recvmsg(LARGEST_DATAGRAM, MEASURED_SPACE)
        arrived = arrived_at(ancillary)
        if arrived is not None and self._waited is not None:
            self._waited(max(0.0, time.time() - arrived))
        return datagram, (address, address_asked(ancillary))

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Send from the address the peer asked; a full buffer loses it, DTLS and CoAP repeat (docs/transport.md 26).

        It leaves at the end of the wake-up, or of this turn of the loop: each `sendto` may wake its receiver, and a
        crowd that is answered in one go costs a tenth less than one answered between two datagrams.
        """
        self._leaving.append((datagram, flow))
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Give the kernel all that is to leave."""
        self._flush_due = False
        leaving, self._leaving = self._leaving, []
        sock, dropped = self._sock, 0
        for datagram, (address, asked) in leaving:
            try:
                if asked is None:
                    sock.sendto(datagram, address)
                else:
                    sock.sendmsg((datagram,), (asked,), 0, address)
            except OSError:
                dropped += 1
        self.counters.dropped_sending += dropped
        self.counters.sent += len(leaving) - dropped

    # -- demultiplexing -------------------------------------------------------------------------------------

    def _route(self, datagram: bytes, flow: Flow, now: float) -> None:
        if len(datagram) < records.RECORD_HEADER:
            self.counters.dropped_malformed += 1
            return
        if records.is_client_hello(datagram):
            self._client_hello(datagram, flow, now)
            return
        self._onward(datagram, flow, now)

    def _onward(self, datagram: bytes, flow: Flow, now: float) -> None:
        """Give what begins nothing new to the handshake or association of its flow."""
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
        wall = self._wall_clock()
        if not self._cookie.accepts(name, hello.cookie, wall):
            counters.cookies += 1
            self.send(records.hello_verify_request(datagram, self._cookie.issue(name, wall)), flow)
            return
        before = self._handshakes.get(flow)
        association = self._live.get(flow)
        attempt = hello.attempt
        if (before is not None and (before.attempt == attempt or attempt in before.replaced)) or (
            association is not None and association.attempt == attempt
        ):
            counters.dropped_repeated_hello += 1
            rest = records.after_first(datagram)
            if rest:
                # A client whose timer ran out just when its next flight was ready sends both in one datagram.
                self._onward(rest, flow, now)
            return
        if now - self._behind_since > BEHIND:
            # Who is under way is served first: else their answers come too late and everybody asks again.
            counters.dropped_behind += 1
            return
        # The device began anew before the first attempt was done; an association beside it stays until the new
        # handshake completes (RFC 6347 4.2.8).
        replaced = () if before is None else self._handshakes.give_way(before)
        self._make_room()
        if self._handshakes.begin(datagram, attempt, flow, now, established=len(self._live), replaced=replaced):
            self._later(SWEEP, self._sweep)
