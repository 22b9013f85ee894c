"""A CA's answers as HTTP: whatever it says, an adapter gives a result or one of the named errors, soon."""

import asyncio
import json
import resource
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuers import open_issuer
from issuers.base import CheckReport, Issued, Issuer, IssueRequest, Pending, Unsettled
from issuers.errors import IssuerError
from issuers.failures import LARGEST_ANSWER, HungUp, SpeaksTls
from issuers.http import LONGEST_RETRY_AFTER
from issuers.reach import Reach
from tests.fuzz.authorities import SERIAL, SUBJECT, Authorities, Reply, read_request
from tests.fuzz.csr import ACCOUNT, KEY, NAME, NOW, resigned
from tests.fuzz.der import reshaped
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs
from tests.fuzz.wire import wired

REACH = Reach(private=True)
CFSSL, HVCA = "CFSSL_AUTH", "GLOBAL_SIGN"
# Of one call: 50 pages, 200 candidates read in two ways, and each of these after a new login.
MOST_REQUESTS = 1500
LONGEST_MESSAGE = 3000
# Of the process, above what it had before the first answer.
MOST_MEMORY = 400 << 20
STATUSES = (100, 101, 199, 200, 201, 202, 204, 205, 206, 301, 304, 401, 404, 409, 418, 429, 500, 502, 503, 599, 999)
# How many seconds pass between two calls: what was remembered may have grown old.
PAUSES = (0.0, 0.0, 1.0, 11.0, 301.0, 541.0, 86401.0)
# Put in behind `json.dumps`, which does not write it.
BIG, DEEP = "a number of 5000 digits", "a rule in a rule in a rule"
BIG_JSON, DEEP_JSON = b"1" * 5000, b'{"a":' * 930 + b"1" + b"}" * 930
NUMBERS: tuple[Any, ...] = (0, -1, 1, 256, 10**15, 10**30, 10**4000, float("inf"), float("nan"), BIG, True)
TEXTS: tuple[Any, ...] = (
    *("", " ", "x", "REQUIRED", "STATIC", "FORBIDDEN", "REVOKED", "\ud800", "\0\u202e\n\x85", "9" * 40, "256"),
    *("99999999h", "9" * 400 + "h", "9" * 5000 + "h", "^(a+)+$", "[", "(?i)x", "\\d{1,3}", "\x85" + "x" * 5000),
)
HOLDERS: tuple[Any, ...] = (
    *([], {}, [[]], ["a"], ["[", "x" * 300], [256], {"a": {}}, {"presence": "REQUIRED"}, {"presence": []}),
    *("256", DEEP, ["\x85" * 9] * 3, [{}] * 400, {"static": True, "list": [1, None]}),
    {"mincount": float("inf"), "maxcount": -1, "list": "x"},
)
VALUES: tuple[Any, ...] = (None, *NUMBERS, *TEXTS, *HOLDERS)
HEADER_VALUES: Mapping[str, tuple[str, ...]] = {
    "Date": (
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 01 Jun 2026 12:00:00 GMT",
        "Mon, 01 Jun 2026 12:00:00 -0000",
        "Mon, 01 Jun 2026 12:00:00 +99999999999",
        "yesterday",
    ),
    "Retry-After": ("0", "1", "-1", "9" * 400, "nan", "\xb2", "Fri, 31 Dec 9999 23:59:59 -2359", "1.5", ""),
    "Location": ("", "/", "x", "https://ca.example.com/v2/certificates/", "/" + "F" * 41, "/0", "\x85/\xff", "/-1"),
    "Total-Count": ("0", "-1", "1000000000", "9" * 5000, "\xb2", "\u0663", "x"),
    "Content-Type": ("text/html; charset=utf-7", "application/json; charset=\xff", ""),
    "Content-Length": ("0", "1", "-1", "99999999999", "0x10", "5, 5"),
    "Transfer-Encoding": ("chunked", "gzip", "chunked, chunked"),
    "Content-Encoding": ("gzip", "br"),
    "Connection": ("close", "upgrade"),
}


