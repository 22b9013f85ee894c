"""The listening socket on a fake loop: what a process without descriptors does, and a port that comes back."""

import errno

from server.transport.tls import PAUSE
from tests.fuzz.tls import FakeConnection, FakeListener, StreamTarget


class Exhausted(FakeListener):
    """Has connections waiting, and at first no descriptor for them."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True
        self.asked = 0

    def accept(self) -> tuple[FakeConnection, object]:
        self.asked += 1
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_without_descriptors_it_pauses_and_goes_on() -> None:
    target = StreamTarget(Exhausted())
    listener = target.listener
    assert isinstance(listener, Exhausted)
    listener.waiting.append((FakeConnection(7), ("192.0.2.1", 40000)))
    target.loop.readers[listener.fileno()]()
    # It is not asked again and again, and the connection waits where it is.
    assert (listener.asked, list(target.loop.readers)) == (1, [])
    assert target.endpoint.counters.socket_errors == 1
    listener.full = False
    target.loop.advance(PAUSE)
    target.loop.readers[listener.fileno()]()
    assert target.endpoint.handshaking == 1


async def test_a_port_that_is_used_again_ends_the_connection_it_had() -> None:
    target = StreamTarget()
    listener = target.listener
    old, new = FakeConnection(7), FakeConnection(8)
    for connection in (old, new):
        listener.waiting.append((connection, ("192.0.2.1", 40000)))
        target.loop.readers[listener.fileno()]()
    assert (old.fileno(), new.fileno(), target.endpoint.handshaking) == (-1, 8, 1)


async def test_a_wake_up_takes_a_bounded_number_of_connections_and_bytes() -> None:
    target = StreamTarget()
    listener = target.listener
    for number in range(2, 42):
        listener.waiting.append((FakeConnection(number), ("192.0.2.1", 1000 + number)))
    target.loop.readers[listener.fileno()]()
    assert target.endpoint.handshaking == 32
    connection = FakeConnection(50)
    listener.waiting.clear()
    listener.waiting.append((connection, ("192.0.2.2", 1)))
    target.loop.readers[listener.fileno()]()
    connection.incoming.extend(b"\x16\x03\x01\x40\0" for _ in range(10))
    target.loop.readers[50]()
    assert len(connection.incoming) == 6
