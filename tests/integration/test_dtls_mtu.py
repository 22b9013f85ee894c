"""Flights in fragments, theirs and ours: programs that none of us wrote and a server, told of a small MTU."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from server.transport.engine import TransportLimits
from tests.integration.clients import as_device, requires_gnutls, requires_openssl, with_key
from tests.integration.endpoints import running
from tests.integration.factory import Factory
from tests.integration.tape import Tape
from tests.programs import conversation
from tests.unit.transport.client import psk
from tests.unit.transport.rig import each_record

CLIENTS = [pytest.param("openssl", marks=requires_openssl), pytest.param("gnutls", marks=requires_gnutls)]
# IPv4 and UDP headers, which s_client counts as part of what it is told.
HEADERS = 28
HANDSHAKE, CERTIFICATE, KEY_EXCHANGE = 22, 11, 16


def in_pieces(datagrams: Sequence[bytes]) -> set[int]:
    """Types of the handshake messages that came in more than one fragment (RFC 6347 4.2.3), before encryption."""
    records = [record for datagram in datagrams for record in each_record(datagram)]
    bodies = [record[13:] for record in records if record[0] == HANDSHAKE and record[3:5] == b"\0\0"]
    return {kind for body in bodies for kind, whole, part in fragments(body) if part < whole}


def fragments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, length of the message and length of this part, of all in one record."""
    while body:
        part = int.from_bytes(body[9:12], "big")
        yield body[0], int.from_bytes(body[1:4], "big"), part
        body = body[12 + part :]


def path_to(port: int) -> Tape:
    return Tape(to=("127.0.0.1", port))


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
    async with running(factory, limits=TransportLimits(mtu=mtu)) as server, path_to(server.port) as path:
        async with told(kind, mtu, path.address[1], *credential) as client:
            await client.tell(b"hello\n")
            await client.until("echo hello")
        assert server.uppers[0].association.peer.label == "CN=dev-1"
    assert CERTIFICATE in in_pieces(path.kept["up"])
    assert in_pieces(path.kept["down"])
    assert path.largest("up") <= mtu
    assert path.largest("down") <= mtu


@requires_openssl
async def test_a_client_of_short_records_gets_no_datagram_of_several(factory: Factory) -> None:
    """Its buffer may have room for one record (Californium): RFC 6347 4.1.1 has several in one only where they fit."""
    async with running(factory) as server, path_to(server.port) as path:
        words = ("s_client", "-dtls1_2", "-timeout", "-maxfraglen", "512", "-connect", f"127.0.0.1:{path.address[1]}")
        async with conversation("openssl", *words, *as_device(factory)) as client:
            await client.tell(b"hello\n")
            await client.until("echo hello")
    assert path.largest("down") <= 13 + 512


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_long_identity_comes_in_fragments_and_its_key_is_found(factory: Factory, kind: str) -> None:
    mtu, key = 300, psk(b"urn:dev:" + b"1" * 247)
    identity = key.identity.decode()
    credential = with_key("PSK-AES128-CCM8", identity)
    if kind == "gnutls":
        priority = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8"
        credential = ["--pskusername", identity, "--pskkey", key.key.hex(), "--priority", priority]
    async with (
        running(factory, keys=[key], limits=TransportLimits(mtu=mtu)) as server,
        path_to(server.port) as path,
    ):
        async with told(kind, mtu - HEADERS, path.address[1], *credential) as client:
            await client.tell(b"hello\n")
            await client.until("echo hello")
        assert server.uppers[0].association.peer.psk_identity == key.identity
    assert in_pieces(path.kept["up"]) == {KEY_EXCHANGE}
    assert path.largest("up") <= mtu
    assert path.largest("down") <= mtu
