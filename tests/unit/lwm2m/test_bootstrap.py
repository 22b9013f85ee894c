from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.bootstrap import (
    AskCredential,
    BootstrapRequest,
    BootstrapSession,
    Credential,
    Done,
    Failed,
    FailureCause,
    Learned,
    PskCredential,
    Send,
    Step,
)
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat, decode_instances
from lwm2m.objects import ObjectInstance
from lwm2m.paths import Path
from lwm2m.plan import Mode, OnError, Plan, SecurityPlan, ServerPlan
from lwm2m.steps import Operation, OperationKind

NOTHING = Learned()
LEAF, INTERMEDIATE, KEY = b"leaf in DER", b"intermediate in DER", b"key in PKCS8"
CREDENTIAL = Credential(chain=(LEAF, INTERMEDIATE), private_key_pkcs8=KEY)
SECURITY = SecurityPlan(
    uri="coaps://lwm2m.example.com:5684",
    short_server_id=123,
    mode="server-key",
    server_certificate=b"server CA",
    certificate_usage=2,
)
PLAN = Plan(securities=(SECURITY,), servers=(ServerPlan(short_server_id=123),))
DEVICE_1_0 = BootstrapRequest("device", None)
DEVICE_1_1 = BootstrapRequest("device", ContentFormat.SENML_CBOR)
DEVICE_1_2 = BootstrapRequest("device", ContentFormat.LWM2M_CBOR)
INVENTORY = b"</>;lwm2m=1.1,</0/0>,</1>,</3/0>"

Answer = tuple[int, int | None, bytes]
Behaviour = Callable[[Operation], "int | Answer | str"]
OK: dict[OperationKind, int | Answer | str] = {
    OperationKind.DISCOVER: (coap.CONTENT, ContentFormat.LINK, INVENTORY),
    OperationKind.DELETE: coap.DELETED,
    OperationKind.WRITE: coap.CHANGED,
    OperationKind.FINISH: coap.CHANGED,
}


def agreeable(operation: Operation) -> int | Answer | str:
    return OK[operation.kind]


@dataclass
class Run:
    """A session driven to its end: what was sent, what was asked for, how it ended."""

    session: BootstrapSession
    verdict: Done | Failed
    sent: list[Operation] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def written(self, number: int = -1, object: int = 0) -> ObjectInstance:
        """The instance that a write to `object` carried, the last by default."""
        writes = [op for op in self.sent if op.kind is OperationKind.WRITE and op.segments[0] == str(object)]
        operation = writes[number]
        assert operation.content_format is not None
        (instance,) = decode_instances(operation.payload, operation.content_format, Path.parse(operation.path))
        return instance

    @property
    def story(self) -> list[str]:
        return [f"{op.kind.value} {op.path}" for op in self.sent]


def run(
    behaviour: Behaviour = agreeable,
    *,
    plan: Plan = PLAN,
    request: BootstrapRequest = DEVICE_1_1,
    learned: Learned = NOTHING,
    credentials: dict[int, Credential | PskCredential] | None = None,
) -> Run:
    given = {0: CREDENTIAL} if credentials is None else credentials
    session = BootstrapSession(request, plan, learned, credentials=given)
    sent: list[Operation] = []
    asked: list[int] = []
    step: Step = session.start(0.0)
    now = 0.0
    while not isinstance(step, Done | Failed):
        now += 1.0
        if isinstance(step, AskCredential):
            asked.append(step.index)
            step = session.supply(step.index, CREDENTIAL, now)
            continue
        sent.append(step.operation)
        assert len(sent) < 100
        outcome = behaviour(step.operation)
        match outcome:
            case "silent":
                step = session.no_answer(now)
            case "reset":
                step = session.reset(now)
            case "lost":
                step = session.lost("the association ended", now)
            case int():
                step = session.answer(outcome, None, b"", now)
            case (code, content_format, payload):
                step = session.answer(code, content_format, payload, now)
            case other:
                raise AssertionError(other)
    assert len(session.log) == len(sent)
    return Run(session, step, sent, asked)


