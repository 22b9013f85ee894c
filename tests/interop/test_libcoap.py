"""libcoap's own client, in its OpenSSL and its GnuTLS build, sends a Bootstrap-Request to the whole server."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.field import Field, opened
from tests.pki import make_device_certificate, make_factory_ca
from tests.programs import required, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

# libcoap's -k takes text, not hexadecimal.
KEY = "a key of 16 byte"
CLIENTS = ("coap-client-openssl", "coap-client-gnutls")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    keys = {f"{client}-psk": KEY.encode().hex() for client in CLIENTS}
    async with opened(tmp_path_factory.mktemp("libcoap"), keys=keys) as started:
        yield started


async def post(field: Field, client: str, *credential: str, path: str = "/bs", query: str) -> str:
    """What the client prints; its verbosity 6 shows each message in one line."""
    uri = f"{field.service.server_uri}{path}?{query}"
    return await run(required(client), "-v", "6", "-B", "10", "-m", "post", *credential, uri)


def certificate(field: Field, name: str, *, stranger: bool = False) -> list[str]:
    """Options that show a factory certificate and check the server's."""
    factory = make_factory_ca("Unknown Factory") if stranger else field.factory
    held = make_device_certificate(factory, name)
    (field.folder / f"{name}.pem").write_bytes(held.pem)
    (field.folder / f"{name}.key").write_bytes(held.key_pem)
    files = [str(field.folder / f"{name}.{end}") for end in ("pem", "key")]
    return ["-c", files[0], "-j", files[1], "-R", field.service.ready["server_ca_file"]]


@pytest.mark.parametrize("client", CLIENTS)
async def test_with_its_certificate_it_is_told_changed(field: Field, client: str) -> None:
    name = f"{client}-x509"
    printed = await post(field, client, *certificate(field, name), query=f"ep={name}")
    assert "c:2.04" in printed, printed
    # It leaves as soon as it has its answer, which is no bootstrap.
    [session] = (await field.ended(name))["sessions"]
    assert (session["credential"], session["cause"]) == ("x509", "association_lost")


@pytest.mark.parametrize("client", CLIENTS)
async def test_with_its_pre_shared_key_it_is_told_changed(field: Field, client: str) -> None:
    name = f"{client}-psk"
    printed = await post(field, client, "-u", name, "-k", KEY, query=f"ep={name}&pct=112")
    assert "c:2.04" in printed, printed
    [session] = (await field.ended(name))["sessions"]
    assert session["credential"] == "psk"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("path", "query", "code"),
    [("/bs", "ep=somebody-else", "4.00"), ("/bs", "pct=60", "4.15"), ("/bspack", "", "5.01"), ("/rd", "", "4.04")],
)
async def test_what_is_refused_has_its_code(field: Field, client: str, path: str, query: str, code: str) -> None:
    printed = await post(field, client, *certificate(field, f"{client}-refused"), path=path, query=query)
    assert f"c:{code}" in printed, printed


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stranger_gets_no_answer(field: Field, client: str) -> None:
    name = f"{client}-stranger"
    printed = await post(field, client, *certificate(field, name, stranger=True), query=f"ep={name}")
    assert "t:ACK" not in printed
    assert (await field.seen_with(f"CN={name}"))["reason"] == "unknown_ca"
