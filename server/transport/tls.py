"""One listening TCP socket and its TLS connections, without framing: the default transport of Izuma clients.

A CoAP message in its UDP format is one TLS record each way, without RFC 8323's header and without a length prefix
(docs/izuma.md). OpenSSL gives one record for each read, however TCP cut the stream, and writes one for each message
within the client's record limit; so a record is to CoAP what a datagram is, and the same conversation runs on both.
We take what a record holds as a message and drop what is none, as of a datagram.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Callable

from server.transport.association import Association, Upper
from server.transport.counters import Counters
from server.transport.endpoint import DRAIN, SWEEP, Endpoint
from server.transport.engine import Engine, PeerIdentity, PskLookup, Refusal, RefusalReason, TransportLimits
from server.transport.handshakes import Handshake
from server.transport.records import LONGEST_HANDSHAKE
from server.transport.sockets import Flow, listen
from server.transport.tls_records import KeyExchangeReader

__all__ = ["TlsEndpoint", "listen"]

# Bytes taken of one connection at a time, and how often per wake-up: others must get their turn.
READ = 16384
READS = 4
# Seconds without new connections when the process has no file descriptors left.
PAUSE = 1.0
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Connection:
    """One accepted connection; what an association of it calls its socket. Plain slots, there are thousands."""

    __slots__ = ("_endpoint", "_sock", "broken", "counters", "flow", "paused", "received")

    def __init__(self, endpoint: "TlsEndpoint", sock: socket.socket, flow: Flow) -> None:
        self._endpoint = endpoint
        self._sock = sock
        self.counters: Counters = endpoint.counters
        self.flow = flow
        # Bytes that came before the handshake was done.
        self.received = 0
        # Nothing is read while a pre-shared key is looked up: TCP holds back what follows.
        self.paused = False
        self.broken = False

    @property
    def local_address(self) -> str:
        """Our IP address that the peer connected to."""
        return str(self._sock.getsockname()[0]) if self.open else ""

    @property
    def open(self) -> bool:
        """Whether the socket is still ours."""
        return self._sock.fileno() >= 0

    def fileno(self) -> int:
        """For the loop."""
        return self._sock.fileno()

    def read(self) -> bytes | None:
        """What arrived, empty at its end, None when there is nothing yet."""
        try:
            return self._sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            # Reset, or the kernel gave up repeating: over without a goodbye.
            return b""

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Write all of it now or end the connection: who does not read makes nothing grow here."""
        if self.broken or not self.open:
            return
        try:
            whole = self._sock.send(datagram) == len(datagram)
        except OSError:
            whole = False
        if whole:
            self.counters.sent += 1
        else:
            # Not from here: the association may be in the middle of a step.
            self.broken = True
            self.counters.dropped_sending += 1
            self._endpoint.give_up(self)

    def forget(self, flow: Flow, association: Association) -> None:
        """The association ended, and so does the connection."""
        self._endpoint.forget(flow, association)

    def close(self) -> None:
        """Close the socket; safe to call again."""
        self._sock.close()


