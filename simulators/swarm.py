"""Thousands of lean devices in one process, each on a socket of its own, so that the server is what is measured."""

import asyncio
import heapq
import random
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simulators.dtls import Credential
from simulators.swarm_device import Outcome, SwarmDevice, Temper
from simulators.swarm_dtls import SwarmContext

# Seconds between two looks at the timers.
TICK = 0.02
# Devices heard at one wake-up, and datagrams of one device.
EVENTS = 256
DRAIN = 16
_ROOM = 16384


@dataclass(slots=True)
class Slot:
    """A device on its socket."""

    device: SwarmDevice
    sock: socket.socket
    due: float = float("inf")


class Swarm:
    """Devices on their sockets in one event loop: `start` some, `over` is called with each one's outcome.

    All go to `address`; they come from `sources` in turn, IP addresses of this machine, "" = whichever it takes.
    """

    def __init__(
        self,
        address: tuple[str, int],
        context: SwarmContext,
        temper: Temper,
        over: Callable[[Outcome], None],
        *,
        sources: Sequence[str] = ("",),
        seed: int = 0,
    ) -> None:
        self._address = address
        self._context = context
        self._temper = temper
        self._over = over
        self._sources = sources
        self._dice = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, Slot] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._pushed = 0
        self._started = 0
        # One wake-up of asyncio for all devices that were heard.
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._readable)
        self._tick = self._loop.call_later(TICK, self._ticked)

    def __len__(self) -> int:
        return len(self._slots)

    def start(self, endpoint: str, credential: Credential) -> None:
        """Begin the bootstrap of one device now."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        source = self._sources[self._started % len(self._sources)]
        self._started += 1
        if source:
            sock.bind((source, 0))
        sock.connect(self._address)
        device = SwarmDevice(endpoint, credential, self._context, self._temper, self._dice, self._loop.time())
        number = sock.fileno()
        self._slots[number] = slot = Slot(device, sock)
        self._poll.register(number, select.EPOLLIN)
        self._after(number, slot)

    @property
    def held(self) -> int:
        """Devices that hold their answer back."""
        return sum(slot.device.is_held for slot in self._slots.values())

    def go_on(self) -> None:
        """Let every device give the answer it holds back."""
        for number, slot in list(self._slots.items()):
            slot.device.go_on(self._loop.time())
            self._after(number, slot)

    def close(self) -> None:
        """Stop at once; devices that are not over say nothing more."""
        self._tick.cancel()
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        for slot in self._slots.values():
            slot.sock.close()
        self._slots.clear()

    def _readable(self) -> None:
        for number, _ in self._poll.poll(0, EVENTS):
            slot = self._slots.get(number)
            if slot is None:
                continue
            device, sock = slot.device, slot.sock
            for datagram in _received(sock):
                device.receive(datagram, self._loop.time())
                if device.is_over:
                    break
            self._after(number, slot)

    def _after(self, number: int, slot: Slot) -> None:
        device = slot.device
        for datagram in device.outbox:
            try:
                slot.sock.send(datagram)
            except OSError:
                # Full or refused: DTLS and CoAP repeat.
                pass
        device.outbox.clear()
        if device.is_over:
            self._poll.unregister(number)
            slot.sock.close()
            del self._slots[number]
            self._over(device.outcome)
        elif device.due < slot.due:
            slot.due = device.due
            self._pushed += 1
            heapq.heappush(self._heap, (device.due, self._pushed, number))

    def _ticked(self) -> None:
        self._tick = self._loop.call_later(TICK, self._ticked)
        now = self._loop.time()
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, number = heapq.heappop(heap)
            slot = self._slots.get(number)
            if slot is None or slot.due != due:
                continue
            slot.due = float("inf")
            if slot.device.due <= now:
                slot.device.handle_timer(now)
            self._after(number, slot)


def _received(sock: socket.socket) -> Iterator[bytes]:
    for _ in range(DRAIN):
        try:
            yield sock.recv(_ROOM)
        except BlockingIOError:
            return
        except OSError:
            # An ICMP error: nobody listens at the moment.
            continue
