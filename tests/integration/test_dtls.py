"""The transport on real sockets, with other people's DTLS clients and one of ours that loses what it is told."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from server.store.errors import StoreUnavailable
from server.transport.cookie import CookieJar
from server.transport.engine import PreSharedKey, Refusal, RefusalReason, TransportLimits
from server.transport.openssl import OpenSslEngine, self_test
from server.transport.sockets import receive_buffer
from server.transport.udp import Association, UdpEndpoint, bind
from server.trust import TrustIndex
from tests.unit.transport.certificates import HOUR, Made, anchor, make
from tests.unit.transport.client import PSK_SUITES, Client, psk
from tests.unit.transport.rig import Echo

# Only a hung test gets here; nothing asserts on how long a thing took.
PATIENCE = 60.0

requires_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
requires_libcoap = pytest.mark.skipif(
    shutil.which("coap-client-openssl") is None, reason="needs coap-client-openssl (libcoap3-bin)"
)
requires_gnutls = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="needs gnutls-cli (gnutls-bin)")


class Factory:
    """A factory's PKI and the server's certificate, valid now, also as files for programs."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        valid = {"not_before": now - HOUR, "not_after": now + 24 * HOUR}
        self.root = make("Factory Root", ca=True, **valid)
        self.line = make("Factory Line 1", self.root, ca=True, **valid)
        self.device = make("dev-1", self.line, ca=False, **valid)
        self.stranger = make("dev-1", ca=False, **valid)
        # libcoap's client sends its own certificate only.
        self.direct = make("dev-2", self.root, ca=False, **valid)
        self.server = make("bootstrap.example.com", **valid)
        # A factory with an RSA root, and a device that vouches for itself: no CA, and another's certificate it signed.
        self.rsa_root = make("RSA Root", ca=True, key=rsa.generate_private_key(65537, 2048), **valid)
        self.by_rsa = make("dev-rsa", self.rsa_root, ca=False, **valid)
        self.itself = make("dev-itself", ca=False, key_ids=True, **valid)
        self.by_device = make("dev-forged", self.itself, ca=False, key_ids=True, **valid)
        self.index = TrustIndex([anchor(self.root), anchor(self.rsa_root), anchor(self.itself)])
        self.folder = folder
        for stem in ("device", "stranger", "direct", "by_rsa", "itself", "by_device"):
            made: Made = getattr(self, stem)
            (folder / f"{stem}.pem").write_bytes(made.pem)
            (folder / f"{stem}.key").write_bytes(made.key_pem)
        (folder / "line.pem").write_bytes(self.line.pem)
        (folder / "device-chain.pem").write_bytes(self.device.pem + self.line.pem)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


class CoapEcho(Echo):
    """Answers any confirmable CoAP request with 2.05 and `welcome`, enough for a client to be content."""

    def datagram_received(self, plaintext: bytes) -> None:
        self.received.append(plaintext)
        if len(plaintext) >= 4 and plaintext[0] & 0xF0 == 0x40 and plaintext[1]:
            token = plaintext[4 : 4 + (plaintext[0] & 0x0F)]
            self.association.send(bytes([0x60 | len(token), 0x45]) + plaintext[2:4] + token + b"\xffwelcome")


class Running:
    """An endpoint on a real socket, with everything it told."""

    def __init__(
        self,
        factory: Factory,
        *,
        host: str = "127.0.0.1",
        keys: Iterable[PreSharedKey] = (),
        limits: TransportLimits | None = None,
        look_up: Any = None,
        upper: Callable[[Association], Any] = Echo,
    ) -> None:
        limits = limits or TransportLimits()
        by_identity = {key.identity: key for key in keys}

        async def find(identity: bytes) -> PreSharedKey | None:
            return by_identity.get(identity)

        def established(association: Association) -> Any:
            self.uppers.append(upper(association))
            return self.uppers[-1]

        self.uppers: list[Any] = []
        self.refusals: asyncio.Queue[Refusal] = asyncio.Queue()
        self.sock = bind(host, 0, reuse_port=False, receive_buffer=1 << 20)
        self.port: int = self.sock.getsockname()[1]
        self.endpoint = UdpEndpoint(
            self.sock,
            OpenSslEngine(
                certificate_chain_pem=factory.server.pem,
                private_key=factory.server.key,
                trust=lambda: factory.index,
                now=lambda: datetime.now(UTC),
                mtu=limits.mtu,
            ),
            psk_lookup=look_up or find,
            on_established=established,
            on_refused=self.refusals.put_nowait,
            limits=limits,
            cookie=CookieJar(b"s" * 32),
        )
        self.endpoint.start()


