"""GLOBAL_SIGN after a request: what became of a lost answer, and revoking (rows of `matrices.toml`)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from issuers import failures, globalsign, globalsign_statistics, http
from issuers.base import Issued, Issuer, Unsettled
from issuers.errors import (
    IssuerError,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)
from simulators.atlas import Settings
from tests.issuers.hvca import (
    ASK,
    JUST_NOW,
    LONG_SINCE,
    ORDER,
    PATCH,
    break_down,
    failure,
    found_in_time,
    got,
    now,
    opened,
    wish,
)
from tests.issuers.peers.atlas import AtlasPeer, running_atlas
from tests.issuers.rigs import assert_says


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is given up on after a moment."""
    for module in (http, failures):
        monkeypatch.setattr(module, "READ_SECONDS", 3.0)


# -- a lost answer -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["hang", "reset", "half", 500, "html"])
async def test_a_lost_answer_is_found_by_its_public_key_and_nothing_is_issued_twice(
    peer: AtlasPeer, issuer: Issuer, how: Any
) -> None:
    for number in range(5):
        await issuer.issue(wish(f"another-{number}"))
    request = wish()
    break_down(peer, ORDER, how, after=True)
    assert isinstance(await failure(issuer, request), OutcomeUnknown)
    recovered = await issuer.recover(request, JUST_NOW)
    assert isinstance(recovered, Issued)
    assert recovered.leaf.public_key() == request.csr.public_key()
    assert recovered.chain == (recovered.leaf, peer.atlas.ca.issuing.certificate)
    assert peer.atlas.issued == 6


@pytest.mark.parametrize("settings", [Settings(issue_delay=0.05), Settings(pending_polls=1), Settings(lag=1)])
async def test_a_lost_answer_is_found_once_the_certificate_is_made(settings: Settings) -> None:
    async with running_atlas(settings) as peer, opened(peer) as issuer:
        request = wish()
        break_down(peer, ORDER, "reset", after=True)
        await failure(issuer, request)
        recovered = await found_in_time(issuer, request)
    assert recovered.leaf.public_key() == request.csr.public_key()


