"""EST over CoAP on the wire: paths, formats, blocks, and what is told beside a certificate (RFC 9148 4, 5)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.x509.oid import NameOID

from lwm2m.est import decode_csr_attributes
from lwm2m.multipart import decode_parts
from simulators import est
from simulators.association import CoapParameters
from simulators.est import CERTIFICATE, MULTIPART, PKCS7, PKCS10, KeyPair, common_name
from tests.integration import enrolments
from tests.integration import field as fields
from tests.integration.enrolments import (
    SEN,
    SHORT_SEN,
    delivered,
    enrolled,
    is_of,
    of_somebody_else,
    refused,
    signatures,
    taken_up,
    tampered,
    until_sessions,
)
from tests.integration.field import Field, profile, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A subject that alone has more than 800 bytes.
WORDS = {"L": "€" * 128, "O": "€" * 64, "OU": "€" * 64, "ST": "€" * 64}
OIDS = {
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
}
WIDE = x509.Name([*common_name("wide-1"), *(x509.NameAttribute(OIDS[kind], words) for kind, words in WORDS.items())])


def wide(certificate_bytes: int) -> str:
    subject = ",".join(f"{kind}={words}" for kind, words in WORDS.items())
    return profile(
        "wide-*",
        mode="est",
        est=f"certificate_bytes = {certificate_bytes}",
        security=f'subject = "CN={{endpoint}},{subject}"',
    )


PROFILES = {
    "est": profile("est-*", mode="est"),
    "narrow": profile("narrow-*", mode="est", est="certificate_bytes = 512"),
    "wide": wide(2048),
    "alone": profile("alone-*", mode="est", est='answer = "certificate"'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with enrolments.opened(tmp_path_factory.mktemp("est-answers"), PROFILES) as started:
        yield started


async def test_accept_and_content_format_are_honoured(field: Field) -> None:
    async with field.device("est-formats") as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("est-formats")).csr
        for path in (SEN, SHORT_SEN):
            for accept, content_format in ((None, PKCS7), (PKCS7, PKCS7), (CERTIFICATE, CERTIFICATE)):
                answer = await client.ask(codes.POST, path, payload=csr, content_format=PKCS10, accept=accept)
                assert (answer.code, answer.opt.content_format) == (codes.CHANGED, content_format)
                leaf = answer.payload if accept == CERTIFICATE else _first(answer.payload)
                assert x509.load_der_x509_certificate(leaf).version is x509.Version.v3
            assert await refused(client, path, payload=csr, accept=0) == "4.06"
            assert await refused(client, path, payload=csr, content_format=42) == "4.15"
            await client.ask(codes.POST, path, payload=csr)
        assert await refused(client, SEN, payload=csr, content_format=0) == "4.15"
        await client.ask(codes.POST, SHORT_SEN, payload=csr, content_format=0)
    assert signatures(field, csr) == 1


async def test_a_csr_of_more_bytes_than_are_taken_is_too_large(field: Field) -> None:
    async with field.device("est-large") as device:
        client = await device.connect()
        for payload, code in ((bytes(4096), "4.00"), (bytes(4097), "4.13"), (bytes(20000), "4.13")):
            assert await refused(client, payload=payload) == code
            assert await refused(client, (*est.ROOT, "skg"), payload=payload) == code


def _first(message: bytes) -> bytes:
    return est.read_certificates(message)[0].public_bytes(Encoding.DER)


async def test_paths_and_methods_that_are_none_have_their_codes(field: Field) -> None:
    async with field.device("est-paths") as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("est-paths")).csr
        assert await refused(client, ("est", "enroll"), payload=csr) == "4.04"
        assert await refused(client, ("est",), payload=csr) == "4.04"
        assert await refused(client, (*est.ROOT, "crts")) == "4.05"
        assert await refused(client, SEN, code=codes.GET) == "4.05"
        assert await refused(client, SEN, code=codes.PUT, payload=csr) == "4.05"


async def test_ca_certificates_and_csr_attributes_are_told(field: Field) -> None:
    async with field.device("est-reads") as device:
        client = await device.connect()
        issuing, root = await client.ca_certificates()
        issuing.verify_directly_issued_by(root)
        alone = await client.ask(codes.GET, ("est", "crts"), accept=CERTIFICATE)
        assert x509.load_der_x509_certificate(alone.payload) == root
        attributes = await client.ask(codes.GET, (*est.ROOT, "att"))
        assert (attributes.code, attributes.opt.content_format) == (codes.CONTENT, 285)
        assert len(decode_csr_attributes(attributes.payload)) == 2
        assert await refused(client, ("est", "att"), code=codes.GET, accept=0) == "4.06"


async def test_ca_certificates_come_one_by_one_for_a_device_that_reads_no_pkcs7(field: Field) -> None:
    async with field.device("est-parts") as device:
        client = await device.connect()
        found = await client.ca_certificates()
        for path in ((*est.ROOT, "crts"), ("est", "crts")):
            answer = await client.ask(codes.GET, path, accept=MULTIPART)
            assert (answer.code, answer.opt.content_format) == (codes.CONTENT, MULTIPART)
            parts = decode_parts(answer.payload)
            assert [format for format, _ in parts] == [CERTIFICATE] * 2
            assert [x509.load_der_x509_certificate(der) for _, der in parts] == list(found)


async def test_a_device_that_names_no_format_gets_the_certificate_alone_where_its_profile_says_so(field: Field) -> None:
    async with field.device("alone-1") as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("alone-1")).csr
        for path in (SEN, SHORT_SEN):
            for accept, content_format in ((None, CERTIFICATE), (PKCS7, PKCS7), (CERTIFICATE, CERTIFICATE)):
                answer = await client.ask(codes.POST, path, payload=csr, content_format=PKCS10, accept=accept)
                assert (answer.code, answer.opt.content_format) == (codes.CHANGED, content_format)
                leaf = _first(answer.payload) if content_format == PKCS7 else answer.payload
                assert x509.load_der_x509_certificate(leaf).subject == common_name("alone-1")
        # What has a format of its own keeps it.
        for path, code, payload, content_format in (
            ((*est.ROOT, "crts"), codes.GET, b"", PKCS7),
            ((*est.ROOT, "skg"), codes.POST, csr, MULTIPART),
        ):
            answer = await client.ask(code, path, payload=payload)
            assert answer.opt.content_format == content_format
    assert signatures(field, csr) == 1


async def test_discovery_tells_of_both_roots_and_of_the_labels(field: Field) -> None:
    async with field.device("est-discovers") as device:
        client = await device.connect()
        answer = await client.ask(codes.GET, (".well-known", "core"), query=("rt=ace.est*",))
        links = answer.payload.decode().split(",")
        assert answer.opt.content_format == 40
        assert '</.well-known/est/sen>;rt="ace.est.sen";ct="281 287"' in links
        assert '</est/DLMS/crts>;rt="ace.est.crts";ct="281 287 62"' in links
        answer = await client.ask(codes.GET, (".well-known", "core"), query=("rt=core.rd",))
        assert answer.payload == b""


async def test_a_server_made_key_comes_with_its_certificate(field: Field) -> None:
    async with field.device("est-skg") as device:
        client = await device.connect()
        # Key and signature of the CSR mean nothing here.
        csr = tampered("est-skg")
        answer = await client.ask(codes.POST, (*est.ROOT, "skg"), payload=csr, content_format=PKCS10, accept=62)
        (key_format, key), (chain_format, chain) = decode_parts(answer.payload)
        assert (key_format, chain_format, answer.opt.content_format) == (284, PKCS7, 62)
        leaf = est.read_certificates(chain)[0]
        assert leaf.public_key() == load_der_private_key(key, None).public_key()
        alone = await client.ask(codes.POST, ("est", "skc"), payload=csr, content_format=PKCS10)
        (_, key), (format, certificate) = decode_parts(alone.payload)
        assert format == CERTIFICATE
        assert x509.load_der_x509_certificate(certificate).public_key() == load_der_private_key(key, None).public_key()
        assert await refused(client, (*est.ROOT, "skg"), payload=of_somebody_else("")) == "4.00"
    shown = await delivered(field, "est-skg", 2)
    assert {row["state"] for row in shown["certificates"]} == {"delivered"}


async def test_a_certificate_that_the_device_cannot_store_is_a_bad_gateways(field: Field) -> None:
    name = "narrow-" + "n" * 57
    async with field.device(name) as device:
        client = await device.connect()
        assert await refused(client, payload=KeyPair.make(common_name(name)).csr) == "5.02"
        # Nor one that comes with a key made here.
        assert await refused(client, (*est.ROOT, "skg"), payload=tampered(name)) == "5.02"
    shown = await until_sessions(field, name, 2)
    assert {session["cause"] for session in shown["sessions"]} == {"issuer_bad_certificate"}
    assert [row["state"] for row in shown["issuances"]] == ["bad", "bad"]


async def test_a_device_that_stores_larger_certificates_gets_them_with_a_key_made_here_too(field: Field) -> None:
    async with field.device("wide-1") as device:
        client = await device.connect()
        answer = await client.ask(codes.POST, (*est.ROOT, "skg"), payload=KeyPair.make(WIDE).csr, content_format=PKCS10)
        _, (_, chain) = decode_parts(answer.payload)
        leaf = est.read_certificates(chain)[0]
        assert len(leaf.public_bytes(Encoding.DER)) > 1024


async def test_a_certificate_on_record_is_measured_by_the_profile_of_now(field: Field) -> None:
    async with field.device("wide-1") as device:
        client = await device.connect()
        pair = KeyPair.make(WIDE)
        assert len((await client.enroll(pair.csr))[0].public_bytes(Encoding.DER)) > 1024
        await taken_up(field, field.set_profile("wide", wide(1024)))
        assert await refused(client, payload=pair.csr) == "5.02"
        await taken_up(field, field.set_profile("wide", wide(2048)))
        assert is_of(await client.enroll(pair.csr), pair, "wide-1")
    assert signatures(field, pair.csr) == 1


@pytest.mark.parametrize("exponent", range(7), ids=lambda exponent: str(16 << exponent))
async def test_blocks_of_the_size_of_the_client_carry_csr_and_certificate(field: Field, exponent: int) -> None:
    name = f"est-blocks-{16 << exponent}"
    async with field.device(name, coap=CoapParameters(block_exponent=exponent)) as device:
        client = await device.connect()
        pair, chain = await enrolled(client, name)
        assert is_of(chain, pair, name)
        assert len(await client.ca_certificates()) == 2
    assert signatures(field, pair.csr) == 1
    shown = await delivered(field, name)
    assert [row["state"] for row in shown["certificates"]] == ["delivered"]


async def test_a_client_keeps_its_block_size_where_the_servers_own_is_smaller(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[limits]\nblock_size = 64\n")
    async with (
        fields.opened(tmp_path, "--config", str(settings), profiles={"est": PROFILES["est"]}) as small,
        small.device("est-small") as device,
    ):
        client = await device.connect()
        pair = KeyPair.make(common_name("est-small"))
        for number in (0, 1):
            asked = (number, False, 5)
            request = Message(code=codes.POST, uri_path=SEN, payload=b"" if number else pair.csr, block2=asked)
            request.opt.content_format = PKCS10
            request.remote = client._remote
            answer = await client._context.request(request, handle_blockwise=False).response
            # 512 bytes a block, as it asked.
            block = answer.opt.block2
            assert (answer.code, block.block_number, block.size) == (codes.CHANGED, number, 512)
            assert len(answer.payload) == 512 or not block.more


async def leaves_after_the_first_block(field: Field, name: str, path: tuple[str, ...], csr: bytes) -> None:
    """A device that asks, has the beginning of the answer, and closes its association."""
    async with field.device(name) as device:
        client = await device.connect()
        request = Message(code=codes.POST, uri_path=path, payload=csr, block2=(0, False, 2))
        request.opt.content_format = PKCS10
        request.remote = client._remote
        answer = await client._context.request(request, handle_blockwise=False).response
        assert (answer.code, answer.opt.block2.more) == (codes.CHANGED, True)

    async def over() -> bool:
        ends = ("certificate_delivered", "enrollment_postponed", "enrollment_failed")
        return any(event["endpoint"] == name for end in ends for event in field.service.events(end))

    await until(over)
    assert [row["state"] for row in (await field.shown(name))["issuances"]] == ["issued"]


async def test_a_certificate_whose_blocks_were_not_fetched_is_not_delivered_and_waits(field: Field) -> None:
    name = "est-leaves"
    pair = KeyPair.make(common_name(name))
    await leaves_after_the_first_block(field, name, SEN, pair.csr)
    async with field.device(name) as device:
        assert is_of(await (await device.connect()).enroll(pair.csr), pair, name)
    assert [row["state"] for row in (await delivered(field, name))["issuances"]] == ["delivered"]
    assert signatures(field, pair.csr) == 1


async def test_a_key_made_here_whose_blocks_were_not_fetched_waits_with_its_certificate(field: Field) -> None:
    name, path = "est-skg-leaves", (*est.ROOT, "skg")
    await leaves_after_the_first_block(field, name, path, tampered(name))
    async with field.device(name) as device:
        client = await device.connect()
        answer = await client.ask(codes.POST, path, payload=tampered(name), content_format=PKCS10)
        (_, key), (_, chain) = decode_parts(answer.payload)
        leaf = est.read_certificates(chain)[0]
        assert leaf.public_key() == load_der_private_key(key, None).public_key()
    # One issuance: what was made for it the first time.
    (row,) = (await delivered(field, name))["issuances"]
    assert row["state"] == "delivered"
