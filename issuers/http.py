"""HTTP to a CA: one client per issuer, bounded in time, size and reach, and every failure put into issuer words.

HTTP/1.1 (RFC 9112); no redirects, no proxies, nothing from the environment. What httpx and ssl raise becomes an
`IssuerError` in `failures.py`, and what an answer's status says without the CA's own words in `refused_by_status`:
adapters read the words of their CA first.
"""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from issuers.errors import IssuerError, Misconfigured, OutcomeUnknown, Throttled, Unauthorized, Unavailable
from issuers.failures import (
    CONNECT_SECONDS,
    LARGEST_ANSWER,
    READ_SECONDS,
    TOTAL_SECONDS,
    Circumstances,
    HungUp,
    TooLarge,
    translated,
)
from issuers.pinned import PinnedTransport, Resolver, system_resolver
from issuers.reach import Reach
from issuers.tls import tls_context
from issuers.words import plain

LONGEST_RETRY_AFTER = 3600.0
"""Seconds: a CA may say slower, not never."""
DEEPEST_ANSWER = 100
"""Levels of a JSON answer: Python itself gives up on a thousand, and then wherever it is at work on them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `where` is the CA it came from, for messages."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)
    where: str

    @property
    def date(self) -> datetime | None:
        """The CA's clock (UTC), when it told."""
        return _http_date(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds until the CA wants to be asked again, when it told (RFC 9110 10.2.3)."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value[:12]), LONGEST_RETRY_AFTER)
        at, now = _http_date(value), self.date
        if at is None or now is None:
            return None
        return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER)

    def json(self) -> Any:
        """The body read as JSON, whatever its content type says (CFSSL's is text/plain); None when none, or deep."""
        try:
            read = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        # Most answers open too few brackets to be deep.
        return None if self.body.count(b"[") + self.body.count(b"{") > DEEPEST_ANSWER and _is_deep(read) else read

    def excerpt(self) -> str:
        """The beginning of the body in one line for messages, without the tags of an HTML page."""
        return plain(re.sub(r"<[^>]*>", " ", self.body[:4096].decode(errors="replace")))


class HttpClient:
    """Speaks to one CA at `base_url`, which has passed `read_url`.

    `tls` is for https; without it the public CAs are trusted. `resolver` is the system's unless a test gives one.
    """

    def __init__(
        self, base_url: httpx.URL, *, reach: Reach, tls: ssl.SSLContext | None, resolver: Resolver | None = None
    ) -> None:
        self.where = f"the CA at {base_url.scheme}://{base_url.netloc.decode('ascii')}"
        self._base = str(base_url).rstrip("/")
        self._tls = (tls or tls_context((), None)) if base_url.scheme == "https" else None
        self._transport = PinnedTransport(reach, self._tls, resolver or system_resolver)
        self._timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS).as_dict()
        self._requests = 0
        self._closing = False

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        orders: bool,
    ) -> Answer:
        """One request and its whole answer, whatever its status; nothing is ever sent twice.

        `orders` says that the CA may act on it: then a lost answer is OutcomeUnknown, else Unavailable. `path` begins
        with a slash and goes behind the base URL. Raises IssuerError.
        """
        sent = _Sent()
        request = httpx.Request(
            method,
            self._base + path,
            content=content,
            # Nothing compressed: no small answer grows here.
            headers={"accept": "*/*", "accept-encoding": "identity", "user-agent": "firstlight", **(headers or {})},
            extensions={"trace": sent.trace, "timeout": self._timeout},
        )
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._under_way():
                response = await self._transport.handle_async_request(request)
                try:
                    body = await _whole_body(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError, TooLarge) as error:
            # OSError: TimeoutError of the total deadline, and ssl.SSLError, which httpcore lets through while reading.
            cause = await self._transport.why_broken_off() if _broken_off(error) else None
            at = Circumstances(self.where, sent.request, orders, self._tls is not None)
            raise translated(error if cause is None or (orders and isinstance(cause, HungUp)) else cause, at) from error
        return Answer(response.status_code, response.headers, body, self.where)

    async def aclose(self) -> None:
        """Let connections go; a request under way ends first, and a late one opens and closes its own."""
        self._closing = True
        await self._close_if_idle()

    @contextlib.asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            await self._close_if_idle()

    async def _close_if_idle(self) -> None:
        if self._closing and not self._requests:
            await self._transport.aclose()