def refuse(kind: OperationKind, *codes: int, path: str | None = None) -> Behaviour:
    """Answer the first operations of a kind with these codes, everything else in agreement."""
    left = list(codes)

    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is kind and left and path in (None, operation.path):
            return left.pop(0)
        return agreeable(operation)

    return behaviour


def discovering(payload: bytes | str, code: int = coap.CONTENT) -> Behaviour:
    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.DISCOVER:
            return payload if isinstance(payload, str) else (code, ContentFormat.LINK, payload)
        return agreeable(operation)

    return behaviour


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
    instance = run().written()
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


# -- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pct", "format"),
    [(None, ContentFormat.TLV), (110, 110), (112, 112), (11542, 11542), (11544, 11544)],
)
def test_auto_writes_in_the_format_the_device_asked_for(pct: int | None, format: int) -> None:
    done = run(request=BootstrapRequest("device", pct))
    assert {op.content_format for op in done.sent if op.kind is OperationKind.WRITE} == {format}


def test_a_fixed_format_is_kept_whatever_the_device_asked_for() -> None:
    done = run(plan=replace(PLAN, content_format="tlv"), request=DEVICE_1_1, learned=Learned(format="senml-json"))
    assert done.sent[-2].content_format == ContentFormat.TLV


def only_takes(*formats: int, refusal: int = coap.UNSUPPORTED_CONTENT_FORMAT) -> Behaviour:
    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.WRITE and operation.content_format not in formats:
            return refusal
        return agreeable(operation)

    return behaviour


def test_a_refused_format_stops_the_session_by_default() -> None:
    verdict = run(only_takes(ContentFormat.TLV)).verdict
    assert verdict == Failed(FailureCause.FORMAT_REFUSED, "/0/1", coap.UNSUPPORTED_CONTENT_FORMAT)


@pytest.mark.parametrize("refusal", [coap.UNSUPPORTED_CONTENT_FORMAT, coap.BAD_REQUEST])
def test_other_format_tries_the_others_keeps_the_one_taken_and_remembers_it(refusal: int) -> None:
    plan = replace(PLAN, on_error=OnError(write="other-format"))
    done = run(only_takes(ContentFormat.SENML_JSON, refusal=refusal), plan=plan, request=DEVICE_1_0)
    assert done.verdict == Done()
    formats = [op.content_format for op in done.sent if op.kind is OperationKind.WRITE]
    assert formats == [ContentFormat.TLV, ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.SENML_JSON]
    assert done.session.learned == Learned(format="senml-json")
    again = run(only_takes(ContentFormat.SENML_JSON), plan=plan, request=DEVICE_1_0, learned=done.session.learned)
    assert again.verdict == Done()
    assert len(again.sent) == len(done.sent) - 2


def test_a_device_that_takes_no_format_at_all_fails_with_its_first_refusal() -> None:
    plan = replace(PLAN, on_error=OnError(write="other-format"))
    done = run(only_takes(), plan=plan)
    assert done.verdict == Failed(FailureCause.FORMAT_REFUSED, "/0/1", coap.UNSUPPORTED_CONTENT_FORMAT)
    assert len([op for op in done.sent if op.kind is OperationKind.WRITE]) == 4
    assert done.session.learned == Learned()


def test_a_learned_format_that_is_refused_is_forgotten_so_that_the_device_is_not_locked_out() -> None:
    done = run(only_takes(ContentFormat.SENML_CBOR), learned=Learned(format="tlv"))
    assert isinstance(done.verdict, Failed)
    assert done.session.learned == Learned()
    assert run(only_takes(ContentFormat.SENML_CBOR), learned=done.session.learned).verdict == Done()


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


