"""A stand-in for GlobalSign's Atlas HVCA: the calls of its REST API that issue, collect, revoke and count certificates.

After GlobalSign's API document v2.1 and what its own client (globalsign/hvclient 1.5.0) sends and expects; that
client runs against this in tests/interop. Mutual TLS, tokens that expire, the policy engine of `atlas_policy.py`, real
P-256 signatures, and faults on demand.
"""

import asyncio
import json
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.atlas_ca import AtlasCa, Journal, utc
from simulators.atlas_faults import Fault, due, problem
from simulators.atlas_ledger import Entry, Event, Ledger
from simulators.atlas_policy import DEFAULT_POLICY, Json, Violation, judge
from simulators.https import Reply, Request, Response

PREFIX = "/v2"
LARGEST_PAGE = 100
SERIAL_BITS = 127

REASONS = frozenset(
    {
        "unspecified",
        "affiliationChanged",
        "keyCompromise",
        "superseded",
        "cessationOfOperation",
        "privilegeWithdrawn",
    }
)

ROUTES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(rf"{name.partition(' ')[0]} {PREFIX}{pattern}"))
    for name, pattern in (
        ("POST /login", "/login"),
        ("GET /validationpolicy", "/validationpolicy"),
        ("GET /trustchain", "/trustchain"),
        ("POST /certificates", "/certificates"),
        ("GET /certificates/{serial}", "/certificates/([^/]+)"),
        ("PATCH /certificates/{serial}", "/certificates/([^/]+)"),
        ("DELETE /certificates/{serial}", "/certificates/([^/]+)"),
        ("GET /counters/certificates/issued", "/counters/certificates/(issued)"),
        ("GET /counters/certificates/revoked", "/counters/certificates/(revoked)"),
        ("GET /quotas/issuance", "/quotas/issuance"),
        ("GET /stats/issued", "/stats/(issued)"),
        ("GET /stats/revoked", "/stats/(revoked)"),
        ("GET /stats/expiring", "/stats/(expiring)"),
    )
)
"""Every call there is; faults name them like this."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """How the account and its CA behave; may be changed at any time.

    A certificate is `pending_polls` times "in progress" when asked for and at least `issue_delay` seconds; it is
    unknown (404) the first `lag` times. `refuse_late` of the next requests are taken and then refused by the CA.
    `rate` is requests for certificates per second.
    """

    policy: Json = field(default_factory=lambda: DEFAULT_POLICY)
    token_seconds: float = 600.0
    quota: int = 1_000_000
    pending_polls: int = 0
    issue_delay: float = 0.0
    lag: int = 0
    refuse_late: int = 0
    rate: int | None = None
    decimal_serials: bool = False


class Atlas:
    """One account at the stand-in; `base_url` is what Location headers begin with, `now` gives seconds since 1970."""

    def __init__(
        self,
        ca: AtlasCa,
        journal: Journal,
        settings: Settings | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ca = ca
        self.settings = settings or Settings()
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.base_url = ""
        self._journal = journal
        self._now = now
        self._tokens: dict[str, float] = {}
        self._requested: deque[float] = deque()
        self.ledger = Ledger(journal)
        self._go_on = asyncio.Event()

    @property
    def issued(self) -> int:
        """Certificates signed so far."""
        return self.ledger.issued

    def go_on(self) -> None:
        """Let every call that is `late` do its work now."""
        self._go_on.set()
        self._go_on = asyncio.Event()

    def expire_tokens(self) -> None:
        """Let every token end now."""
        self._tokens.clear()

    async def answer(self, request: Request) -> Reply:
        """Answer one HTTP request."""
        reply = await self._reply(request)
        if isinstance(reply, Response):
            dated = {"Date": formatdate(self._now(), usegmt=True), **reply.headers}
            return Response(reply.status, reply.body, dated)
        return reply

    async def _reply(self, request: Request) -> Reply:
        line = f"{request.method} {request.path}"
        found = next(((name, match) for name, pattern in ROUTES if (match := pattern.fullmatch(line))), None)
        if found is None:
            known = any(pattern.fullmatch(f"GET {request.path}") for _, pattern in ROUTES)
            return problem(405 if known else 404)
        name, match = found
        self.calls[name] += 1
        fault = due(self.faults, name)
        if fault is not None and fault.do == "late":
            await self._go_on.wait()
            fault = None
        if fault is not None and not fault.after:
            return fault.reply()
        response = self._respond(name, request, *match.groups())
        return response if fault is None else fault.reply()

    def _respond(self, name: str, request: Request, *word: str) -> Response:
        refusal = _unreadable(request)
        if name != "POST /login" and refusal is None:
            refusal = self._unauthorized(request)
        if refusal is not None:
            return refusal
        match name.split(" "):
            case [_, "/login"]:
                return self._login(request)
            case [_, "/validationpolicy"]:
                return _json(200, self.settings.policy)
            case [_, "/trustchain"]:
                return _json(200, [_pem(each) for each in self.ca.trust_chain])
            case [_, "/certificates"]:
                return self._request_certificate(request)
            case ["GET", "/certificates/{serial}"]:
                return self._certificate(word[0])
            case [_, "/certificates/{serial}"]:
                return self._revoke(word[0], request)
            case [_, "/quotas/issuance"]:
                return _json(200, {"value": max(self.settings.quota - self.issued, 0)})
            case [_, path] if path.startswith("/counters"):
                return _json(200, {"value": len(self._chosen(word[0], {}))})
            case _:
                return self._stats(word[0], request)

    # -- who calls --------------------------------------------------------------------------------------------

    def _login(self, request: Request) -> Response:
        given = _read_object(request.body)
        if given is None:
            return problem(400)
        if not isinstance(given.get("api_key"), str) or not isinstance(given.get("api_secret"), str):
            return problem(422, "Invalid login request")
        account = self.ca.account
        told = request.headers.get("x-ssl-client-serial")
        genuine = (
            secrets.compare_digest(given["api_key"].encode(), account.api_key.encode())
            and secrets.compare_digest(given["api_secret"].encode(), account.api_secret.encode())
            and request.client == account.client.certificate.public_bytes(Encoding.DER)
            and (told is None or _hexadecimal(told) == account.client.certificate.serial_number)
        )
        if not genuine:
            return problem(401)
        # As long as a JWT and as opaque to the client.
        token = ".".join(secrets.token_urlsafe(size) for size in (24, 48, 32))
        self._tokens[token] = self._now() + self.settings.token_seconds
        return _json(200, {"access_token": token})

    def _unauthorized(self, request: Request) -> Response | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self._now() >= self._tokens.get(token, 0.0):
            return problem(401)
        return None

    # -- certificates -----------------------------------------------------------------------------------------

    def _request_certificate(self, request: Request) -> Response:
        now = self._now()
        if self.settings.rate is not None:
            while self._requested and self._requested[0] <= now - 1.0:
                self._requested.popleft()
            if len(self._requested) >= self.settings.rate:
                return problem(429, headers={"Retry-After": "1"})
            self._requested.append(now)
        given = _read_object(request.body)
        if given is None:
            return problem(400)
        if self.issued >= self.settings.quota:
            return problem(402)
        try:
            content = judge(given, self.settings.policy, utc(now))
        except Violation as violation:
            return problem(422, "Request does not match the validation policy", errors=violation.errors)
        serial = secrets.randbits(SERIAL_BITS) | 1 << SERIAL_BITS - 1
        entry = Entry(
            serial=serial,
            certificate=None,
            at=now,
            ready_at=now + self.settings.issue_delay,
            polls_left=self.settings.pending_polls,
            lag_left=self.settings.lag,
        )
        if self.settings.refuse_late:
            self.settings.refuse_late -= 1
            self._journal.write(event="rejected", serial=f"{serial:x}", at=now)
        else:
            entry.certificate = self.ca.sign(content, serial)
            self._journal.write(
                event="issued",
                serial=f"{serial:x}",
                at=now,
                subject=content.subject.rfc4514_string(),
                spki_sha256=content.spki_sha256.hex(),
                csr_sha256=content.csr_sha256.hex() if content.csr_sha256 else None,
                certificate=_pem(entry.certificate),
            )
        self.ledger.entries[serial] = entry
        return Response(201, headers={"Location": f"{self.base_url}/certificates/{serial:X}"})

    def _certificate(self, word: str) -> Response:
        entry = self.ledger.entries.get(_hexadecimal(word))
        if entry is None:
            return problem(404)
        if entry.lag_left:
            entry.lag_left -= 1
            return problem(404)
        if entry.polls_left:
            entry.polls_left -= 1
            return _json(202, {"description": "Operation in progress"})
        if entry.in_progress(self._now()):
            return _json(202, {"description": "Operation in progress"})
        if entry.certificate is None:
            return problem(422, "CA validation error")
        revoked = entry.revoked_at is not None
        return _json(
            200,
            {
                "certificate": _pem(entry.certificate),
                "status": "REVOKED" if revoked else "ISSUED",
                "updated_at": int(entry.revoked_at or entry.at),
            },
        )

    def _revoke(self, word: str, request: Request) -> Response:
        reason = "unspecified"
        if request.method == "PATCH":
            given = _read_object(request.body)
            if given is None:
                return problem(400)
            reason = given.get("revocation_reason", "")
            at = given.get("revocation_time", 0)
            if reason not in REASONS or not isinstance(at, int) or at > self._now():
                return problem(422, "Invalid revocation request")
        entry = self.ledger.entries.get(_hexadecimal(word))
        if entry is None:
            return problem(404)
        if entry.in_progress(self._now()):
            return problem(409, "Cannot revoke a PENDING certificate")
        if entry.certificate is None:
            return problem(409, "Cannot revoke a REJECTED certificate")
        if entry.revoked_at is not None:
            return problem(409, "Cannot revoke a REVOKED certificate")
        entry.revoked_at = self._now()
        self._journal.write(event="revoked", serial=f"{entry.serial:x}", at=entry.revoked_at, reason=reason)
        return Response(204)

    # -- figures ----------------------------------------------------------------------------------------------

    def _stats(self, which: str, request: Request) -> Response:
        try:
            numbers = {key: int(value) for key, value in request.query.items()}
        except ValueError:
            return problem(422, "Validation error message")
        page, size = numbers.get("page", 1), numbers.get("per_page", 10)
        if page < 1 or not 1 <= size <= LARGEST_PAGE:
            return problem(422, "Validation error message")
        chosen = self._chosen(which, numbers)
        last = max(-(-len(chosen) // size), 1)
        links = {"next": page + 1 if page < last else None, "last": last, "previous": page - 1 or None}
        return _json(
            200,
            [
                {
                    "serial_number": str(entry.serial) if self.settings.decimal_serials else f"{entry.serial:X}",
                    "not_before": int(certificate.not_valid_before_utc.timestamp()),
                    "not_after": int(certificate.not_valid_after_utc.timestamp()),
                }
                for entry, certificate in chosen[(page - 1) * size : page * size]
            ],
            {
                "Total-Count": str(len(chosen)),
                "Links": ", ".join(
                    f'<{PREFIX}/stats/{which}?page={number}>; rel="{name}"' for name, number in links.items() if number
                ),
            },
        )

    def _chosen(self, which: str, window: Mapping[str, int]) -> list[tuple[Entry, x509.Certificate]]:
        begin, end = window.get("from", 0), window.get("to", float("inf"))
        return self.ledger.chosen(cast("Event", which), begin, end, self._now())


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    kind = {"Content-Type": "application/json;charset=utf-8"}
    return Response(status, json.dumps(body).encode(), {**kind, **(headers or {})})


def _unreadable(request: Request) -> Response | None:
    """What is wrong with the framing of a body, which the document is strict about."""
    if request.method not in ("POST", "PATCH"):
        return None
    if int(request.headers.get("content-length", "0")) < 1:
        return problem(411)
    if request.headers.get("content-type", "").replace(" ", "").lower() != "application/json;charset=utf-8":
        return problem(415)
    return None


def _read_object(body: bytes) -> Mapping[str, Any] | None:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _hexadecimal(word: str) -> int:
    """-1, which is no serial number, for anything that is not hexadecimal."""
    return int(word, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,64}", word) else -1


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