@contextlib.asynccontextmanager
async def running(factory: Factory, **options: Any) -> AsyncIterator[Running]:
    made = Running(factory, **options)
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        made.endpoint.close()


class Program:
    """Another's client: what it printed so far, what it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = b""

    async def until(self, text: bytes) -> bytes:
        """Read until it printed `text` or ended."""
        assert self._process.stdout is not None
        while text not in self.printed:
            some = await self._process.stdout.read(4096)
            if not some:
                break
            self.printed += some
        return self.printed

    async def tell(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def s_client(port: int, *options: str, host: str = "127.0.0.1") -> Any:
    return program("openssl", "s_client", "-dtls1_2", "-timeout", "-connect", f"{host}:{port}", *options)


def as_device(factory: Factory, suite: str = "ECDHE-ECDSA-AES128-CCM8", who: str = "device") -> list[str]:
    folder = factory.folder
    options = ["-cert", str(folder / f"{who}.pem"), "-key", str(folder / f"{who}.key")]
    if who == "device":
        options += ["-cert_chain", str(folder / "line.pem")]
    return [*options, "-cipher", f"{suite}:@SECLEVEL=0"]


def with_key(suite: str = PSK_SUITES, identity: str = "urn:dev:1", key: bytes = b"k" * 16) -> list[str]:
    return ["-psk_identity", identity, "-psk", key.hex(), "-cipher", f"{suite}:@SECLEVEL=0"]


# -- every client alike
# ---------------------------------------------------------------------------------------


def client_of(kind: str, factory: Factory, who: str, port: int) -> Any:
    """A program that comes with the certificate of `who`."""
    certificate, key = str(factory.folder / f"{who}.pem"), str(factory.folder / f"{who}.key")
    if kind == "openssl":
        return s_client(port, *as_device(factory, who=who))
    if kind == "libcoap":
        words = ("coap-client-openssl", "-B", "20", "-m", "get", "-c", certificate, "-j", key, "-n")
        return program(*words, f"coaps://127.0.0.1:{port}/x")
    return program(
        "gnutls-cli", "--udp", "--no-ca-verification", "-p", str(port), "--x509certfile", certificate,
        "--x509keyfile", key, "--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2:+AES-128-CCM-8", "127.0.0.1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("openssl", marks=requires_openssl),
        pytest.param("libcoap", marks=requires_libcoap),
        pytest.param("gnutls", marks=requires_gnutls),
    ],
)
async def test_an_rsa_root_vouches_for_devices_and_a_device_that_is_no_ca_for_itself_alone(
    factory: Factory, kind: str
) -> None:
    async with running(factory, upper=CoapEcho) as server:
        for number, who in enumerate(("by_rsa", "itself"), 1):
            async with client_of(kind, factory, who, server.port):
                while len(server.uppers) < number:
                    assert server.refusals.empty(), server.refusals.get_nowait()
                    await asyncio.sleep(0.01)
        assert [upper.association.peer.label for upper in server.uppers] == ["CN=dev-rsa", "CN=dev-itself"]
        async with client_of(kind, factory, "by_device", server.port):
            refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.NOT_A_CA, "CN=dev-forged")
        assert len(server.uppers) == 2


# -- openssl s_client
# -----------------------------------------------------------------------------------------


@requires_openssl
@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES128-CCM8",
        "ECDHE-ECDSA-AES128-CCM",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-SHA256",
    ],
)
async def test_s_client_comes_in_with_its_factory_certificate(factory: Factory, suite: str) -> None:
    async with running(factory) as server, s_client(server.port, *as_device(factory, suite)) as client:
        await client.tell(b"hello\n")
        assert b"echo hello" in await client.until(b"echo hello")
        assert f"Cipher is {suite}".encode() in client.printed
        # The store is empty and no CA names are sent: nothing tells a stranger who the customers are.
        assert b"No client certificate CA names sent" in client.printed
        assert server.uppers[0].association.peer.label == "CN=dev-1"


@requires_openssl
@pytest.mark.parametrize(
    "suite",
    [
        "PSK-AES128-CCM8",
        "PSK-AES128-CCM",
        "PSK-AES128-GCM-SHA256",
        "PSK-AES128-CBC-SHA256",
        "ECDHE-PSK-AES128-CBC-SHA256",
    ],
)
async def test_s_client_comes_in_with_its_pre_shared_key(factory: Factory, suite: str) -> None:
    async with (
        running(factory, keys=[psk()]) as server,
        s_client(server.port, *with_key(suite)) as client,
    ):
        await client.tell(b"hello\n")
        assert b"echo hello" in await client.until(b"echo hello")
        assert f"Cipher is {suite}".encode() in client.printed
        assert server.uppers[0].association.peer.psk_identity == b"urn:dev:1"


@requires_openssl
async def test_s_client_comes_in_over_ipv6(factory: Factory) -> None:
    async with (
        running(factory, host="[::1]") as server,
        s_client(server.port, *as_device(factory), host="[::1]") as client,
    ):
        await client.tell(b"hello\n")
        assert b"echo hello" in await client.until(b"echo hello")
        assert server.uppers[0].association.address_text.startswith("[::1]:")
        assert server.uppers[0].association.local_address == "::1"


@requires_openssl
async def test_a_certificate_of_an_unknown_ca_gets_alert_unknown_ca(factory: Factory) -> None:
    async with (
        running(factory) as server,
        s_client(server.port, *as_device(factory, who="stranger")) as client,
    ):
        assert b"alert number 48" in await client.until(b"alert number 48")
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.UNKNOWN_CA, "CN=dev-1")


@requires_openssl
async def test_an_unknown_identity_gets_alert_115(factory: Factory) -> None:
    async with (
        running(factory, keys=[psk()]) as server,
        s_client(server.port, *with_key(identity="nobody")) as client,
    ):
        assert b"alert number 115" in await client.until(b"alert number 115")
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.UNKNOWN_IDENTITY, "nobody")


@requires_openssl
async def test_a_wrong_key_is_met_with_silence_and_named_at_the_deadline(factory: Factory) -> None:
    limits = TransportLimits(handshake_deadline=0.5)
    async with (
        running(factory, keys=[psk()], limits=limits) as server,
        s_client(server.port, *with_key(key=b"x" * 16)) as client,
    ):
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.WRONG_KEY, "urn:dev:1")
        assert server.uppers == []
    assert b"alert" not in client.printed


@requires_openssl
async def test_a_store_that_is_away_is_silent_and_the_device_comes_in_when_it_is_back(
    factory: Factory,
) -> None:
    away = True

    async def look_up(_identity: bytes) -> PreSharedKey | None:
        if away:
            raise StoreUnavailable("away")
        return psk()

    async with (
        running(factory, look_up=look_up) as server,
        s_client(server.port, *with_key()) as client,
    ):
        assert (await server.refusals.get()).reason is RefusalReason.STORE_UNAVAILABLE
        away = False
        await client.tell(b"hello\n")
        assert b"echo hello" in await client.until(b"echo hello")
        assert b"alert" not in client.printed


@requires_openssl
async def test_a_client_without_a_common_suite_is_told_and_seen(factory: Factory) -> None:
    async with (
        running(factory) as server,
        s_client(server.port, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384") as client,
    ):
        assert b"alert number 40" in await client.until(b"alert number 40")
        assert (await server.refusals.get()).reason is RefusalReason.NO_COMMON_SUITE


@requires_openssl
async def test_dtls_1_0_is_refused(factory: Factory) -> None:
    async with (
        running(factory) as server,
        program(
            "openssl", "s_client", "-dtls1", "-timeout", "-connect", f"127.0.0.1:{server.port}",
            "-cipher", "ALL:@SECLEVEL=0",
        ) as client,
    ):  # fmt: skip
        assert (await server.refusals.get()).reason is RefusalReason.PROTOCOL_VERSION
        assert b"alert number 70" in await client.until(b"alert number 70")
        assert server.uppers == []


# -- libcoap and GnuTLS
# ---------------------------------------------------------------------------------------


@requires_libcoap
@pytest.mark.parametrize("credential", ["x509", "psk"])
async def test_libcoap_gets_its_answer(factory: Factory, credential: str) -> None:
    folder = factory.folder
    proof = (
        ["-c", str(folder / "direct.pem"), "-j", str(folder / "direct.key"), "-n"]
        if credential == "x509"
        else ["-k", "k" * 16, "-u", "urn:dev:1"]
    )
    async with (
        running(factory, keys=[psk()], upper=CoapEcho) as server,
        program("coap-client-openssl", "-B", "20", "-m", "get", *proof, f"coaps://127.0.0.1:{server.port}/x") as client,
    ):
        assert b"welcome" in await client.until(b"welcome")
        assert server.uppers[0].association.peer.kind == credential


@requires_gnutls
@pytest.mark.parametrize("credential", ["x509", "psk"])
async def test_gnutls_comes_in(factory: Factory, credential: str) -> None:
    folder = factory.folder
    proof = (
        [
            "--x509certfile", str(folder / "device-chain.pem"), "--x509keyfile", str(folder / "device.key"),
            "--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2:+AES-128-CCM-8",
        ]
        if credential == "x509"
        else [
            "--pskusername", "urn:dev:1", "--pskkey", (b"k" * 16).hex(),
            "--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:+AES-128-CCM-8",
        ]
    )  # fmt: skip
    async with (
        running(factory, keys=[psk()]) as server,
        program("gnutls-cli", "--udp", "--insecure", "-p", str(server.port), *proof, "127.0.0.1") as client,
    ):
        await client.tell(b"hello\n")
        assert b"echo hello" in await client.until(b"echo hello")
        assert server.uppers[0].association.peer.kind == credential


# -- a client of ours
# -----------------------------------------------------------------------------------------


class Device:
    """`Client` on a real socket; `loses` says which handshake datagram of which direction never arrives."""

    def __init__(
        self,
        client: Client,
        port: int,
        *,
        host: str = "127.0.0.1",
        sock: socket.socket | None = None,
        loses: Callable[[str, int], bool] = lambda _direction, _number: False,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.client = client
        self.sock = sock or socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((host, port))
        self.largest = 0
        self._loses = loses
        self._counts = {"to": 0, "from": 0}

    def _lost(self, direction: str) -> bool:
        if self.client.up:
            return False
        self._counts[direction] += 1
        return self._loses(direction, self._counts[direction] - 1)

    def send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            if not self._lost("to"):
                self.sock.send(datagram)

    async def handshake(self) -> None:
        """Shake hands, repeating as the client's own timer says."""
        loop = asyncio.get_running_loop()
        self.send(self.client.start())
        while not (self.client.up or self.client.error):
            wait = self.client.connection.DTLSv1_get_timeout()
            try:
                async with asyncio.timeout(0.05 if wait is None else wait + 0.01):
                    datagram = await loop.sock_recv(self.sock, 1 << 16)
            except TimeoutError:
                self.client.connection.DTLSv1_handle_timeout()
                self.send(self.client.output())
                continue
            self.largest = max(self.largest, len(datagram))
            if not self._lost("from"):
                answers = self.client.receive(datagram)
                self.send(answers)

    async def echo(self, plaintext: bytes) -> bytes:
        """Send one record and wait for its echo."""
        self.send(self.client.send(plaintext))
        loop = asyncio.get_running_loop()
        while not self.client.received:
            self.send(self.client.receive(await loop.sock_recv(self.sock, 1 << 16)))
        return self.client.received.pop(0)


