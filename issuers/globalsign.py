"""GlobalSign's Atlas HVCA, version 2 (issuer type GLOBAL_SIGN; `issuers.md` B, GlobalSign's API document v2.1).

A request is taken at once and its serial number told; the certificate is collected under it a moment later. There is
no idempotency key, but the CA can be asked what it issued: that is how a lost answer is settled.

Attributes, all of them texts (the Izuma API has none, `izuma.md` A1):

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
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from issuers.globalsign_api import HvcaApi, HvcaOptions, refused, said
from issuers.globalsign_check import QUOTA, Examination, told_number
from issuers.globalsign_policy import Policy
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
"""Seconds until a certificate is asked for the first time, when the CA names none (`issuers.md` B5)."""
LAG_SECONDS = 10.0
"""How long a certificate may be unknown after its request was taken: some gateways lag (`issuers.md` B5)."""

BEFORE, AFTER = timedelta(seconds=60), timedelta(minutes=15)
"""Where a lost certificate is looked for, around the time of its request; a request may have waited for its turn."""
SETTLED = timedelta(minutes=5)
"""After this a request whose answer was lost is performed or never will be. GlobalSign's own client waits 60 s for an
answer (`config.go`), as do most gateways, and none is known to hold a request longer than five minutes."""
PAGE, MOST_PAGES = 100, 50
MOST_ENTRIES = PAGE * MOST_PAGES
"""Also of a CA that does not keep to the pages that it is asked for."""
MOST_CANDIDATES = 200
"""Certificates fetched in one look; those with the very notBefore that was asked for come first. The next look goes on
with the others."""
MOST_KEYS = 10000

ATTRIBUTES = ("base_url", "tls_roots")
CREDENTIALS = ("api_key", "access_key", "api_secret", "client_certificate", "private_key", "passphrase")

REASONS = {
    x509.ReasonFlags.affiliation_changed: "affiliationChanged",
    x509.ReasonFlags.key_compromise: "keyCompromise",
    x509.ReasonFlags.superseded: "superseded",
    x509.ReasonFlags.cessation_of_operation: "cessationOfOperation",
    x509.ReasonFlags.privilege_withdrawn: "privilegeWithdrawn",
}
"""The reasons HVCA knows; any other is `unspecified` (`issuers.md` B2)."""

_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A certificate of the CA's statistics; `readings` are what its serial number may mean."""

    readings: tuple[int, ...]
    not_before: int


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
        # Serial number → public key (DER) of what was fetched: a storm of recoveries asks once.
        self._keys: dict[int, bytes] = {}

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
            if _SERIAL.fullmatch(word) is None:
                raise OutcomeUnknown(f"{self._api.where} took the request and did not tell under which serial number")
            return Pending(f"{int(word, 16):X}", FIRST_POLL)
        if answer.status == 422:
            # It may have changed since it was fetched.
            self._policy.forget()
        raise refused(answer, orders=True)

    async def collect(self, reference: str) -> Issued | Pending:
        """The certificate of this serial number. A CA that is busy or away (Unavailable, Throttled) has the request."""
        if _SERIAL.fullmatch(reference) is None:
            raise Misconfigured(f"{reference!r} is no serial number that {self._api.where} gave")
        answer = await self._api.call("GET", f"/certificates/{reference}")
        if answer.status == 404:
            return self._unknown_yet(reference, answer)
        self._lagging.ended(reference)
        if answer.status == 202:
            return Pending(reference, answer.retry_after or FIRST_POLL)
        if answer.status != 200:
            raise refused(answer, orders=False)
        leaf, revoked = _read_collected(answer)
        if revoked:
            raise Rejected(f"{self._api.where} has issued certificate {reference} and has revoked it since")
        if leaf.serial_number != int(reference, 16):
            raise BadCertificate(
                Check.SERIAL,
                f"{self._api.where} was asked for certificate {reference} and gave {leaf.serial_number:X}",
            )
        self._remember(leaf.serial_number, leaf)
        return await self._issued(leaf)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued | Unsettled | None:
        """Look for the certificate among those issued around the request's time, by its public key.

        Raises OutcomeUnknown when the CA does not let us look.
        """
        key = request.csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        try:
            entries, whole = await self._statistics(request.not_before)
            found, open_question = await self._look(entries, request.not_before, key)
        except IssuerError as error:
            raise OutcomeUnknown(f"what became of the request cannot be found out: {error.message}") from error
        if found is not None:
            return found
        if not whole:
            open_question = f"{self._api.where} lists more certificates around the request's time than are looked at"
        elif quiet < SETTLED:
            open_question = open_question or (
                f"{self._api.where} shows no certificate for the request and may still be at work on it"
            )
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
            if now.status == 200 and _read_collected(now)[1]:
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

    # -- a lost answer ----------------------------------------------------------------------------------------

    async def _statistics(self, asked: datetime) -> tuple[Sequence[object], bool]:
        """What the CA issued around `asked`, and whether that is all of it."""
        begin, end = int((asked - BEFORE).timestamp()), int((asked + AFTER).timestamp())
        entries: list[object] = []
        for page in range(1, MOST_PAGES + 1):
            answer = await self._api.question(f"/stats/issued?page={page}&per_page={PAGE}&from={begin}&to={end}")
            read = answer.json()
            if not isinstance(read, list):
                raise Misconfigured(f"{self._api.where} shows no list of what it issued")
            entries += read
            if len(entries) > MOST_ENTRIES:
                break
            total = answer.headers.get("total-count", "")
            if not read or not total.isdecimal() or len(entries) >= int(total[:12]):
                return entries, True
        return entries[:MOST_ENTRIES], False

    async def _look(self, entries: Sequence[object], asked: datetime, key: bytes) -> tuple[Issued | None, str]:
        """The certificate with `key` among those listed; or why that it is not there cannot be said yet, in words."""
        open_question = ""
        for number, candidate in enumerate(self._candidates(entries, asked, key)):
            if number >= MOST_CANDIDATES:
                return None, (
                    f"{self._api.where} issued many certificates around the request's time; none of the "
                    f"{MOST_CANDIDATES} nearest is the one looked for"
                )
            for serial in candidate.readings:
                answer = await self._api.call("GET", f"/certificates/{serial:X}")
                if answer.status == 404:
                    continue
                if answer.status == 202:
                    open_question = (
                        f"{self._api.where} is still at work on a certificate that may be the one looked for"
                    )
                elif answer.status == 200:
                    leaf, revoked = _read_collected(answer)
                    if self._remember(serial, leaf) == key and not revoked:
                        return await self._issued(leaf), ""
                elif answer.status != 422:
                    raise refused(answer, orders=False)
                break
        return None, open_question

    def _candidates(self, entries: Sequence[object], asked: datetime, key: bytes) -> Iterator[_Candidate]:
        """Those listed that may have `key`, the likeliest first."""
        moment = int(asked.timestamp())
        read = [found for entry in entries if (found := _read_candidate(entry)) is not None]
        for each in sorted(read, key=lambda each: abs(each.not_before - moment)):
            if all(self._keys.get(serial, key) == key for serial in each.readings):
                yield each

    def _remember(self, serial: int, leaf: x509.Certificate) -> bytes:
        try:
            key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except UNREADABLE:
            key = b""
        while len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[serial] = key
        return key


