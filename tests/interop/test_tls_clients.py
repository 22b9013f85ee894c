"""`openssl s_client` and `gnutls-cli` come in, over UDP and TCP, and carry a Bootstrap-Request by hand."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.integration.field import Field, opened, until
from tests.interop.coap_bytes import (
    CHANGED,
    CONTENT,
    IN_BLOCKS_OF_1024,
    bootstrap_request,
    ca_certificates_request,
)
from tests.pki import make_device_certificate, make_factory_ca
from tests.programs import conversation, required

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "c0ffee" * 6
CHANGED_TEXT = CHANGED.decode("latin-1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("tls-clients")
    # These clients answer nothing of what follows the 2.04 and leave without a word.
    (folder / "firstlight.toml").write_text("[server]\ndrain_seconds = 0\n")
    keys = {"ossl-psk": KEY, "gnu-psk": KEY}
    options = ("--config", str(folder / "firstlight.toml"), "--coaps-tcp", "127.0.0.1:0")
    async with opened(folder, *options, keys=keys) as started:
        yield started


def files(field: Field, name: str, *, stranger: bool = False) -> tuple[str, str, str]:
    """Certificate, key, and what the server's certificate is checked with."""
    held = make_device_certificate(make_factory_ca("Unknown Factory") if stranger else field.factory, name)
    for end, content in (("pem", held.pem), ("key", held.key_pem)):
        (field.folder / f"{name}.{end}").write_bytes(content)
    return str(field.folder / f"{name}.pem"), str(field.folder / f"{name}.key"), field.service.ready["server_ca_file"]


def openssl(field: Field, *credential: str) -> Sequence[str]:
    """`s_client` that prints what it gets and takes no line as a command of its own."""
    host, port = field.address
    words = ("s_client", "-dtls1_2", "-timeout", "-ign_eof", "-connect", f"{host}:{port}")
    return (required("openssl"), *words, *credential)


def openssl_certificate(field: Field, name: str, *, stranger: bool = False) -> Sequence[str]:
    certificate, key, anchor = files(field, name, stranger=stranger)
    return ("-cert", certificate, "-key", key, "-CAfile", anchor, "-verify_return_error")


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"])
async def test_s_client_bootstraps_with_its_certificate(field: Field, suite: str) -> None:
    credential = openssl_certificate(field, "ossl-x509")
    async with conversation(*openssl(field, *credential, "-cipher", f"{suite}:@SECLEVEL=0")) as client:
        await client.until("Verify return code: 0 (ok)")
        assert f"Cipher is {suite}" in client.printed
        await client.tell(bootstrap_request("ossl-x509"))
        await client.until(CHANGED_TEXT)


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "PSK-AES128-CBC-SHA256"])
async def test_s_client_bootstraps_with_its_pre_shared_key(field: Field, suite: str) -> None:
    credential = ("-psk_identity", "ossl-psk", "-psk", KEY, "-cipher", f"{suite}:@SECLEVEL=0")
    async with conversation(*openssl(field, *credential)) as client:
        await client.until("Extended master secret")
        assert f"Cipher is {suite}" in client.printed
        await client.tell(bootstrap_request("ossl-psk"))
        await client.until(CHANGED_TEXT)


async def test_s_client_that_offers_all_its_suites_bootstraps_with_its_pre_shared_key_the_second_time(
    field: Field,
) -> None:
    """It offers those with certificates too, and has none."""
    credential = ("-psk_identity", "ossl-psk", "-psk", KEY)
    async with conversation(*openssl(field, *credential)) as client:
        await client.until("handshake failure")
    async with conversation(*openssl(field, *credential)) as client:
        await client.until("Extended master secret")
        await client.tell(bootstrap_request("ossl-psk"))
        await client.until(CHANGED_TEXT)


@pytest.mark.parametrize("options", [b"", IN_BLOCKS_OF_1024], ids=["as-it-comes", "blocks-of-1024"])
@pytest.mark.parametrize("length", ["512", "1024"])
async def test_s_client_that_takes_short_records_has_its_answer(field: Field, length: str, options: bytes) -> None:
    """RFC 6066 4: a message is one record, so the blocks of an answer are as short as the client asked for."""
    credential = openssl_certificate(field, "ossl-short")
    async with conversation(*openssl(field, *credential, "-maxfraglen", length)) as client:
        await client.until("Verify return code: 0 (ok)")
        await client.tell(ca_certificates_request(options))
        await client.until(CONTENT.decode("latin-1"))


async def test_s_client_of_another_factory_is_told_unknown_ca(field: Field) -> None:
    async with conversation(*openssl(field, *openssl_certificate(field, "ossl-alien", stranger=True))) as client:
        await client.until("alert number 48")
    assert (await field.seen_with("CN=ossl-alien"))["reason"] == "unknown_ca"


async def test_s_client_without_any_credential_is_seen_as_such(field: Field) -> None:
    async with conversation(*openssl(field)) as client:
        await client.until("alert number")

    async def seen() -> list[tuple[str, str]]:
        rows = await field.seen()
        return [(row["source"], row["identity"]) for row in rows if row["reason"] == "no_certificate"]

    assert await until(seen) == [("127.0.0.1", "")]


def openssl_over_tcp(field: Field, *credential: str) -> Sequence[str]:
    where = field.service.ready["coaps_tcp"].removeprefix("coaps+tcp://")
    return (required("openssl"), "s_client", "-tls1_2", "-ign_eof", "-connect", where, *credential)


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"])
async def test_s_client_bootstraps_over_tcp_without_framing(field: Field, suite: str) -> None:
    credential = openssl_certificate(field, "ossl-tcp")
    async with conversation(*openssl_over_tcp(field, *credential, "-cipher", f"{suite}:@SECLEVEL=0")) as client:
        await client.until("Verify return code: 0 (ok)")
        assert f"Cipher is {suite}" in client.printed
        await client.tell(bootstrap_request("ossl-tcp"))
        await client.until(CHANGED_TEXT)


async def test_s_client_of_another_factory_is_told_so_over_tcp_and_listed(field: Field) -> None:
    credential = openssl_certificate(field, "ossl-tcp-alien", stranger=True)
    async with conversation(*openssl_over_tcp(field, *credential)) as client:
        await client.until("alert number 48")
    assert (await field.seen_with("CN=ossl-tcp-alien"))["reason"] == "unknown_ca"


def gnutls(field: Field, *credential: str) -> Sequence[str]:
    host, port = field.address
    return (required("gnutls-cli"), "--udp", "-p", str(port), *credential, host)


async def test_gnutls_cli_bootstraps_with_its_certificate(field: Field) -> None:
    certificate, key, anchor = files(field, "gnu-x509")
    credential = (f"--x509certfile={certificate}", f"--x509keyfile={key}", f"--x509cafile={anchor}")
    priority = "--priority=NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+AES-128-CCM-8"
    async with conversation(*gnutls(field, *credential, priority)) as client:
        await client.until("Handshake was completed")
        assert "The certificate is trusted" in client.printed
        assert "AES-128-CCM-8" in client.printed
        await client.tell(bootstrap_request("gnu-x509"))
        await client.until(CHANGED_TEXT)


async def test_gnutls_cli_bootstraps_with_its_pre_shared_key(field: Field) -> None:
    priority = "--priority=NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK"
    async with conversation(*gnutls(field, "--pskusername=gnu-psk", f"--pskkey={KEY}", priority)) as client:
        await client.until("Handshake was completed")
        await client.tell(bootstrap_request("gnu-psk"))
        await client.until(CHANGED_TEXT)