async def test_serial_numbers_in_decimal_are_understood(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.decimal_serials = True
    request = wish()
    await issuer.issue(request)
    recovered = await issuer.recover(request, JUST_NOW)
    assert isinstance(recovered, Issued)
    assert recovered.leaf.public_key() == request.csr.public_key()


async def test_that_a_request_was_never_performed_is_said_only_when_no_slow_ca_can_still_perform_it(
    peer: AtlasPeer, issuer: Issuer
) -> None:
    request = wish()
    break_down(peer, ORDER, "reset")
    await failure(issuer, request)
    for quiet in (JUST_NOW, globalsign.SETTLED - timedelta(seconds=1)):
        unsettled = await issuer.recover(request, quiet)
        assert isinstance(unsettled, Unsettled)
        assert "may still be at work on it" in unsettled.message
    assert await issuer.recover(request, globalsign.SETTLED) is None
    # Each is one look.
    assert peer.atlas.calls["GET /stats/issued"] == 3


async def test_a_request_that_is_performed_after_its_caller_has_gone_is_found(peer: AtlasPeer, issuer: Issuer) -> None:
    request = wish()
    break_down(peer, ORDER, "late")
    error = await failure(issuer, request)
    assert_says(error, OutcomeUnknown, "no answer came within")
    assert isinstance(await issuer.recover(request, JUST_NOW), Unsettled)
    peer.atlas.go_on()
    recovered = await found_in_time(issuer, request)
    assert recovered.leaf.public_key() == request.csr.public_key()
    assert peer.atlas.issued == 1


async def test_all_pages_are_looked_through(peer: AtlasPeer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globalsign_statistics, "PAGE", 2)
    requests = [wish(f"device-{number}") for number in range(5)]
    for request in requests:
        await issuer.issue(request)
    recovered = await issuer.recover(requests[-1], JUST_NOW)
    assert isinstance(recovered, Issued)
    assert recovered.leaf.public_key() == requests[-1].csr.public_key()
    assert peer.atlas.calls["GET /stats/issued"] == 3


async def test_a_list_that_is_too_long_to_look_through_leaves_the_question_open(
    peer: AtlasPeer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globalsign_statistics, "PAGE", 2)
    monkeypatch.setattr(globalsign_statistics, "MOST_PAGES", 2)
    for number in range(5):
        await issuer.issue(wish(f"device-{number}"))
    unsettled = await issuer.recover(wish("never asked for"), LONG_SINCE)
    assert isinstance(unsettled, Unsettled)
    assert "than are looked at" in unsettled.message


async def test_a_storm_of_lost_answers_fetches_each_certificate_once_but_for_its_own(
    peer: AtlasPeer, issuer: Issuer
) -> None:
    requests = [wish(f"device-{number}") for number in range(8)]
    for request in requests:
        await issuer.issue(request)
    for request in requests:
        recovered = await issuer.recover(request, JUST_NOW)
        assert isinstance(recovered, Issued)
        assert recovered.leaf.public_key() == request.csr.public_key()
    assert peer.atlas.calls[ASK] <= 2 * len(requests)


async def test_a_revoked_certificate_is_not_given_out_as_recovered(issuer: Issuer) -> None:
    request = wish()
    pending = await issuer.issue(request)
    await issuer.revoke(int(pending.reference, 16), x509.ReasonFlags.superseded, now())
    assert await issuer.recover(request, LONG_SINCE) is None


async def test_one_that_stays_in_progress_is_of_unknown_outcome(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.pending_polls = 100
    request = wish()
    await issuer.issue(request)
    unsettled = await issuer.recover(request, LONG_SINCE)
    assert isinstance(unsettled, Unsettled)
    assert "still at work on a certificate that may be the one" in unsettled.message


@pytest.mark.parametrize("do", [401, 422, 503, "hang", "reset", "html"])
async def test_a_ca_that_cannot_tell_leaves_the_outcome_unknown(peer: AtlasPeer, issuer: Issuer, do: Any) -> None:
    request = wish()
    await issuer.issue(request)
    break_down(peer, "GET /stats/issued", do, times=100)
    with pytest.raises(OutcomeUnknown, match="cannot be found out"):
        await issuer.recover(request, LONG_SINCE)


async def test_too_many_to_look_through_at_once_are_looked_through_one_look_after_the_other(
    peer: AtlasPeer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globalsign_statistics, "MOST_CANDIDATES", 2)
    for number in range(5):
        await issuer.issue(wish(f"device-{number}"))
    request = wish("never asked for")
    for _ in range(2):
        unsettled = await issuer.recover(request, LONG_SINCE)
        assert isinstance(unsettled, Unsettled)
        assert "none of the 2 nearest is the one looked for" in unsettled.message
    assert await issuer.recover(request, LONG_SINCE) is None


# -- revoking -----------------------------------------------------------------------

SPOKEN = {
    x509.ReasonFlags.unspecified: "unspecified",
    x509.ReasonFlags.affiliation_changed: "affiliationChanged",
    x509.ReasonFlags.key_compromise: "keyCompromise",
    x509.ReasonFlags.superseded: "superseded",
    x509.ReasonFlags.cessation_of_operation: "cessationOfOperation",
    x509.ReasonFlags.privilege_withdrawn: "privilegeWithdrawn",
    x509.ReasonFlags.certificate_hold: "unspecified",
}


@pytest.mark.parametrize("reason", SPOKEN, ids=[each.value for each in SPOKEN])
async def test_revoking_tells_the_reason_in_the_cas_words(reason: x509.ReasonFlags, tmp_path: Path) -> None:
    journal = tmp_path / "issued.jsonl"
    async with running_atlas(journal=journal) as peer, opened(peer) as issuer:
        await issuer.revoke((await got(issuer, wish())).leaf.serial_number, reason, now() - timedelta(days=1))
    assert '"event": "revoked"' in journal.read_text()
    assert f'"reason": "{SPOKEN[reason]}"' in journal.read_text()


async def test_revoking_twice_is_no_fault(issuer: Issuer) -> None:
    serial = (await got(issuer, wish())).leaf.serial_number
    for _ in range(2):
        await issuer.revoke(serial, x509.ReasonFlags.superseded, now())


async def test_revoking_what_is_being_issued_is_for_later(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.pending_polls = 5
    pending = await issuer.issue(wish())
    with pytest.raises(Unavailable, match="still being issued"):
        await issuer.revoke(int(pending.reference, 16), x509.ReasonFlags.superseded, now())


async def test_revoking_what_was_refused_says_so(peer: AtlasPeer, issuer: Issuer) -> None:
    peer.atlas.settings.refuse_late = 1
    pending = await issuer.issue(wish())
    with pytest.raises(Rejected, match="Cannot revoke a REJECTED certificate"):
        await issuer.revoke(int(pending.reference, 16), x509.ReasonFlags.superseded, now())


async def test_revoking_what_the_ca_does_not_know_says_so(issuer: Issuer) -> None:
    with pytest.raises(Rejected, match="knows no certificate ABC"):
        await issuer.revoke(0xABC, x509.ReasonFlags.superseded, now())


async def test_revoking_falls_back_to_the_older_call(peer: AtlasPeer, issuer: Issuer) -> None:
    serial = (await got(issuer, wish())).leaf.serial_number
    break_down(peer, PATCH, 405)
    await issuer.revoke(serial, x509.ReasonFlags.superseded, now())
    assert peer.atlas.calls["DELETE /certificates/{serial}"] == 1


@pytest.mark.parametrize(("do", "kind"), [(429, Throttled), (503, Unavailable), ("hang", Unavailable)])
async def test_a_revocation_that_failed_may_be_tried_again(
    peer: AtlasPeer, issuer: Issuer, do: Any, kind: type[IssuerError]
) -> None:
    serial = (await got(issuer, wish())).leaf.serial_number
    break_down(peer, PATCH, do, after=do == "hang")
    with pytest.raises(kind):
        await issuer.revoke(serial, x509.ReasonFlags.superseded, now())
    await issuer.revoke(serial, x509.ReasonFlags.superseded, now())