def x509_client(factory: Factory, **options: Any) -> Client:
    return Client(certificate=factory.device, intermediates=[factory.line], **options)


def psk_client(_factory: Factory, **options: Any) -> Client:
    return Client(suites=PSK_SUITES, identity=b"urn:dev:1", **options)


@pytest.mark.parametrize("make_client", [x509_client, psk_client])
async def test_any_one_lost_datagram_is_made_good(factory: Factory, make_client: Callable[[Factory], Client]) -> None:
    """Each datagram of a handshake in turn, both ways; the server's last flight among them (dtls.md 18)."""
    async with running(factory, keys=[psk()]) as server:

        async def lose(direction: str, number: int) -> bytes:
            device = Device(make_client(factory), server.port, loses=lambda d, n: (d, n) == (direction, number))
            with device.sock:
                await device.handshake()
                return await device.echo(b"%d" % number)

        cases = [(direction, number) for direction in ("to", "from") for number in range(5)]
        echoed = await asyncio.gather(*(lose(*case) for case in cases))
    assert echoed == [b"echo %d" % number for _ in range(2) for number in range(5)]


@pytest.mark.parametrize("make_client", [x509_client, psk_client])
@pytest.mark.parametrize("mtu", [300, 512, 1200])
async def test_no_datagram_of_a_handshake_is_larger_than_the_mtu(
    factory: Factory, make_client: Callable[..., Client], mtu: int
) -> None:
    async with running(factory, keys=[psk()], limits=TransportLimits(mtu=mtu)) as server:
        device = Device(make_client(factory, mtu=mtu), server.port)
        with device.sock:
            await device.handshake()
            assert device.largest <= mtu
            size = server.uppers[0].association.cleartext_mtu - len(b"echo ")
            assert await device.echo(b"x" * size) == b"echo " + b"x" * size
    assert server.endpoint.counters.oversized == 0


