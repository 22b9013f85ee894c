"""A device that behaves as Contiki-NG's client does, and is to get its credential at every bootstrap all the same.

A Delete of an object takes away its instance 0 alone, and one in the Security object is answered with an error whatever
became of it. An instance that was there before takes no Write (4.05).
"""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import (
    BootstrapRequest,
    BootstrapSession,
    Credential,
    Done,
    Failed,
    FailureCause,
    Learned,
    PskCredential,
)
from lwm2m.coap import message as coap
from lwm2m.paths import Path
from lwm2m.plan import OnError, Plan
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import PLAN, SECURITY, Answer, Run, agreeable, run

PSK_PLAN = replace(PLAN, securities=(replace(SECURITY, mode="psk"),))
PSK: dict[int, Credential | PskCredential] = {0: PskCredential(identity=b"device", key=b"k" * 16)}


class Contiki:
    """Its Security and Server objects, instances by their paths."""

    def __init__(self) -> None:
        self.instances = {Path(0, 0): b"", Path(1, 0): b""}

    def __call__(self, operation: Operation) -> int | Answer | str:
        path = Path.parse(operation.path) if operation.kind is not OperationKind.FINISH else Path()
        match operation.kind:
            case OperationKind.DISCOVER:
                return coap.METHOD_NOT_ALLOWED
            case OperationKind.DELETE:
                self.instances.pop(Path(path.object or 0, path.instance or 0), None)
                return coap.DELETED if path.object == 1 else coap.INTERNAL_SERVER_ERROR
            case OperationKind.WRITE if path in self.instances:
                return coap.METHOD_NOT_ALLOWED
            case OperationKind.WRITE:
                self.instances[path] = operation.payload
                return coap.CREATED
            case _:
                return agreeable(operation)


def bootstrapped(device: Contiki, plan: Plan = PSK_PLAN) -> Run:
    return run(device, plan=plan, request=BootstrapRequest("device", None), credentials=PSK)


def test_what_its_earlier_bootstrap_left_is_deleted_and_written_anew() -> None:
    device = Contiki()
    first = bootstrapped(device)
    assert (first.verdict, first.story[-3:]) == (Done(), ["write /0/2", "write /1/0", "finish /bs"])
    device.instances[Path(0, 2)] = b"of an earlier key"
    again = bootstrapped(device)
    assert again.verdict == Done()
    assert again.story[3:] == ["write /0/2", "delete /0/2", "write /0/2", "write /1/0", "finish /bs"]
    assert device.instances[Path(0, 2)] == first.sent[3].payload
    assert [step.note for step in again.session.log[3:6]] == ["", "", "it was there still"]


@pytest.mark.parametrize("delete", [(Path(),), (Path(0, 2), Path(1)), (Path(0), Path(1))])
def test_only_what_the_profile_has_deleted_is_deleted_for_that(delete: tuple[Path, ...]) -> None:
    def refusing(operation: Operation) -> int | Answer | str:
        return coap.METHOD_NOT_ALLOWED if operation.kind is OperationKind.WRITE else Contiki()(operation)

    for deleted, times in ((delete, 2), ((Path(0, 1), Path(1)), 1), ((), 1)):
        done = run(refusing, plan=replace(PSK_PLAN, delete=deleted), credentials=PSK)
        assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/2", coap.METHOD_NOT_ALLOWED)
        assert done.story.count("write /0/2") == times


def test_one_that_refuses_the_new_one_too_is_asked_once() -> None:
    def refusing(operation: Operation) -> int | Answer | str:
        return coap.METHOD_NOT_ALLOWED if operation.path == "/0/2" else Contiki()(operation)

    plan = replace(PSK_PLAN, on_error=OnError(write="continue"))
    done = run(refusing, plan=plan, credentials=PSK)
    assert (done.verdict, done.story.count("write /0/2"), done.story.count("delete /0/2")) == (Done(), 2, 1)


@pytest.mark.parametrize(
    ("codes", "well"),
    [
        ((), False),
        ((None,), False),
        ((coap.METHOD_NOT_ALLOWED,), True),
        ((None, coap.INTERNAL_SERVER_ERROR, coap.DELETED), True),
        ((coap.NOT_FOUND, coap.DELETED, coap.DELETED, coap.CREATED), True),
        ((coap.NOT_FOUND, coap.DELETED, coap.DELETED, coap.METHOD_NOT_ALLOWED, coap.DELETED), False),
        ((coap.NOT_FOUND, coap.DELETED, coap.DELETED, coap.METHOD_NOT_ALLOWED, coap.DELETED, coap.CREATED), True),
        ((coap.NOT_FOUND, coap.DELETED, coap.DELETED, coap.CREATED, coap.CREATED, coap.CHANGED), False),
    ],
    ids=["nothing", "silence", "a Discover refused", "a Delete refused", "a Write", "refused", "made good", "over"],
)
def test_a_bootstrap_goes_well_while_its_device_takes_what_it_gets(codes: tuple[int | None, ...], well: bool) -> None:
    session = BootstrapSession(BootstrapRequest("device", None), PSK_PLAN, Learned(), credentials=PSK)
    session.start(0.0)
    for code in codes:
        if code is None:
            session.no_answer(1.0)
        else:
            session.answer(code, None, b"", 1.0)
    assert session.goes_well(5.9) is well
    assert not session.goes_well(6.1)


def test_whether_a_bootstrap_goes_well_is_known_without_its_log() -> None:
    """A device that asks each second would have the whole of it read each time."""
    session = BootstrapSession(BootstrapRequest("device", None), PSK_PLAN, Learned(), credentials=PSK)
    session.start(0.0)
    for code in (coap.NOT_FOUND, coap.DELETED, coap.DELETED, coap.CREATED):
        session.answer(code, None, b"", 1.0)
    session.log.clear()
    assert session.goes_well(1.0)
