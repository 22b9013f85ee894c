"""The Finish of a bootstrap: refused, unanswered, and repaired after a 4.06 (LwM2M Core 1.2 6.1.7.6)."""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import BootstrapSession, Done, Failed, FailureCause, Learned, Send
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import (
    DEVICE_1_1,
    DEVICE_1_2,
    EST_FIRST,
    LEAF,
    NOTHING,
    PLAN,
    SECURITY,
    Answer,
    agreeable,
    only_takes,
    refuse,
    run,
)


def test_the_finish_carries_what_its_device_needs() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="est"),))
    session = BootstrapSession(DEVICE_1_1, plan, NOTHING, credentials={}, finish_query=("iep=1234",))
    step = session.start()
    while isinstance(step, Send):
        finish = step.operation
        refused = finish.kind in (OperationKind.DISCOVER, OperationKind.DELETE)
        step = session.answer(coap.NOT_FOUND if refused else coap.CHANGED, None, b"")
    assert isinstance(step, Done)
    assert (finish.kind, finish.path, finish.query) == (OperationKind.FINISH, "/bs", ("iep=1234",))


def test_a_refused_finish_is_a_failure() -> None:
    verdict = run(refuse(OperationKind.FINISH, coap.BAD_REQUEST)).verdict
    assert verdict == Failed(FailureCause.FINISH_REFUSED, "/bs", coap.BAD_REQUEST)


@pytest.mark.parametrize(
    ("finish", "unanswered"),
    [
        (coap.CHANGED, False),
        (coap.BAD_REQUEST, False),
        (coap.NOT_ACCEPTABLE, False),
        (coap.VALID, True),
        ("silent", True),
        ("lost", True),
    ],
)
def test_a_session_tells_whether_the_device_may_be_at_work_without_its_knowing(
    finish: int | str, unanswered: bool
) -> None:
    done = run(lambda operation: finish if operation.kind is OperationKind.FINISH else agreeable(operation))
    assert done.session.finish_unanswered is unanswered


def test_a_session_that_ends_before_the_finish_leaves_no_doubt() -> None:
    done = run(lambda operation: "lost" if operation.kind is OperationKind.WRITE else agreeable(operation))
    assert not done.session.finish_unanswered


def test_an_inconsistent_configuration_is_written_once_more_in_another_format_and_finished_again() -> None:
    done = run(refuse(OperationKind.FINISH, coap.NOT_ACCEPTABLE))
    assert done.verdict == Done()
    assert done.story[-4:] == ["finish /bs", "write /0/1", "write /1/0", "finish /bs"]
    assert done.sent[-2].content_format == ContentFormat.TLV
    assert done.session.learned == Learned(format="tlv")


def test_an_inconsistent_configuration_with_a_pem_chain_is_repaired_with_the_leaf_in_the_same_format() -> None:
    done = run(refuse(OperationKind.FINISH, coap.NOT_ACCEPTABLE), request=DEVICE_1_2)
    assert done.verdict == Done()
    assert done.written().resources[3] == LEAF
    assert done.sent[-2].content_format == ContentFormat.LWM2M_CBOR
    assert done.session.learned == Learned(leaf_only=True)


def test_an_inconsistent_configuration_with_mode_4_is_repaired_with_a_server_made_key() -> None:
    done = run(refuse(OperationKind.FINISH, coap.NOT_ACCEPTABLE), plan=EST_FIRST, credentials={})
    assert done.verdict == Done()
    assert done.asked == [0]
    assert done.written().resources[2] == 2
    assert done.session.learned == Learned(est_refused=True)


def leaving(operation: Operation) -> int | Answer | str:
    """A device that says 4.06 to the Finish and leaves with it."""
    if operation.kind is OperationKind.FINISH:
        return coap.NOT_ACCEPTABLE
    return agreeable(operation)


def test_a_device_that_leaves_with_its_4_06_to_mode_4_gets_a_server_made_key_next_time() -> None:
    """Leshan 2.0.0-M15 takes the Write of mode 4, which it does not have, and is gone after its 4.06."""
    finished = False

    def behaviour(operation: Operation) -> int | Answer | str:
        nonlocal finished
        if finished:
            return "lost"
        finished = operation.kind is OperationKind.FINISH
        return leaving(operation)

    gone = run(behaviour, plan=EST_FIRST, credentials={})
    assert gone.verdict == Failed(FailureCause.ASSOCIATION_LOST, "/0/1", None, "the association ended")
    assert gone.session.learned == Learned(est_refused=True)
    back = run(plan=EST_FIRST, credentials={}, learned=gone.session.learned)
    assert back.verdict == Done()
    assert back.written().resources[2] == 2
    assert back.session.learned == Learned(est_refused=True)


@pytest.mark.parametrize("refused_before", [False, True])
def test_when_the_repair_is_in_vain_mode_4_is_tried_again(refused_before: bool) -> None:
    done = run(leaving, plan=EST_FIRST, credentials={}, learned=Learned(est_refused=refused_before))
    assert done.verdict == Failed(FailureCause.FINISH_INCONSISTENT, "/bs", coap.NOT_ACCEPTABLE)
    assert done.session.learned == Learned()


def test_a_repair_of_something_else_leaves_mode_4_refused() -> None:
    answer = refuse(OperationKind.FINISH, coap.NOT_ACCEPTABLE)
    done = run(answer, plan=EST_FIRST, credentials={}, learned=Learned(est_refused=True))
    assert done.verdict == Done()
    assert done.session.learned == Learned(est_refused=True, format="tlv")


def test_a_fixed_format_is_repaired_in_that_format() -> None:
    done = run(refuse(OperationKind.FINISH, coap.NOT_ACCEPTABLE), plan=replace(PLAN, content_format="tlv"))
    assert done.verdict == Done()
    assert {op.content_format for op in done.sent if op.kind is OperationKind.WRITE} == {ContentFormat.TLV}
    assert done.session.learned == Learned()


def test_a_repair_whose_format_is_refused_goes_on_in_the_first_one() -> None:
    finishes = iter([coap.NOT_ACCEPTABLE, coap.CHANGED])

    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.FINISH:
            return next(finishes)
        return only_takes(ContentFormat.SENML_CBOR)(operation)

    done = run(behaviour)
    assert done.verdict == Done()
    assert done.session.learned == Learned()


def test_a_repair_is_tried_once_and_nothing_is_learned_from_a_vain_one() -> None:
    done = run(refuse(OperationKind.FINISH, *[coap.NOT_ACCEPTABLE] * 9), request=DEVICE_1_2)
    assert done.verdict == Failed(FailureCause.FINISH_INCONSISTENT, "/bs", coap.NOT_ACCEPTABLE)
    assert done.story.count("finish /bs") == 2
    assert done.session.learned == Learned()


def test_a_repair_that_is_refused_leaves_the_finish_to_blame() -> None:
    finished = False

    def behaviour(operation: Operation) -> int | Answer | str:
        nonlocal finished
        if operation.kind is OperationKind.FINISH:
            finished = True
            return coap.NOT_ACCEPTABLE
        return coap.BAD_REQUEST if finished else agreeable(operation)

    verdict = run(behaviour).verdict
    assert isinstance(verdict, Failed)
    assert (verdict.cause, verdict.code) == (FailureCause.FINISH_INCONSISTENT, coap.NOT_ACCEPTABLE)
    assert verdict.detail == "the repair of /0/1 was refused with 4.00"
