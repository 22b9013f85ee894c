"""One rig for each adapter: an issuer opened by the registry on a CA that works.

A new adapter adds its line to RIGS.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuers import open_issuer
from issuers.base import Issuer, IssueRequest, Purpose
from issuers.ceremony import CaBundle, hold_ceremony, make_keys, make_serials
from issuers.csr import make_csr
from issuers.errors import IssuerError
from issuers.journal import JournalEntry
from issuers.reach import Reach
from issuers.subject import parse_subject
from simulators.atlas import Settings
from tests.issuers.peers.atlas import running_atlas
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.pki import make_factory_ca, make_key

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
LOOPBACK = Reach(private=True)
DEVICE = "fedcba98765432100123456789abcdef"


@dataclass(frozen=True)
class Rig:
    """An issuer, where the paths of its certificates may end, words that must never show, and the CA's time."""

    issuer: Issuer
    anchors: tuple[x509.Certificate, ...]
    secrets: tuple[str, ...] = field(repr=False, default=())
    now: datetime = NOW


def make_bundle(now: datetime = NOW) -> CaBundle:
    """What `ca init` makes."""
    return hold_ceremony(
        organization="Firstlight",
        country="FI",
        names=["bootstrap.example.com"],
        addresses=[],
        keys=make_keys(),
        serials=make_serials(),
        now=now,
    )


def make_request(
    endpoint: str = "urn:dev:os:0001",
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    subject: str = "CN={endpoint},OU={account},L={device}",
    validity: timedelta | None = None,
    purpose: Purpose = "device",
    not_before: datetime = NOW,
) -> IssueRequest:
    """A wish as the service makes it."""
    name = parse_subject(subject).fill(endpoint=endpoint, account=ACCOUNT.hex, device=DEVICE)
    return IssueRequest(
        issuance_id=uuid4(),
        csr=make_csr(key or make_key(), name),
        serial=x509.random_serial_number(),
        not_before=not_before,
        validity=validity,
        endpoint=endpoint,
        account_id=ACCOUNT,
        purpose=purpose,
    )


def assert_says(error: IssuerError, kind: type[IssuerError], *words: str) -> None:
    """The kind of an error, and what an operator reads in it."""
    assert type(error) is kind, repr(error)
    for each in words:
        assert each in error.message


@asynccontextmanager
async def embedded() -> AsyncIterator[Rig]:
    bundle = make_bundle()
    journal: list[JournalEntry] = []
    issuer = open_issuer(
        "EMBEDDED",
        "our own",
        {},
        {
            "key": bundle.keys.issuing,
            "chain": (bundle.issuing,),
            "root": bundle.device_root,
            "journal": journal.append,
        },
    )
    scalar = bundle.keys.issuing.private_numbers().private_value
    yield Rig(issuer, (bundle.device_root,), (f"{scalar:x}", str(scalar)))
    await issuer.aclose()


@asynccontextmanager
async def cfssl() -> AsyncIterator[Rig]:
    ca = make_factory_ca("CFSSL Root")
    async with cfssl_serve(ca) as peer:
        issuer = open_issuer(
            "CFSSL_AUTH",
            "the page's",
            {"host_url": peer.url, "cfssl_profile": "CA"},
            {"hmac_hex_key": PAGE_KEY},
            LOOPBACK,
        )
        yield Rig(issuer, (ca.certificate,), (PAGE_KEY, repr(bytes.fromhex(PAGE_KEY))), datetime.now(UTC))
        await issuer.aclose()


@asynccontextmanager
async def globalsign() -> AsyncIterator[Rig]:
    async with running_atlas(Settings(pending_polls=1), now=NOW.timestamp) as peer:
        issuer = open_issuer("GLOBAL_SIGN", "theirs", peer.attributes, peer.credentials, LOOPBACK)
        yield Rig(issuer, (peer.atlas.ca.root.certificate,), peer.secrets)
        await issuer.aclose()


RIGS: Mapping[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "CFSSL_AUTH": cfssl,
    "EMBEDDED": embedded,
    "GLOBAL_SIGN": globalsign,
}
