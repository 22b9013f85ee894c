"""GlobalSign's Atlas HVCA as HTTP: login, tokens, calls, and its refusals in issuer words (API document v2.1)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import httpx
from cryptography import x509

from issuers.errors import (
    IssuerError,
    Misconfigured,
    OutcomeUnknown,
    QuotaExhausted,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from issuers.http import Answer, HttpClient, refused_by_status
from issuers.pem import answered_certificate
from issuers.reach import Reach
from issuers.remembered import Remembered
from issuers.tls import TlsIdentity, tls_context
from issuers.words import plain

TOKEN_SECONDS = 540.0
"""A token lives ten minutes and does not say so; GlobalSign's own client renews after nine (`client_login.go`)."""
CONTENT_TYPE = "application/json;charset=utf-8"
"""The charset is required (API document v2.1)."""
SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class HvcaOptions:
    """An account at HVCA and where it is."""

    url: httpx.URL
    roots: tuple[x509.Certificate, ...]
    identity: TlsIdentity
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """What a login gives; `at` is the CA's clock (UTC) then, when it told."""

    value: str = field(repr=False)
    at: datetime | None


class HvcaApi:
    """The calls of one account; each raises IssuerError when no whole answer came."""

    def __init__(self, options: HvcaOptions, reach: Reach) -> None:
        """Raises Misconfigured when client certificate and key do not belong together."""
        self._options = options
        self._client = HttpClient(options.url, reach=reach, tls=tls_context(options.roots, options.identity))
        self._token = Remembered(self.login, TOKEN_SECONDS)

    @property
    def where(self) -> str:
        """The CA, for messages."""
        return self._client.where

    async def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, orders: bool = False
    ) -> Answer:
        """One call and its answer, whatever the status, except that the CA does not let us in.

        A token that has ended is renewed once: a 401 means that the call was not performed. Raises IssuerError.
        """
        token = await self._token.get()
        answer = await self._send(method, path, body, token, orders=orders)
        if answer.status != 401:
            return answer
        answer = await self._send(method, path, body, await self._token.get(instead_of=token), orders=orders)
        if answer.status == 401:
            self._token.forget()
            raise Unauthorized(
                f"{self.where} let us log in and does not take the token it gave ({said(answer)}); "
                "the account may be locked, or lack this service: ask GlobalSign"
            )
        return answer

    async def question(self, path: str) -> Answer:
        """A GET that the CA answers with 200; raises IssuerError for anything else."""
        answer = await self.call("GET", path)
        if answer.status != 200:
            raise refused(answer, orders=False)
        return answer

    async def login(self) -> Token:
        """A new token; raises IssuerError."""
        answer = await self._client.send(
            "POST",
            "/login",
            content=json.dumps({"api_key": self._options.api_key, "api_secret": self._options.api_secret}).encode(),
            # Some of GlobalSign's APIs document it and some of their clients send it.
            headers={
                "content-type": CONTENT_TYPE,
                "x-ssl-client-serial": f"{self._options.identity.chain[0].serial_number:X}",
            },
            orders=False,
        )
        if answer.status == 200:
            read = answer.json()
            token = read.get("access_token") if isinstance(read, dict) else None
            if isinstance(token, str) and token.isascii() and token.isprintable() and token:
                return Token(token, answer.date)
            raise Misconfigured(f"{self.where} takes our login and gives no token; check that 'base_url' is HVCA's")
        if answer.status in (400, 401, 403, 422) and _problem(answer) is not None:
            raise Unauthorized(
                f"{self.where} does not take our login ({said(answer)}): 'api_key', 'api_secret' and "
                "'client_certificate' must be the three that GlobalSign gave for one account; give them again"
            )
        raise refused(answer, orders=False)

    async def aclose(self) -> None:
        """Let connections go."""
        self._token.forget()
        await self._client.aclose()

    async def _send(
        self, method: str, path: str, body: Mapping[str, object] | None, token: Token, *, orders: bool
    ) -> Answer:
        headers = {"authorization": f"Bearer {token.value}"}
        if body is not None:
            headers["content-type"] = CONTENT_TYPE
        content = json.dumps(body).encode() if body is not None else None
        return await self._client.send(method, path, content=content, headers=headers, orders=orders)


def read_collected(answer: Answer) -> tuple[x509.Certificate, bool]:
    """The certificate in an answer, and whether it is revoked; raises BadCertificate."""
    read = answer.json()
    held = read if isinstance(read, dict) else {}
    return answered_certificate(held.get("certificate", ""), answer.where), held.get("status") == "REVOKED"


def refused(answer: Answer, *, orders: bool) -> IssuerError:
    """An answer that is not what was asked for, in issuer words; a proxy's are told by its status."""
    where, status = answer.where, answer.status
    if _problem(answer) is None:
        if orders and status == 502:
            # The request was passed on, and what came back was lost: the CA can be asked what became of it.
            return OutcomeUnknown(f"a proxy before {where} got no whole answer from it (HTTP 502); look at its log")
        return refused_by_status(answer, orders=orders)
    words = said(answer)
    match status:
        case 401 | 403:
            return Unauthorized(f"{where} does not let us do this ({words}); ask GlobalSign what the account may do")
        case 402:
            return QuotaExhausted(
                f"the account at {where} has no certificates left ({words}); buy more, then verify the issuer"
            )
        case 404:
            return Misconfigured(
                f"{where} has no such service ({words}); 'base_url' ends in /v2, as GlobalSign told it"
            )
        case 422:
            return Rejected(f"{where} refuses the request: {words}; compare the validation policy of the account")
        case 429:
            return Throttled(f"{where} asks us to be slower ({words})", answer.retry_after)
        case 503:
            return Unavailable(f"{where} is busy ({words})", answer.retry_after)
        case _ if status >= 500:
            message = f"{where} failed ({words}); give GlobalSign's support the id"
            return OutcomeUnknown(message) if orders else Unavailable(message, answer.retry_after)
        case _ if status >= 400:
            return Misconfigured(
                f"{where} does not understand our request (HTTP {status}, {words}); check that 'base_url' is the "
                "address of HVCA version 2"
            )
        case _:
            return refused_by_status(answer, orders=orders)


def said(answer: Answer) -> str:
    """The CA's own words: its description, all its reasons, and the id that its support asks for."""
    told = _problem(answer)
    if told is None:
        return f"HTTP {answer.status}"
    words = [plain(str(told["description"])) or f"HTTP {answer.status}"]
    errors = told.get("errors")
    if isinstance(errors, Mapping):
        words += [plain(f"{kind}: {detail}") for kind, detail in list(errors.items())[:8]]
    if told.get("id"):
        words.append(f"id {plain(str(told['id']))}")
    return "; ".join(words)


def _problem(answer: Answer) -> Mapping[str, object] | None:
    read = answer.json()
    return read if isinstance(read, dict) and "description" in read else None
