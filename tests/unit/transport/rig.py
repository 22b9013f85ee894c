"""What the transport tests share: certificates, a DTLS client in memory, a fake socket and clock."""

import asyncio
import errno
import heapq
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from server.transport import records
from server.transport.association import Association
from server.transport.cookie import CookieJar
from server.transport.engine import PreSharedKey, Refusal, TransportLimits
from server.transport.openssl import OpenSslEngine
from server.transport.udp import UdpEndpoint
from server.trust import Anchor, TrustIndex

lib: Any = _openssl.lib
ffi: Any = _openssl.ffi

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNT = UUID(int=1)
X509_SUITES = "ECDHE-ECDSA-AES128-CCM8"
PSK_SUITES = "PSK-AES128-CCM8"
ADDRESS = ("192.0.2.1", 40000)


# -- certificates ---------------------------------------------------------------------------------------


class Made:
    """A certificate and the key that belongs to it."""

    def __init__(self, certificate: x509.Certificate, key: Any) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make(
    common_name: str,
    issuer: Made | None = None,
    *,
    key: Any = None,
    ca: bool | None = None,
    path_length: int | None = None,
    not_before: datetime = NOW - HOUR,
    not_after: datetime = NOW + 1000 * HOUR,
    digest: hashes.HashAlgorithm | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    key_ids: bool = False,
) -> Made:
    """A certificate of `issuer`, self-signed without one; `ca=None` leaves basicConstraints out."""
    key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer is not None else name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if key_ids:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Made(builder.sign(signer, digest or hashes.SHA256()), key)


def anchor(made: Made, *, account: UUID = ACCOUNT, active: bool = True, service: Any = "bootstrap") -> Anchor:
    return Anchor(id=uuid4(), account_id=account, service=service, certificate=made.der, active=active)


# -- a client in memory ---------------------------------------------------------------------------------


def psk(identity: bytes = b"urn:dev:1", key: bytes = b"k" * 16) -> PreSharedKey:
    return PreSharedKey(id=uuid4(), account_id=ACCOUNT, identity=identity, key=key, endpoint="dev-1")


class Client:
    """A DTLS 1.2 client on pyOpenSSL; datagrams in and out, nothing else."""

    def __init__(
        self,
        *,
        suites: str = X509_SUITES,
        certificate: Made | None = None,
        intermediates: Iterable[Made] = (),
        identity: bytes | None = None,
        key: bytes = b"k" * 16,
        mtu: int = 1200,
        version: int = 0xFEFD,
        curves: bytes | None = None,
    ) -> None:
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_cipher_list(f"{suites}:@SECLEVEL=0".encode())
        if curves is not None:
            assert lib.SSL_CTX_set1_curves_list(context._context, curves) == 1
        if certificate is not None:
            context.use_certificate(certificate.certificate)
            context.use_privatekey(certificate.key)
            for intermediate in intermediates:
                context.add_extra_chain_cert(intermediate.certificate)
        if identity is not None:

            def callback(_ssl: Any, _hint: Any, out: Any, _room: int, key_out: Any, _key_room: int) -> int:
                ffi.memmove(out, identity + b"\0", len(identity) + 1)
                ffi.memmove(key_out, key, len(key))
                return len(key)

            self._callback = ffi.callback(
                "unsigned int(SSL *, char *, char *, unsigned int, unsigned char *, unsigned int)", callback
            )
            lib.SSL_CTX_set_psk_client_callback(context._context, self._callback)
        self.context = context
        self.mtu = mtu
        self.renew()

    def renew(self) -> None:
        """Be as if nothing had been said, with the same context."""
        self.connection = SSL.Connection(self.context, None)
        self.connection.set_ciphertext_mtu(self.mtu)
        self.connection.set_connect_state()
        self.up = False
        self.received: list[bytes] = []
        self.closed = False
        self.error = ""

    def start(self) -> list[bytes]:
        return self.receive(None)

    def receive(self, datagram: bytes | None) -> list[bytes]:
        """Take one datagram; what leaves for it."""
        if datagram is not None:
            self.connection.bio_write(datagram)
        try:
            if not self.up:
                self.connection.do_handshake()
                self.up = True
            while True:
                self.received.append(self.connection.recv(1 << 16))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.error = str(error)
        return self.output()

    def output(self) -> list[bytes]:
        try:
            return records.datagrams(self.connection.bio_read(1 << 17), self.mtu)
        except SSL.WantReadError:
            return []

    def send(self, plaintext: bytes) -> list[bytes]:
        self.connection.send(plaintext)
        return self.output()

    def close(self) -> list[bytes]:
        self.connection.shutdown()
        return self.output()


# -- a socket, a loop and a clock -----------------------------------------------------------------------


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
        server: Made,
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
            for _ in range(3):
                # A look-up runs as a task.
                await asyncio.sleep(0)
            waiting += self.sent(address)
            if not waiting:
                break
        return client
