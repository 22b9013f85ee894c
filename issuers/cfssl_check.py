"""What `verify` finds out about a CFSSL, step by step; nothing is signed but the test certificate."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from issuers.base import CheckReport, Issued, IssueRequest
from issuers.certificate import Certificate, read_certificate
from issuers.cfssl_api import PREFIX, CfsslApi, CfsslOptions, Reply, Signer, read_signer
from issuers.errors import IssuerError, Unauthorized
from issuers.steps import EXPIRES_SOON, FAIL, OK, SKIPPED, WARN, Steps
from issuers.words import plain

STEPS = ("reach", "authenticate", "policy", "chain", "test certificate", "open endpoints", "clock")
CLOCK_OFFSET = timedelta(minutes=2)
"""A CA more than five minutes ahead makes certificates that begin in our future: CFSSL dates them back by five."""
NO_SUCH_PROFILE = "firstlight-no-such-profile"
"""A name no operator gives to a profile: what it gets is what a mistyped one would get."""
MISSED_THE_CSR = ("missing parameter 'certificate_request'", "invalid request")
"""What `serve` and multirootca say once the token is good and no CSR is there (their `signhandler.go`, `api.go`)."""
OPEN_ENDPOINTS = ("newcert", "sign")
"""What signs without a token when it is there (docs/certificate-authorities.md)."""
CLOSED_BY = "-disable sign,newcert,init_ca,newkey,gencrl,bundle,scan,scaninfo,certinfo,certadd,/"

# Go's longest is 2562047 hours.
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)


class Examination:
    """One check of one CFSSL.

    `anonymous` comes without our client certificate, when we have one; `issue` tells too whether a bundle came.
    """

    def __init__(
        self,
        options: CfsslOptions,
        api: CfsslApi,
        anonymous: CfsslApi | None,
        issue: Callable[[IssueRequest], Awaitable[tuple[Issued, bool]]],
        now: datetime,
    ) -> None:
        self._options = options
        self._api = api
        self._anonymous = anonymous
        self._issue = issue
        self._now = now
        self._steps = Steps(STEPS)
        self._note = self._steps.note

    async def run(self, issue_test: IssueRequest | None) -> CheckReport:
        """All steps in the order of STEPS; a step that failed leaves out those that build on it."""
        issued: Issued | None = None
        told = await self._reach()
        if told is not None:
            signer = await self._authenticate_and_policy(told)
            if signer is not None and self._chain(signer) and issue_test is not None:
                issued = await self._test_certificate(issue_test)
            elif issue_test is None:
                self._note("test certificate", SKIPPED, "not asked for")
            await self._open_endpoints()
            self._clock(told)
        return self._steps.report(issued)

    async def _reach(self) -> Reply | None:
        try:
            told = await self._api.info(self._options.profile)
        except Unauthorized as error:
            self._note("reach", OK, f"{self._api.where} answers")
            self._note("authenticate", FAIL, error.message)
            return None
        except IssuerError as error:
            self._note("reach", FAIL, error.message)
            return None
        answers = f"{self._api.where} answers"
        if self._options.bare_url:
            answers += "; 'host_url' has no scheme and is read as http, give it with http:// or https://"
        if self._options.url.scheme == "https":
            self._note("reach", OK, answers)
        else:
            self._note("reach", WARN, f"{answers}; without TLS whoever is on the way can change what it answers")
        return told

    async def _authenticate_and_policy(self, told: Reply) -> Signer | None:
        profile = self._options.profile
        if not told.success:
            error = await self._api.refused(told, profile)
            self._note("policy", FAIL, error.message)
            return None
        try:
            signer = read_signer(told)
        except IssuerError as error:
            self._note("chain", FAIL, error.message)
            return None
        try:
            refusal = await self._token_refusal(profile)
        except IssuerError as error:
            refusal = error
        if refusal is not None:
            name = "authenticate" if isinstance(refusal, Unauthorized) else "policy"
            self._note(name, FAIL, refusal.message)
            return None
        self._authenticated()
        return signer if await self._policy(signer) else None

    async def _token_refusal(self, profile: str) -> IssuerError | None:
        """None when our token is taken: the server looks at it before it misses the CSR that we leave out."""
        reply = await self._api.authsign(profile, "")
        if reply.message in MISSED_THE_CSR:
            return None
        return await self._api.refused(reply, profile)

    def _authenticated(self) -> None:
        if self._options.identity is not None:
            ours = read_certificate(self._options.identity.chain[0])
            if ours.not_after <= self._now + EXPIRES_SOON:
                self._note(
                    "authenticate",
                    WARN,
                    f"the server takes our token; our client certificate ends at {ours.not_after:%Y-%m-%d}, renew it",
                )
                return
        self._note("authenticate", OK, "the server takes our token")

    async def _policy(self, signer: Signer) -> bool:
        profile = self._options.profile
        usages, expiry = plain(", ".join(signer.usages)), plain(signer.expiry)
        shown = f"usages {usages or 'none'}; expiry {expiry or 'not told'}"
        if signer.usages and not {"client auth", "any"} & set(signer.usages):
            self._note(
                "policy", FAIL, f'the profile has no usage "client auth", which devices need ({shown}); add it there'
            )
            return False
        if profile and await self._may_be_mistyped(signer):
            self._note(
                "policy",
                WARN,
                f"{shown}; CFSSL takes its default profile for a name it does not know, and {profile!r} looks just "
                "like the default: check its spelling",
            )
        else:
            self._note("policy", OK, shown)
        return True

    async def _may_be_mistyped(self, signer: Signer) -> bool:
        """Whether a name that cannot exist gets the same, by `info` and with our token."""
        try:
            told = await self._api.info(NO_SUCH_PROFILE)
            return told.success and read_signer(told) == signer and await self._token_refusal(NO_SUCH_PROFILE) is None
        except IssuerError:
            return False

    def _chain(self, signer: Signer) -> bool:
        issuing = signer.certificate
        ends = f"{issuing.name} ends at {issuing.not_after:%Y-%m-%d}"
        lasting = _lasting(signer.expiry)
        if not issuing.is_ca:
            self._note("chain", FAIL, f"{issuing.name}, which the server signs with, is no CA certificate")
            return False
        if issuing.not_after <= self._now:
            self._note("chain", FAIL, f"{ends}; renew the CA")
            return False
        if lasting is not None and lasting > issuing.not_after - self._now:
            self._note(
                "chain",
                FAIL,
                f"{ends}, before a certificate of the profile's expiry {signer.expiry} would; "
                "renew the CA or shorten the profile's expiry",
            )
            return False
        root = "" if issuing.self_signed else f"; its issuer {_issuer_of(issuing)} must be known here or uploaded"
        if issuing.not_after <= self._now + EXPIRES_SOON:
            self._note("chain", WARN, f"{ends}, plan a new CA{root}")
        else:
            self._note("chain", OK, f"{ends}{root}")
        return True

    async def _test_certificate(self, request: IssueRequest) -> Issued | None:
        try:
            issued, bundled = await self._issue(request)
        except IssuerError as error:
            self._note("test certificate", FAIL, error.message)
            return None
        signed = f"signed, serial number {issued.reference}"
        if self._options.bundle and not bundled:
            self._note(
                "test certificate",
                WARN,
                f"{signed}; 'bundle' is on and no chain came: start CFSSL 1.6 with -ca-bundle and -int-bundle, "
                "or turn it off",
            )
        else:
            self._note("test certificate", OK, signed)
        return issued

    async def _open_endpoints(self) -> None:
        name = "open endpoints"
        try:
            found = [each for each in OPEN_ENDPOINTS if await self._api.offers(each)]
            if found and self._anonymous is not None and await self._refused_without_certificate(self._anonymous):
                self._note(name, OK, "the server lets nobody in without a client certificate")
                return
        except IssuerError as error:
            self._note(name, WARN, f"not known: {error.message}")
            return
        if not found:
            self._note(name, OK, "none of them is there")
            return
        paths = " and ".join(f"{PREFIX}/{each}" for each in found)
        self._note(
            name,
            WARN,
            f"whoever reaches the port gets certificates from {paths} without any token; use multirootca, "
            f"or CFSSL 1.6.5 with {CLOSED_BY}, or mutual TLS",
        )

    async def _refused_without_certificate(self, anonymous: CfsslApi) -> bool:
        try:
            await anonymous.info(self._options.profile)
        except Unauthorized:
            return True
        return False

    def _clock(self, told: Reply) -> None:
        theirs = told.answer.date
        if theirs is None:
            self._note("clock", SKIPPED, "the server did not tell its time")
            return
        offset = theirs - self._now
        seconds = round(abs(offset).total_seconds())
        if abs(offset) <= CLOCK_OFFSET:
            self._note("clock", OK, f"the server's clock is within {max(seconds, 1)} s of ours")
        elif offset > timedelta(0):
            self._note(
                "clock",
                WARN,
                f"the server's clock is {seconds} s ahead of ours: its certificates may begin in our future, and are "
                "refused then; set both clocks by NTP",
            )
        else:
            self._note("clock", WARN, f"the server's clock is {seconds} s behind ours; set both clocks by NTP")


def _issuer_of(certificate: Certificate) -> str:
    return plain(certificate.issuer.rfc4514_string()) or "without a name"


def _lasting(duration: str) -> timedelta | None:
    """A Go duration of hours, minutes and seconds; None for anything else."""
    match = _DURATION.fullmatch(duration)
    if match is None or not duration:
        return None
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
