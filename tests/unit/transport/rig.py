"""A UdpEndpoint on a socket, a loop and a clock that a test moves."""

import asyncio
import errno
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from server.transport.association import Association
from server.transport.cookie import CookieJar
from server.transport.engine import PreSharedKey, Refusal, TransportLimits
from server.transport.openssl import OpenSslEngine
from server.transport.udp import UdpEndpoint
from server.trust import TrustIndex
from tests.pki import Holder
from tests.unit.transport.certificates import NOW
from tests.unit.transport.client import Client

ADDRESS, OTHER = ("192.0.2.1", 40000), ("192.0.2.2", 40000)


class FakeSocket:
    """What a UdpEndpoint calls of a socket."""

    def __init__(self) -> None:
        self.incoming: deque[tuple[bytes, Any]] = deque()
        self.outgoing: deque[tuple[bytes, Any]] = deque()
        self.full = False
        self.open = True
        # What a datagram takes of the time that `passes`.
        self.seconds_each = 0.0
        self.passes: Callable[[float], None] = lambda _seconds: None

    def fileno(self) -> int:
        return 99 if self.open else -1

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.200", 5684)

    def recvfrom(self, _size: int) -> tuple[bytes, Any]:
        if not self.open:
            raise OSError(errno.EBADF, "closed")
        if not self.incoming:
            raise BlockingIOError
        datagram, address = self.incoming.popleft()
        self.passes(self.seconds_each)
        if isinstance(address, OSError):
            raise address
        return datagram, address

    def sendto(self, datagram: bytes, address: Any) -> int:
        if self.full:
            raise BlockingIOError
        self.outgoing.append((datagram, address))
        return len(datagram)

    def close(self) -> None:
        self.open = False


class FakeLoop:
    """What a UdpEndpoint calls of a loop, with a clock that only `advance` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reader: Callable[[], None] | None = None
        self.faults: list[dict[str, Any]] = []
        self._timers: list[tuple[float, int, Any, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def add_reader(self, _fd: int, callback: Callable[[], None]) -> None:
        self.reader = callback

    def remove_reader(self, _fd: int) -> None:
        self.reader = None

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Any:
        self._count += 1
        timer = FakeTimer()
        heapq.heappush(self._timers, (self.now + delay, self._count, timer, callback, arguments))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """At once: a test looks at what was sent right after what sent it."""
        callback()

    def create_task(self, coroutine: Any) -> Any:
        return asyncio.get_running_loop().create_task(coroutine)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer, callback, arguments = heapq.heappop(self._timers)
            if not timer.cancelled:
                callback(*arguments)
        self.now = end


class FakeTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Echo:
    """An Upper that keeps and echoes."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.received: list[bytes] = []
        self.lost: list[str] = []

    def datagram_received(self, plaintext: bytes) -> None:
        self.received.append(plaintext)
        self.association.send(b"echo " + plaintext)

    def association_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Server:
    """A UdpEndpoint on a fake socket and clock, with everything it told."""

    def __init__(
        self,
        index: TrustIndex,
        server: Holder,
        *,
        keys: Iterable[PreSharedKey] = (),
        limits: TransportLimits | None = None,
        look_up: Any = None,
        upper: Callable[[Association], Any] = Echo,
    ) -> None:
        self.sock = FakeSocket()
        self.loop = FakeLoop()
        self.sock.passes = self.loop.advance
        self.uppers: list[Any] = []
        self.refusals: list[Refusal] = []
        by_identity = {key.identity: key for key in keys}

        async def find(identity: bytes) -> PreSharedKey | None:
            return by_identity.get(identity)

        def established(association: Association) -> Any:
            self.uppers.append(upper(association))
            return self.uppers[-1]

        self.engine = OpenSslEngine(
            certificate_chain_pem=server.pem,
            private_key=server.key,
            trust=lambda: index,
            now=lambda: NOW,
            mtu=(limits or TransportLimits()).mtu,
        )
        self.endpoint = UdpEndpoint(
            self.sock,  # type: ignore[arg-type]
            self.engine,
            psk_lookup=look_up or find,
            on_established=established,
            on_refused=self.refusals.append,
            limits=limits or TransportLimits(),
            cookie=CookieJar(b"s" * 32),
            clock=self.loop.time,
            wall_clock=self.loop.time,
            loop=self.loop,  # type: ignore[arg-type]
        )
        self.endpoint.start()

    def deliver(self, datagrams: Iterable[bytes], address: Any = ADDRESS) -> list[bytes]:
        """Let the endpoint take `datagrams`; what it sent to that address meanwhile."""
        self.sock.incoming.extend((datagram, address) for datagram in datagrams)
        while self.sock.incoming and self.loop.reader is not None:
            self.loop.reader()
        return self.sent(address)

    def sent(self, address: Any = ADDRESS) -> list[bytes]:
        mine = [datagram for datagram, to in self.sock.outgoing if to == address]
        self.sock.outgoing = deque((d, to) for d, to in self.sock.outgoing if to != address)
        return mine

    async def connect(self, client: Client, address: Any = ADDRESS) -> Client:
        """Shake hands without loss, as far as it goes."""
        waiting = self.deliver(client.start(), address)
        for _ in range(20):
            answers = [answer for datagram in waiting for answer in client.receive(datagram)]
            waiting = self.deliver(answers, address)
            await settle()
            waiting += self.sent(address)
            if not waiting:
                break
        return client


def through_cookie(server: Server, client: Client, address: Any = ADDRESS) -> list[bytes]:
    """The client's second ClientHello, which carries the cookie."""
    (request,) = server.deliver(client.start(), address)
    return client.receive(request)


async def settle() -> None:
    """Let the tasks of look-ups run."""
    for _ in range(3):
        await asyncio.sleep(0)


def each_record(datagram: bytes) -> Iterator[bytes]:
    """The records of a datagram (RFC 6347 4.1.1)."""
    while datagram:
        end = 13 + int.from_bytes(datagram[11:13], "big")
        yield datagram[:end]
        datagram = datagram[end:]


def fragments(record: bytes, size: int, *, start: int = 0) -> list[bytes]:
    """A handshake record of one message, cut into records of `size` body bytes each (RFC 6347 4.2.3)."""
    body = record[25:]
    made: list[bytes] = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        handshake = record[13:19] + at.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part
        number = start + len(made)
        made.append(record[:5] + number.to_bytes(6, "big") + len(handshake).to_bytes(2, "big") + handshake)
    return made
