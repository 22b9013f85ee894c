"""DTLS from strangers: the ClientHello before and after the cookie, and every later message of a handshake.

The client's and server's randoms and keys come from OpenSSL, so a seed gives the same changes at the same places of
handshakes that differ in them; the bytes that made a finding are printed with it.
"""

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Any

from server.transport import records
from server.transport.cookie import CookieJar
from server.transport.engine import PeerIdentity, TransportLimits
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import Client, psk
from tests.unit.transport.rig import ADDRESS, Echo, Server

COOKIES = CookieJar(b"s" * 32)
KEY = psk()
SUITES = "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256"
PSK_SUITES = "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:ECDHE-PSK-AES128-CBC-SHA256"


class Field:
    """One server on a fake socket, and clients that begin anew without a new context."""

    def __init__(self) -> None:
        self.pki = Pki()
        device, line = self.pki.device, self.pki.intermediate
        chain = [line]
        self.honest = (
            Client(suites=SUITES, certificate=device, intermediates=chain),
            Client(suites=SUITES, certificate=device, intermediates=chain, mtu=300),
            Client(suites=PSK_SUITES, identity=KEY.identity),
            Client(suites="ECDHE-PSK-AES128-CBC-SHA256", identity=KEY.identity),
            Client(suites=f"{SUITES}:{PSK_SUITES}", identity=KEY.identity, certificate=device, intermediates=chain),
        )
        self.strangers = (
            Client(suites=SUITES, certificate=self.pki.stranger),
            Client(suites=PSK_SUITES, identity=KEY.identity, key=b"x" * 16),
            Client(suites=PSK_SUITES, identity=b"urn:dev:2"),
            Client(suites=SUITES),
        )
        self.server = self._server()

    def _server(self) -> Server:
        limits = TransportLimits(max_handshakes=40, max_associations=40, per_source=40)
        return Server(self.pki.index, self.pki.server, keys=[KEY], limits=limits)

    @staticmethod
    def begin(client: Client) -> list[bytes]:
        """A new handshake of an old client: its first datagram."""
        client.renew()
        return client.start()

    async def deliver(self, inputs: Inputs, datagrams: Iterable[bytes], address: Any = ADDRESS) -> list[bytes]:
        """Give datagrams to the server; what it answers, look-ups included."""
        answers: list[bytes] = []
        for datagram in datagrams:
            answers += self.server.deliver([inputs.take(datagram)], address)
            if self.server.loop.faults:
                raise Finding(f"a fault was reported: {self.server.loop.faults}")
        for _ in range(3):
            await asyncio.sleep(0)
        return answers + self.server.sent(address)

    def end(self) -> None:
        """Let every deadline pass: nothing unauthenticated may be left."""
        server = self.server
        server.loop.advance(31.0)
        if server.endpoint.handshaking:
            raise Finding("a handshake outlived its deadline")
        if server.loop.faults:
            raise Finding(f"a fault was reported: {server.loop.faults}")
        for upper in server.uppers:
            upper.association.close()
        if server.endpoint.established:
            raise Finding("an association that was closed is left")
        if any(len(upper.lost) != 1 for upper in server.uppers):
            raise Finding("an association did not end once")
        for refusal in server.refusals:
            text = refusal.identity + refusal.detail
            if not text.isprintable() or len(text) > 1000:
                raise Finding(f"a refusal that no list can show: {text!r}")
        server.uppers.clear()
        server.refusals.clear()
        server.sock.outgoing.clear()


class HelloTarget:
    """ClientHellos, and whatever else an address sends that nobody knows yet."""

    def __init__(self) -> None:
        self._field = Field()
        self._hellos: list[tuple[bytes, bytes]] = []
        for client in self._field.honest:
            (hello,) = self._field.begin(client)
            (again,) = client.receive(records.hello_verify_request(hello, b"C" * 32))
            self._hellos.append((hello, again))
        self._pool = [each for pair in self._hellos for each in pair]

    async def case(self, random: Random, inputs: Inputs) -> None:
        """Some datagrams of one address; without a cookie it gets one small answer and no state."""
        field, server = self._field, self._field.server
        hello, again = random.choice(self._hellos)
        cookie = COOKIES.issue(f"{ADDRESS[0]}|{ADDRESS[1]}".encode(), server.loop.now)
        for _ in range(random.randrange(1, 12)):
            if random.random() < 0.35:
                datagram = whole(random, mutated(random, hello, self._pool))
                before = server.endpoint.handshaking
                answers = await field.deliver(inputs, [datagram])
                if sum(map(len, answers)) > len(datagram) or server.endpoint.handshaking > before:
                    raise Finding("an address without a cookie got state or more than it sent")
                continue
            datagram = whole(random, mutated(random, again.replace(b"C" * 32, cookie), self._pool))
            await field.deliver(inputs, [datagram])
            if server.endpoint.established or server.endpoint.handshaking > 1:
                raise Finding("a ClientHello made more than one handshake")
            if random.random() < 0.5:
                field.end()
        field.end()


