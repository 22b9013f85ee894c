"""Flights in fragments, theirs and ours: programs that none of us wrote and a server, told of a small MTU."""

from collections.abc import Iterator
from typing import Any

import pytest

from server.transport.engine import TransportLimits
from simulators.faults import Direction, FaultyPath, _Flow
from tests.integration.clients import as_device, requires_gnutls, requires_openssl, with_key
from tests.integration.endpoints import running
from tests.integration.factory import Factory
from tests.programs import conversation
from tests.unit.transport.client import psk

CLIENTS = [pytest.param("openssl", marks=requires_openssl), pytest.param("gnutls", marks=requires_gnutls)]
# IPv4 and UDP headers, which s_client counts as part of what it is told.
HEADERS = 28
HANDSHAKE, CERTIFICATE, KEY_EXCHANGE = 22, 11, 16


class Tape(FaultyPath):
    """A path that does nothing but keep what passed."""

    def __init__(self, port: int) -> None:
        super().__init__(to=("127.0.0.1", port))
        self.kept: dict[Direction, list[bytes]] = {"up": [], "down": []}

    def take(self, flow: _Flow, direction: Direction, datagram: bytes) -> None:
        self.kept[direction].append(datagram)
        super().take(flow, direction, datagram)

    def largest(self, direction: Direction) -> int:
        """Bytes of the largest datagram."""
        return max(map(len, self.kept[direction]))

    def in_pieces(self, direction: Direction) -> set[int]:
        """Types of the handshake messages that came in more than one fragment (RFC 6347 4.2.3)."""
        return {kind for datagram in self.kept[direction] for kind, whole, part in fragments(datagram) if part < whole}


def fragments(datagram: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, length of the message and length of this part, of all that is not encrypted yet."""
    while datagram:
        end = 13 + int.from_bytes(datagram[11:13], "big")
        body, epoch = datagram[13:end], datagram[3:5]
        while datagram[0] == HANDSHAKE and epoch == b"\0\0" and body:
            part = int.from_bytes(body[9:12], "big")
            yield body[0], int.from_bytes(body[1:4], "big"), part
            body = body[12 + part :]
        datagram = datagram[end:]


def told(kind: str, mtu: int, port: int, *credential: str) -> Any:
    """A program that sends no datagram of more than `mtu` bytes."""
    if kind == "openssl":
        words = ("s_client", "-dtls1_2", "-timeout", "-mtu", str(mtu + HEADERS), "-connect", f"127.0.0.1:{port}")
        return conversation("openssl", *words, *credential)
    words = ("--udp", "--insecure", "--mtu", str(mtu), "-p", str(port))
    return conversation("gnutls-cli", *words, *credential, "127.0.0.1")


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("mtu", [300, 512])
async def test_certificates_come_and_go_in_fragments(factory: Factory, kind: str, mtu: int) -> None:
    credential = as_device(factory)
    if kind == "gnutls":
        files = ("--x509certfile", str(factory.folder / "device-chain.pem"))
        key = ("--x509keyfile", str(factory.folder / "device.key"))
        credential = [*files, *key, "--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+AES-128-CCM-8"]
    async with running(factory, limits=TransportLimits(mtu=mtu)) as server, Tape(server.port) as path:
        async with told(kind, mtu, path.address[1], *credential) as client:
            await client.tell(b"hello\n")
            await client.until("echo hello")
        assert server.uppers[0].association.peer.label == "CN=dev-1"
    assert CERTIFICATE in path.in_pieces("up")
    assert path.in_pieces("down")
    assert path.largest("up") <= mtu
    assert path.largest("down") <= mtu


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_long_identity_comes_in_fragments_and_its_key_is_found(factory: Factory, kind: str) -> None:
    mtu, key = 300, psk(b"urn:dev:" + b"1" * 247)
    identity = key.identity.decode()
    credential = with_key("PSK-AES128-CCM8", identity)
    if kind == "gnutls":
        priority = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8"
        credential = ["--pskusername", identity, "--pskkey", key.key.hex(), "--priority", priority]
    async with running(factory, keys=[key], limits=TransportLimits(mtu=mtu)) as server, Tape(server.port) as path:
        async with told(kind, mtu - HEADERS, path.address[1], *credential) as client:
            await client.tell(b"hello\n")
            await client.until("echo hello")
        assert server.uppers[0].association.peer.psk_identity == key.identity
    assert path.in_pieces("up") == {KEY_EXCHANGE}
    assert path.largest("up") <= mtu
    assert path.largest("down") <= mtu
