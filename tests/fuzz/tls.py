"""TLS over TCP from strangers: a client's stream changed, cut and broken off anywhere.

The randoms and keys come from OpenSSL, so a seed gives the same changes at the same places of handshakes that differ.
"""

import asyncio
import contextlib
from collections import deque
from random import Random
from typing import Any

from OpenSSL import SSL

from server.transport.engine import PeerIdentity, PreSharedKey, Refusal, TransportLimits
from server.transport.openssl import OpenSslEngine
from server.transport.records import LONGEST_HANDSHAKE
from server.transport.tls import TlsEndpoint
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs
from tests.pki import Holder
from tests.unit.transport.certificates import NOW, Pki
from tests.unit.transport.client import PSK_SUITES, X509_SUITES, Client, lib, psk
from tests.unit.transport.rig import Echo, FakeLoop

KEY = psk()
MESSAGE = b"\x40\x01\x12\x34"


class FakeConnection:
    """What a TlsEndpoint calls of an accepted socket."""

    def __init__(self, number: int) -> None:
        self.incoming: deque[bytes] = deque()
        self.outgoing = bytearray()
        self.ended = False
        self._number = number
        self._open = True

    def fileno(self) -> int:
        return self._number if self._open else -1

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def setsockopt(self, *_: object) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.200", 5684)

    def recv(self, size: int) -> bytes:
        if self.incoming:
            data = self.incoming.popleft()
            if len(data) > size:
                self.incoming.appendleft(data[size:])
            return data[:size]
        if self.ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        self.outgoing += data
        return len(data)

    def close(self) -> None:
        self._open = False


class FakeListener(FakeConnection):
    """What a TlsEndpoint calls of its own socket."""

    def __init__(self) -> None:
        super().__init__(1)
        self.waiting: deque[tuple[FakeConnection, Any]] = deque()

    def accept(self) -> tuple[FakeConnection, Any]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft()