def test_only_an_optional_discover_may_be_silent() -> None:
    for policy, optional in (("auto", True), ("required", False)):
        session = BootstrapSession(DEVICE_1_1, replace(PLAN, discover=policy), Learned(), credentials={0: CREDENTIAL})  # type: ignore[arg-type]
        step = session.start()
        assert isinstance(step, Send)
        assert step.may_be_silent is optional
        assert (
            session.no_answer()
            == Failed(FailureCause.DISCOVER_REQUIRED, "/", None, "it cannot be done without (discover = required)")
        ) is not optional


@pytest.mark.parametrize(
    "behaviour",
    [
        discovering(b"", coap.NOT_FOUND),
        discovering("reset"),
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


# -- deletes and writes that are refused ------------------------------------------------------------------------


def test_a_refused_delete_does_not_stop_the_session_by_default() -> None:
    assert run(refuse(OperationKind.DELETE, coap.BAD_REQUEST)).verdict == Done()


def test_a_refused_delete_stops_the_session_when_the_profile_says_so() -> None:
    plan = replace(PLAN, on_error=OnError(delete="stop"))
    done = run(refuse(OperationKind.DELETE, coap.BAD_REQUEST, path="/1"), plan=plan)
    assert done.verdict == Failed(FailureCause.DELETE_REFUSED, "/1", coap.BAD_REQUEST)
    assert run(refuse(OperationKind.DELETE, coap.NOT_FOUND), plan=plan).verdict == Done()


def test_a_refused_write_stops_the_session_by_default_without_a_finish() -> None:
    done = run(refuse(OperationKind.WRITE, coap.METHOD_NOT_ALLOWED, path="/1/0"))
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/1/0", coap.METHOD_NOT_ALLOWED)
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


def test_the_text_a_device_adds_to_a_refusal_is_kept_printable_and_short() -> None:
    text = ("missing \x07 resource " + "x" * 500).encode() + b"\xff"
    done = run(lambda op: (coap.BAD_REQUEST, None, text) if op.kind is OperationKind.WRITE else agreeable(op))
    assert isinstance(done.verdict, Failed)
    assert done.verdict.detail.startswith("missing   resource xxx")
    assert len(done.verdict.detail) == 200
    assert done.session.log[-1].note.endswith(done.verdict.detail)


# -- chains -----------------------------------------------------------------------------------------------------


def is_pem(instance: ObjectInstance) -> bool:
    value = instance.resources[3]
    assert isinstance(value, bytes)
    return value.count(b"-----BEGIN CERTIFICATE-----") == 2


@pytest.mark.parametrize(
    ("request_", "inventory"),
    [
        (DEVICE_1_2, INVENTORY),
        (replace(DEVICE_1_1, asked_for_pack=True), INVENTORY),
        (DEVICE_1_1, b"</>;lwm2m=1.2,</0/0>"),
        (DEVICE_1_0, b"</>;lwm2m=2.0,</0/0>"),
    ],
)
def test_a_device_that_says_1_2_gets_the_chain_as_pem(request_: BootstrapRequest, inventory: bytes) -> None:
    assert is_pem(run(discovering(inventory), request=request_).written())


@pytest.mark.parametrize("inventory", [INVENTORY, b'lwm2m="1.0",</0/0>', b"</0/0>"])
def test_any_other_device_gets_the_leaf_as_der(inventory: bytes) -> None:
    done = run(discovering(inventory))
    assert done.written().resources[3] == LEAF
    assert "leaf alone" in done.session.log[3].note


def test_a_leaf_without_intermediates_is_der_for_everyone() -> None:
    credential = Credential(chain=(LEAF,), private_key_pkcs8=KEY)
    assert run(request=DEVICE_1_2, credentials={0: credential}).written().resources[3] == LEAF


def test_chain_leaf_is_der_for_everyone_and_pem_chain_is_pem_for_everyone() -> None:
    leaf = replace(PLAN, securities=(replace(SECURITY, chain="leaf"),))
    pem = replace(PLAN, securities=(replace(SECURITY, chain="pem-chain"),))
    assert run(plan=leaf, request=DEVICE_1_2).written().resources[3] == LEAF
    assert is_pem(run(plan=pem, request=DEVICE_1_0, learned=Learned(leaf_only=True)).written())


@pytest.mark.parametrize("code", [coap.BAD_REQUEST, coap.UNSUPPORTED_CONTENT_FORMAT])
def test_a_refused_pem_chain_is_written_again_as_leaf_and_remembered(code: int) -> None:
    done = run(refuse(OperationKind.WRITE, code), request=DEVICE_1_2)
    assert done.verdict == Done()
    assert done.story[3:5] == ["write /0/1", "write /0/1"]
    assert is_pem(done.written(0))
    assert done.written(1).resources[3] == LEAF
    assert done.session.learned == Learned(leaf_only=True)
    assert run(request=DEVICE_1_2, learned=done.session.learned).written().resources[3] == LEAF


def test_a_device_that_refuses_the_leaf_too_is_not_remembered_as_refusing_pem() -> None:
    done = run(refuse(OperationKind.WRITE, *[coap.BAD_REQUEST] * 2), request=DEVICE_1_2)
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST)
    assert done.session.learned == Learned()


def test_a_fixed_pem_chain_does_not_give_way() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, chain="pem-chain"),))
    verdict = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST), plan=plan).verdict
    assert verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST)


