"""What a device answers to an operation, and what follows when it refuses one or says nothing."""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import (
    BootstrapSession,
    Done,
    Failed,
    FailureCause,
    Learned,
)
from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailure
from lwm2m.plan import OnError
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import (
    CREDENTIAL,
    DEVICE_1_1,
    NOTHING,
    PLAN,
    Answer,
    Behaviour,
    agreeable,
    discovering,
    refuse,
    run,
)

# -- codes ------------------------------------------------------------------------------------------------------

SUCCESSES = {coap.CREATED, coap.DELETED, coap.VALID, coap.CHANGED, coap.CONTENT, coap.CONTINUE, 0x40, 0x46}


@pytest.mark.parametrize(
    ("kind", "path", "fit"),
    [
        # RFC 7252 5.8.3 has 2.01 for a PUT that creates.
        (OperationKind.WRITE, "/0/1", {coap.CHANGED, coap.CREATED}),
        (OperationKind.FINISH, "/bs", {coap.CHANGED}),
    ],
)
@pytest.mark.parametrize("on_error", [OnError(), OnError(delete="continue", write="continue")])
def test_only_its_own_success_says_that_an_operation_was_done(
    kind: OperationKind, path: str, fit: set[int], on_error: OnError
) -> None:
    for code in SUCCESSES:
        done = run(refuse(kind, code), plan=replace(PLAN, on_error=on_error))
        if code in fit:
            assert done.verdict == Done()
            continue
        detail = f"{coap.code_text(code)} is not how it is answered"
        assert done.verdict == Failed(FailureCause.BAD_ANSWER, path, code, detail)
        assert (done.session.log[-1].code, done.session.log[-1].note.endswith(detail)) == (code, True)


@pytest.mark.parametrize("code", SUCCESSES - {coap.DELETED})
def test_another_success_of_a_delete_is_a_refusal_that_the_profile_judges(code: int) -> None:
    assert run(refuse(OperationKind.DELETE, code)).verdict == Done()
    detail = f"{coap.code_text(code)} is not how it is answered"
    stopped = run(refuse(OperationKind.DELETE, code), plan=replace(PLAN, on_error=OnError(delete="stop")))
    assert stopped.verdict == Failed(FailureCause.DELETE_REFUSED, "/0", code, detail)


@pytest.mark.parametrize("code", SUCCESSES - {coap.CONTENT})
def test_a_discover_with_another_success_has_shown_nothing(code: int) -> None:
    answer = discovering(b"</>;lwm2m=1.1,</0/7>,</1>,</3/0>", code)
    assert run(answer).story == run(discovering(b"", coap.NOT_FOUND)).story
    verdict = run(answer, plan=replace(PLAN, discover="required")).verdict
    detail = f"{coap.code_text(code)} is not how it is answered"
    assert verdict == Failed(FailureCause.DISCOVER_REQUIRED, "/", code, detail)


# -- deletes and writes that are refused ------------------------------------------------------------------------


def test_a_refused_delete_does_not_stop_the_session_by_default() -> None:
    assert run(refuse(OperationKind.DELETE, coap.BAD_REQUEST)).verdict == Done()


def test_a_refused_delete_stops_the_session_when_the_profile_says_so() -> None:
    plan = replace(PLAN, on_error=OnError(delete="stop"))
    done = run(refuse(OperationKind.DELETE, coap.BAD_REQUEST, path="/1"), plan=plan)
    assert done.verdict == Failed(FailureCause.DELETE_REFUSED, "/1", coap.BAD_REQUEST)
    assert run(refuse(OperationKind.DELETE, coap.NOT_FOUND), plan=plan).verdict == Done()


IZUMA = Learned(izuma=True)
QUIET = replace(PLAN, discover="never")


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_an_izuma_client_that_refuses_all_is_told_again_that_it_was_accepted(copies: int) -> None:
    done = run(refuse(OperationKind.DELETE, *[coap.BAD_REQUEST] * copies), plan=QUIET, learned=IZUMA)
    assert done.verdict == Done()
    assert done.story == [*["delete /0"] * (1 + copies), "delete /1", "write /0/2", "write /1/0", "finish /bs"]
    assert done.accepted_again == [*range(1, 1 + copies)]
    assert [step.note for step in done.session.log[: 1 + copies]] == ["", *["accepted once more"] * copies]


