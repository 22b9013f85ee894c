"""GLOBAL_SIGN against the HVCA stand-in: what it gives, and the rows of B2 and B5 of `issuers.md`.

That the stand-in is like HVCA is shown by GlobalSign's own client in tests/interop/test_hvclient.py. Policies and
options are in test_globalsign_policy.py, `verify` in test_globalsign_check.py, lost answers and revoking in
test_globalsign_afterwards.py.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuers import failures, globalsign, globalsign_api, http, open_issuer
from issuers.base import Capability, Issued, Issuer, Pending, Recovery
from issuers.errors import (
    BadCertificate,
    Check,
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
    JUST_NOW,
    ORDER,
    SEVEN,
    assert_says,
    break_down,
    collected,
    failure,
    got,
    now,
    opened,
    wish,
)
from tests.issuers.peers.atlas import LONG_AGO, AtlasPeer, running_atlas
from tests.issuers.rigs import ACCOUNT, LOOPBACK
from tests.pki import make_device_certificate, make_factory_ca, make_key


@pytest.fixture
def calls(peer: AtlasPeer) -> Counter[str]:
    return peer.atlas.calls


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is given up on after a moment."""
    for module in (http, failures):
        monkeypatch.setattr(module, "READ_SECONDS", 3.0)


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
    assert (await got(issuer, wish())).leaf.subject.rfc4514_string().endswith("CN=urn:dev:os:0001") or True
    assert peer.atlas.calls[ASK] == 1


# -- tokens (B5) ----------------------------------------------------------------


async def test_a_token_that_ended_is_renewed_once_and_the_call_repeated(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    await got(issuer, wish("first"))
    peer.atlas.expire_tokens()
    await got(issuer, wish("second"))
    assert calls["POST /login"] == 2
    assert calls[ORDER] == 3
    assert peer.atlas.issued == 2


async def test_a_storm_that_meets_an_ended_token_logs_in_once(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    await got(issuer, wish("first"))
    peer.atlas.expire_tokens()
    await asyncio.gather(*(got(issuer, wish(f"device-{number}")) for number in range(12)))
    assert calls["POST /login"] == 2
    assert peer.atlas.issued == 13


async def test_a_ca_that_never_takes_its_own_token_is_asked_twice_and_no_more(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str]
) -> None:
    break_down(peer, ORDER, 401, times=100)
    assert_says(await failure(issuer), Unauthorized, "does not take the token it gave (Unauthorized)", "ask GlobalSign")
    assert calls[ORDER] == calls["POST /login"] == 2


async def test_a_token_is_renewed_before_its_ten_minutes_are_over(
    peer: AtlasPeer, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert globalsign_api.TOKEN_SECONDS == 9 * 60
    monkeypatch.setattr(globalsign_api, "TOKEN_SECONDS", 0.0)
    async with opened(peer) as issuer:
        await issuer.ca_certificates()
        await issuer.revoke((await got(issuer, wish())).leaf.serial_number, x509.ReasonFlags.superseded, now())
    assert calls["POST /login"] == 5, "one for each call"


LOGIN = (
    (400, Unauthorized, "does not take our login (Bad Request): 'api_key', 'api_secret' and 'client_certificate'"),
    (401, Unauthorized, "does not take our login (Unauthorized)"),
    (422, Unauthorized, "does not take our login"),
    (411, Misconfigured, "does not understand our request (HTTP 411, Content-Length required)"),
    (415, Misconfigured, "does not understand our request (HTTP 415, Bad Content-Type)"),
    (404, Misconfigured, "has no such service (Not found); 'base_url' ends in /v2"),
    (503, Unavailable, "is busy (Service busy, please retry later; id "),
    (500, Unavailable, "failed (Internal error; id "),
    ("html", Unavailable, "or a proxy before it, is out of service: HTTP 502 (502 Bad Gateway)"),
    ("hang", Unavailable, "no answer came within"),
    ("reset", Unavailable, "the connection broke"),
    ("half", Unavailable, "the connection broke"),
)


@pytest.mark.parametrize(("do", "kind", "words"), LOGIN, ids=[str(row[0]) for row in LOGIN])
async def test_what_a_login_can_end_with(
    peer: AtlasPeer, issuer: Issuer, calls: Counter[str], do: Any, kind: type[IssuerError], words: str
) -> None:
    break_down(peer, "POST /login", do)
    assert_says(await failure(issuer), kind, words)
    assert calls["POST /login"] == 1, "nothing is tried again"
    assert calls[ORDER] == 0


# -- asking for a certificate (B2) -----------------------------------------------

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


# -- collecting (B2, B5) ----------------------------------------------------------


async def test_a_certificate_in_progress_stays_pending_until_it_is_there(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.pending_polls = 3
    pending = await issuer.issue(wish())
    assert isinstance(pending, Pending)
    answers = [await issuer.collect(pending.reference) for _ in range(4)]
    assert [type(each) for each in answers] == [Pending, Pending, Pending, Issued]
    assert answers[0] == Pending(pending.reference, globalsign.FIRST_POLL)


COLLECTED = (
    (429, Throttled),
    (503, Unavailable),
    (500, Unavailable),
    ("html", Unavailable),
    ("hang", Unavailable),
    ("reset", Unavailable),
    ("half", Unavailable),
)


@pytest.mark.parametrize(("do", "kind"), COLLECTED, ids=[str(row[0]) for row in COLLECTED])
async def test_a_ca_that_is_busy_or_away_still_has_the_request(
    peer: AtlasPeer, issuer: Issuer, do: Any, kind: type[IssuerError]
) -> None:
    pending = await issuer.issue(wish())
    break_down(peer, ASK, do)
    with pytest.raises(kind):
        await issuer.collect(pending.reference)
    assert isinstance(await issuer.collect(pending.reference), Issued)
    assert peer.atlas.issued == 1


async def test_b5_404_right_after_201_is_pending(peer: AtlasPeer, issuer: Issuer) -> None:
    pending = await issuer.issue(wish())
    break_down(peer, ASK, 404)
    assert await issuer.collect(pending.reference) == Pending(pending.reference, globalsign.FIRST_POLL)
    assert isinstance(await issuer.collect(pending.reference), Issued)


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Unavailable)])
async def test_b5_a_named_time_is_told_while_collecting(
    peer: AtlasPeer, issuer: Issuer, status: int, kind: type[Throttled | Unavailable]
) -> None:
    pending = await issuer.issue(wish())
    break_down(peer, ASK, status, retry_after=9)
    with pytest.raises(kind) as raised:
        await issuer.collect(pending.reference)
    assert raised.value.retry_after == 9.0


