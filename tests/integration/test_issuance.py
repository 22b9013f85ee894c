"""The issuance of server-made keys on a real PostgreSQL, with a CA that does what each test says (design 2.1, 7, 8)."""

import asyncio

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from issuers.base import Issued, IssueRequest, Pending
from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    Misconfigured,
    NotSupported,
    OutcomeUnknown,
    QuotaExhausted,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from server import attempts
from server.errors import TemporarilyUnavailable
from server.latencies import SOONER
from server.store import certificates, issuances
from server.store.audit import Actor
from server.store.database import Database
from tests.integration.field import until
from tests.integration.issuers import (
    Gate,
    ScriptedCa,
    Workers,
    belongs_together,
    in_turn,
    raises,
    wish,
    workers,
)

OPERATOR = Actor(kind="cli", name="kim", request_id="")


# -- from the intent to the certificate --


async def test_a_certificate_issued_at_once_is_on_record_before_anybody_has_it(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    made = await worker.issuance.server_made(wish())
    assert belongs_together(made, ca)
    row = await rig.row()
    assert (row.state, row.attempt, row.server_key, row.error_class) == ("issued", 1, True, None)
    certificate = await certificates.find(rig.database, row.id)
    assert certificate is not None
    assert certificate.chain == made.credential.chain
    assert (row.id, certificate.serial, made.issuer) == (made.issuance_id, made.serial, "CA 1")
    assert (worker.counted("submitted"), worker.counted("issued")) == (1, 1)
    assert "key" not in repr(made)


async def test_the_intent_is_durable_before_the_ca_is_called(rig: Workers, ca: ScriptedCa, database_url: str) -> None:
    seen: list[tuple[str, bytes]] = []

    async def looks_first(request: IssueRequest) -> Issued:
        second = await Database.open(database_url, migrate=False)
        row = await issuances.find(second, request.issuance_id)
        await second.close()
        assert row is not None
        assert (row.serial, row.not_before, row.reference) == (request.serial, request.not_before, None)
        seen.append((row.state, row.csr))
        return await ca.signs(request)

    ca.on_issue = looks_first
    await (await rig.worker()).issuance.server_made(wish())
    ((state, csr),) = seen
    assert state == "submitted"
    assert x509.load_der_x509_csr(csr) == ca.asked[0].csr


async def test_a_pending_reference_is_durable_before_the_first_poll(rig: Workers, ca: ScriptedCa) -> None:
    seen: list[tuple[str, str | None]] = []

    async def looks_first(reference: str) -> Issued | Pending:
        row = await rig.row()
        seen.append((row.state, row.reference))
        return Pending(reference, 0.0) if len(seen) < 3 else await ca.hands_out(reference)

    ca.on_issue, ca.on_collect = ca.takes_its_time, looks_first
    worker = await rig.worker()
    made = await worker.issuance.server_made(wish())
    assert belongs_together(made, ca)
    assert seen == [("pending", "ticket-1")] * 3
    # Counted as the state it reached, not as often as it was asked for.
    assert (worker.counted("pending"), worker.counted("issued")) == (1, 1)
    assert ca.signed_once


async def test_a_new_reference_is_durable_before_it_is_polled(rig: Workers, ca: ScriptedCa) -> None:
    async def moves_it(reference: str) -> Pending:
        return Pending("moved", 0.0)

    async def looks_first(reference: str) -> Issued:
        assert (reference, (await rig.row()).reference) == ("moved", "moved")
        return await ca.hands_out("ticket-1")

    ca.on_issue, ca.on_collect = ca.takes_its_time, in_turn(moves_it, looks_first)
    await (await rig.worker()).issuance.server_made(wish())
    assert ca.collected == ["ticket-1", "moved"]


async def test_a_ca_is_not_asked_before_it_was_ever_done(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(attempts, "LONGEST_POLL", 5.0)
    at: list[float] = []

    async def begins(request: IssueRequest) -> Pending:
        at[:] = [loop.time()]
        return await ca.takes_its_time(request)

    async def done_at_the_fifth(reference: str) -> Issued | Pending:
        at.append(loop.time())
        return Pending(reference, 0.0) if len(at) < 6 else await ca.hands_out(reference)

    ca.on_issue, ca.on_collect = begins, done_at_the_fifth
    worker = await rig.worker()
    await worker.issuance.server_made(wish())
    took = at[-1] - at[0]
    await worker.issuance.server_made(wish("device-2"))
    assert at[1] - at[0] >= took * SOONER


@pytest.mark.parametrize(
    "error", [Unavailable("down"), Throttled("slower", 0.01), OutcomeUnknown("cut off")], ids=lambda e: type(e).__name__
)
async def test_a_ca_that_has_the_request_and_is_away_for_a_moment_is_asked_again(
    rig: Workers, ca: ScriptedCa, error: IssuerError
) -> None:
    ca.on_issue, ca.on_collect = ca.takes_its_time, in_turn(raises(error), ca.hands_out)
    made = await (await rig.worker()).issuance.server_made(wish())
    assert belongs_together(made, ca)
    assert await rig.states() == ["issued"]
    assert ca.collected == ["ticket-1", "ticket-1"]


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (Rejected("not this name"), "refused", "Rejected"),
        (BadCertificate(Check.PARSE, "that is no certificate"), "bad", "BadCertificate"),
        (Unauthorized("who are you"), "unknown", "OutcomeUnknown"),
        (Misconfigured("no such profile"), "unknown", "OutcomeUnknown"),
        (NotSupported("nothing to collect"), "unknown", "OutcomeUnknown"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, IssuerError) else None,
)
async def test_a_ca_that_does_not_hand_out_what_it_has_leaves_a_row_that_says_so(
    rig: Workers, ca: ScriptedCa, error: IssuerError, state: str, kind: str
) -> None:
    # The second attempt, which follows an unknown outcome, meets a CA that is down.
    ca.on_issue, ca.on_collect = in_turn(ca.takes_its_time, raises(Unavailable("down"))), raises(error)
    with pytest.raises(IssuerError):
        await (await rig.worker()).issuance.server_made(wish())
    row = (await rig.rows())[0]
    assert (row.state, row.error_class, row.reference) == (state, kind, "ticket-1")
    assert row.error_text is not None
    assert error.message in row.error_text


# -- what a CA may say --


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unavailable("the CA is down", 7), "failed"),
        (Throttled("slower", 7), "failed"),
        (QuotaExhausted("nothing left"), "failed"),
        (Unauthorized("who are you"), "failed"),
        (Misconfigured("no such profile"), "failed"),
        (NotSupported("not here"), "failed"),
        (Rejected("not this name"), "refused"),
        (BadCertificate(Check.SUBJECT, "another name"), "bad"),
        (OutcomeUnknown("no answer"), "unknown"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, IssuerError) else None,
)
async def test_every_class_of_error_has_its_state_on_the_row(
    rig: Workers, ca: ScriptedCa, error: IssuerError, state: str
) -> None:
    ca.on_issue = raises(error)
    worker = await rig.worker()
    with pytest.raises(type(error), match=error.message) as caught:
        await worker.issuance.server_made(wish())
    # The caller sees what the device is told from: the class, and when to come back.
    assert getattr(caught.value, "retry_after", None) == getattr(error, "retry_after", None)
    rows = await rig.rows()
    # Only a lost answer is followed by a new attempt.
    assert len(rows) == len(ca.asked) == (2 if state == "unknown" else 1)
    for row in rows:
        assert (row.state, row.error_class, row.error_text) == (state, type(error).__name__, error.message)
        assert await certificates.find(rig.database, row.id) is None
    assert worker.counted(state) == len(rows)


