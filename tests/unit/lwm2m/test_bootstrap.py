"""The course of a bootstrap: what is sent, what a device may answer, and how it ends (LwM2M Core 1.2 6.1)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.bootstrap import (
    AskCredential,
    BootstrapRequest,
    BootstrapSession,
    Done,
    Failed,
    FailureCause,
    Learned,
    PskCredential,
    Send,
)
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat
from lwm2m.plan import Mode, OnError, Plan, ServerPlan
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import (
    CREDENTIAL,
    DEVICE_1_0,
    DEVICE_1_1,
    DEVICE_1_2,
    INVENTORY,
    KEY,
    LEAF,
    NOTHING,
    PLAN,
    SECURITY,
    Answer,
    Behaviour,
    agreeable,
    discovering,
    run,
)

# -- the plain course -----------------------------------------------------------------------------------------


def test_a_session_discovers_deletes_writes_each_instance_and_finishes() -> None:
    done = run()
    assert done.verdict == Done()
    assert done.story == ["discover /", "delete /0", "delete /1", "write /0/1", "write /1/0", "finish /bs"]
    methods = [operation.code for operation in done.sent]
    assert methods == [coap.GET, coap.DELETE, coap.DELETE, coap.PUT, coap.PUT, coap.POST]
    assert done.sent[0].accept == ContentFormat.LINK
    assert done.sent[0].segments == ()
    assert done.sent[-1].segments == ("bs",)
    assert done.sent[-1].payload == b""
    assert done.session.learned == Learned()


def test_server_key_writes_mode_2_with_leaf_server_certificate_and_key() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, certificate_usage=2),))
    instance = run(plan=plan).written()
    assert instance.resources == {
        0: "coaps://lwm2m.example.com:5684",
        1: False,
        2: 2,
        3: LEAF,
        4: b"server CA",
        5: KEY,
        10: 123,
        15: 2,
    }


def test_the_server_instance_carries_the_mandatory_resources() -> None:
    assert run().written(object=1).resources == {0: 123, 1: 86400, 6: True, 7: "U"}


def test_psk_mode_writes_identity_and_key_and_leaves_the_server_key_empty() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="psk"),))
    instance = run(plan=plan, credentials={0: PskCredential(identity=b"me", key=b"secret")}).written()
    assert {id: instance.resources[id] for id in (2, 3, 4, 5)} == {2: 0, 3: b"me", 4: b"", 5: b"secret"}
    assert 15 not in instance.resources


def test_nosec_mode_writes_all_keys_empty_and_needs_no_credential() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="nosec", uri="coap://a"),))
    done = run(plan=plan, credentials={})
    instance = done.written()
    assert {id: instance.resources[id] for id in (2, 3, 4, 5)} == {2: 3, 3: b"", 4: b"", 5: b""}
    assert done.asked == []


def test_est_mode_writes_the_server_certificate_and_neither_certificate_nor_key() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="est"),))
    instance = run(plan=plan, credentials={}).written()
    assert instance.resources[2] == 4
    assert instance.resources[4] == b"server CA"
    assert 3 not in instance.resources
    assert 5 not in instance.resources


def test_a_wrong_kind_of_credential_ends_the_session_before_the_write() -> None:
    done = run(credentials={0: PskCredential(identity=b"me", key=b"secret")})
    assert isinstance(done.verdict, Failed)
    assert done.verdict.cause is FailureCause.CONFIGURATION_INVALID
    assert done.verdict.path == "/0/1"
    assert "write /0/1" not in done.story


def test_a_value_that_cannot_be_encoded_is_a_failure_and_not_an_exception() -> None:
    plan = replace(PLAN, servers=(ServerPlan(short_server_id=123, optional={15: "yes"}),))
    verdict = run(plan=plan).verdict
    assert isinstance(verdict, Failed)
    assert (verdict.cause, verdict.path) == (FailureCause.CONFIGURATION_INVALID, "/1/0")


def test_secrets_do_not_show_in_the_repr_of_a_step() -> None:
    session = BootstrapSession(
        DEVICE_1_1, replace(PLAN, discover="never", delete=()), Learned(), credentials={0: CREDENTIAL}
    )
    step = session.start()
    assert isinstance(step, Send)
    assert KEY in step.operation.payload
    assert "PKCS8" not in repr(step) + repr(CREDENTIAL) + repr(PskCredential(identity=b"", key=b"PKCS8"))


# -- credentials ------------------------------------------------------------------------------------------------


def test_a_missing_credential_is_asked_for_before_the_device_is_touched() -> None:
    session = BootstrapSession(DEVICE_1_1, PLAN, Learned(), credentials={})
    assert session.start() == AskCredential(0)
    step = session.supply(0, CREDENTIAL)
    assert isinstance(step, Send)
    assert step.operation.kind is OperationKind.DISCOVER


def test_only_what_was_asked_for_can_be_supplied() -> None:
    session = BootstrapSession(DEVICE_1_1, PLAN, Learned(), credentials={})
    session.start()
    with pytest.raises(ValueError, match="not asked for"):
        session.supply(1, CREDENTIAL)


def test_each_mode_says_whether_it_needs_a_credential_from_the_start() -> None:
    def needs(mode: Mode, learned: Learned = NOTHING) -> tuple[int, ...]:
        return Plan(securities=(replace(SECURITY, mode=mode),)).needs_credential(learned)

    assert needs("server-key") == (0,)
    assert needs("psk") == (0,)
    assert needs("nosec") == ()
    assert needs("est") == ()
    assert needs("est-then-server-key") == ()
    assert needs("est-then-server-key", Learned(est_refused=True)) == (0,)
    assert needs("est-then-server-key", Learned(est_unused=True)) == (0,)


# -- discover ---------------------------------------------------------------------------------------------------


def test_never_does_not_discover_and_stays_clear_of_both_usual_bootstrap_accounts() -> None:
    done = run(plan=replace(PLAN, discover="never"))
    assert done.story[0] == "delete /0"
    assert "write /0/2" in done.story


def test_silence_goes_on_with_the_layout_of_the_clients_that_keep_silent_and_is_remembered() -> None:
    done = run(discovering("silent"))
    assert done.verdict == Done()
    assert "write /0/0" in done.story
    assert done.session.learned == Learned(discover_silent=True)
    again = run(learned=done.session.learned)
    assert again.story == ["delete /0", "delete /1", "write /0/0", "write /1/0", "finish /bs"]


def test_the_silence_of_a_device_that_is_gone_is_not_remembered() -> None:
    done = run(lambda operation: "silent")
    assert done.verdict == Failed(FailureCause.NO_ANSWER, "/0", None)
    assert done.session.learned == Learned()


@pytest.mark.parametrize("optional", [True, False])
def test_only_an_optional_discover_may_be_silent(optional: bool) -> None:
    plan = replace(PLAN, discover="auto" if optional else "required")
    session = BootstrapSession(DEVICE_1_1, plan, Learned(), credentials={0: CREDENTIAL})
    step = session.start()
    assert isinstance(step, Send)
    assert step.may_be_silent is optional
    after = session.no_answer()
    if optional:
        assert isinstance(after, Send)
        assert (after.operation.kind, after.may_be_silent) == (OperationKind.DELETE, False)
    else:
        problem = "it cannot be done without (discover = required)"
        assert after == Failed(FailureCause.DISCOVER_REQUIRED, "/", None, problem)


@pytest.mark.parametrize(
    "behaviour",
    [
        discovering(b"", coap.NOT_FOUND),
        discovering("reset"),
        discovering("unusable"),
        discovering(b"no links at all"),
        lambda op: (coap.CONTENT, ContentFormat.TLV, INVENTORY) if op.kind is OperationKind.DISCOVER else agreeable(op),
    ],
)
def test_an_unusable_discovery_is_passed_over_by_auto_and_ends_the_session_when_required(behaviour: Behaviour) -> None:
    done = run(behaviour)
    assert done.verdict == Done()
    assert "write /0/2" in done.story
    assert done.session.learned == Learned()
    ended = run(behaviour, plan=replace(PLAN, discover="required"))
    assert isinstance(ended.verdict, Failed)
    assert ended.verdict.cause is FailureCause.DISCOVER_REQUIRED
    assert ended.story == ["discover /"]


def test_required_asks_also_a_device_known_to_be_silent_and_forgets_it_when_it_answers() -> None:
    done = run(plan=replace(PLAN, discover="required"), learned=Learned(discover_silent=True))
    assert done.story[0] == "discover /"
    assert done.session.learned == Learned()


def test_a_fixed_id_that_is_the_bootstrap_account_ends_the_session_before_the_device_is_touched() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, id=0),))
    done = run(plan=plan)
    assert isinstance(done.verdict, Failed)
    assert (done.verdict.cause, done.verdict.path) == (FailureCause.CONFIGURATION_INVALID, "/0/0")
    assert done.story == ["discover /"]


# -- ended from outside, and the log ----------------------------------------------------------------------------


def test_a_lost_association_ends_the_session_at_the_operation_under_way() -> None:
    session = BootstrapSession(DEVICE_1_1, PLAN, Learned(), credentials={0: CREDENTIAL})
    session.start(0.0)
    session.answer(coap.CONTENT, ContentFormat.LINK, INVENTORY, 1.0)
    assert session.lost("close_notify", 2.0) == Failed(FailureCause.ASSOCIATION_LOST, "/0", None, "close_notify")
    assert session.log[-1].note == "close_notify"
    with pytest.raises(ValueError, match="no operation"):
        session.answer(coap.DELETED, None, b"")


def test_a_session_can_be_interrupted_while_it_waits_for_a_credential() -> None:
    session = BootstrapSession(DEVICE_1_1, PLAN, Learned(), credentials={})
    session.start()
    assert session.interrupt(FailureCause.DEADLINE) == Failed(FailureCause.DEADLINE, None, None)
    with pytest.raises(ValueError, match="not asked for"):
        session.supply(0, CREDENTIAL)


def test_the_log_tells_each_operation_with_code_size_format_and_time() -> None:
    rows = [record.as_row() for record in run(discovering("silent")).session.log]
    assert rows[0] == {"op": "discover", "path": "/", "note": "no answer", "at": 0, "ms": 1000}
    assert rows[1] == {"op": "delete", "path": "/0", "code": "2.02", "at": 1000, "ms": 1000}
    assert rows[3]["format"] == "senml-cbor"
    assert int(rows[3]["bytes"]) > 50
    assert rows[-1] == {"op": "finish", "path": "/bs", "code": "2.04", "at": 5000, "ms": 1000}


def test_without_a_clock_the_log_has_no_times() -> None:
    session = BootstrapSession(DEVICE_1_1, PLAN, Learned(), credentials={0: CREDENTIAL})
    session.start()
    session.no_answer()
    assert session.log[0].as_row() == {"op": "discover", "path": "/", "note": "no answer"}


# -- whatever a device answers ----------------------------------------------------------------------------------


OUTCOMES = st.one_of(
    st.sampled_from(["silent", "reset", "unusable"]),
    st.sampled_from(
        [coap.CHANGED, coap.DELETED, coap.BAD_REQUEST, coap.NOT_ACCEPTABLE, coap.UNSUPPORTED_CONTENT_FORMAT]
    ),
    st.tuples(
        st.integers(0x40, 0xBF),
        st.none() | st.integers(0, 65535),
        st.binary(max_size=40) | st.sampled_from([INVENTORY, b"</0/0>,</0/1>;ssid=123,</0/2>"]),
    ),
)
PLANS = st.builds(
    Plan,
    content_format=st.sampled_from(["auto", "tlv", "lwm2m-cbor"]),
    discover=st.sampled_from(["auto", "never", "required"]),
    securities=st.sampled_from(["server-key", "est", "est-then-server-key"]).flatmap(
        lambda mode: st.builds(
            replace, st.just(SECURITY), mode=st.just(mode), chain=st.sampled_from(["auto", "leaf", "pem-chain"])
        ).map(lambda security: (security,))
    ),
    servers=st.just((ServerPlan(short_server_id=123),)),
    on_error=st.builds(
        OnError,
        delete=st.sampled_from(["stop", "continue"]),
        write=st.sampled_from(["stop", "continue", "other-format"]),
    ),
)


@settings(deadline=None)
@given(
    plan=PLANS,
    request_=st.sampled_from([DEVICE_1_0, DEVICE_1_1, DEVICE_1_2]),
    outcomes=st.lists(OUTCOMES, max_size=20),
    learned=st.builds(
        Learned,
        discover_silent=st.booleans(),
        leaf_only=st.booleans(),
        est_refused=st.booleans(),
        in_parts=st.booleans(),
        est_unused=st.booleans(),
        format=st.sampled_from([None, "tlv", "other"]),
    ),
)
def test_every_device_brings_a_session_to_an_end_and_success_needs_an_accepted_finish(
    plan: Plan, request_: BootstrapRequest, outcomes: list[int | Answer | str], learned: Learned
) -> None:
    left = list(outcomes)
    last: list[int | Answer | str] = []

    def behaviour(operation: Operation) -> int | Answer | str:
        last[:] = [left.pop(0) if left else agreeable(operation)]
        return last[0]

    done = run(behaviour, plan=plan, request=request_, learned=learned, credentials={})
    assert len(done.sent) < 40
    finished = done.sent[-1].kind is OperationKind.FINISH
    code = last[0][0] if isinstance(last[0], tuple) else last[0]
    accepted = finished and code == coap.CHANGED
    assert (done.verdict == Done()) is accepted
    assert Learned.from_json(done.session.learned.as_json()) == done.session.learned
