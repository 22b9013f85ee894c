"""TLS of the adapters: servers that refuse, hang up or are too old, and the keys we show them."""

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuers.errors import IssuerError, Misconfigured, OutcomeUnknown, Unauthorized, Unavailable
from issuers.tls import TlsIdentity, tls_context
from tests.issuers.asking import client, failure
from tests.issuers.cfssl import server_of
from tests.issuers.peers.sockets import answering, hanging, raw_peer, resetting, response, server_context
from tests.pki import Holder, make_certificate, make_device_certificate, make_factory_ca

pytestmark = pytest.mark.usefixtures("short_of_hearing")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_server_that_refuses_our_certificate_is_understood_in_every_version(version: str) -> None:
    ca = make_factory_ca()
    tls = tls_context((ca.certificate,), None)
    strict = ("-Verify", "1", "-verify_return_error")
    async with openssl_server(server_of(ca), version, *strict) as url, client(url, tls=tls) as opened:
        error = await failure(opened)
    assert type(error) is Unauthorized
    assert "refuses our TLS client certificate" in error.message
    assert "give a 'client_certificate' and 'private_key' that it trusts" in error.message


async def test_a_server_of_an_old_tls_version_is_misconfigured() -> None:
    ca = make_factory_ca()
    tls = tls_context((ca.certificate,), None)
    old = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    async with openssl_server(server_of(ca), *old) as url, client(url, tls=tls) as opened:
        error = await failure(opened)
    assert type(error) is Misconfigured
    assert "it must offer TLS 1.2 or newer" in error.message


async def test_a_server_that_hangs_up_in_the_handshake_is_unavailable() -> None:
    ca = make_factory_ca()
    context = server_context(server_of(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # asyncio closes without the alert.
    async with raw_peer(answering(response(b"{}")), tls=context) as peer:
        url = peer.url.replace("http:", "https:")
        async with client(url, tls=tls_context((ca.certificate,), None)) as opened:
            error = await failure(opened)
    assert type(error) is Unavailable
    assert "hung up in the TLS handshake and said nothing; look at its log" in error.message


async def test_a_tls_server_that_hangs_up_on_plain_http_is_told_from_a_lost_answer() -> None:
    # asyncio closes at the first byte that is no TLS, without a word.
    async with raw_peer(hanging, tls=server_context(server_of(make_factory_ca()))) as peer:
        async with client(peer.url) as opened:
            error = await failure(opened)
        assert peer.requests == []
    assert type(error) is Misconfigured
    assert "speaks TLS and was addressed without; begin its address with https://" in error.message


@pytest.mark.parametrize(("orders", "kind"), [(False, Unauthorized), (True, OutcomeUnknown)])
async def test_a_server_that_hangs_up_behind_the_handshake_refuses_us_but_an_order_stays_lost(
    orders: bool, kind: type[IssuerError]
) -> None:
    ca = make_factory_ca()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server_context(server_of(ca)))
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client(url, tls=tls_context((ca.certificate,), None)) as opened:
            error = await failure(opened, orders=orders)
    assert type(error) is kind
    assert ("hangs up as soon as it has our TLS client certificate" in error.message) is not orders


async def test_a_reset_over_tls_stays_a_lost_answer() -> None:
    ca = make_factory_ca()
    async with raw_peer(resetting, tls=server_context(server_of(ca))) as peer:
        url = peer.url.replace("http:", "https:")
        async with client(url, tls=tls_context((ca.certificate,), None)) as opened:
            error = await failure(opened)
    assert type(error) is OutcomeUnknown


async def test_a_ca_of_the_systems_store_may_be_of_an_old_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither key identifiers nor a key usage: Python 3.13 would refuse it, and 3.11 never did."""
    ca = make_certificate("Company Root", extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    server = make_certificate("127.0.0.1", ca, extensions=[(names, False)])
    (tmp_path / "roots.pem").write_bytes(ca.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    async with raw_peer(answering(response(b"{}")), tls=server_context(server)) as peer:
        url = peer.url.replace("http:", "https:")
        async with client(url, tls=tls_context((), None)) as opened:
            assert (await opened.send("GET", "/info", orders=False)).status == 200


@contextlib.asynccontextmanager
async def openssl_server(server: Holder, *options: str) -> AsyncIterator[str]:
    """`openssl s_server` on a port of its own choice; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        (files / "server.pem").write_bytes(server.key_pem + server.pem)
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-www", *options),
            cwd=files,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        port = ""
        while not port:
            line = await process.stdout.readline()
            assert line, "openssl s_server did not start"
            port = line.decode().strip().removeprefix("ACCEPT 127.0.0.1:") if line.startswith(b"ACCEPT") else ""
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("key", [None, rsa.generate_private_key(65537, 2048)], ids=["P-256", "RSA"])
def test_a_private_key_gets_into_tls_without_a_file(
    key: rsa.RSAPrivateKey | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_device_certificate(make_factory_ca(), "client", key=key)
    identity = TlsIdentity((client.certificate,), client.key)  # type: ignore[arg-type]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = sorted(os.listdir("/proc/self/fd"))
    tls_context((client.certificate,), identity)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
    assert "PRIVATE" not in repr(identity)
    assert repr(client.key) not in repr(identity)


def test_a_key_of_another_certificate_is_misconfigured() -> None:
    one, two = (make_device_certificate(make_factory_ca(), "client") for _ in range(2))
    with pytest.raises(Misconfigured, match="do not belong together; paste the pair again"):
        tls_context((), TlsIdentity((one.certificate,), two.key))  # type: ignore[arg-type]


def test_a_client_key_too_weak_for_tls_is_misconfigured() -> None:
    weak = make_device_certificate(make_factory_ca(), "client", key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(Misconfigured, match="not fit for TLS here: EE_KEY_TOO_SMALL; ask the CA for one with a larger"):
        tls_context((), TlsIdentity((weak.certificate,), weak.key))  # type: ignore[arg-type]