def test_when_only_the_format_was_at_fault_the_chain_stays_pem() -> None:
    plan = replace(PLAN, on_error=OnError(write="other-format"))
    done = run(only_takes(ContentFormat.TLV), plan=plan, request=DEVICE_1_2)
    assert done.verdict == Done()
    assert is_pem(done.written())
    assert done.session.learned == Learned(format="tlv")


# -- mode 4 that is refused -------------------------------------------------------------------------------------


def test_the_finish_carries_what_its_device_needs() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="est"),))
    session = BootstrapSession(DEVICE_1_1, plan, NOTHING, credentials={}, finish_query=("iep=1234",))
    step = session.start()
    while isinstance(step, Send):
        finish = step.operation
        step = session.answer(coap.NOT_FOUND if finish.kind is OperationKind.DISCOVER else coap.CHANGED, None, b"")
    assert isinstance(step, Done)
    assert (finish.kind, finish.path, finish.query) == (OperationKind.FINISH, "/bs", ("iep=1234",))


def test_a_session_knows_which_certificates_the_device_is_to_come_for() -> None:
    both = replace(PLAN, securities=(replace(SECURITY, mode="est"), replace(SECURITY, id=7, service="DLMS")))
    assert run(plan=both, credentials={1: CREDENTIAL}).session.enrolls == {"LWM2M"}
    either = replace(PLAN, securities=(replace(SECURITY, mode="est-then-server-key"),))
    assert run(plan=either, credentials={}).session.enrolls == {"LWM2M"}
    assert run(plan=either, learned=Learned(est_refused=True)).session.enrolls == frozenset()
    refused = run(refuse(OperationKind.WRITE, coap.BAD_REQUEST, path="/0/1"), plan=either, credentials={})
    assert (refused.verdict, refused.session.enrolls) == (Done(), frozenset())


EST_FIRST = replace(PLAN, securities=(replace(SECURITY, mode="est-then-server-key"),))


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


# -- finish -----------------------------------------------------------------------------------------------------


def test_a_refused_finish_is_a_failure() -> None:
    verdict = run(refuse(OperationKind.FINISH, coap.BAD_REQUEST)).verdict
    assert verdict == Failed(FailureCause.FINISH_REFUSED, "/bs", coap.BAD_REQUEST)


@pytest.mark.parametrize(
    ("finish", "unanswered"),
    [(coap.CHANGED, False), (coap.BAD_REQUEST, False), (coap.NOT_ACCEPTABLE, False), ("silent", True), ("lost", True)],
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
    st.sampled_from(["silent", "reset"]),
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
    learned=st.builds(Learned, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, "tlv", "other"])),
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
    accepted = finished and isinstance(code, int) and code >> 5 == 2
    assert (done.verdict == Done()) is accepted
    assert Learned.from_json(done.session.learned.as_json()) == done.session.learned