class TlsEndpoint(Endpoint):
    """An `Endpoint` on a listening TCP socket; the connection itself proves the address of a peer."""

    def __init__(
        self,
        sock: socket.socket,
        engine: Engine,
        *,
        psk_lookup: PskLookup,
        on_established: Callable[[Association], Upper],
        on_refused: Callable[[Refusal], None],
        limits: TransportLimits,
        clock: Callable[[], float] = time.monotonic,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(
            sock,
            engine,
            psk_lookup=psk_lookup,
            on_established=on_established,
            on_refused=on_refused,
            limits=limits,
            reader=KeyExchangeReader,
            reliable=True,
            clock=clock,
            loop=loop,
        )
        self._connections: dict[Flow, Connection] = {}

    def close(self) -> None:
        """End every association with close_notify and close all sockets."""
        super().close()
        for connection in list(self._connections.values()):
            self._hang_up(connection)

    # -- the listening socket -------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Take the connections that wait, at most `DRAIN`."""
        for _ in range(DRAIN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.counters.socket_errors += 1
                if error.errno in _EXHAUSTED:
                    # They wait in the backlog; asking again at once would only keep the processor busy.
                    self._loop.remove_reader(self._sock.fileno())
                    self._later(PAUSE, self._listen_again)
                    return
                # That peer was gone before we came to it.
                continue
            self._guarded(self._admit, sock, (address, None))

    def _listen_again(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _admit(self, sock: socket.socket, flow: Flow) -> None:
        now = self._clock()
        if not self._accepting:
            # Closed at once and not left to wait: the device may find another server.
            self.counters.dropped_draining += 1
            sock.close()
            return
        if (before := self._connections.get(flow)) is not None:
            # Its port is taken anew, so it is gone, and we were about to hear of it.
            self._ended_by_peer(before)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._make_room()
            begun = self._handshakes.begin(b"", b"", flow, now, established=len(self._live))
        except BaseException:
            sock.close()
            raise
        if not begun:
            sock.close()
            return
        connection = self._connections[flow] = Connection(self, sock, flow)
        self._loop.add_reader(connection.fileno(), self._take, connection)
        self._later(SWEEP, self._sweep)

    # -- the connections ------------------------------------------------------------------------------------

    def _take(self, connection: Connection) -> None:
        """Read what waits at one connection."""
        for _ in range(READS):
            data = connection.read()
            if data is None:
                return
            if not data:
                self._guarded(self._ended_by_peer, connection)
                return
            self.counters.received += 1
            self.route(data, connection.flow)
            if connection.paused or connection.broken or not connection.open:
                return

    def _route(self, data: bytes, flow: Flow, now: float) -> None:
        """Bring a piece of a stream to its handshake or association; so comes, too, what a look-up held back."""
        connection = self._connections.get(flow)
        if connection is None:
            return
        association = self._live.get(flow)
        if association is not None:
            association.receive(data, now)
            return
        handshake = self._handshakes.get(flow)
        if handshake is None:
            self._hang_up(connection)
            return
        if connection.paused:
            connection.paused = False
            self._loop.add_reader(connection.fileno(), self._take, connection)
        else:
            connection.received += len(data)
            if connection.received > LONGEST_HANDSHAKE:
                self._handshakes.fail(handshake, RefusalReason.HANDSHAKE_FAILED, "the handshake has too many bytes")
                return
        self._handshakes.receive(handshake, data, now)
        if handshake.looking_up is not None:
            connection.paused = True
            self._loop.remove_reader(connection.fileno())

    def _ended_by_peer(self, connection: Connection) -> None:
        """The peer closed the connection, or it broke."""
        flow = connection.flow
        association, handshake = self._live.get(flow), self._handshakes.get(flow)
        if association is not None:
            association.end("closed_by_peer")
        elif handshake is not None and connection.received:
            self._handshakes.fail(
                handshake, RefusalReason.HANDSHAKE_FAILED, "the device closed the connection during the handshake"
            )
        elif handshake is not None:
            # A load balancer that asks whether we live says nothing, and is no device that was refused.
            self.counters.failed += 1
            self._handshakes.discard(handshake)
        self._hang_up(connection)

    def give_up(self, connection: Connection) -> None:
        """End a connection that takes no more, as soon as the step under way is done."""
        self._loop.call_soon(self._guarded, self._end_broken, connection)

    def _end_broken(self, connection: Connection) -> None:
        if not connection.open:
            return
        association, handshake = self._live.get(connection.flow), self._handshakes.get(connection.flow)
        if association is not None:
            association.end("failed")
        elif handshake is not None:
            self._handshakes.fail(handshake, RefusalReason.HANDSHAKE_FAILED, "the device does not take our answers")
        self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        if self._connections.get(connection.flow) is connection:
            del self._connections[connection.flow]
        if connection.open:
            self._loop.remove_reader(connection.fileno())
            connection.close()

    # -- for the handshakes and the associations ------------------------------------------------------------

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Write to the connection of `flow`."""
        connection = self._connections.get(flow)
        if connection is not None:
            connection.send(datagram, flow)

    def handshake_failed(self, flow: Flow) -> None:
        """What was to be said is written; close."""
        connection = self._connections.get(flow)
        if connection is not None:
            self._hang_up(connection)

    def forget(self, flow: Flow, association: Association) -> None:
        """The association ended, and with it its connection."""
        super().forget(flow, association)
        connection = self._connections.get(flow)
        if connection is not None:
            self._hang_up(connection)

    def _associate(self, handshake: Handshake, peer: PeerIdentity, now: float) -> Association:
        connection = self._connections[handshake.flow]
        association = Association(connection, handshake.flow, handshake.session, peer, handshake.attempt, now)
        if isinstance(handshake.reader, KeyExchangeReader):
            # A message must be one record, so none may be longer than the client takes.
            association.cleartext_mtu = min(association.cleartext_mtu, handshake.reader.fragment)
        return association
