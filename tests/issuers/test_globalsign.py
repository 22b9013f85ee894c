"""GLOBAL_SIGN against the HVCA stand-in: what it gives, and its rows of `matrices.toml`.

That the stand-in is like HVCA is shown by GlobalSign's own client in tests/interop/test_hvclient.py. Policies and
options are in test_globalsign_policy.py, `verify` in test_globalsign_check.py, tokens and secrets in
test_globalsign_access.py, collecting in test_globalsign_collect.py, lost answers and revoking in
test_globalsign_afterwards.py.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.base import Capability, Issued, Issuer, Pending, Recovery
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
from issuers.returned import Expectation, check_returned
from simulators.atlas import Atlas
from simulators.atlas_ca import make_atlas_ca
from simulators.atlas_faults import Fault
from simulators.atlas_policy import DEFAULT_POLICY
from tests.issuers.hvca import (
    ASK,
    ORDER,
    SEVEN,
    break_down,
    failure,
    got,
    now,
    wish,
)
from tests.issuers.peers.atlas import LONG_AGO, AtlasPeer
from tests.issuers.rigs import ACCOUNT, assert_says
from tests.pki import make_key

pytestmark = pytest.mark.usefixtures("impatient")

# -- what it gives --------------------------------------------------------------


async def test_a_request_is_pending_under_its_serial_number_and_collected_passes_every_check(
    peer: AtlasPeer, issuer: Issuer
) -> None:
    request = wish(subject=SEVEN)
    pending = await issuer.issue(request)
    assert isinstance(pending, Pending)
    assert pending.retry_after > 0
    assert peer.atlas.calls[ASK] == 0, "the reference is told before anything is collected"
    issued = await issuer.collect(pending.reference)
    assert isinstance(issued, Issued)
    assert issued.reference == pending.reference == f"{issued.leaf.serial_number:X}"
    assert issued.chain == (issued.leaf, peer.atlas.ca.issuing.certificate)
    checked = check_returned(
        issued,
        Expectation(
            csr=request.csr,
            endpoint=request.endpoint,
            now=now(),
            minimum_validity=timedelta(days=1),
            anchors=[peer.atlas.ca.root.certificate],
            account_id=ACCOUNT,
        ),
    )
    assert checked.warnings == ("the CA reordered the CSR's subject",)


async def test_all_seven_subject_fields_arrive(issuer: Issuer) -> None:
    request = wish(subject=SEVEN)
    issued = await got(issuer, request)
    assert {(each.oid, each.value) for each in issued.leaf.subject} == {
        (each.oid, each.value) for each in request.csr.subject
    }
    assert len(issued.leaf.subject.rdns) == 7


async def test_policy_chain_and_token_are_asked_for_once(issuer: Issuer, calls: Counter[str]) -> None:
    await asyncio.gather(*(got(issuer, wish(f"device-{number}")) for number in range(20)))
    assert calls["POST /login"] == calls["GET /validationpolicy"] == calls["GET /trustchain"] == 1
    assert calls[ORDER] == calls[ASK] == 20


async def test_it_says_what_it_can_do(issuer: Issuer) -> None:
    assert issuer.recovery is Recovery.LOOKUP
    assert issuer.capabilities == {Capability.COLLECT, Capability.CHAIN, Capability.REVOKE, Capability.QUOTA}


async def test_how_many_certificates_are_left_costs_none(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.quota = 7
    assert await issuer.certificates_left() == 7
    await got(issuer, wish())
    assert await issuer.certificates_left() == 6
    peer.atlas.faults.append(Fault(at="GET /quotas/issuance", do=404))
    assert await issuer.certificates_left() is None


async def test_the_trust_chain_is_issuing_ca_first_root_last(peer: AtlasPeer, issuer: Issuer) -> None:
    assert await issuer.ca_certificates() == peer.atlas.ca.trust_chain


async def test_a_new_issuing_ca_is_found_when_its_first_certificate_comes(peer: AtlasPeer, issuer: Issuer) -> None:
    await got(issuer, wish("before"))
    other = make_atlas_ca("127.0.0.1", LONG_AGO)
    peer.atlas.ca = replace(peer.atlas.ca, root=other.root, issuing=other.issuing)
    issued = await got(issuer, wish("after"))
    assert issued.chain == (issued.leaf, other.issuing.certificate)
    assert peer.atlas.calls["GET /trustchain"] == 2


async def test_a_policy_that_takes_plain_keys_gets_one(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.policy = {**DEFAULT_POLICY, "public_key": {"key_type": "ECDSA", "allowed_lengths": [256]}}
    key = make_key()
    assert (await got(issuer, wish(key=key))).leaf.public_key() == key.public_key()


async def test_a_certificate_never_outlives_its_issuing_ca(peer: AtlasPeer, issuer: Issuer) -> None:
    rules = {**DEFAULT_POLICY["validity"], "secondsmax": 20 * 365 * 86400}
    peer.atlas.settings.policy = {**DEFAULT_POLICY, "validity": rules}
    issued = await got(issuer, wish())
    assert issued.leaf.not_valid_after_utc == peer.atlas.ca.issuing.certificate.not_valid_after_utc


async def test_a_chosen_validity_is_kept(issuer: Issuer) -> None:
    issued = await got(issuer, wish(validity=timedelta(days=30)))
    assert issued.leaf.not_valid_after_utc - issued.leaf.not_valid_before_utc == timedelta(days=30)


async def test_the_location_is_not_followed_but_for_its_last_segment(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.base_url = "https://elsewhere.example:1/v9/and"
    key = make_key()
    assert (await got(issuer, wish(key=key))).leaf.public_key() == key.public_key()
    assert peer.atlas.calls[ASK] == 1


# -- asking for a certificate ----------------------------------------------------

ORDERED = (
    (400, Misconfigured, "does not understand our request (HTTP 400, Bad Request)"),
    (402, QuotaExhausted, "has no certificates left (Quota Reached); buy more, then verify the issuer"),
    (403, Unauthorized, "does not let us do this"),
    (409, Misconfigured, "HTTP 409"),
    (411, Misconfigured, "HTTP 411"),
    (415, Misconfigured, "HTTP 415"),
    (422, Rejected, "refuses the request: Message describing the validation error; compare the validation policy"),
    (429, Throttled, "asks us to be slower (Rate Limit Reached)"),
    (500, OutcomeUnknown, "failed (Internal error; id "),
    (503, Unavailable, "is busy (Service busy, please retry later; id "),
    ("html", OutcomeUnknown, "got no whole answer from it (HTTP 502)"),
    ("hang", OutcomeUnknown, "it may have issued a certificate"),
    ("reset", OutcomeUnknown, "it may have issued a certificate"),
    ("half", OutcomeUnknown, "it may have issued a certificate"),
)


@pytest.mark.parametrize(("do", "kind", "words"), ORDERED, ids=[str(row[0]) for row in ORDERED])
async def test_what_a_request_can_end_with(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str], do: Any, kind: type[IssuerError], words: str
) -> None:
    break_down(peer, ORDER, do)
    assert_says(await failure(issuer), kind, words, peer.url.removesuffix("/v2"))
    assert calls[ORDER] == 1, "nothing is sent twice"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_named_time_is_kept(peer: AtlasPeer, issuer: Issuer, status: int) -> None:
    break_down(peer, ORDER, status, retry_after=17)
    error = await failure(issuer)
    assert isinstance(error, Throttled | Unavailable)
    assert error.retry_after == 17


async def test_the_rate_limit_of_the_account_is_told(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.rate = 2
    answers = await asyncio.gather(*(issuer.issue(wish(f"d{n}")) for n in range(6)), return_exceptions=True)
    refusals = [each for each in answers if isinstance(each, Throttled)]
    assert len(refusals) == 4
    assert {each.retry_after for each in refusals} == {1.0}


async def test_an_account_whose_quota_is_used_up_says_so(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.quota = 1
    await got(issuer, wish("one"))
    assert_says(await failure(issuer, wish("two")), QuotaExhausted, "Quota Reached")


async def test_all_reasons_of_a_refusal_are_told(peer: AtlasPeer, issuer: Issuer, calls: Counter[str]) -> None:
    await got(issuer, wish("before"))
    units = {"static": False, "list": ["^sales$"], "mincount": 0, "maxcount": 1}
    subject = {**DEFAULT_POLICY["subject_dn"], "locality": {"presence": "FORBIDDEN", "format": ""}}
    peer.atlas.settings.policy = {**DEFAULT_POLICY, "subject_dn": {**subject, "organizational_unit": units}}
    assert_says(
        await failure(issuer),
        Rejected,
        "Request does not match the validation policy; subject_dn.locality: is forbidden; "
        f"subject_dn.organizational_unit: {ACCOUNT.hex} is not allowed",
    )
    # The policy is read again: now we know before we ask.
    assert_says(await failure(issuer), Misconfigured, "makes locality FORBIDDEN, and the device needs L=")
    assert calls[ORDER] == 2


async def test_a_taken_request_without_a_serial_number_is_of_unknown_outcome(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.base_url = "https://127.0.0.1/v2?x="

    async def location_without_number(request: Any) -> Any:
        reply = await Atlas._reply(peer.atlas, request)
        return replace(reply, headers={"Location": "/certificates/"}) if getattr(reply, "status", 0) == 201 else reply

    peer.atlas._reply = location_without_number  # type: ignore[method-assign]
    assert_says(await failure(issuer), OutcomeUnknown, "did not tell under which serial number")


async def test_only_keys_on_p256_are_sent(issuer: Issuer, calls: Counter[str]) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    assert_says(await failure(issuer, wish(key=other)), Rejected, "not on P-256")
    assert calls[ORDER] == 0


# -- policy and chain ----------------------------------------------------------------


@pytest.mark.parametrize("at", ["GET /validationpolicy", "GET /trustchain"])
@pytest.mark.parametrize(
    ("do", "kind"), [(401, Unauthorized), (404, Misconfigured), (503, Unavailable), ("hang", Unavailable)]
)
async def test_without_policy_and_chain_nothing_is_asked_for(
    peer: AtlasPeer, issuer: Issuer, at: str, do: Any, kind: type[IssuerError]
) -> None:
    break_down(peer, at, do, times=2)
    assert type(await failure(issuer)) is kind
    assert peer.atlas.calls[ORDER] == 0


async def test_a_dead_ca_is_asked_once_by_all_who_wait(peer: AtlasPeer, issuer: Issuer) -> None:
    break_down(peer, "POST /login", "hang", times=100)
    errors = await asyncio.gather(*(failure(issuer, wish(f"device-{n}")) for n in range(30)))
    assert {type(each) for each in errors} == {Unavailable}
    assert peer.atlas.calls["POST /login"] == 1
