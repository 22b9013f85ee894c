"""No secret of a device or a CA is left anywhere: a canary for each, sought in log, record, files and answers."""

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from server.store.database import Database
from server.store.postgres import EmbeddedPostgres
from simulators.atlas_faults import Fault
from simulators.dtls import PskCredential
from tests.integration.field import SHORT, Field, opened, profile, until
from tests.issuers.peers.atlas import running_atlas

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOOTSTRAP_KEY = "6b65792d6f662d746865" + "a1b2c3d4e5f6"
ISSUERS, SERVICES = "/v3/certificate-issuers", "/v3/certificate-issuer-configurations"
# PostgreSQL's XLOG_BLCKSZ, SizeOfXLogShortPHD, SizeOfXLogLongPHD and XLP_LONG_HEADER (access/xlog_internal.h).
WAL_PAGE, WAL_HEADER, WAL_LONG_HEADER, WAL_IS_LONG = 8192, 24, 40, 0x02
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
                left[str(file)] = written(file)
    return left


def written(file: Path) -> bytes:
    """What a file holds; of PostgreSQL's log also in one piece, which has a header every `WAL_PAGE` bytes."""
    content = file.read_bytes()
    if file.parent.name != "pg_wal":
        return content
    pages = (content[start : start + WAL_PAGE] for start in range(0, len(content), WAL_PAGE))
    return content + b"".join(page[WAL_LONG_HEADER if page[2] & WAL_IS_LONG else WAL_HEADER :] for page in pages)


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


async def test_no_credential_of_a_ca_is_left_behind(field: Field) -> None:
    """GlobalSign's five and CFSSL's HMAC key: registered, used, refused, replaced, in every kind of answer."""
    key = Path(field.service.ready["api_key_file"]).read_text().strip()
    hmac_key = "c0ffee15bad5eedc0ffee15bad5eed00"
    wrong = "wrong-canary-0123456789abcdef"
    heard: list[bytes] = []
    async with (
        running_atlas() as peer,
        httpx.AsyncClient(
            base_url=field.service.ready["http"],
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=60,
        ) as client,
    ):

        async def ask(method: str, path: str, code: int, body: object = None) -> dict[str, Any]:
            answer = await client.request(method, path, json=body)
            heard.append(answer.content + repr(answer.headers).encode())
            assert answer.status_code == code, answer.text
            return answer.json() if answer.content else {}

        credentials = dict(peer.credentials)
        issuer = {"name": "gs", "issuer_type": "GLOBAL_SIGN", "issuer_attributes": peer.attributes}
        made = await ask("POST", ISSUERS, 201, {**issuer, "issuer_credentials": credentials})
        path = f"{ISSUERS}/{made['id']}"
        await ask("POST", f"{path}/verify", 200)
        # Refused at the CA, broken off by it, refused here: in each a secret was at hand.
        await ask("PUT", path, 200, {"issuer_credentials": {**credentials, "api_secret": wrong}})
        assert (await ask("POST", f"{path}/verify", 200))["successful"] is False
        for change in ({"api_key": wrong * 40}, {"private_key": wrong}, {"passphrase": wrong}, {"no_such": wrong}):
            await ask("PUT", path, 400, {"issuer_credentials": {**credentials, **change}})
        await ask("POST", ISSUERS, 400, {**issuer, "name": "n" * 51, "issuer_credentials": credentials})
        await ask("POST", ISSUERS, 400, {**issuer, "issuer_credentials": list(credentials.values())})
        await ask("POST", ISSUERS, 409, {**issuer, "issuer_credentials": credentials})
        await ask("PUT", path, 200, {"issuer_credentials": credentials})
        for fault in (401, 422, 500, "html", "half", "reset"):
            peer.atlas.faults.append(Fault(at="POST /login", do=fault))
            await ask("POST", f"{path}/verify", 200)
        # One that is away while devices ask it.
        cfssl = {
            "name": "cfssl",
            "issuer_type": "CFSSL_AUTH",
            "issuer_attributes": {"host_url": "http://127.0.0.1:9"},
            "issuer_credentials": {"hmac_hex_key": hmac_key},
        }
        away = await ask("POST", ISSUERS, 201, cfssl)
        await ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": away["id"]})

        async def refused() -> bool:
            report, _ = await field.bootstrap(f"refused-{len(heard)}", patience=SHORT)
            heard.append(repr(report).encode())
            return not report.ok

        await until(refused)
        await ask("PUT", f"{SERVICES}/lwm2m", 200, {"certificate_issuer_id": None})
        for listed in (ISSUERS, path, f"/v1/issuers/{made['id']}/verifications", "/v1/issuers", "/v1/audit?limit=1000"):
            await ask("GET", listed, 200)
        heard.append((await field.service.command("issuer", "show", "gs", "--json")).encode())

    secrets = {
        "the API key": str(credentials["api_key"]),
        "the API secret": str(credentials["api_secret"]),
        "the passphrase": str(credentials["passphrase"]),
        "the wrong secret": wrong,
        **{f"the private key, {number}": line for number, line in enumerate(private_lines(credentials))},
    }
    sought = {what: list(forms(secret.encode())) for what, secret in secrets.items()}
    sought["the HMAC key"] = [hmac_key.encode(), hmac_key.upper().encode(), *forms(bytes.fromhex(hmac_key))]
    left = {**await everywhere(field), "an answer": b"\n".join(heard)}
    assert made["id"].encode() in left["an answer"]
    found = {
        f"{what} is in {place}" for what in sought for form in sought[what] for place in left if form in left[place]
    }
    assert found == set()


def private_lines(credentials: Mapping[str, object]) -> list[str]:
    """Lines of the encrypted private key; the last is short and could be anywhere."""
    return str(credentials["private_key"]).splitlines()[1:-2]


async def test_our_own_ports_are_no_ca(field: Field) -> None:
    """The port was picked by the system when the server started, and nobody gets to it through us."""
    key = field.folder / "hmac.txt"
    key.write_text("00")
    url = field.service.ready["http"].replace("127.0.0.1", "localhost")
    await field.service.command(
        *("issuer", "add", "ourselves", "--type", "CFSSL_AUTH", "--set", f"host_url={url}"),
        *("--secret-file", f"hmac_hex_key={key}"),
    )
    api_key = Path(field.service.ready["api_key_file"]).read_text().strip()
    async with httpx.AsyncClient(
        base_url=field.service.ready["http"], headers={"Authorization": f"Bearer {api_key}"}, trust_env=False
    ) as client:
        rows = (await client.get(ISSUERS)).json()["data"]
        own = next(row["id"] for row in rows if row["name"] == "ourselves")
        said = (await client.post(f"{ISSUERS}/{own}/verify")).json()
    assert said["successful"] is False
    assert "is our own" in said["message"]