class HandshakeTarget:
    """Whole handshakes, each datagram of the client changed, lost, doubled or moved now and then."""

    def __init__(self) -> None:
        self._field = Field()

    async def case(self, random: Random, inputs: Inputs) -> None:
        """One handshake; it proves what its client holds, or nothing."""
        field = self._field
        honest = random.random() < 0.8
        client = random.choice(field.honest if honest else field.strangers)
        rate = random.choice((0.0, 0.1, 0.3, 0.6))
        waiting = await field.deliver(inputs, field.begin(client))
        heard: list[bytes] = []
        for turn in range(8):
            answers = [answer for datagram in waiting for answer in client.receive(datagram)]
            if turn and client.up and not client.closed and not client.error:
                answers += client.send(b"\x40\x01\x12\x34")
            heard += answers
            # The ClientHello with its cookie goes through as it is: the others are what is tried here.
            sent = answers if turn == 0 else disturbed(random, answers, heard, rate)
            waiting = await field.deliver(inputs, sent)
            if not waiting:
                if turn > 4 or client.error:
                    break
                field.server.loop.advance(1.1)
                waiting = field.server.sent()
        self._check(honest, field.server)
        if rate == 0.0 and honest and not field.server.uppers:
            raise Finding(f"an undisturbed handshake did not complete: {client.error}")
        field.end()

    def _check(self, honest: bool, server: Server) -> None:
        for upper in server.uppers:
            assert isinstance(upper, Echo)
            peer: PeerIdentity = upper.association.peer
            proven = peer.psk_identity == KEY.identity or peer.chain[:1] == (self._field.pki.device.der,)
            if not honest or not proven:
                raise Finding(f"somebody was admitted as {peer.label} who is not that")
            if any(plaintext != b"\x40\x01\x12\x34" for plaintext in upper.received):
                raise Finding("a plaintext came up that the client never sent")


def disturbed(random: Random, flight: list[bytes], heard: list[bytes], rate: float) -> list[bytes]:
    sent: list[bytes] = []
    for datagram in flight:
        if random.random() >= rate:
            sent.append(datagram)
            continue
        match random.randrange(8):
            case 0:
                continue
            case 1:
                sent += [datagram, datagram]
            case 2:
                sent.insert(random.randrange(len(sent) + 1), datagram)
            case 3:
                sent += [whole(random, mutated(random, random.choice(heard), heard)), datagram]
            case 4:
                sent += _fragments(random, datagram)
            case 5:
                sent += [datagram, mutated(random, datagram, heard)]
            case _:
                sent.append(whole(random, mutated(random, datagram, heard)))
    return [datagram[:16384] for datagram in sent]


def whole(random: Random, datagram: bytes) -> bytes:
    """The datagram with lengths that fit again, most often: else every change ends at the first length check."""
    if len(datagram) < 25 or random.random() < 0.3:
        return datagram
    body = len(datagram) - 25
    lengths = (body + 12).to_bytes(2, "big"), body.to_bytes(3, "big")
    if datagram[:1] != b"\x16" or datagram[3:5] != b"\0\0":
        return datagram[:11] + (len(datagram) - 13).to_bytes(2, "big") + datagram[13:]
    return datagram[:11] + lengths[0] + datagram[13:14] + lengths[1] + datagram[17:22] + lengths[1] + datagram[25:]


def _fragments(random: Random, datagram: bytes) -> list[bytes]:
    """A plain handshake record whose message comes in overlapping pieces; anything else as it is."""
    if len(datagram) < 40 or datagram[:1] != b"\x16" or datagram[3:5] != b"\0\0":
        return [datagram]
    head, message = datagram[:11], datagram[13 : 13 + int.from_bytes(datagram[11:13], "big")]
    body = message[12:]
    if int.from_bytes(message[1:4], "big") != len(body):
        return [datagram]
    pieces = []
    cut = random.randrange(1, len(body) + 1)
    for begin, end in ((0, cut), (max(0, cut - random.randrange(4)), len(body))):
        part = message[:6] + begin.to_bytes(3, "big") + (end - begin).to_bytes(3, "big") + body[begin:end]
        sequence = head[:5] + (int.from_bytes(head[5:11], "big") + 1000 + len(pieces)).to_bytes(6, "big")
        pieces.append(sequence + len(part).to_bytes(2, "big") + part)
    random.shuffle(pieces)
    return pieces
