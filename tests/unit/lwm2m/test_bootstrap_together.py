"""Devices that refuse several things, each for itself known of some client: they get their credential all the same."""

from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lwm2m.bootstrap import BootstrapRequest, Credential, Done, Learned
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat, decode_instances
from lwm2m.objects import ResourceValue
from lwm2m.paths import Path
from lwm2m.plan import Mode, OnError, Plan
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import PLAN, SECURITY, Answer, agreeable, run

BLOCK = 512
LEAF, CA, KEY = b"leaf" * 100, b"CA" * 250, b"key" * 40
TLV, CBOR, JSON, OF_1_2 = (
    ContentFormat.TLV,
    ContentFormat.SENML_CBOR,
    ContentFormat.SENML_JSON,
    ContentFormat.LWM2M_CBOR,
)


@dataclass
class Device:
    """What it takes, and how it refuses the rest; `finish` is its answer to a Finish while it holds mode 4."""

    formats: tuple[ContentFormat, ...] = (TLV, CBOR, JSON, OF_1_2)
    blocks: bool = True
    mode_4: bool = True
    chain: bool = True
    highest: int = 27
    no_format: int = coap.UNSUPPORTED_CONTENT_FORMAT
    no_blocks: int = coap.INTERNAL_SERVER_ERROR
    no_mode: int = coap.BAD_REQUEST
    no_chain: int = coap.REQUEST_ENTITY_TOO_LARGE
    no_resource: int = coap.NOT_FOUND
    finish: int = coap.CHANGED
    resources: dict[int, ResourceValue] = field(default_factory=dict)

    def __call__(self, operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.FINISH:
            return self.finish if self.resources[2] == 4 else coap.CHANGED
        if operation.kind is not OperationKind.WRITE or operation.segments[0] != "0":
            return agreeable(operation)
        path, payload = Path.parse(operation.path), operation.payload
        if path.resource is not None:
            return self._refusal({path.resource: payload}) or self._takes({**self.resources, path.resource: payload})
        if operation.content_format not in self.formats:
            return self.no_format
        if len(payload) > BLOCK and not self.blocks:
            return self.no_blocks
        (instance,) = decode_instances(payload, operation.content_format, path)
        return self._refusal(instance.resources) or self._takes(dict(instance.resources))

    def _refusal(self, resources: dict[int, ResourceValue]) -> int | None:
        if max(resources) > self.highest:
            return self.no_resource
        if resources.get(2) == 4 and not self.mode_4:
            return self.no_mode
        leaf = resources.get(3, b"")
        return self.no_chain if isinstance(leaf, bytes) and len(leaf) > len(LEAF) and not self.chain else None

    def _takes(self, resources: dict[int, ResourceValue]) -> int:
        self.resources = resources
        return coap.CHANGED


def plan_of(mode: Mode, usage: int | None, write: OnError) -> Plan:
    security = replace(SECURITY, mode=mode, server_certificate=CA, certificate_usage=usage)
    return replace(PLAN, securities=(security,), on_error=write)


DEVICES = st.builds(
    Device,
    formats=st.sampled_from([(TLV,), (TLV, JSON), (TLV, CBOR, JSON, OF_1_2)]),
    blocks=st.booleans(),
    mode_4=st.booleans(),
    chain=st.booleans(),
    highest=st.sampled_from([12, 27]),
    no_format=st.sampled_from([coap.BAD_REQUEST, coap.UNSUPPORTED_CONTENT_FORMAT]),
    no_blocks=st.sampled_from([coap.NOT_FOUND, coap.INTERNAL_SERVER_ERROR, coap.NOT_IMPLEMENTED]),
    no_mode=st.sampled_from([coap.BAD_REQUEST, coap.NOT_ACCEPTABLE]),
    no_chain=st.sampled_from([coap.BAD_REQUEST, coap.REQUEST_ENTITY_TOO_LARGE, coap.INTERNAL_SERVER_ERROR]),
    no_resource=st.sampled_from([coap.BAD_REQUEST, coap.NOT_FOUND]),
    finish=st.sampled_from([coap.CHANGED, coap.NOT_ACCEPTABLE]),
)
# It tells which format it takes; one of LwM2M 1.2 has all resources, and is written a chain first.
CASES = st.tuples(DEVICES, st.sampled_from([None, JSON, CBOR, OF_1_2])).filter(
    lambda case: case[1] in (None, *case[0].formats) and (case[1] != OF_1_2 or case[0].highest > 12)
)


@settings(deadline=None, max_examples=300)
@given(
    CASES,
    st.sampled_from([None, 2]),
    st.sampled_from([OnError(), OnError(write="other-format")]),
    st.builds(Learned, leaf_only=st.booleans(), est_refused=st.booleans(), in_parts=st.booleans()),
)
@example((Device(highest=12, mode_4=False), CBOR), 2, OnError(), Learned())
@example((Device(chain=False, finish=coap.NOT_ACCEPTABLE), OF_1_2), None, OnError(), Learned())
@example((Device(blocks=False, mode_4=False, chain=False), OF_1_2), None, OnError(), Learned())
def test_what_it_refuses_gives_way_whatever_comes_together_and_whatever_another_firmware_showed(
    case: tuple[Device, int | None], usage: int | None, write: OnError, learned: Learned
) -> None:
    device, pct = case
    plan = plan_of("est-then-server-key", usage, write)
    request = BootstrapRequest("device", pct, asked_for_pack=pct == OF_1_2)
    for _ in range(2):
        device.resources = {}
        credential = Credential(chain=(LEAF, CA), private_key_pkcs8=KEY)
        done = run(device, plan=plan, request=request, credentials={0: credential}, learned=learned, block_size=BLOCK)
        assert done.verdict == Done(), (done.verdict, done.story)
        assert len(done.sent) <= 30
        assert device.resources[2] == 4 or device.resources[5] == KEY
        learned = done.session.learned