class StreamLoop(FakeLoop):
    """A loop with a reader for each socket."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, Any] = {}
        self._soon: deque[Any] = deque()

    def add_reader(self, fd: int, callback: Any, *arguments: Any) -> None:
        self.readers[fd] = lambda: callback(*arguments)

    def remove_reader(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def call_soon(self, callback: Any, *arguments: Any) -> None:
        self._soon.append(lambda: callback(*arguments))

    def turn(self) -> None:
        """What was left for later."""
        while self._soon:
            self._soon.popleft()()


class StreamClient(Client):
    """`Client` over TLS."""

    def __init__(self, *, suites: str, certificate: Holder | None = None, **options: Any) -> None:
        super().__init__(suites=suites, certificate=certificate, **options)
        self._stream = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._stream.set_max_proto_version(SSL.TLS1_2_VERSION)
        self._stream.set_cipher_list(f"{suites}:@SECLEVEL=0".encode())
        if certificate is not None:
            self._stream.use_certificate(certificate.certificate)
            self._stream.use_privatekey(certificate.key)
            for each in options.get("intermediates", ()):
                self._stream.add_extra_chain_cert(each.certificate)
        if options.get("identity") is not None:
            lib.SSL_CTX_set_psk_client_callback(self._stream._context, self._callback)

    def begin(self) -> bytes:
        """A new handshake: the first bytes of its stream."""
        self.connection = SSL.Connection(self._stream, None)
        self.connection.set_connect_state()
        self.up = self.closed = False
        self.received = []
        self.error = ""
        self.receive(None)
        return self.written

    def output(self) -> list[bytes]:
        self.written = b""
        with contextlib.suppress(SSL.WantReadError):
            self.written = self.connection.bio_read(1 << 17)
        return [self.written] if self.written else []


class StreamTarget:
    """Whole handshakes and a message, with the stream changed and cut anywhere."""

    def __init__(self, listener: FakeListener | None = None) -> None:
        self._pki = Pki()
        device, line = self._pki.device, self._pki.intermediate
        self._honest = (
            StreamClient(suites=X509_SUITES, certificate=device, intermediates=[line]),
            StreamClient(suites=PSK_SUITES, identity=KEY.identity),
        )
        self._strangers = (
            StreamClient(suites=X509_SUITES, certificate=self._pki.stranger),
            StreamClient(suites=PSK_SUITES, identity=KEY.identity, key=b"x" * 16),
            StreamClient(suites=PSK_SUITES, identity=b"urn:dev:2"),
            StreamClient(suites=X509_SUITES),
        )
        self.loop = StreamLoop()
        self.listener = listener or FakeListener()
        self._uppers: list[Echo] = []
        self._refusals: list[Refusal] = []
        self._numbers = 1

        async def find(identity: bytes) -> PreSharedKey | None:
            await asyncio.sleep(0)
            return KEY if identity == KEY.identity else None

        def established(association: Any) -> Echo:
            self._uppers.append(Echo(association))
            return self._uppers[-1]

        self.endpoint = TlsEndpoint(
            self.listener,  # type: ignore[arg-type]
            OpenSslEngine(
                certificate_chain_pem=self._pki.server.pem,
                private_key=self._pki.server.key,
                trust=lambda: self._pki.index,
                now=lambda: NOW,
                stream=True,
            ),
            psk_lookup=find,
            on_established=established,
            on_refused=self._refusals.append,
            limits=TransportLimits(max_handshakes=40, max_associations=40, per_source=40),
            clock=self.loop.time,
            loop=self.loop,  # type: ignore[arg-type]
        )
        self.endpoint.start()

    async def case(self, random: Random, inputs: Inputs) -> None:
        """One connection; it proves what its client holds, or nothing."""
        honest = random.random() < 0.8
        client = random.choice(self._honest if honest else self._strangers)
        rate = random.choice((0.0, 0.1, 0.3, 0.6))
        connection = self._connect()
        data = client.begin()
        heard = [data]
        told = False
        for _ in range(8):
            await self._deliver(random, inputs, connection, _disturbed(random, data, heard, rate))
            answer = bytes(connection.outgoing)
            connection.outgoing.clear()
            client.receive(answer or None)
            data = client.written
            if client.up and not told and not client.error and not client.closed:
                told = True
                client.send(MESSAGE)
                data += client.written
            heard.append(data or b"\0")
            if not data or connection.fileno() < 0:
                break
        self._check(honest)
        if rate == 0.0 and honest and [upper.received for upper in self._uppers] != [[MESSAGE]]:
            raise Finding(f"an undisturbed client did not get its message through: {client.error}")
        self._end(random, connection)

    def _connect(self) -> FakeConnection:
        self._numbers += 1
        connection = FakeConnection(self._numbers)
        self.listener.waiting.append((connection, ("192.0.2.1", 1024 + self._numbers % 60000)))
        self.loop.readers[self.listener.fileno()]()
        return connection

    async def _deliver(self, random: Random, inputs: Inputs, connection: FakeConnection, data: bytes) -> None:
        """Give it to the server in pieces."""
        while data:
            size = random.choice((1, 5, 40, 200, 1200, 1 << 16))
            connection.incoming.append(inputs.take(data[:size]))
            data = data[size:]
            if random.random() < 0.7:
                await self._readable(connection)
        await self._readable(connection)

    async def _readable(self, connection: FakeConnection) -> None:
        for _ in range(8):
            reader = self.loop.readers.get(connection.fileno())
            if reader is not None:
                reader()
            self.loop.turn()
            # A look-up runs as a task.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if self.loop.faults:
            raise Finding(f"a fault was reported: {self.loop.faults}")

    def _check(self, honest: bool) -> None:
        for upper in self._uppers:
            peer: PeerIdentity = upper.association.peer
            proven = peer.psk_identity == KEY.identity or peer.chain[:1] == (self._pki.device.der,)
            if not honest or not proven:
                raise Finding(f"somebody was admitted as {peer.label} who is not that")
            if any(plaintext != MESSAGE for plaintext in upper.received):
                raise Finding("a plaintext came up that the client never sent")

    def _end(self, random: Random, connection: FakeConnection) -> None:
        """The peer leaves, or every deadline passes: nothing may be left of it."""
        if random.random() < 0.5 and (reader := self.loop.readers.get(connection.fileno())) is not None:
            connection.incoming.clear()
            connection.ended = True
            reader()
        self.loop.advance(31.0)
        for upper in self._uppers:
            upper.association.close()
        self.loop.turn()
        endpoint = self.endpoint
        if endpoint.handshaking or endpoint.established or endpoint._connections or len(self.loop.readers) != 1:
            raise Finding("something of a connection that is over is left")
        if any(len(upper.lost) != 1 for upper in self._uppers):
            raise Finding("an association did not end once")
        for refusal in self._refusals:
            text = refusal.identity + refusal.detail
            if not text.isprintable() or len(text) > 1000:
                raise Finding(f"a refusal that no list can show: {text!r}")
        self._uppers.clear()
        self._refusals.clear()


def _disturbed(random: Random, data: bytes, heard: list[bytes], rate: float) -> bytes:
    """The records of a flight, some of them changed, lost, doubled, or followed by noise."""
    sent = b""
    at = 0
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        record = data[at:end]
        at = end
        if random.random() >= rate:
            sent += record
            continue
        match random.randrange(6):
            case 0:
                continue
            case 1:
                sent += record + record
            case 2:
                sent += record[: random.randrange(len(record))]
            case 3:
                cut = random.randrange(6, max(7, len(record)))
                sent += _record(record, record[5:cut]) + _record(record, record[cut:])
            case 4:
                sent += record + mutated(random, random.choice(heard), heard)[: LONGEST_HANDSHAKE // 4]
            case _:
                body = mutated(random, record[5:], heard)
                sent += _record(record, body)
    return sent


def _record(like: bytes, body: bytes) -> bytes:
    return like[:3] + (len(body) & 0xFFFF).to_bytes(2, "big") + body
