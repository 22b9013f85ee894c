"""A bootstrap session driven to its end against a device that behaves as a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lwm2m.bootstrap import (
    AskCredential,
    BootstrapRequest,
    BootstrapSession,
    Credential,
    Done,
    Failed,
    Learned,
    PskCredential,
    Step,
)
from lwm2m.coap import message as coap
from lwm2m.coap.events import ExchangeFailure
from lwm2m.content_format import ContentFormat, decode_instances
from lwm2m.objects import ObjectInstance
from lwm2m.paths import Path
from lwm2m.plan import Plan, SecurityPlan, ServerPlan
from lwm2m.steps import Operation, OperationKind

NOTHING = Learned()
LEAF, INTERMEDIATE, KEY = b"leaf in DER", b"intermediate in DER", b"key in PKCS8"
CREDENTIAL = Credential(chain=(LEAF, INTERMEDIATE), private_key_pkcs8=KEY)
SECURITY = SecurityPlan(
    uri="coaps://lwm2m.example.com:5684",
    short_server_id=123,
    mode="server-key",
    server_certificate=b"server CA",
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
    # Which of `sent` come after another copy of the answer to the Bootstrap-Request.
    accepted_again: list[int] = field(default_factory=list)

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
    block_size: int = 65536,
) -> Run:
    """`block_size`: payloads that are longer go out in blocks."""
    given = {0: CREDENTIAL} if credentials is None else credentials
    session = BootstrapSession(request, plan, learned, credentials=given)
    sent: list[Operation] = []
    asked: list[int] = []
    accepted_again: list[int] = []
    step: Step = session.start(0.0)
    now = 0.0
    while not isinstance(step, Done | Failed):
        now += 1.0
        if isinstance(step, AskCredential):
            asked.append(step.index)
            step = session.supply(step.index, CREDENTIAL, now)
            continue
        if step.accept_again:
            accepted_again.append(len(sent))
        sent.append(step.operation)
        assert len(sent) < 100
        outcome = behaviour(step.operation)
        in_blocks = len(step.operation.payload) > block_size
        match outcome:
            case "silent":
                step = session.no_answer(now)
            case "reset":
                step = session.reset(now)
            case "unusable":
                step = session.unanswered(ExchangeFailure.BAD_BLOCK, now)
            case "lost":
                step = session.lost("the association ended", now)
            case int():
                step = session.answer(outcome, None, b"", now, in_blocks)
            case (code, content_format, payload):
                step = session.answer(code, content_format, payload, now, in_blocks)
            case other:
                raise AssertionError(other)
    assert len(session.log) == len(sent)
    return Run(session, step, sent, asked, accepted_again)


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


def only_takes(*formats: int, refusal: int = coap.UNSUPPORTED_CONTENT_FORMAT) -> Behaviour:
    def behaviour(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.WRITE and operation.content_format not in formats:
            return refusal
        return agreeable(operation)

    return behaviour


EST_FIRST = replace(PLAN, securities=(replace(SECURITY, mode="est-then-server-key"),))
