"""A CA that does what a test says, and workers that ask it."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from issuers.base import Capability, CheckReport, Issued, Issuer, IssueRequest, Pending, Recovery, Unsettled
from issuers.csr import make_csr
from issuers.errors import Misconfigured, OutcomeUnknown
from issuers.subject import Subject
from server import attempts, recovery
from server.config import IssuanceConfig
from server.device_made import Certified, CsrWish, DeviceMade
from server.errors import TemporarilyUnavailable
from server.issuance import Issuance, ServerMade, Wish
from server.knowledge import ActiveIssuer
from server.metrics import Metrics
from server.store import issuances
from server.store.database import Database
from server.store.devices import device_id
from server.store.issuances import IssuanceRow
from server.store.writer import Writer
from server.terms import OnUnknown
from tests.integration.rows import ACCOUNT
from tests.pki import CLIENT_AUTH, key_usage, make_certificate, make_factory_ca, make_name

Answer = Issued | Pending
# CSRs under way in one worker.
MOST_CSRS = 4
# Seconds after which a row that nobody renews is adopted.
LEASE = 30.0
Step = Callable[[IssueRequest], Awaitable[Answer]]
T = TypeVar("T")


class ScriptedCa(Issuer):
    """Signs, unless told otherwise; counts its signatures by CSR. Cannot tell what became of a request."""

    type = "SCRIPTED"
    capabilities = frozenset({Capability.COLLECT, Capability.REVOKE})
    recovery = Recovery.NONE

    def __init__(self) -> None:
        self.root = make_factory_ca("Scripted Root")
        self.asked: list[IssueRequest] = []
        self.collected: list[str] = []
        self.recovered: list[UUID] = []
        self.quiet: list[timedelta] = []
        self.revoked: list[int] = []
        self.signatures: Counter[bytes] = Counter()
        self.certificates: dict[UUID, Issued] = {}
        self.serial: Callable[[IssueRequest], int] = lambda request: request.serial
        self.on_issue: Step = self.signs
        self.on_collect: Callable[[str], Awaitable[Answer]] = self.hands_out
        self.on_recover: Callable[[IssueRequest], Awaitable[Answer | Unsettled | None]] = self.finds
        self.on_revoke: Callable[[int], Awaitable[None]] = self.notes
        self._waiting: dict[str, IssueRequest] = {}

    # -- what an adapter does --

    async def issue(self, request: IssueRequest) -> Answer:
        self.asked.append(request)
        return await self.on_issue(request)

    async def collect(self, reference: str) -> Answer:
        self.collected.append(reference)
        return await self.on_collect(reference)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Answer | Unsettled | None:
        self.recovered.append(request.issuance_id)
        self.quiet.append(quiet)
        return await self.on_recover(request)

    async def revoke(self, serial: int, reason: x509.ReasonFlags, at: datetime) -> None:
        await self.on_revoke(serial)

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        return CheckReport(())

    # -- what a test may tell it to do --

    async def signs(self, request: IssueRequest) -> Issued:
        """A certificate for exactly this request."""
        self.signatures[sha256(request.csr.public_bytes(Encoding.DER)).digest()] += 1
        public_key = request.csr.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        leaf = make_certificate(
            request.csr.subject,
            self.root,
            public_key=public_key,
            serial=self.serial(request),
            not_after=datetime.now(UTC) + timedelta(days=700),
            extensions=[(key_usage("digital_signature"), True), (x509.ExtendedKeyUsage(CLIENT_AUTH), False)],
        ).certificate
        issued = self.certificates[request.issuance_id] = Issued(leaf, (leaf,), f"{leaf.serial_number:x}")
        return issued

    async def loses_the_answer(self, request: IssueRequest) -> Issued:
        """Sign, and let nobody hear of it."""
        await self.signs(request)
        raise OutcomeUnknown("the connection ended in the middle of the answer")

    async def never_hears(self, request: IssueRequest) -> Issued:
        """Sign nothing; for the caller it looks the same."""
        raise OutcomeUnknown("the connection ended before the answer")

    async def takes_its_time(self, request: IssueRequest) -> Pending:
        """Sign when it is collected."""
        reference = f"ticket-{len(self._waiting) + 1}"
        self._waiting[reference] = request
        return Pending(reference, 0.0)

    async def hands_out(self, reference: str) -> Issued:
        """What is under a reference, signed once."""
        request = self._waiting[reference]
        return self.certificates.get(request.issuance_id) or await self.signs(request)

    async def finds(self, request: IssueRequest) -> Issued | None:
        """What was issued for a request."""
        return self.certificates.get(request.issuance_id)

    async def notes(self, serial: int) -> None:
        """Withdraw."""
        self.revoked.append(serial)

    @property
    def signed_once(self) -> bool:
        """Whether no CSR has two signatures."""
        return all(count == 1 for count in self.signatures.values())


class LookupCa(ScriptedCa):
    """Can be asked what it issued."""

    recovery = Recovery.LOOKUP


class TokenCa(ScriptedCa):
    """The same request again gives the same certificate."""

    recovery = Recovery.TOKEN

    def __init__(self) -> None:
        super().__init__()
        self.on_recover = self.does_it_again

    async def does_it_again(self, request: IssueRequest) -> Issued:
        """The certificate of a request, whether it was ever made or not."""
        return self.certificates.get(request.issuance_id) or await self.signs(request)


def raises(error: Exception) -> Callable[[object], Awaitable[T]]:
    """A step that ends in `error`."""

    async def step(_: object) -> T:
        raise error

    return step


def in_turn(*steps: Callable[[T], Awaitable[Answer]]) -> Callable[[T], Awaitable[Answer]]:
    """One step a call, the last one for ever."""
    left = list(steps)

    async def step(asked: T) -> Answer:
        return await (left.pop(0) if len(left) > 1 else left[0])(asked)

    return step


class Gate:
    """A step that shows that it was reached and waits to be let through."""

    def __init__(self, step: Callable[[T], Awaitable[Answer]]) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self._step = step

    async def __call__(self, asked: T) -> Answer:
        self.reached.set()
        await self.open.wait()
        return await self._step(asked)  # type: ignore[arg-type]


class Clock:
    """Real time, and as much more as a test lets pass."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._set_on = 0.0
        self.on_look: Callable[[], None] | None = None

    def let_pass(self, seconds: float) -> None:
        """Everybody's clock at once."""
        self._passed += seconds

    def set_on(self, seconds: float) -> None:
        """Somebody sets the clock of the wall, or sets it back."""
        self._set_on += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._passed

    def now(self) -> datetime:
        if self.on_look is not None:
            self.on_look()
        return datetime.now(UTC) + timedelta(seconds=self._passed + self._set_on)


class Register:
    """Which CA is active, and which there are; in place of the whole of `Knowledge`."""

    def __init__(self, *cas: ScriptedCa) -> None:
        self.cas = {UUID(int=number): ca for number, ca in enumerate(cas, 1)}
        self.active: UUID | None = UUID(int=1)
        self.on_unknown: OnUnknown = "reissue"

    async def issuer_for(self, account_id: UUID, service: str) -> ActiveIssuer:
        if self.active is None:
            raise Misconfigured(f"no CA is ready for the service {service}")
        return await self.issuer_by_id(account_id, self.active)

    async def issuer_by_id(self, account_id: UUID, issuer_id: UUID | None, service: str = "LWM2M") -> ActiveIssuer:
        assert account_id == ACCOUNT
        if issuer_id not in self.cas:
            raise Misconfigured("the certificate issuer was removed")
        ca = self.cas[issuer_id]
        return ActiveIssuer(
            id=issuer_id,
            name=f"CA {issuer_id.int}",
            issuer=ca,
            anchors=(ca.root.certificate,),
            minimum_validity=timedelta(days=1),
            on_unknown=self.on_unknown,
        )


class Worker:
    """One process's share of the issuance."""

    def __init__(self, issuance: Issuance, device_made: DeviceMade, writer: Writer, metrics: Metrics) -> None:
        self.issuance = issuance
        self.device_made = device_made
        self.writer = writer
        self.metrics = metrics

    def counted(self, state: str) -> int:
        """How many issuances reached `state` here."""
        return self.metrics.issuances.values[state]


class Workers:
    """As many workers as a test wants, over one database, one clock and one register of CAs."""

    def __init__(self, database: Database, url: str, register: Register, record: Database) -> None:
        self.database = database
        self.record = record
        self.register = register
        self.clock = Clock()
        self._url = url
        self._stack = contextlib.AsyncExitStack()

    async def worker(self, name: str = "worker-1", **settings: float | str) -> Worker:
        """A new worker; `settings` of `[issuance]`."""
        writer = Writer(self._url, self.database.queries)
        await writer.start()
        self._stack.push_async_callback(writer.close)
        metrics = Metrics()
        if "on_unknown" in settings:
            self.register.on_unknown = settings["on_unknown"]  # type: ignore[assignment]
        issuance = Issuance(
            database=self.database,
            writer=writer,
            knowledge=self.register,
            config=IssuanceConfig(**{"answer_seconds": 20.0, **settings}),  # type: ignore[arg-type]
            owner=name,
            clock=self.clock.monotonic,
            now=self.clock.now,
            metrics=metrics,
        )
        self._stack.push_async_callback(issuance.close)
        device_made = DeviceMade(
            database=self.database,
            writer=writer,
            issuers=self.register,
            attempts=issuance.attempts,
            config=IssuanceConfig(**{"answer_seconds": 20.0, **settings}),  # type: ignore[arg-type]
            most=MOST_CSRS,
            clock=self.clock.monotonic,
            now=self.clock.now,
            metrics=metrics,
        )
        self._stack.push_async_callback(device_made.close)
        return Worker(issuance, device_made, writer, metrics)

    async def close(self) -> None:
        await self._stack.aclose()

    async def rows(self, endpoint: str = "device-1") -> list[IssuanceRow]:
        """The issuances of an endpoint, oldest first."""
        return (await issuances.of_endpoint(self.record, ACCOUNT, endpoint))[::-1]

    async def row(self, endpoint: str = "device-1") -> IssuanceRow:
        """Its only issuance."""
        (row,) = await self.rows(endpoint)
        return row

    async def states(self, endpoint: str = "device-1") -> list[str]:
        return [row.state for row in await self.rows(endpoint)]


@contextlib.asynccontextmanager
async def workers(
    database: Database, url: str, *cas: ScriptedCa, record: Database | None = None
) -> AsyncIterator[Workers]:
    """Workers that may ask `cas`, the first of which is active; `record` is how the test looks at their rows."""
    opened = Workers(database, url, Register(*cas), record or database)
    with pytest.MonkeyPatch.context() as patch:
        # A scripted CA needs no time to think.
        patch.setattr(attempts, "FIRST_POLL", 0.01)
        patch.setattr(attempts, "LONGEST_POLL", 0.05)
        patch.setattr(recovery, "FIRST_LOOK", 0.01)
        patch.setattr(recovery, "LONGEST_LOOK", 0.05)
        try:
            yield opened
        finally:
            await opened.close()


async def died_while_asking(rig: Workers, ca: ScriptedCa) -> None:
    """A worker that stopped between the call of the CA and its answer."""
    gate = Gate(ca.signs)
    before, ca.on_issue = ca.on_issue, gate
    worker = await rig.worker()
    waiting = asyncio.ensure_future(worker.issuance.server_made(wish()))
    await gate.reached.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.issuance.CLOSE_PATIENCE", 0.0)
        await worker.issuance.close()
    with pytest.raises(TemporarilyUnavailable):
        await waiting
    ca.on_issue = before
    rig.clock.let_pass(LEASE + 1)


def is_for(certified: Certified, csr: x509.CertificateSigningRequest) -> bool:
    """Whether the certificate is one for the key of `csr`."""
    return x509.load_der_x509_certificate(certified.chain[0]).public_key() == csr.public_key()


def belongs_together(made: ServerMade, ca: ScriptedCa) -> bool:
    """Whether the key is the certificate's, and the certificate this CA's."""
    leaf = x509.load_der_x509_certificate(made.credential.chain[0])
    leaf.verify_directly_issued_by(ca.root.certificate)
    key = load_der_private_key(made.credential.private_key_pkcs8, None)
    return key.public_key() == leaf.public_key()


def csr_wish(
    endpoint: str = "device-1",
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    csr: x509.CertificateSigningRequest | None = None,
    unit: str | None = None,
    **more: Any,
) -> CsrWish:
    """A device's wish for its own key; `unit` makes the name another one, `more` are fields of the wish."""
    name = make_name(endpoint, **({"organizational_unit_name": unit} if unit else {}))
    return CsrWish(
        account_id=ACCOUNT,
        device_id=device_id(ACCOUNT, endpoint),
        endpoint=endpoint,
        service=more.pop("service", "LWM2M"),
        csr=csr or make_csr(key or ec.generate_private_key(ec.SECP256R1()), name),
        **{"hold_seconds": 20.0, **more},
    )


def wish(endpoint: str = "device-1", *, unit: str | None = None) -> Wish:
    """A session's wish; `unit` makes the name another one."""
    return Wish(
        account_id=ACCOUNT,
        device_id=device_id(ACCOUNT, endpoint),
        endpoint=endpoint,
        service="LWM2M",
        subject=Subject.of(make_name(endpoint, **({"organizational_unit_name": unit} if unit else {}))),
        session_id=uuid4(),
    )
