"""What `verify` finds out about an HVCA account, step by step; only the last step costs quota."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from issuers.base import CheckReport, IssueRequest, Pending
from issuers.certificate import Certificate, read_certificate, signed_by
from issuers.errors import IssuerError, Misconfigured, Unauthorized
from issuers.globalsign_api import HvcaApi, HvcaOptions, Token
from issuers.globalsign_policy import Policy
from issuers.steps import EXPIRES_SOON, FAIL, OK, SKIPPED, WARN, Steps

STEPS = ("reach", "authenticate", "policy", "clock", "quota", "chain", "test certificate")
QUOTA = "/quotas/issuance"
QUOTA_LOW = 100
"""Certificates left under which an operator is told."""
CLOCK_OFFSET = timedelta(minutes=2)
SAMPLES = ("urn:imei:350000000000001", "urn:dev:os:0023c7-000001", "device-0001")
"""Endpoint names as devices have them (LwM2M 1.2, 7.4.1), for rules about common names."""


async def told_number(api: HvcaApi, path: str) -> int:
    """A counter of the account; Misconfigured when this version of the API has none there."""
    read = (await api.question(path)).json()
    value = read.get("value") if isinstance(read, dict) else None
    # Whoever has more digits counts no certificates.
    if not isinstance(value, int) or abs(value) >= 1 << 53:
        raise Misconfigured(f"{api.where} tells no number at {path}")
    return value


class Examination:
    """One check of one account; `policy` and `chain` ask the CA, `issue` hands a request in."""

    def __init__(
        self,
        options: HvcaOptions,
        api: HvcaApi,
        policy: Callable[[], Awaitable[Policy]],
        chain: Callable[[], Awaitable[Sequence[Certificate]]],
        issue: Callable[[IssueRequest], Awaitable[Pending]],
        now: datetime,
    ) -> None:
        self._options = options
        self._api = api
        self._ask_policy = policy
        self._ask_chain = chain
        self._issue = issue
        self._now = now
        self._steps = Steps(STEPS)
        self._note = self._steps.note

    async def run(self, issue_test: IssueRequest | None) -> CheckReport:
        """All steps in the order of STEPS; a step that failed leaves out those that build on it."""
        issued: Pending | None = None
        token = await self._reach_and_authenticate()
        if token is not None:
            policy = await self._policy(issue_test)
            if policy is not None:
                self._clock(policy, token)
            await self._quota()
            await self._chain()
            if issue_test is None:
                self._note("test certificate", SKIPPED, "not asked for")
            elif not self._steps.failed:
                issued = await self._test_certificate(issue_test)
        return self._steps.report(issued)

    async def _reach_and_authenticate(self) -> Token | None:
        ends = read_certificate(self._options.identity.chain[0]).not_after
        try:
            token = await self._api.login()
        except Unauthorized as error:
            self._note("reach", OK, f"{self._api.where} answers")
            ended = f"; our client certificate has ended at {ends:%Y-%m-%d}" if ends <= self._now else ""
            self._note("authenticate", FAIL, error.message + ended)
            return None
        except IssuerError as error:
            self._note("reach", FAIL, error.message)
            return None
        self._note("reach", OK, f"{self._api.where} answers")
        if ends <= self._now + EXPIRES_SOON:
            self._note(
                "authenticate",
                WARN,
                f"the CA takes our login; our client certificate ends at {ends:%Y-%m-%d}, have it renewed",
            )
        else:
            self._note("authenticate", OK, "the CA takes our login")
        return token

    async def _policy(self, issue_test: IssueRequest | None) -> Policy | None:
        try:
            policy = await self._ask_policy()
        except IssuerError as error:
            self._note("policy", FAIL, error.message)
            return None
        if policy.problem:
            self._note("policy", FAIL, policy.problem)
            return None
        if issue_test is not None:
            try:
                policy.body(issue_test, None)
            except IssuerError as error:
                self._note("policy", FAIL, error.message)
                return None
        account = issue_test.account_id.hex if issue_test is not None else "0" * 32
        cautions = tuple(policy.cautions(SAMPLES, account))
        self._note("policy", WARN if cautions else OK, "; ".join((policy.describe(), *cautions)))
        return policy

    def _clock(self, policy: Policy, token: Token) -> None:
        if token.at is None:
            self._note("clock", SKIPPED, "the CA did not tell its time")
            return
        offset = self._now - token.at
        problem = policy.skew_problem(offset.total_seconds())
        if problem:
            self._note("clock", FAIL, f"{problem}: it refuses every request; set both clocks by NTP")
        elif abs(offset) > CLOCK_OFFSET:
            self._note("clock", WARN, f"our clock is {offset.total_seconds():+.0f} s from the CA's; set it by NTP")
        else:
            self._note("clock", OK, f"our clock is within {max(round(abs(offset.total_seconds())), 1)} s of the CA's")

    async def _quota(self) -> None:
        try:
            left = await told_number(self._api, QUOTA)
        except Misconfigured:
            # API v2.1 has no such call.
            self._note("quota", SKIPPED, "the CA does not tell how many certificates are left")
            return
        except IssuerError as error:
            self._note("quota", FAIL, error.message)
            return
        counted = await self._counters()
        if left <= 0:
            self._note("quota", FAIL, f"the account has no certificates left{counted}; buy more at GlobalSign")
        elif left < QUOTA_LOW:
            self._note("quota", WARN, f"the account has {left} certificates left{counted}; buy more at GlobalSign")
        else:
            self._note("quota", OK, f"the account has {left} certificates left{counted}")

    async def _counters(self) -> str:
        try:
            issued = await told_number(self._api, "/counters/certificates/issued")
            revoked = await told_number(self._api, "/counters/certificates/revoked")
        except IssuerError:
            return ""
        return f", {issued} issued and {revoked} revoked so far"

    async def _chain(self) -> None:
        try:
            chain = await self._ask_chain()
        except IssuerError as error:
            self._note("chain", FAIL, error.message)
            return
        if not chain:
            self._note("chain", FAIL, f"{self._api.where} shows no trust chain; ask GlobalSign")
            return
        for child, above in pairwise(chain):
            if not signed_by(child, above):
                self._note("chain", FAIL, f"in the CA's trust chain {child.name} is not signed by {above.name}")
                return
        issuing, top = chain[0], chain[-1]
        first = min(chain, key=lambda each: each.not_after)
        ends = f"certificates are issued by {issuing.name}, which ends at {issuing.not_after:%Y-%m-%d}"
        trust = (
            f"the root {top.name} must be an active trusted certificate"
            if top.self_signed
            else f"its root is not shown; {top.name} or what is above it must be an active trusted certificate"
        )
        if first.not_after <= self._now:
            self._note("chain", FAIL, f"{first.name} has ended at {first.not_after:%Y-%m-%d}; ask GlobalSign")
        elif first.not_after <= self._now + EXPIRES_SOON:
            self._note("chain", WARN, f"{ends}; {first.name} ends at {first.not_after:%Y-%m-%d}; {trust}")
        else:
            self._note("chain", OK, f"{ends}; {trust}")

    async def _test_certificate(self, request: IssueRequest) -> Pending | None:
        try:
            pending = await self._issue(request)
        except IssuerError as error:
            self._note("test certificate", FAIL, error.message)
            return None
        self._note("test certificate", OK, f"asked for, serial number {pending.reference}")
        return pending