def test_one_that_refuses_all_whatever_it_is_told_is_told_three_times() -> None:
    done = run(lambda _: coap.BAD_REQUEST, plan=QUIET, learned=IZUMA)
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/2", coap.BAD_REQUEST)
    assert done.story == [*["delete /0"] * 4, "delete /1", "write /0/2"]
    assert done.accepted_again == [1, 2, 3]


def test_one_whose_answer_to_a_discover_never_comes_is_told_again_too() -> None:
    def behaviour(operation: Operation) -> int | Answer | str:
        return "silent" if operation.kind is OperationKind.DISCOVER else deaf(operation)

    deaf = refuse(OperationKind.DELETE, coap.BAD_REQUEST)
    done = run(behaviour, learned=IZUMA)
    assert (done.verdict, done.accepted_again) == (Done(), [2])


@pytest.mark.parametrize(
    ("learned", "refusal"),
    [
        (NOTHING, refuse(OperationKind.DELETE, coap.BAD_REQUEST)),
        (IZUMA, refuse(OperationKind.DELETE, coap.METHOD_NOT_ALLOWED)),
        # It took one, so it has heard.
        (IZUMA, refuse(OperationKind.DELETE, coap.BAD_REQUEST, path="/1")),
        (IZUMA, refuse(OperationKind.WRITE, coap.BAD_REQUEST)),
    ],
    ids=["another client", "another refusal", "after one it took", "a write"],
)
def test_nobody_else_is_told_again(learned: Learned, refusal: Behaviour) -> None:
    assert run(refusal, plan=QUIET, learned=learned).accepted_again == []


def test_a_refused_write_stops_the_session_by_default_without_a_finish() -> None:
    done = run(refuse(OperationKind.WRITE, coap.FORBIDDEN, path="/1/0"))
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/1/0", coap.FORBIDDEN)
    assert "finish /bs" not in done.story


def test_a_refused_write_leaves_the_decision_to_the_device_when_the_profile_says_continue() -> None:
    plan = replace(PLAN, on_error=OnError(write="continue"))
    done = run(refuse(OperationKind.WRITE, coap.METHOD_NOT_ALLOWED), plan=plan)
    assert done.verdict == Done()
    assert done.session.log[3].code == coap.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("kind", [OperationKind.DELETE, OperationKind.WRITE, OperationKind.FINISH])
@pytest.mark.parametrize(("said", "cause"), [("silent", FailureCause.NO_ANSWER), ("reset", FailureCause.RESET)])
def test_silence_or_a_reset_ends_the_session_at_the_operation_it_met(
    kind: OperationKind, said: str, cause: FailureCause
) -> None:
    plan = replace(PLAN, on_error=OnError(write="continue"))
    done = run(lambda op: said if op.kind is kind else agreeable(op), plan=plan)
    assert done.verdict == Failed(cause, done.sent[-1].path, None)
    assert done.sent[-1].kind is kind


@pytest.mark.parametrize("kind", [OperationKind.DELETE, OperationKind.WRITE, OperationKind.FINISH])
def test_an_answer_that_cannot_be_used_is_no_silence_and_says_what_is_wrong_with_it(kind: OperationKind) -> None:
    done = run(lambda op: "unusable" if op.kind is kind else agreeable(op))
    problem = "the answer is not to the block it came for"
    assert done.verdict == Failed(FailureCause.BAD_ANSWER, done.sent[-1].path, None, problem)
    assert done.session.log[-1].note.endswith(problem)
    # After the Finish nobody knows what the device did.
    assert done.session.finish_unanswered is (kind is OperationKind.FINISH)


@pytest.mark.parametrize("why", ExchangeFailure)
def test_every_way_to_have_no_answer_leads_on(why: ExchangeFailure) -> None:
    plan = replace(PLAN, discover="required")
    session = BootstrapSession(DEVICE_1_1, plan, Learned(), credentials={0: CREDENTIAL})
    session.start()
    ended = session.unanswered(why)
    assert isinstance(ended, Failed)
    assert ended.cause is FailureCause.DISCOVER_REQUIRED
    assert session.log[0].note


def test_the_text_a_device_adds_to_a_refusal_is_kept_printable_and_short() -> None:
    text = ("missing \x07 resource " + "x" * 500).encode() + b"\xff"
    done = run(lambda op: (coap.BAD_REQUEST, None, text) if op.kind is OperationKind.WRITE else agreeable(op))
    assert isinstance(done.verdict, Failed)
    assert done.verdict.detail.startswith("missing   resource xxx")
    assert len(done.verdict.detail) == 200
    assert done.session.log[-1].note.endswith(done.verdict.detail)
