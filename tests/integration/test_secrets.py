"""No secret of a device is left anywhere: a canary for each, sought in the log, the record and its files."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from server.store.database import Database
from server.store.postgres import EmbeddedPostgres
from simulators.dtls import PskCredential
from tests.integration.field import SHORT, Field, opened, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOOTSTRAP_KEY = "6b65792d6f662d746865" + "a1b2c3d4e5f6"
LWM2M_KEY = "5ec4e70f1a57" + "0123456789abcdef0123"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("secrets")
    profiles = {"psk": profile("to-psk-*", mode="psk")}
    async with opened(folder, "--log-level", "debug", profiles=profiles, keys={"keyed": BOOTSTRAP_KEY}) as started:
        yield started


def forms(secret: bytes) -> Iterator[bytes]:
    """How bytes may look where they were written down."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # Whole groups only: what stands beside the secret changes the others.
        groups = base64.b64encode(b"\0" * shift + secret)[4 if shift else 0 :]
        yield groups[: len(groups) - 4]


async def everywhere(field: Field) -> dict[str, bytes]:
    """All that the server leaves behind: log, journal, every row as text, every file of the record."""
    left = {"the log": field.service.log.read_bytes(), "the journal": b""}
    left["the journal"] = (field.service.data / "ca-journal.jsonl").read_bytes()
    postgres = EmbeddedPostgres(field.service.data, shared=True)
    database = await Database.open(await postgres.start(), migrate=False)
    try:
        async with database.acquire() as connection:
            await connection.execute("CHECKPOINT")
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
            )
            for (table,) in tables:
                rows = await connection.fetch(f'SELECT t::text FROM "{table}" t')  # noqa: S608
                left[f"the table {table}"] = "\n".join(row[0] for row in rows).encode()
    finally:
        await database.close()
        await postgres.stop()
    home = field.service.data / "postgres"
    for folder in {field.service.data, home.resolve(), *pointed(field.service.data)}:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                left[str(file)] = file.read_bytes()
    return left


def pointed(data: Path) -> Iterator[Path]:
    """Where the record lives when it cannot live in the data folder."""
    for file in data.iterdir():
        if file.is_file() and file.stat().st_size < 4096:
            text = file.read_text(errors="replace").strip()
            if text.startswith("/") and Path(text).is_dir():
                yield Path(text)


async def test_no_key_of_a_device_is_left_behind(field: Field) -> None:
    secrets: dict[str, bytes] = {}
    certificates: list[bytes] = []
    for name in ("canary-1", "canary-2"):
        report, device = await field.bootstrap(name)
        assert report.ok, report.reason
        [identity] = device.identities
        secrets[f"the private key of {name}"] = scalar(identity.key)
        certificates.append(identity.leaf.public_bytes(Encoding.DER))
    # One whose bootstrap fails after it was given its key.
    report, device = await field.bootstrap("canary-3", refuses={"PUT /1/0": "4.05"}, patience=SHORT)
    assert not report.ok
    assert (await field.ended("canary-3"))["sessions"][0]["cause"] == "write_refused"
    keyed = PskCredential(b"keyed", bytes.fromhex(BOOTSTRAP_KEY))
    report, device = await field.bootstrap("keyed", credential=keyed)
    assert report.ok, report.reason
    secrets["the private key of keyed"] = scalar(device.identities[0].key)
    secrets["the pre-shared key of keyed"] = bytes.fromhex(BOOTSTRAP_KEY)
    await field.add_key("lwm2m-of-canary", LWM2M_KEY, "to-psk-1", service="lwm2m")
    report, device = await field.bootstrap("to-psk-1")
    assert report.ok, report.reason
    secrets["the LwM2M key of to-psk-1"] = bytes.fromhex(LWM2M_KEY)
    for name in ("canary-1", "canary-2", "keyed", "to-psk-1"):
        await field.over(name)

    left = await everywhere(field)
    # The search finds what is meant to be there, or it would prove nothing.
    for certificate in certificates:
        places = [place for place, content in left.items() if any(form in content for form in forms(certificate))]
        assert "the table certificate" in places
        assert any("/base/" in place for place in places)
        assert any("/pg_wal/" in place for place in places)
    assert b"canary-1" in left["the log"]
    found = [
        f"{what} is in {place}"
        for what, secret in secrets.items()
        for form in forms(secret)
        for place, content in left.items()
        if form in content
    ]
    assert found == []


def scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The 32 bytes that are the secret, in whatever structure they were written."""
    return key.private_numbers().private_value.to_bytes(32, "big")
