"""TLS over TCP without framing on real sockets, with OpenSSL's client and one of ours that cuts the stream at will."""

import asyncio
import contextlib
import socket
import struct
from functools import partial
from typing import Any

import pytest
from OpenSSL import SSL

from server.store.errors import StoreUnavailable
from server.transport.engine import PreSharedKey, RefusalReason
from tests.integration import endpoints
from tests.integration.clients import as_device, requires_openssl, with_key
from tests.integration.endpoints import Running
from tests.integration.factory import Factory
from tests.integration.tls_client import Client, device
from tests.programs import conversation
from tests.unit.transport.client import psk

running = partial(endpoints.running, stream=True)


def s_client(port: int, *options: str, host: str = "127.0.0.1") -> Any:
    return conversation("openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}", *options)


# -- openssl s_client -----------------------------------------------------------------------------------


@requires_openssl
@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"]
)
async def test_s_client_comes_in_with_its_factory_certificate(factory: Factory, suite: str) -> None:
    async with running(factory) as server, s_client(server.port, *as_device(factory, suite)) as client:
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert f"Cipher is {suite}" in client.printed
        assert "No client certificate CA names sent" in client.printed
        assert server.uppers[0].association.peer.label == "CN=dev-1"
        assert server.uppers[0].association.local_address == "127.0.0.1"


@requires_openssl
async def test_of_all_suites_ccm_8_is_preferred(factory: Factory) -> None:
    async with running(factory) as server, s_client(server.port, *as_device(factory, "ALL")) as client:
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert "Cipher is ECDHE-ECDSA-AES128-CCM8" in client.printed


@requires_openssl
@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"])
async def test_s_client_comes_in_with_its_pre_shared_key(factory: Factory, suite: str) -> None:
    async with running(factory, keys=[psk()]) as server, s_client(server.port, *with_key(suite)) as client:
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert server.uppers[0].association.peer.psk_identity == b"urn:dev:1"


@requires_openssl
async def test_s_client_comes_in_over_ipv6(factory: Factory) -> None:
    async with (
        running(factory, host="[::1]") as server,
        s_client(server.port, *as_device(factory), host="[::1]") as client,
    ):
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert server.uppers[0].association.address_text.startswith("[::1]:")


@requires_openssl
async def test_a_certificate_of_an_unknown_ca_gets_alert_unknown_ca(factory: Factory) -> None:
    async with running(factory) as server, s_client(server.port, *as_device(factory, who="stranger")) as client:
        await client.until("alert number 48")
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.UNKNOWN_CA, "CN=dev-1")


@requires_openssl
async def test_a_client_without_a_certificate_is_told_and_seen(factory: Factory) -> None:
    async with running(factory) as server, s_client(server.port, "-cipher", "ALL:@SECLEVEL=0") as client:
        await client.until("alert number 40")
        assert (await server.refusals.get()).reason is RefusalReason.NO_CERTIFICATE


@requires_openssl
@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_1"])
async def test_another_version_of_tls_is_refused(factory: Factory, version: str) -> None:
    async with (
        running(factory) as server,
        conversation(
            "openssl", "s_client", version, "-connect", f"127.0.0.1:{server.port}", "-cipher", "ALL:@SECLEVEL=0"
        ) as client,
    ):
        assert (await server.refusals.get()).reason is RefusalReason.PROTOCOL_VERSION
        await client.until("alert number 70")


# -- pre-shared keys --------------------------------------------------------------------------------------


async def handshake(server: Running, **options: Any) -> tuple[Client, str]:
    client = Client(server.port, **options)
    return client, await client.handshake(piece=options.pop("piece", 1 << 17))


async def test_an_unknown_identity_gets_alert_115(factory: Factory) -> None:
    async with running(factory, keys=[psk()]) as server:
        client, said = await handshake(server, identity=b"nobody")
        assert "unknown psk identity" in said
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.UNKNOWN_IDENTITY, "nobody")
        client.close()


async def test_a_wrong_key_is_named_at_once(factory: Factory) -> None:
    async with running(factory, keys=[psk()]) as server:
        client, said = await handshake(server, identity=b"urn:dev:1", key=b"x" * 16)
        assert said
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.WRONG_KEY, "urn:dev:1")
        assert server.uppers == []
        client.close()


