"""GLOBAL_SIGN: collecting what was asked for, rows of `matrices.toml`."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from issuers import globalsign
from issuers.base import Issued, Issuer, Pending
from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from tests.issuers.hvca import (
    ASK,
    break_down,
    collected,
    now,
    opened,
    wish,
)
from tests.issuers.peers.atlas import AtlasPeer, running_atlas

pytestmark = pytest.mark.usefixtures("impatient")


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


async def test_404_right_after_201_is_pending(peer: AtlasPeer, issuer: Issuer) -> None:
    pending = await issuer.issue(wish())
    break_down(peer, ASK, 404)
    assert await issuer.collect(pending.reference) == Pending(pending.reference, globalsign.FIRST_POLL)
    assert isinstance(await issuer.collect(pending.reference), Issued)


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Unavailable)])
async def test_a_named_time_is_told_while_collecting(
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
