"""What `verify` finds out about an HVCA account: its steps, each failing on its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from issuers import failures, http, open_issuer, pinned
from issuers.base import CheckReport, Issuer, Pending, StepOutcome
from issuers.globalsign_check import STEPS
from simulators.atlas_faults import Fault
from simulators.atlas_policy import DEFAULT_POLICY
from tests.issuers.peers.atlas import AtlasPeer
from tests.issuers.rigs import LOOPBACK, make_request

OK, WARN, FAIL, SKIPPED = StepOutcome.OK, StepOutcome.WARN, StepOutcome.FAIL, StepOutcome.SKIPPED


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "REASON_SECONDS", 0.3)
    for module in (http, failures):
        monkeypatch.setattr(module, "READ_SECONDS", 3.0)


@asynccontextmanager
async def opened(peer: AtlasPeer, **credentials: str) -> AsyncIterator[Issuer]:
    issuer = open_issuer("GLOBAL_SIGN", "theirs", peer.attributes, {**peer.credentials, **credentials}, LOOPBACK)
    try:
        yield issuer
    finally:
        await issuer.aclose()


async def checked(
    peer: AtlasPeer, *, issue: bool = False, now: datetime | None = None, **credentials: str
) -> CheckReport:
    now = now or datetime.now(UTC)
    async with opened(peer, **credentials) as issuer:
        return await issuer.check(make_request(not_before=now.replace(microsecond=0)) if issue else None, now)


def outcomes(report: CheckReport) -> Mapping[str, StepOutcome]:
    assert tuple(step.name for step in report.steps) == STEPS
    return {step.name: step.outcome for step in report.steps}


def said(report: CheckReport, name: str) -> str:
    return next(step.message for step in report.steps if step.name == name)


def only(name: str, outcome: StepOutcome) -> dict[str, StepOutcome]:
    """All steps fine but this one, and no test certificate."""
    return {**dict.fromkeys(STEPS, OK), "test certificate": SKIPPED, name: outcome}


async def test_an_account_that_works_passes_every_step_and_only_the_last_costs_quota(peer: AtlasPeer) -> None:
    report = await checked(peer)
    assert outcomes(report) == only("test certificate", SKIPPED)
    assert peer.atlas.issued == 0
    report = await checked(peer, issue=True)
    assert set(outcomes(report).values()) == {OK}
    assert (peer.atlas.issued, isinstance(report.issued, Pending), report.message) == (1, True, "")
    assert "0 issued and 0 revoked so far" in said(report, "quota")
    assert "must be an active trusted certificate" in said(report, "chain")


async def test_a_ca_that_is_away_fails_at_reach_and_the_rest_is_left_out(peer: AtlasPeer) -> None:
    await peer.server.close()
    report = await checked(peer, issue=True)
    assert outcomes(report) == {**dict.fromkeys(STEPS, SKIPPED), "reach": FAIL}
    assert "takes no connections" in report.message


@pytest.mark.parametrize("name", ["api_key", "api_secret"])
async def test_a_wrong_secret_fails_at_authenticate_and_is_not_repeated(peer: AtlasPeer, name: str) -> None:
    report = await checked(peer, issue=True, **{name: "0123wrong"})
    assert outcomes(report) == {**dict.fromkeys(STEPS, SKIPPED), "reach": OK, "authenticate": FAIL}
    assert "does not take our login" in report.message
    assert "0123wrong" not in report.message
    assert peer.atlas.issued == 0


async def test_a_policy_that_cannot_work_fails_in_words_and_nothing_is_signed(peer: AtlasPeer) -> None:
    peer.atlas.settings.policy = {**DEFAULT_POLICY, "public_key": {"key_type": "RSA", "allowed_lengths": [2048]}}
    report = await checked(peer, issue=True)
    assert outcomes(report)["policy"] is FAIL
    assert "takes RSA keys only" in report.message
    assert peer.atlas.issued == 0


async def test_a_policy_that_refuses_most_endpoint_names_is_warned_of(peer: AtlasPeer) -> None:
    """The example of GlobalSign's own client."""
    rules = {**DEFAULT_POLICY["subject_dn"], "common_name": {"presence": "REQUIRED", "format": "^[a-zA-Z]*$"}}
    peer.atlas.settings.policy = {**DEFAULT_POLICY, "subject_dn": rules}
    report = await checked(peer)
    assert outcomes(report) == only("policy", WARN)
    assert "common_name must match ^[a-zA-Z]*$" in said(report, "policy")


@pytest.mark.parametrize(("seconds", "outcome"), [(0, OK), (200, WARN), (400, FAIL), (-400, FAIL)])
async def test_a_clock_beyond_the_skew_of_the_policy_fails(peer: AtlasPeer, seconds: int, outcome: StepOutcome) -> None:
    report = await checked(peer, now=datetime.now(UTC) + timedelta(seconds=seconds))
    assert outcomes(report) == only("clock", outcome)


@pytest.mark.parametrize(("left", "outcome"), [(0, FAIL), (3, WARN), (100, OK)])
async def test_the_quota_that_is_left_is_told(peer: AtlasPeer, left: int, outcome: StepOutcome) -> None:
    peer.atlas.settings.quota = left
    report = await checked(peer)
    assert outcomes(report) == only("quota", outcome)
    assert ("no certificates left" in said(report, "quota")) == (left == 0)


@pytest.mark.parametrize(
    ("at", "do", "expected"),
    [
        # An older account has no such call.
        ("GET /quotas/issuance", 404, only("quota", SKIPPED)),
        ("GET /quotas/issuance", 503, only("quota", FAIL)),
        # What is only told besides fails nothing.
        ("GET /counters/certificates/issued", 503, only("quota", OK)),
        ("GET /trustchain", 503, only("chain", FAIL)),
        ("GET /trustchain", "html", only("chain", FAIL)),
        ("GET /validationpolicy", 503, {**only("policy", FAIL), "clock": SKIPPED}),
    ],
)
async def test_a_call_that_fails_fails_its_own_step(peer: AtlasPeer, at: str, do: Any, expected: Any) -> None:
    peer.atlas.faults.append(Fault(at=at, do=do))
    assert outcomes(await checked(peer)) == expected


@pytest.mark.parametrize(
    ("do", "words"), [(422, "refuses the request"), (402, "no certificates left"), (429, "slower")]
)
async def test_a_test_certificate_that_is_refused_says_why(peer: AtlasPeer, do: int, words: str) -> None:
    peer.atlas.faults.append(Fault(at="POST /certificates", do=do))
    report = await checked(peer, issue=True)
    assert outcomes(report) == only("test certificate", FAIL)
    assert words in report.message


async def test_certificates_that_end_soon_are_warned_of_and_ended_ones_fail(peer: AtlasPeer) -> None:
    """Both the account's own and the CA's, by the operator's clock."""
    client = peer.atlas.ca.account.client.certificate.not_valid_after_utc
    report = await checked(peer, now=client - timedelta(days=5))
    assert outcomes(report)["authenticate"] is WARN
    assert f"our client certificate ends at {client:%Y-%m-%d}" in said(report, "authenticate")
    issuing = peer.atlas.ca.issuing.certificate.not_valid_after_utc
    assert outcomes(await checked(peer, now=issuing - timedelta(days=5)))["chain"] is WARN
    assert outcomes(await checked(peer, now=issuing + timedelta(days=5)))["chain"] is FAIL
