"""GlobalSign's Atlas HVCA, version 2 (issuer type GLOBAL_SIGN; GlobalSign's API document v2.1).

A request is taken at once and its serial number told; the certificate is collected under it a moment later. There is
no idempotency key, but the CA can be asked what it issued: that is how a lost answer is settled.

Attributes, all of them texts (the Izuma API has none):

    base_url    https://host:port/v2 of the account's region; without it the European one
    tls_roots   PEM: what to trust for https instead of the public CAs

Credentials, never shown, as GlobalSign gave them and as in the Izuma API:

    api_key              also as `access_key`
    api_secret
    client_certificate   PEM: the account's certificate for mutual TLS, then those that lead to its root
    private_key          PEM: its private key (RSA), encrypted (PKCS#8 or the old OpenSSL form) or not
    passphrase           of the private key, empty when it is not encrypted
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuers.base import Capability, CheckReport, Issued, Issuer, IssueRequest, Pending, Recovery, Unsettled
from issuers.certificate import UNREADABLE, Certificate, ca_certificate, read_certificate, signed_by
from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    Misconfigured,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from issuers.globalsign_api import SERIAL, HvcaApi, HvcaOptions, read_collected, refused, said
from issuers.globalsign_check import QUOTA, Examination, told_number
from issuers.globalsign_policy import Policy
from issuers.globalsign_statistics import Statistics
from issuers.http import Answer, read_url
from issuers.lagging import Lagging
from issuers.options import about, option, refuse_unknown
from issuers.pem import read_certificates, read_private_key
from issuers.reach import Reach
from issuers.remembered import Remembered
from issuers.tls import TlsIdentity

BASE_URL = "https://emea.api.hvca.globalsign.com:8443/v2"
POLICY_SECONDS = 300.0
"""How soon a policy that GlobalSign has changed is at work."""
CHAIN_SECONDS = 86400.0
FIRST_POLL = 0.5
"""Seconds until a certificate is asked for the first time, when the CA names none."""
LAG_SECONDS = 10.0
"""How long a certificate may be unknown after its request was taken: some gateways lag."""

SETTLED = timedelta(minutes=5)
"""After this a request whose answer was lost is performed or never will be. GlobalSign's own client waits 60 s for an
answer (`config.go`), as do most gateways, and none is known to hold a request longer than five minutes."""

ATTRIBUTES = ("base_url", "tls_roots")
CREDENTIALS = ("api_key", "access_key", "api_secret", "client_certificate", "private_key", "passphrase")

REASONS = {
    x509.ReasonFlags.affiliation_changed: "affiliationChanged",
    x509.ReasonFlags.key_compromise: "keyCompromise",
    x509.ReasonFlags.superseded: "superseded",
    x509.ReasonFlags.cessation_of_operation: "cessationOfOperation",
    x509.ReasonFlags.privilege_withdrawn: "privilegeWithdrawn",
}
"""The reasons HVCA knows; any other is `unspecified` (API document v2.1)."""


class GlobalSignIssuer(Issuer):
    """One account at HVCA."""

    type = "GLOBAL_SIGN"
    capabilities = frozenset({Capability.COLLECT, Capability.CHAIN, Capability.REVOKE, Capability.QUOTA})
    recovery = Recovery.LOOKUP

    def __init__(self, options: HvcaOptions, reach: Reach) -> None:
        """Raises Misconfigured when client certificate and key do not belong together."""
        self._options = options
        self._api = HvcaApi(options, reach)
        self._policy = Remembered(self._ask_policy, POLICY_SECONDS)
        self._chain = Remembered(self._ask_chain, CHAIN_SECONDS)
        self._lagging = Lagging()
        self._statistics = Statistics(self._api)

    @classmethod
    def open(
        cls, name: str, attributes: Mapping[str, object], credentials: Mapping[str, object], reach: Reach
    ) -> "GlobalSignIssuer":
        """Open by the registry: the attributes and credentials of the module's docstring. Raises Misconfigured."""
        what = f"issuer {name!r}"
        refuse_unknown(attributes, ATTRIBUTES, what)
        refuse_unknown(credentials, CREDENTIALS, what)
        with about("base_url"):
            url = read_url(option(attributes, "base_url", str, what, BASE_URL), f"'base_url' of {what}")
            if url.scheme != "https":
                raise Misconfigured(f"'base_url' of {what} begins with http://; HVCA knows us by TLS, use https://")
        with about("tls_roots"):
            text = option(attributes, "tls_roots", str, what, "")
            roots = read_certificates(text, f"'tls_roots' of {what}") if text else ()
        if "api_key" in credentials and "access_key" in credentials:
            raise Misconfigured(
                f"{what} has 'api_key' and 'access_key', which are two names of one thing; give one", "api_key"
            )
        key_name = "access_key" if "access_key" in credentials else "api_key"
        with about("client_certificate"):
            chain = read_certificates(
                option(credentials, "client_certificate", str, what), f"'client_certificate' of {what}"
            )
        with about("private_key"):
            private_key = read_private_key(
                option(credentials, "private_key", str, what),
                option(credentials, "passphrase", str, what, ""),
                f"'private_key' of {what}",
            )
        options = HvcaOptions(
            url=url,
            roots=roots,
            identity=TlsIdentity(chain, private_key),
            api_key=_filled(credentials, key_name, what),
            api_secret=_filled(credentials, "api_secret", what),
        )
        return cls(options, reach)

    async def issue(self, request: IssueRequest) -> Pending:
        """Hand the request in; `Pending` bears the serial number, to be made durable before `collect`."""
        policy, chain = await self._policy.get(), await self._chain.get()
        body = policy.body(request, chain[0].not_after if chain else None)
        answer = await self._api.call("POST", "/certificates", body, orders=True)
        if answer.status == 201:
            # The last segment alone counts; where the rest of it leads is not followed.
            word = answer.headers.get("location", "").rstrip("/").rpartition("/")[2]
            if SERIAL.fullmatch(word) is None:
                raise OutcomeUnknown(f"{self._api.where} took the request and did not tell under which serial number")
            return Pending(f"{int(word, 16):X}", FIRST_POLL)
        if answer.status == 422:
            # It may have changed since it was fetched.
            self._policy.forget()
        raise refused(answer, orders=True)

    async def collect(self, reference: str) -> Issued | Pending:
        """The certificate of this serial number. A CA that is busy or away (Unavailable, Throttled) has the request."""
        if SERIAL.fullmatch(reference) is None:
            raise Misconfigured(f"{reference!r} is no serial number that {self._api.where} gave")
        answer = await self._api.call("GET", f"/certificates/{reference}")
        if answer.status == 404:
            return self._unknown_yet(reference, answer)
        self._lagging.ended(reference)
        if answer.status == 202:
            return Pending(reference, answer.retry_after or FIRST_POLL)
        if answer.status != 200:
            raise refused(answer, orders=False)
        leaf, revoked = read_collected(answer)
        if revoked:
            raise Rejected(f"{self._api.where} has issued certificate {reference} and has revoked it since")
        if leaf.serial_number != int(reference, 16):
            raise BadCertificate(
                Check.SERIAL,
                f"{self._api.where} was asked for certificate {reference} and gave {leaf.serial_number:X}",
            )
        self._statistics.remember(leaf.serial_number, leaf)
        return await self._issued(leaf)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued | Unsettled | None:
        """Look for the certificate among those issued around the request's time, by its public key.

        Raises OutcomeUnknown when the CA does not let us look.
        """
        key = request.csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        try:
            leaf, open_question = await self._statistics.look_for(key, request.not_before)
            found = await self._issued(leaf) if leaf is not None else None
        except IssuerError as error:
            raise OutcomeUnknown(f"what became of the request cannot be found out: {error.message}") from error
        if found is not None:
            return found
        if not open_question and quiet < SETTLED:
            open_question = f"{self._api.where} shows no certificate for the request and may still be at work on it"
        return Unsettled(open_question) if open_question else None

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        """The steps reach, authenticate, policy, clock, quota, chain and test certificate."""
        self._policy.forget()
        self._chain.forget()
        return await Examination(self._options, self._api, self._policy.get, self._chain.get, self.issue, now).run(
            issue_test
        )

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The trust chain: issuing CA first, root last."""
        return tuple(each.parsed for each in await self._chain.get())

    async def certificates_left(self) -> int | None:
        """By the account's quota, which API v2.1 does not tell."""
        try:
            return await told_number(self._api, QUOTA)
        except Misconfigured:
            return None

    async def revoke(self, serial: int, reason: x509.ReasonFlags, at: datetime) -> None:
        """Withdraw a certificate; one that is withdrawn already is no fault.

        HVCA takes a time only for when a key was lost; else it is its own present.
        """
        word = REASONS.get(reason, "unspecified")
        body: dict[str, object] = {"revocation_reason": word}
        if reason is x509.ReasonFlags.key_compromise:
            body["revocation_time"] = int(at.timestamp())
        path = f"/certificates/{serial:X}"
        answer = await self._api.call("PATCH", path, body)
        if answer.status == 405:
            # API v2.1 has the older call alone.
            answer = await self._api.call("DELETE", path)
        if answer.status == 204:
            return
        if answer.status == 404:
            raise Rejected(f"{self._api.where} knows no certificate {serial:X} ({said(answer)})")
        if answer.status == 409:
            now = await self._api.call("GET", path)
            if now.status == 200 and read_collected(now)[1]:
                return
            if now.status == 202:
                raise Unavailable(f"certificate {serial:X} is still being issued; it can be revoked after that")
            raise Rejected(f"{self._api.where} does not revoke certificate {serial:X} ({said(answer)})")
        raise refused(answer, orders=False)

    async def aclose(self) -> None:
        """Let connections go."""
        await self._api.aclose()

    # -- what the CA tells ------------------------------------------------------------------------------------

    async def _ask_policy(self) -> Policy:
        read = (await self._api.question("/validationpolicy")).json()
        if not isinstance(read, dict):
            raise Misconfigured(f"{self._api.where} shows no validation policy; check that 'base_url' is HVCA's")
        return Policy(read)

    async def _ask_chain(self) -> tuple[Certificate, ...]:
        read = (await self._api.question("/trustchain")).json()
        try:
            texts = [each.encode() for each in read]
            return tuple(ca_certificate(x509.load_pem_x509_certificate(each)) for each in texts)
        except (AttributeError, *UNREADABLE) as error:
            raise BadCertificate(
                Check.PARSE, f"the trust chain that {self._api.where} shows cannot be read: {error}"
            ) from error

    async def _issued(self, leaf: x509.Certificate) -> Issued:
        """`leaf` with the CA certificates above it; those are asked for again when they do not fit."""
        try:
            read = read_certificate(leaf)
        except UNREADABLE as error:
            raise BadCertificate(
                Check.PARSE, f"the certificate that {self._api.where} gave cannot be read: {error}"
            ) from error
        chain = await self._chain.get()
        if not _fits(read, chain):
            chain = await self._chain.get(instead_of=chain)
        above = (each.parsed for each in chain if not each.self_signed)
        return Issued(leaf, (leaf, *above), f"{leaf.serial_number:X}")

    def _unknown_yet(self, reference: str, answer: Answer) -> Pending:
        if self._lagging.unknown(reference, asyncio.get_running_loop().time()) < LAG_SECONDS:
            return Pending(reference, FIRST_POLL)
        self._lagging.ended(reference)
        raise OutcomeUnknown(
            f"{self._api.where} took a request as certificate {reference} and does not know it {LAG_SECONDS:g} s "
            f"later ({said(answer)}); ask GlobalSign"
        )


def _fits(leaf: Certificate, chain: Sequence[Certificate]) -> bool:
    return any(each.subject == leaf.issuer and signed_by(leaf, each) for each in chain)


def _filled(credentials: Mapping[str, object], key: str, what: str) -> str:
    value = option(credentials, key, str, what).strip()
    if not value:
        raise Misconfigured(f"{key!r} of {what} is empty; give what GlobalSign gave", key)
    return value
