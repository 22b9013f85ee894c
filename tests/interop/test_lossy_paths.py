"""Programs that none of us wrote come in over a path with 15 % loss, 10 % duplicates and 15 % reordering each way."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.field import Field, opened
from tests.interop.faulty import IMPATIENT, RUNS, each_arrives
from tests.pki import make_device_certificate
from tests.programs import conversation, required, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

# libcoap's -k takes text, the others hexadecimal.
KEY = "a key of 16 byte"
# How often each is started. libcoap 4.3.1 on GnuTLS was seen to wait four seconds for our last flight and to leave
# without repeating its own, by which alone it would get ours again: somebody has to start it anew.
LIBCOAP = {"coap-client-openssl": 1, "coap-client-gnutls": 4}
# What the programs say when they have the server's last flight.
COMPLETE = {"openssl": "Extended master secret", "gnutls-cli": "Handshake was completed"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("lossy-paths")
    # These clients answer nothing of what follows the 2.04.
    (folder / "firstlight.toml").write_text("[server]\ndrain_seconds = 0\n")
    names = [f"{program}-{number}" for program in (*LIBCOAP, *COMPLETE) for number in range(RUNS) if has_key(number)]
    keys = dict.fromkeys(names, KEY.encode().hex())
    async with opened(folder, "--config", str(folder / "firstlight.toml"), keys=keys) as started:
        yield started


def has_key(number: int) -> bool:
    """Every other one comes with a pre-shared key, the rest with a certificate."""
    return number % 2 == 1


def files(field: Field, name: str) -> tuple[str, str, str]:
    """Certificate, key, and what the server's certificate is checked with."""
    held = make_device_certificate(field.factory, name)
    for end, content in (("pem", held.pem), ("key", held.key_pem)):
        (field.folder / f"{name}.{end}").write_bytes(content)
    return str(field.folder / f"{name}.pem"), str(field.folder / f"{name}.key"), field.service.ready["server_ca_file"]


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_has_its_answer_whatever_is_lost(field: Field, program: str) -> None:
    async def comes(address: tuple[str, int], number: int) -> None:
        name = f"{program}-{number}"
        if has_key(number):
            credential = ["-u", name, "-k", KEY]
        else:
            certificate, key, anchor = files(field, name)
            credential = ["-c", certificate, "-j", key, "-R", anchor]
        words = ("-v", "6", "-B", "55", "-m", "post", *credential, f"coaps://{address[0]}:{address[1]}/bs?ep={name}")
        said: list[str] = []
        while len(said) < LIBCOAP[program] and "c:2.04" not in "".join(said):
            said.append(await run(required(program), *words))
        assert "c:2.04" in said[-1], said

    # Either build leaves when it waited for the fifth time in one handshake.
    await each_arrives(field, comes, at_most=IMPATIENT)


@pytest.mark.parametrize("program", COMPLETE)
async def test_a_handshake_completes_whatever_is_lost(field: Field, program: str) -> None:
    async def comes(address: tuple[str, int], number: int) -> None:
        words = {"openssl": openssl, "gnutls-cli": gnutls}[program](field, f"{program}-{number}", has_key(number))
        host, port = address
        where = {"openssl": ["-connect", f"{host}:{port}"], "gnutls-cli": ["-p", str(port), host]}[program]
        async with conversation(required(program), *words, *where) as client:
            await client.until(COMPLETE[program])

    await each_arrives(field, comes)


def openssl(field: Field, name: str, with_key: bool) -> list[str]:
    words = ["s_client", "-dtls1_2", "-timeout"]
    if with_key:
        return [*words, "-psk_identity", name, "-psk", KEY.encode().hex(), "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"]
    certificate, key, anchor = files(field, name)
    proof = ["-cert", certificate, "-key", key, "-CAfile", anchor, "-verify_return_error"]
    return [*words, *proof, "-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]


def gnutls(field: Field, name: str, with_key: bool) -> list[str]:
    priority = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+AES-128-CCM-8"
    if with_key:
        words = [f"--pskusername={name}", f"--pskkey={KEY.encode().hex()}"]
        return ["--udp", *words, "--priority", f"{priority}:-KX-ALL:+PSK"]
    certificate, key, anchor = files(field, name)
    proof = [f"--x509certfile={certificate}", f"--x509keyfile={key}", f"--x509cafile={anchor}"]
    return ["--udp", *proof, "--priority", priority]
