"""EST clients of a whole server: what they ask, what they get, and what is on record of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from simulators import est
from simulators.est import PKCS10, EnrolmentFailed, EstClient, KeyPair, common_name
from tests.integration import field as fields
from tests.integration.field import Field, until

SEN, SHORT_SEN = (*est.ROOT, "sen"), ("est", "sen")


@asynccontextmanager
async def opened(
    folder: Path, profiles: Mapping[str, str], *, keys: Mapping[str, str] | None = None
) -> AsyncIterator[Field]:
    """A server with these profiles and a service of the operator's own, DLMS."""
    async with fields.opened(folder, profiles=profiles, keys=keys or {}) as started:
        await taken_up(started, started.service.command("service", "add", "DLMS"))
        yield started


async def taken_up(field: Field, change: Awaitable[object]) -> None:
    """Make a change and wait until the server works by it."""
    before = len(field.service.events("knowledge_renewed"))
    await change
    await until(lambda: asyncio.sleep(0, len(field.service.events("knowledge_renewed")) > before))


async def enrolled(client: EstClient, endpoint: str, **kind: Any) -> tuple[KeyPair, tuple[x509.Certificate, ...]]:
    """A new key and its certificate with the chain."""
    pair = KeyPair.make(common_name(endpoint))
    return pair, await client.enroll(pair.csr, **kind)


async def refused(client: EstClient, path: tuple[str, ...] = SEN, **request: Any) -> str | None:
    """The code of an answer that is none."""
    request = {"code": codes.POST, "content_format": PKCS10, **request}
    with pytest.raises(EnrolmentFailed) as failure:
        await client.ask(request.pop("code"), path, **request)
    return failure.value.code


def is_of(chain: tuple[x509.Certificate, ...], pair: KeyPair, endpoint: str) -> bool:
    """Leaf first, each the signer of the one before, for this key and this name."""
    for child, issuer in pairwise(chain):
        child.verify_directly_issued_by(issuer)
    names = [str(name.value) for name in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return chain[0].public_key() == pair.key.public_key() and names == [endpoint]


async def delivered(field: Field, endpoint: str, count: int = 1) -> dict[str, Any]:
    """What `device show` says once so many certificates of a device are on record as delivered."""

    async def on_record() -> bool:
        events = field.service.events("certificate_delivered")
        return sum(event["endpoint"] == endpoint for event in events) >= count

    await until(on_record)
    return await field.shown(endpoint)


def signatures(field: Field, csr: bytes) -> int:
    """How often the CA signed, by its own journal."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(csr)
    wanted = digest.finalize().hex()
    return sum(line["event"] == "signed" and line["csr_sha256"] == wanted for line in field.service.journal())


async def until_sessions(field: Field, endpoint: str, count: int = 1) -> dict[str, Any]:
    """What `device show` says once so many enrolments of a device failed."""

    async def failures() -> bool:
        events = field.service.events("enrollment_failed")
        return sum(event["endpoint"] == endpoint for event in events) >= count

    await until(failures)
    return await field.shown(endpoint)


def tampered(name: str) -> bytes:
    csr = bytearray(KeyPair.make(common_name(name)).csr)
    csr[-1] ^= 1
    return bytes(csr)


def of_somebody_else(name: str) -> bytes:
    return KeyPair.make(common_name("est-somebody-else")).csr


def with_a_foreign_san(name: str) -> bytes:
    return KeyPair.make(common_name(name), x509.SubjectAlternativeName([x509.DNSName("est-somebody-else")])).csr