def _broken_off(error: Exception) -> bool:
    return isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)


def read_url(text: str, what: str, *, default_port: int | None = None) -> httpx.URL:
    """`text` as `http(s)://host[:port][/prefix]`, without a slash at its end; `what` names the setting.

    Raises Misconfigured, also for a URL with a password, which would be shown to every operator.
    """
    text = text.strip()
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        if "@" in text:
            # What a parser says of it may hold a piece of the password.
            raise _names_a_user(what) from None
        raise Misconfigured(f"{what} is no URL: {error}; give it as https://host:port") from error
    # First of all: what follows repeats the text.
    if url.userinfo or (url.scheme not in ("http", "https") and "@" in text):
        raise _names_a_user(what)
    if url.scheme not in ("http", "https") or not url.host or (url.port or 1) > 65535:
        raise Misconfigured(f"{what} is {text!r}; give it as http://host:port or https://host:port")
    if url.query or url.fragment:
        raise Misconfigured(f"{what} has a ? or #, which no address of a CA has; leave out what follows")
    if url.port is None and default_port is not None:
        url = url.copy_with(port=default_port)
    return url.copy_with(path=url.path.rstrip("/"))


def _names_a_user(what: str) -> Misconfigured:
    return Misconfigured(f"{what} holds a user name or password; leave them out, every operator can read it")


def refused_by_status(answer: Answer, *, orders: bool) -> IssuerError:
    """What an answer without words of the CA means: a proxy's page, another program's, an empty body."""
    where, status = answer.where, answer.status
    said = f"HTTP {status}" + (f" ({answer.excerpt()})" if answer.body.strip() else "")
    if status == 429:
        return Throttled(f"{where} asks us to be slower: {said}", answer.retry_after)
    if status in (502, 503):
        return Unavailable(
            f"{where}, or a proxy before it, is out of service: {said}; look at the CA and its proxy",
            answer.retry_after,
        )
    if status >= 500:
        message = f"{where}, or a proxy before it, failed: {said}; look at its log"
        return OutcomeUnknown(message) if orders else Unavailable(message, answer.retry_after)
    if status in (401, 403):
        return Unauthorized(
            f"{where} does not let us in: {said}; check our credentials and what the CA and its proxy ask for"
        )
    if 300 <= status < 400:
        target = plain(answer.headers.get("location", "")) or "another place"
        return Misconfigured(f"{where} sends us on to {target}, which is not followed; give the final address")
    # Go's words, and nginx's.
    if b"HTTP request to an HTTPS server" in answer.body or b"plain HTTP request was sent to HTTPS port" in answer.body:
        return Misconfigured(f"{where} speaks TLS and was addressed without; begin its address with https://")
    if status in (404, 405, 410):
        return Misconfigured(
            f"{where} has no such service: {said}; check the address, its path, and how the CA was started"
        )
    if status >= 400:
        return Misconfigured(f"{where}, or a proxy before it, refuses our request: {said}; look at its log")
    message = f"{where} answered {said}, which is none of its answers; check that this address is the CA's"
    return OutcomeUnknown(message) if orders else Misconfigured(message)


class _Sent:
    """Whether a request has begun to leave: from then on the CA may have it."""

    def __init__(self) -> None:
        self.request = False

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.started":
            self.request = True


async def _whole_body(response: httpx.Response) -> bytes:
    """The body as it came."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > LARGEST_ANSWER:
            raise TooLarge
    return bytes(body)


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
        # The last hours of the year 9999 may lie beyond it in UTC.
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _is_deep(read: object) -> bool:
    level = [read]
    for _ in range(DEEPEST_ANSWER):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)
