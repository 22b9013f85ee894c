"""CFSSL's HTTP API as its authenticated signing uses it, and its refusals in issuer words (cloudflare/cfssl `doc/api`).

Status and content type mean little there: errors are JSON sent as text, a wrong key is a 400 like a broken CSR, and
only the message tells them apart. So the JSON envelope is read first, whatever the status.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509

from issuers.certificate import UNREADABLE, Certificate, ca_certificate
from issuers.errors import BadCertificate, Check, IssuerError, Misconfigured, Rejected, Unauthorized, Unavailable
from issuers.http import Answer, HttpClient, refused_by_status
from issuers.reach import Reach
from issuers.tls import TlsIdentity, tls_context
from issuers.words import plain

PREFIX = "/api/v1/cfssl"
HIGHEST_CODE = 1_000_000
"""Of its errors the highest is in the eleven thousands (`errors/error.go`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CfsslOptions:
    """Where a CFSSL is and how it is asked; `bare_url` when the operator gave no scheme."""

    url: httpx.URL
    bare_url: bool
    profile: str
    label: str
    bundle: bool
    roots: tuple[x509.Certificate, ...]
    hmac_key: bytes = field(repr=False)
    identity: TlsIdentity | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON envelope of CFSSL: its result, or the first error's code and message."""

    answer: Answer
    success: bool
    result: Mapping[str, Any] = field(repr=False)
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Signer:
    """What `info` tells: the issuing certificate, and how the profile signs; `expiry` is a Go duration, "17520h"."""

    certificate: Certificate
    usages: tuple[str, ...]
    expiry: str


class CfsslApi:
    """The endpoints of one CFSSL server."""

    def __init__(self, options: CfsslOptions, reach: Reach, *, identified: bool = True) -> None:
        """`identified=False` comes without the client certificate. Raises Misconfigured."""
        self._options = options
        secure = options.url.scheme == "https"
        identity = options.identity if identified else None
        self._client = HttpClient(
            options.url, reach=reach, tls=tls_context(options.roots, identity) if secure else None
        )

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self._client.where

    async def info(self, profile: str) -> Reply:
        """What the server tells of its signer, `Signer` by `read_signer`; raises IssuerError when it tells nothing."""
        return await self._ask("info", {"label": self._options.label, "profile": profile}, orders=False)

    async def authsign(self, profile: str, csr: str, *, bundle: bool = False) -> Reply:
        """Have `csr` (PEM) signed; an empty one asks only whether our token is taken. Raises IssuerError.

        The token is the HMAC-SHA-256 of the very bytes that are sent (`auth/auth.go`).
        """
        wish: dict[str, object] = {"certificate_request": csr, "profile": profile}
        if self._options.label:
            wish["label"] = self._options.label
        if bundle:
            wish["bundle"] = True
        request = json.dumps(wish).encode()
        token = hmac.digest(self._options.hmac_key, request, "sha256")
        return await self._ask(
            "authsign",
            {"token": b64encode(token).decode("ascii"), "request": b64encode(request).decode("ascii")},
            orders=bool(csr),
        )

    async def offers(self, endpoint: str) -> bool:
        """Whether the server has `endpoint`, asked by GET, which none of them serves (405 against 404)."""
        answer = await self._client.send("GET", f"{PREFIX}/{endpoint}", orders=False)
        return answer.status == 405

    async def aclose(self) -> None:
        """Let connections go."""
        await self._client.aclose()

    async def _ask(self, endpoint: str, body: Mapping[str, object], *, orders: bool) -> Reply:
        answer = await self._client.send(
            "POST",
            f"{PREFIX}/{endpoint}",
            content=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            orders=orders,
        )
        envelope = answer.json()
        if not isinstance(envelope, dict) or not isinstance(envelope.get("success"), bool):
            raise self._not_an_envelope(endpoint, answer, orders=orders)
        errors = envelope.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        result, code = envelope.get("result"), first.get("code")
        return Reply(
            answer,
            envelope["success"],
            result if isinstance(result, dict) else {},
            code if isinstance(code, int) and abs(code) < HIGHEST_CODE else 0,
            plain(str(first.get("message", ""))),
        )

    def _not_an_envelope(self, endpoint: str, answer: Answer, *, orders: bool) -> IssuerError:
        if answer.status == 403 and b"Invalid CN" in answer.body:
            return Unauthorized(
                f"{self.where} does not take the CN of our client certificate (its -mutual-tls-cn); "
                "give a 'client_certificate' whose CN fits"
            )
        if answer.status == 404 and endpoint == "authsign":
            return Misconfigured(
                f"{self.where} offers no authsign: no profile there has an auth_key; give the profile an auth_key, "
                "or correct 'host_url'"
            )
        if answer.status == 404:
            return Misconfigured(
                f"{self.where} has no {PREFIX}/{endpoint}; correct 'host_url' if this is not a CFSSL server's address"
            )
        return refused_by_status(answer, orders=orders)

    async def refused(self, reply: Reply, profile: str) -> IssuerError:
        """A reply without success in issuer words (cloudflare/cfssl `doc/errorcode.txt`)."""
        if reply.code == 1 and reply.message == "bad request":
            # multirootca says the same of a label it does not have and of a CSR it does not like.
            told = await self.info(profile)
            if not told.success and "bad label" in told.message:
                return self._explained(told, profile)
        return self._explained(reply, profile)

    def _explained(self, reply: Reply, profile: str) -> IssuerError:
        words = reply.message.lower()
        for text, kind, sentence in _BY_MESSAGE:
            if text in words:
                return kind(self._filled(sentence, reply, profile))
        for codes, kind, sentence in _BY_CODE:
            if reply.code in codes:
                return kind(self._filled(sentence, reply, profile))
        if reply.answer.status >= 429:
            return refused_by_status(reply.answer, orders=True)
        return Misconfigured(self._filled(_NOT_UNDERSTOOD, reply, profile))

    def _filled(self, sentence: str, reply: Reply, profile: str) -> str:
        return sentence.format(
            where=self.where,
            profile=f"profile {profile!r}" if profile else "the default profile",
            label=f"label {self._options.label!r}" if self._options.label else "the default label",
            said=f"{reply.message or 'no reason'}, code {reply.code}",
        )


def read_signer(reply: Reply) -> Signer:
    """What a successful `info` holds; raises BadCertificate when it is no CA certificate."""
    try:
        certificate = ca_certificate(
            x509.load_pem_x509_certificate(str(reply.result.get("certificate", "")).strip().encode())
        )
    except UNREADABLE as error:
        raise BadCertificate(
            Check.PARSE, f"the issuing certificate that {reply.answer.where} shows (info) cannot be read: {error}"
        ) from error
    usages = reply.result.get("usages")
    return Signer(
        certificate,
        tuple(map(str, usages)) if isinstance(usages, Sequence) and not isinstance(usages, str) else (),
        str(reply.result.get("expiry", "")),
    )


_NOT_UNDERSTOOD = (
    "{where} did not understand our request ({said}): it may be no CFSSL, or one of a kind we do not know; "
    "check 'host_url' and report this"
)
_NO_AUTH_KEY = (
    "{profile} of {where} is not an authenticated profile: it is missing there or has no auth_key; "
    "correct 'cfssl_profile', or give the profile an auth_key"
)
_THEIR_CSR = "{where} refuses the CSR: {said}; the same CSR will not be taken"
_THEIR_CA = (
    "{where} cannot sign: {said}; look at the CA's own certificate and key, its configuration, with 'bundle' on its "
    "-ca-bundle and -int-bundle, and its log"
)

_BY_MESSAGE: tuple[tuple[str, type[IssuerError], str], ...] = (
    (
        "invalid token",
        Unauthorized,
        "{where} does not take our token: 'hmac_hex_key' is not the auth_key of {profile}; give that profile's key",
    ),
    ("no authentication provider", Misconfigured, _NO_AUTH_KEY),
    ("authorisation required", Misconfigured, _NO_AUTH_KEY),
    ("invalid profile", Misconfigured, "{where} has no {profile} under {label}; correct 'cfssl_profile'"),
    ("bad label", Misconfigured, "{where} has no {label}; correct 'cfssl_label'"),
    (
        "not authorised",
        Unauthorized,
        "{where} takes nothing from our address under {label}; add our address to the label's nets",
    ),
    (
        "bad request",
        Rejected,
        "{where} refuses the CSR under {label} without a reason; multirootca writes it into its log: "
        "the CSR, {profile}, or the label's key",
    ),
    ("illegal base64", Misconfigured, _NOT_UNDERSTOOD),
    ("unable to parse authenticated sign request", Misconfigured, _NOT_UNDERSTOOD),
    ("missing parameter", Misconfigured, _NOT_UNDERSTOOD),
    (
        "policy whitelist",
        Rejected,
        "{where} refuses the CSR: a name in it is not in the name_whitelist of {profile} ({said}); widen the list if "
        "the device belongs there",
    ),
    (
        "policy violation",
        Rejected,
        "{where} refuses the CSR: it asks for what {profile} does not allow ({said})",
    ),
)
_BY_CODE: tuple[tuple[Sequence[int], type[IssuerError], str], ...] = (
    (
        (1400,),
        Misconfigured,
        "{profile} of {where} wants serial numbers from us; turn ClientProvidesSerialNumbers off there",
    ),
    (range(9000, 10000), Rejected, _THEIR_CSR),
    (range(1000, 7000), Misconfigured, _THEIR_CA),
    (
        range(7000, 12000),
        Unavailable,
        "{where} cannot sign now: {said}; look at the services it depends on, its database or CT log, and at its log",
    ),
)
