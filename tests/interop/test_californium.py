"""Eclipse Californium, a stack that is neither aiocoap's nor libcoap's, does EST with the whole server (RFC 9148)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from lwm2m.multipart import decode_parts
from simulators.est import CERTIFICATE, MULTIPART, PKCS7, PKCS10, KeyPair, common_name, read_certificates
from tests.integration.field import Field, opened, profile
from tests.interop.leshan_client import Leshan, built
from tests.pki import make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = "/.well-known/est"
ATTRIBUTES, KEY = 285, 284
# Bytes of its blocks, the longest record it takes, and whether it names the size of its blocks with the request.
HABITS = [(1024, None, False), (64, None, True), (16, None, False), (512, 1024, False), (256, 512, True)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("californium-program"), "EstDevice")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(program: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    profiles = {"est": profile("californium-*", mode="est")}
    async with opened(tmp_path_factory.mktemp("californium"), profiles=profiles) as started:
        yield started


def request_of(field: Field, name: str) -> tuple[KeyPair, Path]:
    """A key of a device's own, and a file with its CSR."""
    pair = KeyPair.make(common_name(name))
    file = field.folder / f"{name}-{id(pair)}.csr"
    file.write_bytes(pair.csr)
    return pair, file


def is_answered(line: dict[str, Any], code: str, format: int) -> bytes:
    """The payload of an answer of this code and format."""
    assert (line["code"], line["format"]) == (code, format), line
    return bytes.fromhex(line["payload"])


@pytest.mark.parametrize(("block", "record", "early"), HABITS)
async def test_it_does_all_of_est_whatever_its_blocks_and_records(
    program: str, field: Field, block: int, record: int | None, early: bool
) -> None:
    name = f"californium-{block}"
    device = Leshan(program, field)
    enrolled, first = request_of(field, name)
    renewed, second = request_of(field, name)
    _, third = request_of(field, name)
    habits = {"block": block} | ({} if record is None else {"record": record}) | ({"early": "true"} if early else {})
    told = await device.asks(
        ("GET", f"{ROOT}/crts", "", "", ""),
        ("GET", f"{ROOT}/crts", CERTIFICATE, "", ""),
        ("GET", f"{ROOT}/crts", MULTIPART, "", ""),
        ("GET", f"{ROOT}/att", "", "", ""),
        ("POST", f"{ROOT}/sen", "", PKCS10, first),
        ("POST", f"{ROOT}/sen", CERTIFICATE, PKCS10, first),
        ("POST", f"{ROOT}/sren", PKCS7, PKCS10, second),
        ("POST", f"{ROOT}/skg", "", PKCS10, third),
        **device.with_certificate(name),
        **habits,
    )
    assert told.code == 0, told.log
    cas, root, parts, attributes, chain, leaf, next_chain, made = told.lines
    issuing, anchor = read_certificates(is_answered(cas, "2.05", PKCS7))
    issuing.verify_directly_issued_by(anchor)
    assert x509.load_der_x509_certificate(is_answered(root, "2.05", CERTIFICATE)) == anchor
    each = [x509.load_der_x509_certificate(der) for _, der in decode_parts(is_answered(parts, "2.05", MULTIPART))]
    assert each == [issuing, anchor]
    is_answered(attributes, "2.05", ATTRIBUTES)
    own = read_certificates(is_answered(chain, "2.04", PKCS7))[0]
    own.verify_directly_issued_by(issuing)
    assert own.public_key() == enrolled.key.public_key()
    assert x509.load_der_x509_certificate(is_answered(leaf, "2.04", CERTIFICATE)) == own
    assert read_certificates(is_answered(next_chain, "2.04", PKCS7))[0].public_key() == renewed.key.public_key()
    (kind, key), (_, certificates) = decode_parts(is_answered(made, "2.04", MULTIPART))
    assert kind == KEY
    theirs = read_certificates(certificates)[0]
    assert theirs.public_key() == load_der_private_key(key, None).public_key()


async def test_it_is_told_what_it_does_wrong(program: str, field: Field) -> None:
    name = "californium-wrong"
    device = Leshan(program, field)
    _, right = request_of(field, name)
    _, other = request_of(field, "californium-other")
    told = await device.asks(
        ("POST", f"{ROOT}/sen", "", PKCS10, other),
        ("POST", f"{ROOT}/sen", "", 60, right),
        ("POST", f"{ROOT}/sen", 60, PKCS10, right),
        ("GET", f"{ROOT}/sen", "", "", ""),
        ("POST", f"{ROOT}/fullcmc", "", PKCS10, right),
        **device.with_certificate(name),
        block=512,
    )
    assert [line["code"] for line in told.lines] == ["4.00", "4.15", "4.06", "4.05", "4.04"], told.log


async def test_one_of_another_factory_is_refused(program: str, field: Field) -> None:
    device = Leshan(program, field)
    words = device.with_certificate("californium-alien", make_factory_ca("Unknown Factory"))
    told = await device.asks(("GET", f"{ROOT}/crts", "", "", ""), **words, block=512)
    assert told.code == 1
    assert "UNKNOWN_CA" in told.log
