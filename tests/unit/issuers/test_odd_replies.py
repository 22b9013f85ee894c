"""Answers that no CA should give: each is understood, or refused by name, in words that fit into a line."""

import json
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import httpx
import pytest

from issuers import open_issuer
from issuers.base import CheckReport, Issued, Issuer, StepOutcome, Unsettled
from issuers.certificate import read_certificate
from issuers.failures import Circumstances, translated
from issuers.globalsign_statistics import MOST_ENTRIES, PAGE
from issuers.http import DEEPEST_ANSWER, Answer, refused_by_status
from issuers.reach import Reach
from tests import pki
from tests.fuzz.authorities import DATE, Authorities, Reply, Request, read_request
from tests.fuzz.csr import NOW
from tests.fuzz.replies import make_request, response
from tests.fuzz.wire import wired

AUTHORITIES = Authorities()
# What a part of a reply becomes, by the path that is asked.
Change = Callable[[Reply], None]


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers, encoding="latin-1"), body, "the CA")


class Ca:
    """An honest CA but for one of its answers."""

    def __init__(self, kind: str, path: str, change: Change) -> None:
        self._said = AUTHORITIES.cfssl if kind == "CFSSL_AUTH" else AUTHORITIES.hvca
        self._path, self._change = path, change
        self.asked: list[Request] = []

    def __call__(self, data: bytes) -> list[bytes]:
        request = read_request(data)
        self.asked.append(request)
        # A source of chance that never has HVCA take its time.
        reply = self._said(Random(1), request, refuses=False)
        if self._path in request.path:
            self._change(reply)
        return [response(reply)]


def cfssl() -> Issuer:
    return open_issuer(
        "CFSSL_AUTH", "theirs", {"host_url": "http://192.0.2.7:8888"}, {"hmac_hex_key": "00ff"}, Reach(private=True)
    )


def hvca() -> Issuer:
    client = AUTHORITIES.client
    account = {"client_certificate": client.pem.decode(), "private_key": client.key_pem.decode()}
    return open_issuer(
        "GLOBAL_SIGN",
        "theirs",
        {"base_url": "https://192.0.2.7/v2", "tls_roots": AUTHORITIES.root.pem.decode()},
        {"api_key": "key", "api_secret": "secret", **account},
        Reach(private=True),
    )


async def checked(opened: Callable[[], Issuer], path: str, change: Change) -> CheckReport:
    ca = Ca("CFSSL_AUTH" if opened is cfssl else "GLOBAL_SIGN", path, change)
    with wired(ca, lambda: None):
        return await opened().check(make_request(), NOW)


async def recovered(change: Change) -> tuple[Any, int]:
    """What became of a lost request, and how many pages of the statistics were asked for."""
    ca = Ca("GLOBAL_SIGN", "/stats/issued", change)
    with wired(ca, lambda: None):
        found = await hvca().recover(make_request(), timedelta(hours=1))
    return found, sum("/stats/issued" in each.path for each in ca.asked)


def step(report: CheckReport, name: str) -> tuple[StepOutcome, str]:
    [found] = [each for each in report.steps if each.name == name]
    return found.outcome, found.message


# -- of any CA ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 99999 00:00:00 GMT", "soon"])
def test_a_time_that_there_is_not_is_no_time(date: str) -> None:
    assert answer(Date=date).date is None
    assert answer(**{"Date": DATE, "Retry-After": date}).retry_after is None


def test_what_is_nested_too_deep_to_work_on_is_no_json() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a": [' * (levels // 2) + b"]}" * (levels // 2)

    assert answer(body=nested(DEEPEST_ANSWER)).json() is not None
    assert answer(body=nested(DEEPEST_ANSWER + 2)).json() is None
    # Many are not deep.
    assert len(answer(body=json.dumps([[]] * 1000).encode()).json()) == 1000


def test_where_a_ca_sends_us_on_to_is_one_printable_line() -> None:
    error = refused_by_status(answer(302, Location="/a\x85b" + "c" * 1000), orders=False)
    assert error.message.isprintable()
    assert "sends us on to /a b" in error.message
    assert len(error.message) < 400


def test_what_is_no_http_is_not_repeated_whole() -> None:
    said = httpx.RemoteProtocolError(f"illegal status line: {'1' * 5000}\x85")
    error = translated(said, Circumstances("the CA", sent=True, orders=False, tls=False))
    assert "illegal status line" in error.message
    assert error.message.isprintable()
    assert len(error.message) < 400


def test_the_name_of_a_certificate_is_one_printable_line() -> None:
    name = read_certificate(pki.make_certificate("a\u202eb\x85" + "c" * 40).certificate).name
    assert name.isprintable()
    assert name.startswith("CN=a b")


# -- of CFSSL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expiry", ["9" * 5000 + "h", "99999999h", "9" * 9 + "h"])
async def test_an_expiry_beyond_all_time_is_said_of_the_profile(expiry: str) -> None:
    report = await checked(cfssl, "/info", lambda reply: reply.body["result"].update(expiry=expiry))
    outcome, message = step(report, "chain")
    # More digits than any number of hours has are no duration at all.
    assert outcome is (StepOutcome.OK if len(expiry) > 100 else StepOutcome.FAIL)
    assert len(message) < 400


async def test_what_a_profile_may_do_is_one_printable_line() -> None:
    usages = ["client auth", *["\x85\ud800" * 1000] * 10]
    report = await checked(
        cfssl, "/info", lambda reply: reply.body["result"].update(usages=usages, expiry="\x85" + "x" * 5000)
    )
    outcome, message = step(report, "policy")
    assert outcome is StepOutcome.OK
    assert message.startswith("usages client auth")
    assert message.isprintable()
    assert len(message) < 500


async def test_a_code_that_no_error_has_is_none() -> None:
    def numbered(reply: Reply) -> None:
        reply.body.update(success=False, result=None, errors=[{"code": 10**4000, "message": "no"}])

    outcome, message = step(await checked(cfssl, "/info", numbered), "policy")
    assert outcome is StepOutcome.FAIL
    assert "(no, code 0)" in message


# -- of HVCA --------------------------------------------------------------------------------------------------


async def test_a_total_count_of_any_length_is_a_number() -> None:
    found, asked = await recovered(lambda reply: reply.headers.update({"Total-Count": "9" * 5000}))
    # There are more pages by its word, so one after the other is asked for; what is looked for is there.
    assert isinstance(found, Issued)
    assert asked == MOST_ENTRIES // PAGE


async def test_pages_larger_than_asked_for_are_not_collected_without_an_end() -> None:
    def crowded(reply: Reply) -> None:
        reply.body = [{}] * 4 * PAGE
        reply.headers["Total-Count"] = "1000000"

    found, asked = await recovered(crowded)
    assert isinstance(found, Unsettled)
    assert "lists more certificates" in found.message
    assert asked == MOST_ENTRIES // (4 * PAGE) + 1


async def test_a_quota_that_is_no_number_of_certificates_is_none() -> None:
    report = await checked(hvca, "/quotas/issuance", lambda reply: reply.body.update(value=10**4000))
    assert step(report, "quota") == (StepOutcome.SKIPPED, "the CA does not tell how many certificates are left")
