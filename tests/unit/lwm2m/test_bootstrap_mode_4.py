"""A device that is to make its key itself: mode 4, taken and refused."""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import Done, Failed, FailureCause, Learned
from lwm2m.coap import message as coap
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import CREDENTIAL, DEVICE_1_2, EST_FIRST, LEAF, PLAN, SECURITY, Answer, agreeable, refuse, run


def test_a_session_knows_which_certificates_the_device_is_to_come_for() -> None:
    both = replace(PLAN, securities=(replace(SECURITY, mode="est"), replace(SECURITY, id=7, service="DLMS")))
    assert run(plan=both, credentials={1: CREDENTIAL}).session.enrolls == {"LWM2M"}
    assert run(plan=EST_FIRST, credentials={}).session.enrolls == {"LWM2M"}
    assert run(plan=EST_FIRST, learned=Learned(est_refused=True)).session.enrolls == frozenset()
    refused = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST, path="/0/1"), plan=EST_FIRST, credentials={})
    assert (refused.verdict, refused.session.enrolls) == (Done(), frozenset())


def test_a_refused_mode_4_falls_back_to_a_server_made_key_and_is_remembered() -> None:
    done = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST), plan=EST_FIRST, credentials={})
    assert done.verdict == Done()
    assert done.asked == [0]
    assert (done.written(0).resources[2], done.written(1).resources[2]) == (4, 2)
    assert done.session.learned == Learned(est_refused=True)
    again = run(plan=EST_FIRST, credentials={}, learned=done.session.learned)
    assert again.asked == [0]
    assert again.written(0).resources[2] == 2


def test_a_device_that_ends_its_bootstrap_with_the_refusal_gets_a_server_made_key_when_it_comes_back() -> None:
    left: list[int | str] = [coap.BAD_REQUEST, "lost"]

    def behaviour(operation: Operation) -> int | str:
        return left.pop(0) if operation.kind is OperationKind.WRITE else agreeable(operation)

    done = run(behaviour, plan=EST_FIRST, credentials={})
    assert isinstance(done.verdict, Failed)
    assert done.session.learned == Learned(est_refused=True)
    again = run(plan=EST_FIRST, credentials={}, learned=done.session.learned)
    assert again.written(0).resources[2] == 2


def test_mode_4_that_is_taken_never_asks_for_a_credential() -> None:
    done = run(plan=EST_FIRST, credentials={})
    assert (done.verdict, done.asked, done.session.learned) == (Done(), [], Learned())


def test_mode_4_alone_does_not_fall_back() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="est"),))
    done = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST), plan=plan, credentials={})
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST)


def test_a_fallback_that_is_refused_as_pem_ends_as_leaf_and_both_are_remembered() -> None:
    done = run(refuse(OperationKind.WRITE, *[coap.BAD_REQUEST] * 2), plan=EST_FIRST, credentials={}, request=DEVICE_1_2)
    assert done.verdict == Done()
    assert done.written().resources[3] == LEAF
    assert done.session.learned == Learned(est_refused=True, leaf_only=True)


def test_a_fallback_that_is_refused_altogether_is_not_remembered() -> None:
    done = run(refuse(OperationKind.WRITE, *[coap.BAD_REQUEST] * 2), plan=EST_FIRST, credentials={})
    assert isinstance(done.verdict, Failed)
    assert done.session.learned == Learned()


# -- taken, and never used ----------------------------------------

UNUSED = Learned(est_unused=True)
WHY = "mode 4 was taken before and no certificate asked for"


def test_a_device_that_never_used_mode_4_is_written_a_key_made_for_it_and_the_step_says_why() -> None:
    done = run(plan=EST_FIRST, credentials={}, learned=UNUSED)
    assert (done.verdict, done.asked, done.session.learned) == (Done(), [0], UNUSED)
    assert (done.written().resources[2], done.session.enrolls) == (2, frozenset())
    noted = [step.note for step in done.session.log if step.path.startswith("/0/")]
    assert noted == [f"{WHY}; leaf alone, the LwM2M server must hold its issuer"]
    assert (done.session.took_mode_4, done.session.refused_mode_2) == (False, False)


