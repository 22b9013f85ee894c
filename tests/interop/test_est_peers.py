"""Other programs do EST with the whole server and read what it sends: libcoap on two TLS libraries, OpenSSL, GnuTLS."""

import re
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs7
from cryptography.x509.oid import NameOID

from lwm2m.multipart import decode_parts
from simulators.est import KeyPair, common_name
from tests.integration.field import Field, opened, profile, until
from tests.pki import make_device_certificate
from tests.programs import required, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = ("coap-client-openssl", "coap-client-gnutls")
# It makes a leaf longer than the CA's certificate: sorted, the leaf comes last.
ORGANIZATION = "an organization with a name as long as a name may be or longer"
SUBJECT = f'subject = "CN={{endpoint}},O={ORGANIZATION}"'
PROFILES = {
    "leaf first": profile("interop-*", mode="est", security=SUBJECT),
    "der": profile("interop-der-*", mode="est", est='pkcs7_order = "der"', security=SUBJECT),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with opened(tmp_path_factory.mktemp("est-peers"), profiles=PROFILES) as started:
        yield started


async def ask(field: Field, client: str, name: str, *words: str, path: str) -> tuple[str, bytes]:
    """What libcoap's client prints, its verbosity 6 a line a message, and what it received."""
    held = make_device_certificate(field.factory, name)
    certificate, key, received = (field.folder / f"{name}.{end}" for end in ("pem", "key", "out"))
    certificate.write_bytes(held.pem)
    key.write_bytes(held.key_pem)
    received.unlink(missing_ok=True)
    printed = await run(
        required(client),
        *("-v", "6", "-B", "20", "-c", str(certificate), "-j", str(key)),
        *("-R", field.service.ready["server_ca_file"], "-o", str(received), *words),
        field.service.server_uri + path,
    )
    return printed, received.read_bytes() if received.exists() else b""


def read(message: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        # Leaf first is BER, of which this reader warns.
        warnings.filterwarnings("ignore", "PKCS#7 certificates could not be parsed as DER")
        return pkcs7.load_der_pkcs7_certificates(message)


def key_pair(name: str) -> KeyPair:
    return KeyPair.make(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION), *common_name(name)]))


@pytest.mark.parametrize("client", CLIENTS)
async def test_libcoap_reads_the_ca_certificates_in_blocks_of_128(field: Field, client: str) -> None:
    printed, received = await ask(field, client, "interop-crts", "-A", "281", "-b", "128", path="/.well-known/est/crts")
    assert "c:2.05" in printed, printed
    assert len(re.findall(r"Block2:\d+/[M_]/128", printed)) > 2, printed
    found = read(received)
    found[0].verify_directly_issued_by(found[1])


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("root", ["/.well-known/est", "/est"])
async def test_libcoap_enrols_with_block1_of_128(field: Field, client: str, root: str) -> None:
    name = f"interop-{client}-{len(root)}"
    pair = key_pair(name)
    (field.folder / "csr.der").write_bytes(pair.csr)
    words = ("-m", "post", "-t", "286", "-A", "281", "-b", "128", "-f", str(field.folder / "csr.der"))
    printed, received = await ask(field, client, name, *words, path=f"{root}/sen")
    assert "c:2.04" in printed, printed
    assert re.search(r"Block1:[1-9]/_/128", printed), printed
    # It named no size for the answer, so it gets the one it used itself (RFC 9148 B.2).
    assert re.search(r"Block2:[1-9]/_/128", printed), printed
    assert "/1024" not in printed, printed
    leaf, issuing = read(received)
    assert leaf.public_key() == pair.key.public_key()
    leaf.verify_directly_issued_by(issuing)

    async def delivered() -> bool:
        return any(event["endpoint"] == name for event in field.service.events("certificate_delivered"))

    await until(delivered)


@pytest.mark.parametrize("client", CLIENTS)
async def test_libcoap_renews_and_gets_a_key_made_here(field: Field, client: str) -> None:
    name = f"interop-{client}-more"
    pair = key_pair(name)
    (field.folder / "csr.der").write_bytes(pair.csr)
    words = ("-m", "post", "-t", "286", "-f", str(field.folder / "csr.der"))
    printed, received = await ask(field, client, name, *words, "-b", "64", path="/.well-known/est/sren")
    assert "c:2.04" in printed, printed
    assert read(received)[0].public_key() == pair.key.public_key()
    # Longer than one message, so in blocks without a size of its own.
    printed, received = await ask(field, client, name, *words, "-A", "62", path="/.well-known/est/skg")
    assert "c:2.04" in printed, printed
    (_, key), (_, certificates) = decode_parts(received)
    made = load_der_private_key(key, None)
    assert read(certificates)[0].public_key() == made.public_key()


@pytest.mark.parametrize("client", CLIENTS)
async def test_libcoap_is_told_what_is_there(field: Field, client: str) -> None:
    printed, received = await ask(field, client, "interop-core", path="/.well-known/core?rt=ace.est*")
    assert "c:2.05" in printed, printed
    assert b'</est/sen>;rt="ace.est.sen";ct="281 287"' in received


# -- what is sent, read by others ----------------------------------------


async def enrolled(field: Field, name: str) -> Path:
    """A file with the PKCS#7 that a device of this name got."""
    async with field.device(name) as device:
        client = await device.connect()

        path = (".well-known", "est", "sen")
        answer = await client.ask(codes.POST, path, payload=key_pair(name).csr, content_format=286)
    file = field.folder / f"{name}.p7"
    file.write_bytes(answer.payload)
    return file


@pytest.mark.parametrize("kind", ["", "der-"], ids=["leaf-first", "der"])
async def test_openssl_reads_the_certificates(field: Field, kind: str) -> None:
    name = f"interop-{kind}openssl-{'x' * 40}"
    file = await enrolled(field, name)
    printed = await run(required("openssl"), "pkcs7", "-inform", "DER", "-in", str(file), "-print_certs", "-noout")
    subjects = re.findall(r"^subject=.*CN ?= ?(.+)$", printed, re.MULTILINE)
    assert len(subjects) == 2, printed
    # The leaf is the longer one, so DER puts it last.
    assert subjects.index(name) == (1 if kind else 0), printed


@pytest.mark.parametrize("kind", ["", "der-"], ids=["leaf-first", "der"])
async def test_gnutls_reads_the_certificates(field: Field, kind: str) -> None:
    name = f"interop-{kind}gnutls"
    file = await enrolled(field, name)
    printed = await run(required("certtool"), "--p7-info", "--inder", "--infile", str(file))
    assert "Number of certificates: 2" in printed, printed
    assert printed.count("-----BEGIN CERTIFICATE-----") == 2, printed


async def test_cryptography_reads_der_without_a_word(field: Field) -> None:
    file = await enrolled(field, "interop-der-cryptography")
    # Warnings are errors here.
    assert len(pkcs7.load_der_pkcs7_certificates(file.read_bytes())) == 2