async def test_an_identity_with_a_nul_is_refused_without_a_look_up(factory: Factory) -> None:
    asked: list[bytes] = []

    async def look_up(identity: bytes) -> PreSharedKey | None:
        asked.append(identity)
        return psk()

    async with running(factory, look_up=look_up) as server:
        # OpenSSL's own client ends an identity at its first NUL, so the bytes are made by hand.
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            client = Client.__new__(Client)
            template = Client(server.port, identity=b"urn:dev:1X")
            client.__dict__.update(template.__dict__)
            client.sock = sock
            sock.setblocking(False)
            with contextlib.suppress(SSL.WantReadError):
                client.connection.do_handshake()
            await client.flush()
            await client.take()
            with contextlib.suppress(SSL.WantReadError):
                client.connection.do_handshake()
            flight = client.written().replace(b"urn:dev:1X", b"urn:dev:1\0")
            await asyncio.get_running_loop().sock_sendall(sock, flight)
            refusal = await server.refusals.get()
            template.sock.close()
        assert refusal.reason is RefusalReason.IDENTITY_MISMATCH
        assert asked == []


async def test_a_store_that_is_away_ends_the_connection_without_a_word(factory: Factory) -> None:
    async def look_up(_identity: bytes) -> PreSharedKey | None:
        raise StoreUnavailable("away")

    async with running(factory, look_up=look_up) as server:
        client, said = await handshake(server, identity=b"urn:dev:1")
        assert said == "closed"
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.STORE_UNAVAILABLE, "urn:dev:1")
        assert server.endpoint.handshaking == 0
        client.close()


async def test_what_follows_an_identity_waits_in_order_while_its_key_is_looked_up(factory: Factory) -> None:
    found = asyncio.Event()
    asked = asyncio.Event()

    async def look_up(_identity: bytes) -> PreSharedKey | None:
        asked.set()
        await found.wait()
        return psk()

    async with running(factory, look_up=look_up) as server:
        client = Client(server.port, identity=b"urn:dev:1")
        # One byte at a time: the look-up begins in the middle of the flight.
        shaking = asyncio.ensure_future(client.handshake(piece=1))
        await asked.wait()
        found.set()
        assert await shaking == ""
        client.connection.send(b"one")
        await client.flush()
        assert await client.record() == b"echo one"
        client.close()


# -- the stream -------------------------------------------------------------------------------------------


async def test_two_messages_in_one_segment_are_two(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        client.connection.send(b"one")
        client.connection.send(b"two")
        await client.flush()
        assert [await client.record(), await client.record()] == [b"echo one", b"echo two"]
        assert server.uppers[0].received == [b"one", b"two"]


async def test_a_message_split_across_segments_is_one(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        client.connection.send(b"m" * 1100)
        data = client.written()
        loop = asyncio.get_running_loop()
        received = server.endpoint.counters.received
        for at, cut in enumerate((0, 3, 5, 100, 900)):
            end = (3, 5, 100, 900, len(data))[at]
            await loop.sock_sendall(client.sock, data[cut:end])
            # The piece was taken before the next one leaves.
            await server.until(lambda at=at: server.endpoint.counters.received > received + at)
        assert await client.record() == b"echo " + b"m" * 1100
        assert server.uppers[0].received == [b"m" * 1100]


async def test_a_client_that_asks_for_short_records_gets_no_message_in_two(factory: Factory) -> None:
    async with running(factory) as server, s_client(server.port, "-maxfraglen", "512", *as_device(factory)) as client:
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert server.uppers[0].association.cleartext_mtu == 512


async def test_a_goodbye_is_heard_and_answered(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        client.connection.shutdown()
        await client.flush()
        await server.until(lambda: server.uppers[0].lost)
        assert server.uppers[0].lost == ["closed_by_peer"]
        assert await client.record() is None
        assert server.endpoint.established == 0


async def test_a_device_that_vanishes_ends_its_association(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        # A reset instead of a goodbye.
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await server.until(lambda: server.uppers[0].lost)
        assert server.uppers[0].lost == ["closed_by_peer"]


async def test_who_does_not_read_is_ended_and_makes_nothing_grow(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory, receive_buffer=4096) as client:
        association = server.uppers[0].association
        sent = 0
        while not server.uppers[0].lost:
            association.send(bytes(1024))
            sent += 1024
            # Far above what both kernels keep.
            assert sent < 1 << 22
            await asyncio.sleep(0)
        assert server.uppers[0].lost == ["failed"]
        assert server.endpoint.established == 0
        assert server.endpoint.counters.dropped_sending == 1
        assert client.sock.fileno() >= 0


async def test_broken_records_end_only_their_own_association(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as good, device(server, factory) as bad:
        await asyncio.get_running_loop().sock_sendall(bad.sock, b"\x17\x03\x03\0\x20" + bytes(32))
        await server.until(lambda: server.uppers[1].lost)
        assert server.uppers[1].lost == ["failed"]
        good.connection.send(b"still here")
        await good.flush()
        assert await good.record() == b"echo still here"


async def test_what_the_server_closes_says_goodbye(factory: Factory) -> None:
    async with running(factory) as server, device(server, factory) as client:
        server.uppers[0].association.close()
        assert await client.record() is None
        assert client.connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN
        assert server.uppers[0].lost == ["closed"]