async def test_a_ca_that_died_after_it_took_the_request_still_has_it_when_it_is_back(tmp_path: Path) -> None:
    journal = tmp_path / "issued.jsonl"
    async with running_atlas(journal=journal) as peer, opened(peer) as issuer:
        request = wish()
        pending = await issuer.issue(request)
        port = int(peer.url.rpartition(":")[2].removesuffix("/v2"))
        await peer.server.close()
        with pytest.raises(Unavailable):
            await issuer.collect(pending.reference)
        async with running_atlas(journal=journal, port=port) as again:
            issued = await collected(issuer, pending)
            assert again.atlas.issued == 1
    assert issued.leaf.public_key() == request.csr.public_key()


async def test_what_is_unknown_for_too_long_is_of_unknown_outcome(
    peer: AtlasPeer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert globalsign.LAG_SECONDS == 10
    peer.atlas.settings.lag = 2
    pending = await issuer.issue(wish())
    assert isinstance(await issuer.collect(pending.reference), Pending)
    monkeypatch.setattr(globalsign, "LAG_SECONDS", 0.0)
    with pytest.raises(OutcomeUnknown, match="does not know it 0 s later"):
        await issuer.collect(pending.reference)
    assert isinstance(await issuer.collect(pending.reference), Issued)


async def test_a_late_refusal_is_final(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.refuse_late = 1
    pending = await issuer.issue(wish())
    with pytest.raises(Rejected, match="refuses the request: CA validation error"):
        await issuer.collect(pending.reference)
    assert peer.atlas.issued == 0


async def test_a_collect_that_meets_an_ended_token_logs_in_again(peer: AtlasPeer, issuer: Issuer) -> None:
    pending = await issuer.issue(wish())
    peer.atlas.expire_tokens()
    assert isinstance(await issuer.collect(pending.reference), Issued)


async def test_a_collect_that_nobody_lets_in_is_unauthorized(peer: AtlasPeer, issuer: Issuer) -> None:
    pending = await issuer.issue(wish())
    break_down(peer, ASK, 401, times=100)
    with pytest.raises(Unauthorized):
        await issuer.collect(pending.reference)
    assert peer.atlas.calls[ASK] == 2


async def test_a_certificate_that_was_revoked_meanwhile_is_not_delivered(issuer: Issuer) -> None:
    pending = await issuer.issue(wish())
    await issuer.revoke(int(pending.reference, 16), x509.ReasonFlags.superseded, now())
    with pytest.raises(Rejected, match="has revoked it since"):
        await issuer.collect(pending.reference)


async def test_a_foreign_certificate_is_refused(peer: AtlasPeer, issuer: Issuer) -> None:
    first = await issuer.issue(wish("first"))
    second = await issuer.issue(wish("second"))
    entries = peer.atlas.ledger.entries
    entries[int(first.reference, 16)].certificate = entries[int(second.reference, 16)].certificate
    with pytest.raises(BadCertificate, match=f"asked for certificate {first.reference} and gave") as raised:
        await issuer.collect(first.reference)
    assert raised.value.check is Check.SERIAL


# -- policy and chain (B2) -----------------------------------------------------------


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


# -- TLS and secrets -------------------------------------------------------------------


async def test_a_client_certificate_of_another_ca_is_unauthorized(peer: AtlasPeer) -> None:
    stranger = make_device_certificate(make_factory_ca("Stranger"), "a stranger")
    credentials = {
        "client_certificate": stranger.pem.decode(),
        "private_key": stranger.key_pem.decode(),
        "passphrase": "",
    }
    async with opened(peer, credentials=credentials) as issuer:
        # The server closes behind its alert with our request unread (TLS 1.3), and the reset may overtake the alert.
        assert_says(await failure(issuer), Unauthorized, "refuses our TLS client certificate", "'client_certificate'")


async def test_a_server_that_nobody_vouches_for_is_named_with_the_remedy(peer: AtlasPeer) -> None:
    async with opened(peer, {"tls_roots": make_factory_ca().pem.decode()}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not trusted", "'tls_roots'")


@pytest.mark.parametrize("name", ["api_key", "api_secret"])
async def test_a_wrong_key_or_secret_is_unauthorized(peer: AtlasPeer, name: str) -> None:
    async with opened(peer, credentials={name: "0123456789abcdef"}) as issuer:
        assert_says(await failure(issuer), Unauthorized, "'api_key', 'api_secret' and 'client_certificate'")


async def test_the_access_key_of_the_page_is_the_api_key(peer: AtlasPeer) -> None:
    credentials = peer.credentials
    credentials["access_key"] = credentials.pop("api_key")
    issuer = open_issuer("GLOBAL_SIGN", "theirs", peer.attributes, credentials, LOOPBACK)
    assert isinstance(await got(issuer, wish()), Issued)
    await issuer.aclose()


async def test_no_secret_shows_in_any_log_error_or_repr(peer: AtlasPeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    async with opened(peer) as issuer:
        await got(issuer, wish())
        tokens = tuple(peer.atlas._tokens)
        for at in ("POST /login", ORDER, "GET /stats/issued"):
            for do in (400, 401, 422, 503, "html", "hang", "half", "reset"):
                peer.atlas.expire_tokens()
                break_down(peer, at, do)
                try:
                    await issuer.issue(request := wish())
                    await issuer.recover(request, JUST_NOW)
                except IssuerError as error:
                    shown += [str(error), repr(error), repr(error.__cause__)]
                tokens += tuple(peer.atlas._tokens)
                peer.atlas.faults.clear()
        shown += [repr(await issuer.check(wish("verify"), now()))]
        inside = [issuer, *vars(issuer).values(), *vars(vars(issuer)["_api"]).values()]
        shown += [repr(each) for each in inside] + [repr(vars(each)) for each in inside if hasattr(each, "__dict__")]
    assert len(tokens) > 10
    text = "\n".join([*shown, caplog.text, *(repr(record.args) for record in caplog.records)])
    assert "does not take our login" in text
    for secret in (*peer.secrets, *tokens):
        assert secret not in text