def test_every_class_of_error_is_in_the_table_above() -> None:
    def below(kind: type[IssuerError]) -> set[type[IssuerError]]:
        return {kind, *(each for child in kind.__subclasses__() for each in below(child))}

    public = {
        kind for kind in below(IssuerError) if kind.__module__ == IssuerError.__module__ and kind.__name__[0] != "_"
    }
    marks = getattr(test_every_class_of_error_has_its_state_on_the_row, "pytestmark")  # noqa: B009
    assert {type(error) for error, _ in marks[0].args[1]} == public - {IssuerError}


async def test_what_a_ca_writes_may_hold_anything(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = raises(Rejected("no\0 'thing'; --\n ü"))
    with pytest.raises(Rejected):
        await (await rig.worker()).issuance.server_made(wish())
    assert (await rig.row()).error_text == "no 'thing'; --\n ü"


async def test_a_foreign_certificate_is_bad_and_reaches_nobody(rig: Workers, ca: ScriptedCa) -> None:
    stranger = ScriptedCa()
    ca.on_issue = stranger.signs
    with pytest.raises(BadCertificate):
        await (await rig.worker()).issuance.server_made(wish())
    row = await rig.row()
    assert (row.state, row.error_class) == ("bad", "BadCertificate")
    assert await certificates.find(rig.database, row.id) is None


async def test_another_devices_certificate_is_bad(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    await worker.issuance.server_made(wish("device-2"))
    ca.on_issue = lambda _: ca.signs(ca.asked[0])
    with pytest.raises(BadCertificate):
        await worker.issuance.server_made(wish())
    assert await rig.states() == ["bad"]


async def test_a_serial_number_that_the_ca_gave_before_is_bad(rig: Workers, ca: ScriptedCa) -> None:
    ca.serial = lambda _: 0x0123456789ABCDEF
    worker = await rig.worker()
    await worker.issuance.server_made(wish("device-2"))
    with pytest.raises(BadCertificate, match="gave the serial number 123456789abcdef before"):
        await worker.issuance.server_made(wish())
    assert await rig.states() == ["bad"]
    assert await rig.states("device-2") == ["issued"]


async def test_an_issuer_that_is_not_ready_is_told_before_anything_is_made(rig: Workers, ca: ScriptedCa) -> None:
    rig.register.active = None
    with pytest.raises(Misconfigured):
        await (await rig.worker()).issuance.server_made(wish())
    assert await rig.rows() == []
    assert ca.asked == []


async def test_a_fault_of_ours_after_the_ca_was_asked_leaves_the_outcome_unknown(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = raises(ZeroDivisionError("secret-canary"))
    worker = await rig.worker()
    with pytest.raises(ZeroDivisionError):
        await worker.issuance.server_made(wish())
    row = await rig.row()
    assert (row.state, row.error_class) == ("unknown", "OutcomeUnknown")
    assert row.error_text == "a fault of this server while the CA was asked: ZeroDivisionError"


# -- a CA that takes its time, and devices that come back --


async def test_a_slow_ca_is_waited_for_behind_the_device_and_signs_once(rig: Workers, ca: ScriptedCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker(answer_seconds=0.05)
    for _ in range(2):
        with pytest.raises(TemporarilyUnavailable, match="still being asked") as caught:
            await worker.issuance.server_made(wish())
        assert caught.value.retry_after == 0.025
    gate.open.set()
    await until(lambda: _is(rig, "issued"))
    made = await worker.issuance.server_made(wish())
    assert belongs_together(made, ca)
    assert (len(ca.asked), ca.signed_once, await rig.states()) == (1, True, ["issued"])


async def _is(rig: Workers, state: str) -> bool:
    return await rig.states() == [state]


async def test_calls_for_one_endpoint_at_one_time_share_one_issuance(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    made = await asyncio.gather(*(worker.issuance.server_made(wish()) for _ in range(5)))
    assert len({id(each) for each in made}) == 1
    assert (len(ca.asked), await rig.states()) == (1, ["issued"])


async def test_a_session_that_is_cancelled_does_not_cancel_the_issuance(rig: Workers, ca: ScriptedCa) -> None:
    gate = Gate(ca.signs)
    ca.on_issue = gate
    worker = await rig.worker()
    session = asyncio.ensure_future(worker.issuance.server_made(wish()))
    await gate.reached.wait()
    session.cancel()
    await asyncio.gather(session, return_exceptions=True)
    gate.open.set()
    made = await worker.issuance.server_made(wish())
    assert (made.serial, ca.signed_once, len(ca.asked)) == (ca.asked[0].serial, True, 1)


@pytest.mark.parametrize(
    ("error", "counted"), [(Rejected("not this name"), 0), (ZeroDivisionError("a fault"), 1)], ids=["CA", "ours"]
)
async def test_a_failure_that_no_device_waits_for_is_logged(
    rig: Workers, ca: ScriptedCa, error: Exception, counted: int
) -> None:
    gate = Gate(raises(error))
    ca.on_issue = gate
    worker = await rig.worker(answer_seconds=0.05)
    with capture_logs() as lines:
        with pytest.raises(TemporarilyUnavailable):
            await worker.issuance.server_made(wish())
        gate.open.set()
        await until(lambda: _logged(lines, "issuance_failed"))
    assert worker.metrics.internal_errors.values[""] == counted


async def _logged(lines: list[dict[str, object]], event: str) -> bool:
    return any(line["event"] == event for line in lines)


async def test_switching_the_ca_in_the_middle_moves_no_row(database: Database, database_url: str) -> None:
    old, new = ScriptedCa(), ScriptedCa()
    gate = Gate(in_turn(old.loses_the_answer, old.signs))
    old.on_issue = gate
    async with workers(database, database_url, old, new) as rig:
        worker = await rig.worker()
        waiting = asyncio.ensure_future(worker.issuance.server_made(wish()))
        await gate.reached.wait()
        old_id, new_id = rig.register.cas
        rig.register.active = new_id
        gate.open.set()
        made = await waiting
        assert belongs_together(made, old)
        assert {row.issuer_id for row in await rig.rows()} == {old_id}
        assert new.asked == []
        after = await worker.issuance.server_made(wish("device-2"))
        assert belongs_together(after, new)
        assert (await rig.row("device-2")).issuer_id == new_id
