"""A UDP proxy that does to datagrams what networks do: loss, duplicates, reordering, delay, truncation, bit flips.

In process: `async with FaultyPath(to=("127.0.0.1", 5684), faults=Faults(loss=0.15)) as path: … path.address`.
From the command line: `python -P -m simulators faults --help`. Each device gets a socket of its own towards the
server, so the server sees as many addresses as there are devices.
"""

import asyncio
import inspect
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from typing import Literal

Address = tuple[str, int]
Direction = Literal["up", "down"]

# Datagrams taken at one wake-up.
DRAIN = 64
# A reordered datagram waits for the next one of its direction, at most this many seconds.
LONGEST_HOLD = 0.2
# The copy of a duplicated datagram follows so many seconds later.
DUPLICATE_AFTER = 0.01
# As large as a UDP socket accepts without privileges on common systems; less is granted in silence.
RECEIVE_BUFFER = 4 << 20
# Numbers drawn for each datagram, so that one probability does not shift the others; the first decides on loss.
DRAWS = 7
_ROOM = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities of [0, 1] per datagram and direction; `delay` and `delay_jitter` in seconds.

    `loss` comes first, the others are of what is not lost. `reorder` is the share that the next datagram which is not
    itself held back overtakes.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    truncate: float = 0.0
    flip: float = 0.0
    delay: float = 0.0
    delay_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "truncate", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, not {getattr(self, name)}")
        if self.delay < 0 or self.delay_jitter < 0:
            raise ValueError("a delay is not negative")


@dataclass(slots=True)
class Counts:
    """What a path did so far, in datagrams."""

    seen: int = 0
    forwarded: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0
    truncated: int = 0
    flipped: int = 0
    refused: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))

    def as_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Seen:
    """A datagram that reached the proxy: its number from 1 over both directions, where it goes, its bytes."""

    number: int
    direction: Direction
    datagram: bytes


Hook = Callable[[Seen], Awaitable[None] | None]