async def test_two_hundred_unknown_identities_at_a_slow_store_hold_up_nobody(factory: Factory) -> None:
    """Two hundred at once, a store that answers after two seconds, and a device with a known key beside them."""
    answered: list[bytes] = []

    async def look_up(identity: bytes) -> PreSharedKey | None:
        if identity == psk().identity:
            answered.append(identity)
            return psk()
        await asyncio.sleep(2)
        answered.append(identity)
        return None

    async def stranger(number: int) -> str:
        client = Client(suites=PSK_SUITES, identity=b"nobody-%d" % number)
        device = Device(client, server.port)
        with device.sock:
            await device.handshake()
        return client.error

    async with running(factory, look_up=look_up, limits=TransportLimits(per_source=300)) as server:
        strangers = [asyncio.create_task(stranger(number)) for number in range(200)]
        while server.endpoint.counters.look_ups < 200:
            await asyncio.sleep(0.01)
        # Whoever knocks now is served before any of those look-ups that began last is answered.
        device = Device(psk_client(factory), server.port)
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        errors = await asyncio.gather(*strangers)
        assert all("unknown psk identity" in error for error in errors)
        assert sorted(answered) == sorted([psk().identity, *(b"nobody-%d" % number for number in range(200))])
        assert answered.index(psk().identity) < 200
        assert server.endpoint.established == 1
        assert server.endpoint.handshaking == 0