@pytest.mark.parametrize("learned", [Learned(), UNUSED])
def test_where_the_profile_permits_no_key_made_here_mode_4_stays(learned: Learned) -> None:
    both = (replace(SECURITY, mode="est"), replace(SECURITY, id=7, service="DLMS"))
    done = run(plan=replace(PLAN, securities=both), credentials={1: CREDENTIAL}, learned=learned)
    assert (done.written(0).resources[2], done.written(1).resources[2]) == (4, 2)
    assert WHY not in "".join(step.note for step in done.session.log)
    assert (done.session.took_mode_4, done.session.refused_mode_2) == (False, False)


def test_a_session_knows_whether_the_device_took_mode_4_where_a_made_key_would_do() -> None:
    assert run(plan=EST_FIRST, credentials={}).session.took_mode_4
    assert not run(plan=PLAN).session.took_mode_4
    assert not run(refuse(OperationKind.WRITE, coap.BAD_REQUEST), plan=EST_FIRST, credentials={}).session.took_mode_4
    ignoring = replace(EST_FIRST, on_error=replace(EST_FIRST.on_error, write="continue"))
    skipped = run(refuse(OperationKind.WRITE, coap.METHOD_NOT_ALLOWED, coap.FORBIDDEN), plan=ignoring, credentials={})
    assert (skipped.verdict, skipped.session.enrolls, skipped.session.took_mode_4) == (Done(), {"LWM2M"}, False)
    either = replace(ignoring, securities=(EST_FIRST.securities[0], replace(EST_FIRST.securities[0], id=7)))
    one = run(refuse(OperationKind.WRITE, coap.FORBIDDEN), plan=either, credentials={})
    assert (one.verdict, one.session.took_mode_4) == (Done(), True)


def test_a_made_key_that_is_refused_is_not_written_again_for_mode_4_having_gone_unused() -> None:
    plan = replace(EST_FIRST, on_error=replace(EST_FIRST.on_error, write="other-format"))
    done = run(refuse(OperationKind.WRITE, *[coap.BAD_REQUEST] * 4), plan=plan, credentials={}, learned=UNUSED)
    assert isinstance(done.verdict, Failed)
    assert (done.session.learned, done.session.refused_mode_2) == (Learned(), True)
    done = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST), plan=plan, credentials={}, learned=UNUSED)
    assert done.verdict == Done()
    assert (done.session.learned.est_unused, done.session.refused_mode_2) == (True, False)


def test_a_made_key_that_the_finish_calls_inconsistent_is_not_written_again_unless_the_repair_was_of_use() -> None:
    inconsistent = coap.NOT_ACCEPTABLE
    done = run(refuse(OperationKind.FINISH, *[inconsistent] * 2), plan=EST_FIRST, credentials={}, learned=UNUSED)
    assert (done.verdict.__class__, done.session.learned, done.session.refused_mode_2) == (Failed, Learned(), True)
    done = run(refuse(OperationKind.FINISH, inconsistent), plan=EST_FIRST, credentials={}, learned=UNUSED)
    assert (done.verdict, done.session.learned.est_unused, done.session.refused_mode_2) == (Done(), True, False)


def test_a_device_that_leaves_with_its_word_that_a_made_key_is_inconsistent_is_offered_mode_4_again() -> None:
    """It may be one that takes mode 4 alone, and waits for no repair (Leshan)."""

    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.FINISH:
            left.append(operation)
            return coap.NOT_ACCEPTABLE
        return "lost" if left else agreeable(operation)

    left: list[Operation] = []
    done = run(behaviour, plan=EST_FIRST, credentials={}, learned=UNUSED)
    assert isinstance(done.verdict, Failed)
    assert (done.session.learned, done.session.refused_mode_2) == (Learned(), True)