class FaultyPath:
    """One listening socket in front of the server at `to`.

    The same `seed` does the same to the n-th datagram of the m-th device in either direction. `trace` gets a
    line per fault. Use as an asynchronous context manager, or `start` and `close`.
    """

    def __init__(
        self,
        *,
        to: Address,
        faults: Faults | None = None,
        listen: Address = ("127.0.0.1", 0),
        seed: int = 0,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.each_way: dict[Direction, Counts] = {"up": Counts(), "down": Counts()}
        self._seen = 0
        self._to = to
        self._listen = listen
        self._seed = seed
        self._trace = trace
        self._flows: dict[tuple[object, ...], _Flow] = {}
        self._made = 0
        self._hook: tuple[int, Hook] | None = None
        self._hook_task: asyncio.Task[None] | None = None
        self._blocked: deque[tuple[_Flow, Direction, bytes]] = deque()
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> "FaultyPath":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind; afterwards `address` is where devices send. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._socket = _udp_socket(self._listen)
        try:
            self._socket.bind(self._listen)
        except OSError:
            self._socket.close()
            self._socket = None
            raise
        self._loop.add_reader(self._socket, self._from_devices)

    async def close(self) -> None:
        """Forward nothing any more; what was held or delayed is lost."""
        if self._hook_task is not None:
            self._hook_task.cancel()
            await asyncio.gather(self._hook_task, return_exceptions=True)
            self._hook_task = None
        self._blocked.clear()
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    @property
    def counts(self) -> Counts:
        """Both directions together."""
        return self.each_way["up"] + self.each_way["down"]

    @property
    def address(self) -> Address:
        """Where devices send to, with the port as bound."""
        if self._socket is None:
            raise RuntimeError("the path was not started")
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def after(self, number: int, hook: Hook) -> None:
        """Call `hook` once the `number`-th datagram (from 1, both directions) was forwarded, or lost.

        Until the hook returns, or what it returned was awaited, no further datagram passes; they wait in
        order. One hook at a time: a new one replaces the old one. Raises ValueError for a number that has
        passed.
        """
        if number <= self._seen:
            raise ValueError(f"datagram {number} has passed, {self._seen} were seen")
        self._hook = (number, hook)

    def retarget(self, to: Address) -> None:
        """Send to another server from now on; the devices' flows keep their sockets towards us."""
        self._to = to
        for flow in self._flows.values():
            flow.connect(to)

    # -- datagrams ----------------------------------------------------------------------------------------

    def _from_devices(self) -> None:
        for _ in range(DRAIN):
            if self._socket is None:
                return
            try:
                datagram, source = self._socket.recvfrom(_ROOM)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of a device that went away.
                continue
            flow = self._flows.get(source)
            if flow is None:
                flow = self._flows[source] = _Flow(self, source, self._made)
                self._made += 1
                flow.connect(self._to)
            self.take(flow, "up", datagram)

    def take(self, flow: "_Flow", direction: Direction, datagram: bytes) -> None:
        """One datagram that arrived; it waits while a hook runs."""
        if self._hook_task is not None:
            self._blocked.append((flow, direction, datagram))
            return
        self.each_way[direction].seen += 1
        self._seen += 1
        number = self._seen
        self._apply(flow, direction, datagram, number)
        if self._hook is not None and self._hook[0] == number:
            hook = self._hook[1]
            self._hook = None
            result = hook(Seen(number, direction, datagram))
            if inspect.isawaitable(result) and self._loop is not None:
                self._hook_task = self._loop.create_task(_settle(result))
                self._hook_task.add_done_callback(self._resume)

    def _resume(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        self._hook_task = None
        failure = task.exception()
        if failure is not None and self._loop is not None:
            self._loop.call_exception_handler({"message": "a hook of a faulty path failed", "exception": failure})
        while self._blocked and self._hook_task is None:
            self.take(*self._blocked.popleft())

    def _apply(self, flow: "_Flow", direction: Direction, datagram: bytes, number: int) -> None:
        faults, counts = self.faults, self.each_way[direction]
        chance = flow.chance[direction]
        lost, doubled, held, cut, flipped, where, slow = (chance.random() for _ in range(DRAWS))
        if lost < faults.loss:
            counts.lost += 1
            self._say(number, direction, datagram, "lost")
            return
        if cut < faults.truncate and datagram:
            datagram = datagram[: int(where * len(datagram))]
            counts.truncated += 1
            self._say(number, direction, datagram, "truncated")
        if flipped < faults.flip and datagram:
            position, bit = divmod(int(where * len(datagram) * 8), 8)
            changed = bytearray(datagram)
            changed[position] ^= 1 << bit
            datagram = bytes(changed)
            counts.flipped += 1
            self._say(number, direction, datagram, f"bit {bit} of byte {position} flipped")
        wait = faults.delay + slow * faults.delay_jitter
        if wait:
            counts.delayed += 1
        if doubled < faults.duplicate:
            counts.duplicated += 1
            self._say(number, direction, datagram, "duplicated")
            flow.later(wait + DUPLICATE_AFTER, direction, datagram)
        if held < faults.reorder:
            counts.reordered += 1
            self._say(number, direction, datagram, "held for the next one")
            flow.hold(direction, datagram, wait)
            return
        flow.pass_on(direction, datagram, wait)

    def _say(self, number: int, direction: Direction, datagram: bytes, what: str) -> None:
        if self._trace is not None:
            self._trace(f"datagram {number} {direction}, {len(datagram)} bytes: {what}")

    def to_device(self, device: tuple[object, ...], datagram: bytes) -> None:
        """Send down."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, device)
            self.each_way["down"].forwarded += 1
        except OSError:
            self.each_way["down"].refused += 1

    def chance(self, flow: int, direction: Direction) -> random.Random:
        """The dice of one flow and direction."""
        return random.Random(f"{self._seed}/{flow}/{direction}")


async def _settle(result: Awaitable[None]) -> None:
    await result


class _Flow:
    """One device: its address, its socket towards the server, what waits to go either way."""

    def __init__(self, path: FaultyPath, device: tuple[object, ...], number: int) -> None:
        self._path = path
        self._device = device
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._held: dict[Direction, list[tuple[bytes, float, asyncio.TimerHandle]]] = {"up": [], "down": []}
        self._timers: set[asyncio.TimerHandle] = set()
        self.chance: dict[Direction, random.Random] = {
            "up": path.chance(number, "up"),
            "down": path.chance(number, "down"),
        }

    def connect(self, to: Address) -> None:
        """Use a fresh socket towards `to`."""
        self._drop_socket()
        self._socket = _udp_socket(to)
        self._socket.connect(to)
        self._loop.add_reader(self._socket, self._from_server)

    def close(self) -> None:
        """Forget what waits and give the socket back."""
        self._drop_socket()
        for held in self._held.values():
            for _, _, timer in held:
                timer.cancel()
            held.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _from_server(self) -> None:
        for _ in range(DRAIN):
            if self._socket is None:
                return
            try:
                datagram = self._socket.recv(_ROOM)
            except BlockingIOError:
                return
            except OSError:
                # Nobody listens at the moment: for the device that is a lost datagram.
                self._path.each_way["up"].refused += 1
                continue
            self._path.take(self, "down", datagram)

    def hold(self, direction: Direction, datagram: bytes, wait: float) -> None:
        """Keep a datagram back until another one overtook it."""
        timer = self._loop.call_later(LONGEST_HOLD, self.release, direction)
        self._held[direction].append((datagram, wait, timer))

    def release(self, direction: Direction) -> None:
        """Send what was held, in the order in which it came."""
        held = self._held[direction]
        while held:
            datagram, wait, timer = held.pop(0)
            timer.cancel()
            self.later(wait, direction, datagram)

    def pass_on(self, direction: Direction, datagram: bytes, wait: float) -> None:
        """Send after `wait` seconds, then all that this one overtook."""
        self.later(wait, direction, datagram)
        self.release(direction)

    def later(self, wait: float, direction: Direction, datagram: bytes) -> None:
        """Send after `wait` seconds; 0 = now."""
        if not wait:
            self._send(direction, datagram)
            return

        def send() -> None:
            self._timers.discard(timer)
            self._send(direction, datagram)

        timer = self._loop.call_later(wait, send)
        self._timers.add(timer)

    def _send(self, direction: Direction, datagram: bytes) -> None:
        if direction == "down":
            self._path.to_device(self._device, datagram)
            return
        if self._socket is None:
            return
        try:
            self._socket.send(datagram)
            self._path.each_way["up"].forwarded += 1
        except OSError:
            self._path.each_way["up"].refused += 1


def _udp_socket(like: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in like[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock
