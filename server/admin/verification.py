"""Does a CA work, before devices depend on it? Its own steps, then the checks of a real issuance on a test certificate.

The test certificate is a real one and may cost quota; its CSR is on record before the CA is asked, and it is revoked
afterwards where the CA can.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.base import (
    Capability,
    CheckReport,
    CheckStep,
    Issued,
    Issuer,
    IssueRequest,
    Pending,
    StepOutcome,
    step_heard,
)
from issuers.certificate import UNREADABLE, ca_certificate
from issuers.csr import make_csr
from issuers.errors import BadCertificate, IssuerError, Throttled, Unavailable
from issuers.path import why_untrusted
from issuers.returned import Checked, Expectation, check_returned
from issuers.subject import parse_subject
from server import logs
from server.store import issuer_chains, verifications
from server.store.accounts import LWM2M
from server.store.audit import Actor
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.verifications import Step, Verification

log = logs.get("verification")

# A person waits for it, and a CA that takes longer would keep devices waiting as long.
DEADLINE = 60.0
# Seconds between two questions after the test certificate, at least.
POLL = 0.5
TEST_CERTIFICATE = "test certificate"
# The subject of an Izuma client: what a CA drops from it, it would drop from a device's.
SUBJECT = "CN={endpoint},OU={account},L={device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A verification on record that has not run yet; `request` is the test certificate it will ask for, if any."""

    id: UUID
    account_id: UUID
    issuer_id: UUID
    name: str
    request: IssueRequest | None
    now: datetime


async def begin(
    database: Database,
    actor: Actor,
    *,
    account_id: UUID,
    issuer_id: UUID,
    name: str,
    issue_test: bool,
    now: datetime,
) -> Begun:
    """Record that the CA is about to be verified; `now` is UTC."""
    request = _request(account_id, now) if issue_test else None
    row_id = await verifications.begin(
        database, actor, account_id, issuer_id, csr_sha256=_fingerprint(request) if request else None
    )
    return Begun(id=row_id, account_id=account_id, issuer_id=issuer_id, name=name, request=request, now=now)


async def run(
    database: Database,
    actor: Actor,
    begun: Begun,
    *,
    issuer: Issuer,
    anchors: Sequence[x509.Certificate],
    minimum_validity: timedelta,
    services: Collection[str] = (),
) -> Verification:
    """Verify the CA and record the report; a CA that refuses or is away makes steps that failed, no exception.

    Steps come on record one by one, so that whoever waits can watch. `anchors` are the account's active trusted
    certificates of service lwm2m; a CA that signs for other `services` only needs none of them (design 8).
    """
    custom = sorted(services) if services and LWM2M not in services else []
    issued: Issued | None = None
    works = False
    async with _watched(database, begun.id) as heard:
        try:
            async with asyncio.timeout(DEADLINE):
                shown, away = await _shown(issuer)
                untrusted = _why_untrusted(shown, anchors, begun.now)
                if custom and shown:
                    # As issuance does: the path ends at the CA's own root.
                    anchors = shown[-1:]
                leads_nowhere = bool(untrusted) and not custom
                if away is not None:
                    report = CheckReport((CheckStep("reach", StepOutcome.FAIL, away.message),))
                else:
                    # A test certificate that leads nowhere would cost quota and tell nothing new.
                    report = await issuer.check(None if leads_nowhere else begun.request, begun.now)
                steps = _with_trust(report, untrusted, custom)
                heard.replace(steps)
                if shown:
                    await _keep(database, begun.issuer_id, shown, begun.now)
                found: list[Step] = []
                if begun.request is not None and report.successful and not leads_nowhere:
                    issued, found = await _tested(issuer, begun.request, report, anchors, minimum_validity, begun.now)
                    steps += found
                # As the breaker's own look: what the CA signs may still lead nowhere.
                works = report.successful and not any(_failed(step) for step in found)
        except TimeoutError:
            late = Step("deadline", StepOutcome.FAIL.value, f"the CA was not done within {DEADLINE:g} s")
            steps = [*heard.steps, late]
    if issued is not None:
        await _withdraw(issuer, issued, begun.now)
    return await _ended(database, actor, begun, steps, issued, works=works)


async def not_opened(database: Database, actor: Actor, begun: Begun, reason: str) -> Verification:
    """Record that the CA could not even be asked: its recorded settings do not open."""
    steps = [Step("settings", StepOutcome.FAIL.value, reason)]
    return await _ended(database, actor, begun, steps, None, works=False)


async def _ended(
    database: Database, actor: Actor, begun: Begun, steps: Sequence[Step], issued: Issued | None, *, works: bool
) -> Verification:
    failed = next((step for step in steps if _failed(step)), None)
    log.info("issuer_verified", issuer=begun.name, successful=failed is None, message=failed.message if failed else "")
    return await verifications.end(
        database,
        actor,
        begun.account_id,
        begun.id,
        issuer_name=begun.name,
        successful=failed is None,
        message=failed.message if failed else _said(steps),
        steps=steps,
        serial=issued.leaf.serial_number if issued is not None else None,
        works=works,
    )


def _failed(step: Step) -> bool:
    return step.outcome == StepOutcome.FAIL.value


class _Heard:
    """The steps known so far, and that there are new ones."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.news = asyncio.Event()

    def add(self, step: CheckStep) -> None:
        self.steps.append(Step(step.name, step.outcome.value, step.message))
        self.news.set()

    def replace(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.news.set()


@contextlib.asynccontextmanager
async def _watched(database: Database, verification_id: UUID) -> AsyncIterator[_Heard]:
    """What the adapter says of its steps inside the block stands on record soon after."""
    heard = _Heard()

    async def record() -> None:
        while True:
            await heard.news.wait()
            heard.news.clear()
            # Whoever watches misses a step then; the report at the end has it.
            with contextlib.suppress(StoreUnavailable):
                await verifications.progress(database, verification_id, heard.steps)

    token = step_heard.set(heard.add)
    recording = asyncio.create_task(record())
    try:
        yield heard
    finally:
        step_heard.reset(token)
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording


async def _shown(issuer: Issuer) -> tuple[tuple[x509.Certificate, ...], Unavailable | None]:
    """What the CA shows of itself, nothing when it does not; and why it is away when it gave no answer at all.

    One that lets us wait in vain is not asked again: a person waits too.
    """
    if Capability.CHAIN not in issuer.capabilities:
        return (), None
    try:
        return await issuer.ca_certificates(), None
    except Unavailable as error:
        # Without a cause it did answer, and its own steps tell more.
        return (), error if error.__cause__ is not None else None
    except (IssuerError, *UNREADABLE):
        # Its own steps say what is wrong.
        return (), None


def _why_untrusted(shown: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], now: datetime) -> str | None:
    """Why what this CA signs would reach no device, empty when it would; None when the CA does not show its chain."""
    if not shown:
        return None
    try:
        return why_untrusted([ca_certificate(each) for each in shown], [ca_certificate(each) for each in anchors], now)
    except (IssuerError, *UNREADABLE):
        return None


def _with_trust(report: CheckReport, untrusted: str | None, custom: Sequence[str]) -> list[Step]:
    """The steps of a check with that of trust behind the one of the chain; `custom`: it signs for these only."""
    steps: list[Step] = []
    for step in report.steps:
        message = step.message
        if untrusted and not custom and step.name == TEST_CERTIFICATE and step.outcome is StepOutcome.SKIPPED:
            message = "an earlier step failed"
        steps.append(Step(step.name, step.outcome.value, message))
        if step.name == "chain" and untrusted is not None and step.outcome in (StepOutcome.OK, StepOutcome.WARN):
            outcome = StepOutcome.OK
            said = untrusted or "what it signs leads to an active trusted certificate of service lwm2m"
            if untrusted and custom:
                outcome, said = (
                    StepOutcome.SKIPPED,
                    f"not needed for {', '.join(custom)}; needed before {LWM2M}: {said}",
                )
            elif untrusted:
                outcome = StepOutcome.FAIL
            steps.append(Step("trust", outcome.value, said))
    return steps


async def learn_chain(database: Database, issuer_id: UUID, issuer: Issuer, now: datetime) -> None:
    """Record the certificates a CA shows of itself, when it can; raises IssuerError."""
    if Capability.CHAIN in issuer.capabilities:
        await _keep(database, issuer_id, await issuer.ca_certificates(), now)


async def _keep(database: Database, issuer_id: UUID, shown: Sequence[x509.Certificate], now: datetime) -> None:
    chain = [each.public_bytes(serialization.Encoding.DER) for each in shown]
    await issuer_chains.keep(database, issuer_id, chain, now)


def _request(account_id: UUID, now: datetime) -> IssueRequest:
    issuance_id = uuid4()
    endpoint = f"firstlight-verify-{issuance_id.hex[:8]}"
    subject = parse_subject(SUBJECT).fill(endpoint=endpoint, account=account_id.hex, device=issuance_id.hex)
    return IssueRequest(
        issuance_id=issuance_id,
        # The key is thrown away with this request: nobody can use the certificate.
        csr=make_csr(ec.generate_private_key(ec.SECP256R1()), subject),
        serial=x509.random_serial_number(),
        not_before=now.replace(microsecond=0),
        validity=None,
        endpoint=endpoint,
        account_id=account_id,
        purpose="verify",
    )


def _fingerprint(request: IssueRequest) -> bytes:
    return sha256(request.csr.public_bytes(serialization.Encoding.DER)).digest()


async def _tested(
    issuer: Issuer,
    request: IssueRequest,
    report: CheckReport,
    anchors: Sequence[x509.Certificate],
    minimum_validity: timedelta,
    now: datetime,
) -> tuple[Issued | None, list[Step]]:
    """The test certificate, and the steps that judge it as a device's would be judged."""
    answer = report.issued
    try:
        while isinstance(answer, Pending):
            await asyncio.sleep(max(answer.retry_after, POLL))
            # Busy or away for a moment, it still has the request.
            with contextlib.suppress(Unavailable, Throttled):
                answer = await issuer.collect(answer.reference)
    except IssuerError as error:
        return None, [Step(TEST_CERTIFICATE, StepOutcome.FAIL.value, error.message)]
    if answer is None:
        return None, [Step(TEST_CERTIFICATE, StepOutcome.SKIPPED.value, "this CA made no test certificate")]
    try:
        checked = check_returned(
            answer,
            Expectation(
                csr=request.csr,
                endpoint=request.endpoint,
                now=now,
                minimum_validity=minimum_validity,
                anchors=anchors,
                account_id=request.account_id,
            ),
        )
    except BadCertificate as error:
        return answer, [Step(f"check: {error.check.value}", StepOutcome.FAIL.value, error.message)]
    return answer, _judged(checked)


def _judged(checked: Checked) -> list[Step]:
    passed = Step("checks", StepOutcome.OK.value, f"certificate {checked.serial:x} passes every check")
    return [passed, *(Step("checks", StepOutcome.WARN.value, warning) for warning in checked.warnings)]


def _said(steps: Sequence[Step]) -> str:
    warnings = [step.message for step in steps if step.outcome == StepOutcome.WARN.value]
    if not warnings:
        return "the CA works"
    return "the CA works; " + "; ".join(warnings)


async def _withdraw(issuer: Issuer, issued: Issued, now: datetime) -> None:
    if Capability.REVOKE not in issuer.capabilities:
        return
    with contextlib.suppress(IssuerError, TimeoutError):
        async with asyncio.timeout(DEADLINE):
            await issuer.revoke(issued.leaf.serial_number, x509.ReasonFlags.cessation_of_operation, now)
