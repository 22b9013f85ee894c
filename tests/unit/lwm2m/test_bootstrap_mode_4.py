"""A device that is to make its key itself: mode 4, taken and refused."""

from dataclasses import replace

from lwm2m.bootstrap import Done, Failed, FailureCause, Learned
from lwm2m.coap import message as coap
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import CREDENTIAL, DEVICE_1_2, EST_FIRST, LEAF, PLAN, SECURITY, agreeable, refuse, run


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
