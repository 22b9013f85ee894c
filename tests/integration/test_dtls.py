"""The transport on real sockets, with other people's DTLS clients."""

import asyncio
from typing import Any

import pytest

from server.store.errors import StoreUnavailable
from server.transport.engine import PreSharedKey, RefusalReason, TransportLimits
from tests.integration.clients import as_device, requires_gnutls, requires_libcoap, requires_openssl, with_key
from tests.integration.endpoints import running
from tests.integration.factory import Factory
from tests.programs import conversation
from tests.unit.transport.client import psk
from tests.unit.transport.rig import Echo


class CoapEcho(Echo):
    """Answers any confirmable CoAP request with 2.05 and `welcome`, enough for a client to be content."""

    def datagram_received(self, plaintext: bytes) -> None:
        self.received.append(plaintext)
        if len(plaintext) >= 4 and plaintext[0] & 0xF0 == 0x40 and plaintext[1]:
            token = plaintext[4 : 4 + (plaintext[0] & 0x0F)]
            self.association.send(bytes([0x60 | len(token), 0x45]) + plaintext[2:4] + token + b"\xffwelcome")


def s_client(port: int, *options: str, host: str = "127.0.0.1") -> Any:
    return conversation("openssl", "s_client", "-dtls1_2", "-timeout", "-connect", f"{host}:{port}", *options)


# -- every client alike ----------------------------------------------------------------------------------------


def client_of(kind: str, factory: Factory, who: str, port: int) -> Any:
    """A program that comes with the certificate of `who`."""
    certificate, key = str(factory.folder / f"{who}.pem"), str(factory.folder / f"{who}.key")
    if kind == "openssl":
        return s_client(port, *as_device(factory, who=who))
    if kind == "libcoap":
        words = ("coap-client-openssl", "-B", "20", "-m", "get", "-c", certificate, "-j", key, "-n")
        return conversation(*words, f"coaps://127.0.0.1:{port}/x")
    return conversation(
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


# -- openssl s_client ------------------------------------------------------------------------------------------


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
        await client.until("echo hello")
        assert f"Cipher is {suite}" in client.printed
        # The store is empty and no CA names are sent: nothing tells a stranger who the customers are.
        assert "No client certificate CA names sent" in client.printed
        assert server.uppers[0].association.peer.label == "CN=dev-1"


@requires_openssl
@pytest.mark.parametrize(
    "suite",
    [
        "PSK-AES128-CCM8",
        "PSK-AES128-CCM",
        "PSK-AES128-GCM-SHA256",
        # The one suite of Contiki-NG 5.0.
        "PSK-AES256-CCM8",
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
        await client.until("echo hello")
        assert f"Cipher is {suite}" in client.printed
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
        assert server.uppers[0].association.local_address == "::1"


@requires_openssl
async def test_a_certificate_of_an_unknown_ca_gets_alert_unknown_ca(factory: Factory) -> None:
    async with (
        running(factory) as server,
        s_client(server.port, *as_device(factory, who="stranger")) as client,
    ):
        await client.until("alert number 48")
        refusal = await server.refusals.get()
        assert (refusal.reason, refusal.identity) == (RefusalReason.UNKNOWN_CA, "CN=dev-1")


@requires_openssl
async def test_an_unknown_identity_gets_alert_115(factory: Factory) -> None:
    async with (
        running(factory, keys=[psk()]) as server,
        s_client(server.port, *with_key(identity="nobody")) as client,
    ):
        await client.until("alert number 115")
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
    assert "alert" not in client.printed


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
        await client.until("echo hello")
        assert "alert" not in client.printed


@requires_openssl
async def test_a_client_without_a_common_suite_is_told_and_seen(factory: Factory) -> None:
    async with (
        running(factory) as server,
        s_client(server.port, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384") as client,
    ):
        await client.until("alert number 40")
        assert (await server.refusals.get()).reason is RefusalReason.NO_COMMON_SUITE


@requires_openssl
async def test_dtls_1_0_is_refused(factory: Factory) -> None:
    async with (
        running(factory) as server,
        conversation(
            "openssl", "s_client", "-dtls1", "-timeout", "-connect", f"127.0.0.1:{server.port}",
            "-cipher", "ALL:@SECLEVEL=0",
        ) as client,
    ):  # fmt: skip
        assert (await server.refusals.get()).reason is RefusalReason.PROTOCOL_VERSION
        await client.until("alert number 70")
        assert server.uppers == []


# -- libcoap and GnuTLS ----------------------------------------------------------------------------------------


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
        conversation(
            "coap-client-openssl", "-B", "20", "-m", "get", *proof, f"coaps://127.0.0.1:{server.port}/x"
        ) as client,
    ):
        await client.until("welcome")
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
        conversation("gnutls-cli", "--udp", "--insecure", "-p", str(server.port), *proof, "127.0.0.1") as client,
    ):
        await client.tell(b"hello\n")
        await client.until("echo hello")
        assert server.uppers[0].association.peer.kind == credential