async def test_a_rebooted_device_comes_in_from_the_same_port(factory: Factory) -> None:
    async with running(factory) as server:
        first = Device(x509_client(factory), server.port)
        with first.sock:
            await first.handshake()
            second = Device(x509_client(factory), server.port, sock=first.sock)
            await second.handshake()
            assert await second.echo(b"x") == b"echo x"
    assert [upper.lost for upper in server.uppers] == [["replaced"], ["shutdown"]]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.9.9.9"])
async def test_a_wildcard_socket_answers_from_the_address_that_was_asked(factory: Factory, host: str) -> None:
    async with running(factory, host="0.0.0.0") as server:
        # A connected socket takes answers from that address alone.
        device = Device(x509_client(factory), server.port, host=host)
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        assert server.uppers[0].association.local_address == host


async def test_an_ipv6_wildcard_socket_answers_and_leaves_ipv4_to_its_own(factory: Factory) -> None:
    async with running(factory, host="::") as server:
        device = Device(x509_client(factory), server.port, host="::1")
        with device.sock:
            await device.handshake()
            assert await device.echo(b"x") == b"echo x"
        assert server.uppers[0].association.local_address == "::1"
        with bind("0.0.0.0", server.port, reuse_port=False, receive_buffer=1 << 16) as other:
            assert other.getsockname()[1] == server.port


async def test_one_remote_port_may_hold_an_association_with_each_of_our_addresses(factory: Factory) -> None:
    async with running(factory, host="0.0.0.0") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            first = Device(x509_client(factory), server.port, host="127.0.0.1", sock=sock)
            await first.handshake()
            second = Device(x509_client(factory), server.port, host="127.0.0.2", sock=sock)
            await second.handshake()
        assert [upper.lost for upper in server.uppers] == [[], []]
        assert server.endpoint.established == 2


def test_sockets_of_one_port_can_be_shared_by_workers() -> None:
    with bind("127.0.0.1", 0, reuse_port=True, receive_buffer=1 << 20) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port, reuse_port=True, receive_buffer=1 << 20) as second:
            assert second.getsockname() == first.getsockname()
            assert second.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 0
        with pytest.raises(OSError):
            bind("127.0.0.1", port, reuse_port=False, receive_buffer=1 << 20)


def test_the_receive_buffer_that_was_granted_is_told() -> None:
    # As much as every system grants; how much of more is a matter of rights and of net.core.rmem_max.
    with bind("127.0.0.1", 0, reuse_port=False, receive_buffer=1 << 16) as sock:
        assert receive_buffer(sock) == 1 << 16


@pytest.mark.parametrize("host", ["example.com", "", "300.1.1.1"])
def test_only_an_ip_address_can_be_bound(host: str) -> None:
    with pytest.raises(ValueError):
        bind(host, 0, reuse_port=False, receive_buffer=1 << 16)


def test_the_installed_wheel_passes_the_self_test() -> None:
    self_test()