def _fits(leaf: Certificate, chain: Sequence[Certificate]) -> bool:
    return any(each.subject == leaf.issuer and signed_by(leaf, each) for each in chain)


def _read_collected(answer: Answer) -> tuple[x509.Certificate, bool]:
    """A certificate, and whether it is revoked; raises BadCertificate."""
    read = answer.json()
    try:
        found = x509.load_pem_x509_certificates(str(read["certificate"]).encode())
    except (KeyError, *UNREADABLE) as error:
        raise BadCertificate(
            Check.PARSE, f"{answer.where} says that it has issued, but what it sent is no certificate: {error}"
        ) from error
    if len(found) != 1:
        raise BadCertificate(
            Check.ONE_LEAF, f"{answer.where} sent {len(found)} certificates where it issues one at a time"
        )
    return found[0], read.get("status") == "REVOKED"


def _read_candidate(entry: object) -> _Candidate | None:
    """One row of the statistics. The document writes serial numbers in decimal, GlobalSign's client reads hex."""
    if not isinstance(entry, Mapping):
        return None
    word, begin = str(entry.get("serial_number", "")), entry.get("not_before")
    if _SERIAL.fullmatch(word) is None and not (word.isascii() and word.isdecimal() and len(word) < 50):
        return None
    readings = tuple(int(word, base) for base in (10, 16) if base == 16 or word.isdecimal())
    return _Candidate(readings, begin if isinstance(begin, int) else 0)


def _filled(credentials: Mapping[str, object], key: str, what: str) -> str:
    value = option(credentials, key, str, what).strip()
    if not value:
        raise Misconfigured(f"{key!r} of {what} is empty; give what GlobalSign gave", key)
    return value