def make_request() -> IssueRequest:
    """What the device of the PKI wishes for."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(KEY, hashes.SHA256())
    return IssueRequest(
        issuance_id=ACCOUNT,
        csr=csr,
        serial=1 << 157,
        not_before=NOW,
        validity=None,
        endpoint=NAME,
        account_id=ACCOUNT,
        purpose="device",
    )


# Where a CA may have its one fault, and the calls that meet it there.
FAULTS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    CFSSL: (
        ("/info", ("issue", "check", "check", "chain")),
        ("/authsign", ("issue", "check")),
        ("GET /", ("check",)),
    ),
    HVCA: (
        ("/login", ("issue", "check")),
        ("/validationpolicy", ("issue", "check", "check")),
        ("/trustchain", ("collect", "check", "chain")),
        ("POST /v2/certificates", ("collect",)),
        ("GET /v2/certificates/", ("collect", "recover")),
        ("/stats/issued", ("recover",)),
        ("/quotas/", ("check", "left")),
        ("/counters/", ("check",)),
        ("PATCH /", ("revoke",)),
    ),
}


class RepliesTarget:
    """One CA a case, asked for this and that: it is honest, wrong in one kind of answer, or now and then in any."""

    def __init__(self) -> None:
        self._authorities = Authorities()
        self._clock = 0.0
        loop = asyncio.get_running_loop()
        truly = loop.time
        # Adapters remember for a day; no case takes as long.
        loop.time = lambda: truly() + self._clock  # type: ignore[method-assign]
        self._request = make_request()
        self._memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def case(self, random: Random, inputs: Inputs) -> None:
        """Open an adapter, call it a few times, and judge every result."""
        kind = random.choice((CFSSL, HVCA, HVCA))
        fault, calls = random.choice((*FAULTS[kind], ("", ())))
        ca = _Ca(random, inputs, self._authorities, kind, fault)
        with wired(ca.answer, ca.reason):
            issuer = self._opened(random, kind)
            for _ in range(random.choice((1, 4, 8))):
                ca.requests = 0
                await self._call(random, issuer, ca, calls)
                self._clock += random.choice(PAUSES)
            await issuer.aclose()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._memory > MOST_MEMORY >> 10:
            raise Finding("the answers of one CA take up the memory")

    def _opened(self, random: Random, kind: str) -> Issuer:
        authorities = self._authorities
        roots = authorities.root.pem.decode()
        client = {
            "client_certificate": authorities.client.pem.decode(),
            "private_key": authorities.client.key_pem.decode(),
        }
        if kind == HVCA:
            url = "https://192.0.2.7:8443/v2"
            account = {"api_key": "key", "api_secret": "secret", **client}
            return open_issuer(HVCA, "theirs", {"base_url": url, "tls_roots": roots}, account, REACH)
        if random.random() < 0.5:
            plain = {"host_url": "http://192.0.2.7:8888", "cfssl_profile": "CA"}
            return open_issuer(CFSSL, "theirs", plain, {"hmac_hex_key": "00ff"}, REACH)
        secure = {"host_url": "https://192.0.2.7", "tls_roots": roots, "cfssl_label": "x", "bundle": "true"}
        return open_issuer(CFSSL, "theirs", secure, {"hmac_hex_key": "00ff", **client}, REACH)

    async def _call(self, random: Random, issuer: Issuer, ca: "_Ca", names: Sequence[str]) -> None:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "issue": lambda: issuer.issue(self._request),
            "check": lambda: issuer.check(random.choice((None, self._request)), NOW),
            "chain": issuer.ca_certificates,
        }
        if issuer.type == HVCA:
            quiet = random.choice((timedelta(), timedelta(hours=1)))
            calls |= {
                "collect": lambda: self._issued_and_collected(random, issuer),
                "recover": lambda: issuer.recover(self._request, quiet),
                "left": issuer.certificates_left,
                "revoke": lambda: issuer.revoke(SERIAL, random.choice(list(x509.ReasonFlags)), NOW),
            }
        try:
            result = await calls[random.choice(names or list(calls))]()
        except IssuerError as error:
            if ca.honest:
                raise
            _judge_words(error.message)
            _judge_seconds(getattr(error, "retry_after", None))
        else:
            _judge(result)
            if ca.honest and isinstance(result, CheckReport) and not result.successful:
                raise Finding(f"an honest CA does not pass: {result.message}")

    async def _issued_and_collected(self, random: Random, issuer: Issuer) -> object:
        answer: object = await issuer.issue(self._request)
        for _ in range(3):
            if not isinstance(answer, Pending):
                break
            self._clock += random.choice((0.5, 0.5, 11.0))
            reference = answer.reference
            answer = await issuer.collect(reference)
            if isinstance(answer, Issued) and answer.leaf.serial_number != int(reference, 16):
                raise Finding("a certificate of another serial number was collected")
        return answer


# -- what an adapter may give ---------------------------------------------------------------------------------


def _judge(result: object) -> None:
    match result:
        case Pending(reference, seconds):
            int(reference, 16)
            _judge_seconds(seconds)
        case Issued(leaf, chain):
            if chain[0] != leaf:
                raise Finding("a chain does not begin with its leaf")
        case Unsettled(message):
            _judge_words(message)
        case CheckReport(steps):
            for step in steps:
                _judge_words(step.message)
        case tuple():
            if not all(isinstance(each, x509.Certificate) for each in result):
                raise Finding("something that is no certificate is among the CA's")
        case None | int():
            pass
        case _:
            raise Finding(f"{result!r} is nothing an adapter may give")


def _judge_words(message: str) -> None:
    if not message or len(message) > LONGEST_MESSAGE or not message.isprintable():
        raise Finding(f"words for no operator ({len(message)} characters): {message[:300]!r}")


def _judge_seconds(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds <= LONGEST_RETRY_AFTER:
        raise Finding(f"asked to wait {seconds} s")


# -- a CA that is not quite right -----------------------------------------------------------------------------


class _Ca:
    """Answers as the real one does, each answer changed at some rate; one that is `steady` makes the same mistake
    whenever it is asked the same.
    """

    def __init__(self, random: Random, inputs: Inputs, authorities: Authorities, kind: str, fault: str) -> None:
        self._random = random
        self._inputs = inputs
        self._authorities = authorities
        self._said = authorities.cfssl if kind == CFSSL else authorities.hvca
        self._fault = fault
        self._rate = 1.0 if fault else random.choice((0.0, 0.1, 0.2, 0.5))
        self._steady: dict[str, bytes] | None = {} if self._rate and random.random() < 0.3 else None
        self._tls = kind == HVCA
        self.honest = self._rate == 0.0
        self.requests = 0

    def answer(self, asked: bytes) -> list[bytes]:
        """The pieces of the answer to a request."""
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            raise Finding("a call makes requests without an end")
        request = read_request(asked)
        path = f"{request.method} {request.path.partition('?')[0]}"
        rate = self._rate if self._fault in f"{request.method} {request.path}" else 0.0
        if self._random.random() >= rate:
            return [response(self._said(self._random, request, refuses=False))]
        data = self._steady.get(path) if self._steady is not None else None
        if data is None:
            data = self._bent(self._said(self._random, request, refuses=self._random.random() < 0.1))
            if self._steady is not None:
                self._steady[path] = data
        # What is as it should be is no input.
        return self._pieces(self._inputs.take(data))

    def reason(self) -> Exception | None:
        """Why it broke a connection."""
        return self._random.choice((None, HungUp() if self._tls else SpeaksTls()))

    def _bent(self, reply: Reply) -> bytes:
        random = self._random
        body = _written(reply.body)
        match random.randrange(16):
            case 0:
                reply.status = random.choice((*STATUSES, random.randrange(100, 1000)))
                # Some statuses give a header its meaning.
                _put_header(random, reply)
            case 1 | 2:
                _put_header(random, reply)
            case 3:
                body = mutated(random, body)
            case 4:
                name = random.choice(list(reply.headers))
                value = mutated(random, reply.headers[name].encode())
                reply.headers[name] = value.replace(b"\n", b"").replace(b"\r", b"").decode("latin-1")
            case 5:
                return mutated(random, response(reply, body))
            case 6 if random.random() < 0.2:
                body = _written(_replaced(random, reply.body, [_costly(random)]))
            case 7:
                body = self._other_certificate(body)
            case _:
                for _ in range(random.choice((1, 1, 2, 5))):
                    reply.body = _replaced(random, reply.body)
                body = _written(reply.body)
        return response(reply, body)

    def _other_certificate(self, body: bytes) -> bytes:
        """One certificate of the answer changed, and signed again by who would have signed it."""
        random, authorities = self._random, self._authorities
        holder, signer = random.choice(
            (
                (authorities.leaf, authorities.issuing),
                (authorities.issuing, authorities.root),
                (authorities.root, authorities.root),
            )
        )
        certificate = holder.certificate
        data = reshaped(random, certificate.tbs_certificate_bytes, authorities.leaf.certificate.tbs_certificate_bytes)
        changed = resigned(data, signer.key)  # type: ignore[arg-type]
        text = b"-----BEGIN CERTIFICATE-----\n" + b64encode(changed) + b"\n-----END CERTIFICATE-----"
        old, new = (json.dumps(each.decode().strip())[1:-1].encode() for each in (holder.pem, text))
        return body.replace(old, new)

    def _pieces(self, data: bytes) -> list[bytes]:
        random = self._random
        if random.random() < 0.02:
            data = data[: random.randrange(len(data) + 1)]
        if random.random() < 0.8:
            return [data]
        cut = random.randrange(len(data) + 1)
        return [piece for piece in (data[:cut], data[cut:]) if piece]


def _put_header(random: Random, reply: Reply) -> None:
    known = [name for name in HEADER_VALUES if name in reply.headers and name != "Date"]
    name = random.choice(known if known and random.random() < 0.6 else list(HEADER_VALUES))
    reply.headers[name] = random.choice(HEADER_VALUES[name])


def response(reply: Reply, body: bytes | None = None) -> bytes:
    """A reply as the bytes of HTTP, with another body than its own if one is given."""
    body = _written(reply.body) if body is None else body
    headers = reply.headers if "Content-Length" in reply.headers else {**reply.headers, "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} So\r\n{lines}\r\n".encode("latin-1", errors="replace") + body


def _written(body: Any) -> bytes:
    text = b"" if body is None else json.dumps(body).encode()
    return text.replace(json.dumps(BIG).encode(), BIG_JSON).replace(json.dumps(DEEP).encode(), DEEP_JSON)


def _replaced(random: Random, body: Any, values: Sequence[Any] = ()) -> Any:
    """`body` with one of its values gone or replaced, most often by one that is as odd and of the same kind."""
    places = list(_places(body))
    if not places or random.random() < 0.05:
        return deepcopy(random.choice(values or VALUES))
    holder, key = random.choice(places)
    old = holder[key]
    alike = TEXTS if isinstance(old, str) else HOLDERS if isinstance(old, dict | list) else NUMBERS
    value = deepcopy(random.choice(values or (alike if random.random() < 0.6 else VALUES)))
    if random.random() < 0.15:
        del holder[key]
    elif random.random() < 0.15 and isinstance(holder, dict):
        holder[random.choice(("presence", "static", "list", "value", "\ud800", "a" * 300))] = value
    else:
        holder[key] = value
    return body


def _places(node: Any) -> "list[tuple[Any, Any]]":
    """Where a value stands in `node`: what holds it, and under which name or number."""
    if isinstance(node, dict):
        return [(node, key) for key in node] + [place for child in node.values() for place in _places(child)]
    if isinstance(node, list):
        return [(node, at) for at in range(len(node))] + [place for child in node for place in _places(child)]
    return []


def _costly(random: Random) -> Any:
    """Values as large as an answer may be, each of a kind that some code might be slow with."""
    room = LARGEST_ANSWER - 10000
    match random.randrange(8):
        case 0:
            return "[" * room
        case 1:
            return " \x85" * (room // 7)
        case 2:
            return [{} for _ in range(room // 4)]
        case 3:
            return {"a" * (room // 2): {str(number): {} for number in range(room // 30)}}
        case 4:
            return [f"^({number}a*|b*|c{{0,99}}){'x' * 150}$" for number in range(room // 200)]
        case 5:
            return ["x"] * (room // 6)
        case 6:
            return "-----BEGIN CERTIFICATE-----\n" * (room // 30)
        case _:
            return "9" * room + "h"
