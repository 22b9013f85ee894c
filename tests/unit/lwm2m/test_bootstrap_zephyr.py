"""A device that behaves as Zephyr's LwM2M client does, and is to get its credential all the same.

An instance that comes in blocks it cannot put together: it looks for the next block of a TLV at the path of the
resource it has stored (4.04), decodes each block of SenML CBOR on its own (5.00), and says of SenML JSON that it has no
blocks (5.01). A single opaque value it takes. A resource that its Security object does not have is refused with 4.04
(LwM2M Core 1.2 6.1.7.5 has those skipped): it has those of LwM2M 1.1 in builds for that alone.
"""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import BootstrapRequest, Credential, Done, Failed, FailureCause, Learned, PskCredential
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat, decode_instances
from lwm2m.objects import ResourceValue
from lwm2m.paths import Path
from lwm2m.plan import Mode, OnError, Plan, ServerPlan
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import NOTHING, PLAN, SECURITY, Answer, Run, agreeable, run

BLOCK = 512
LEAF, CA, KEY = b"leaf" * 100, b"CA" * 250, b"key" * 40
CREDENTIALS: dict[int, Credential | PskCredential] = {0: Credential(chain=(LEAF,), private_key_pkcs8=KEY)}
WITH_CERTIFICATES = replace(PLAN, securities=(replace(SECURITY, server_certificate=CA, certificate_usage=2),))
REFUSALS = {
    ContentFormat.TLV: coap.NOT_FOUND,
    ContentFormat.SENML_CBOR: coap.INTERNAL_SERVER_ERROR,
    ContentFormat.SENML_JSON: coap.NOT_IMPLEMENTED,
}


class Zephyr:
    """Its Security object, of 1.0 or 1.1."""

    def __init__(self, security: str) -> None:
        self.resources: dict[int, ResourceValue] = {}
        self._highest = 12 if security == "1.0" else 17

    def __call__(self, operation: Operation) -> int | Answer | str:
        if operation.kind is not OperationKind.WRITE or operation.segments[0] != "0":
            return agreeable(operation)
        path, format = Path.parse(operation.path), operation.content_format
        if path.resource is not None:
            assert format == ContentFormat.OCTET_STREAM
            self.resources[path.resource] = operation.payload
            return coap.CHANGED
        assert format is not None
        if len(operation.payload) > BLOCK:
            return REFUSALS[ContentFormat(format)]
        (instance,) = decode_instances(operation.payload, format, path)
        if max(instance.resources) > self._highest:
            return coap.NOT_FOUND
        self.resources |= instance.resources
        return coap.CHANGED


def bootstrapped(device: Zephyr, pct: int | None, plan: Plan = WITH_CERTIFICATES, learned: Learned = NOTHING) -> Run:
    request = BootstrapRequest("device", pct)
    return run(device, plan=plan, request=request, credentials=CREDENTIALS, learned=learned, block_size=BLOCK)


def written(done: Run) -> list[str]:
    return [operation.path for operation in done.sent if operation.kind is OperationKind.WRITE]


@pytest.mark.parametrize(
    ("security", "pct"),
    [("1.0", None), ("1.1", None), ("1.1", ContentFormat.SENML_CBOR), ("1.1", ContentFormat.SENML_JSON)],
)
def test_what_it_refuses_in_blocks_it_gets_value_by_value_and_the_next_time_at_once(
    security: str, pct: int | None
) -> None:
    device = Zephyr(security)
    done = bootstrapped(device, pct)
    assert done.verdict == Done()
    resources = device.resources
    assert (resources[2], resources[3], resources[4], resources[5]) == (2, LEAF, CA, KEY)
    assert resources.get(15) == (2 if security == "1.1" else None)
    assert written(done)[-4:] == ["/0/1/3", "/0/1/4", "/0/1/5", "/1/0"]
    assert done.session.learned == Learned(in_parts=True)
    again = bootstrapped(device, pct, learned=done.session.learned)
    assert again.verdict == Done()
    assert max(len(operation.payload) for operation in again.sent) <= BLOCK


def test_an_instance_without_long_values_stays_one_write_of_which_nothing_is_noted() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="nosec", uri="coap://lwm2m.example.com"),))
    done = bootstrapped(Zephyr("1.1"), None, plan, Learned(in_parts=True))
    assert (done.verdict, written(done), done.session.log[-3].note) == (Done(), ["/0/1", "/1/0"], "")


def test_a_resource_it_does_not_know_is_left_out() -> None:
    device = Zephyr("1.0")
    short = replace(SECURITY, server_certificate=b"CA", certificate_usage=2)
    done = run(device, plan=replace(PLAN, securities=(short,)), request=BootstrapRequest("device", None))
    assert (done.verdict, written(done)) == (Done(), ["/0/1", "/0/1", "/1/0"])
    assert done.session.log[-3].note.startswith("without resources 13 to 16")
    assert done.session.learned == Learned()


def with_optional(*ids: int) -> Plan:
    servers = [ServerPlan(short_server_id=short, optional=dict.fromkeys(ids, 1)) for short in (123, 124)]
    securities = [replace(SECURITY, mode="nosec", short_server_id=each.short_server_id) for each in servers]
    return Plan(securities=tuple(securities), servers=tuple(servers))


def of_1_0(operation: Operation) -> int | Answer | str:
    """The Server object of a build for LwM2M 1.0, where others of that version know no more."""
    if operation.kind is not OperationKind.WRITE or operation.segments[0] != "1":
        return agreeable(operation)
    (instance,) = decode_instances(operation.payload, ContentFormat.TLV, Path.parse(operation.path))
    return coap.NOT_FOUND if max(instance.resources) > 12 else coap.CHANGED


def test_a_server_instance_that_is_refused_goes_out_without_what_lwm2m_1_1_added() -> None:
    done = run(of_1_0, plan=with_optional(2, 3, 5, 13, 26), request=BootstrapRequest("device", None))
    assert (done.verdict, written(done)[2:]) == (Done(), ["/1/0", "/1/0", "/1/1"])
    assert set(done.written(0, 1).resources) == {0, 1, 2, 3, 5, 6, 7, 13, 26}
    assert [set(done.written(number, 1).resources) for number in (1, 2)] == [{0, 1, 2, 3, 5, 6, 7}] * 2
    assert done.session.log[-3].note == "without resources 13 to 27"
    assert done.session.learned == Learned()


@pytest.mark.parametrize("ids", [(), (2, 5), (2, 13)])
def test_a_server_instance_that_is_refused_without_them_too_fails_with_that(ids: tuple[int, ...]) -> None:
    def refusing(operation: Operation) -> int | Answer | str:
        return coap.NOT_FOUND if operation.path == "/1/0" else agreeable(operation)

    done = run(refusing, plan=with_optional(*ids), request=BootstrapRequest("device", None))
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/1/0", coap.NOT_FOUND)
    assert written(done)[2:] == ["/1/0"] * (2 if 13 in ids else 1)


@pytest.mark.parametrize("learned", [Learned(), Learned(in_parts=True)])
def test_one_that_refuses_the_parts_too_fails_with_that_and_nothing_is_learned_of_it(learned: Learned) -> None:
    def without_a_key(operation: Operation) -> int | Answer | str:
        return coap.REQUEST_ENTITY_TOO_LARGE if operation.path == "/0/1/5" else Zephyr("1.1")(operation)

    done = run(without_a_key, plan=WITH_CERTIFICATES, credentials=CREDENTIALS, learned=learned, block_size=BLOCK)
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.REQUEST_ENTITY_TOO_LARGE)
    assert done.session.learned == Learned()
    gone_on = replace(WITH_CERTIFICATES, on_error=OnError(write="continue"))
    assert bootstrapped(Zephyr("1.1"), None, gone_on, learned).verdict == Done()


def with_chain(mode: Mode) -> Plan:
    return replace(WITH_CERTIFICATES, securities=(replace(WITH_CERTIFICATES.securities[0], mode=mode),))


def test_what_does_not_know_mode_4_either_says_so_of_the_parts_and_gets_mode_2() -> None:
    device = Zephyr("1.1")

    def without_est(operation: Operation) -> int | Answer | str:
        if operation.path == "/0/1" and len(operation.payload) <= BLOCK:
            (instance,) = decode_instances(operation.payload, ContentFormat.TLV, Path.parse(operation.path))
            if instance.resources[2] == 4:
                return coap.BAD_REQUEST
        return device(operation)

    plan = replace(with_chain("est-then-server-key"), content_format="tlv")
    done = run(without_est, plan=plan, credentials=CREDENTIALS, block_size=BLOCK)
    assert done.verdict == Done()
    assert (device.resources[2], device.resources[3], device.resources[5]) == (2, LEAF, KEY)
    assert done.session.learned == Learned(est_refused=True, in_parts=True)
    again = run(without_est, plan=plan, credentials=CREDENTIALS, block_size=BLOCK, learned=done.session.learned)
    assert (again.verdict, written(again)) == (Done(), ["/0/1", "/0/1/3", "/0/1/4", "/0/1/5", "/1/0"])


def test_what_has_no_room_for_a_chain_either_says_so_of_the_parts_and_gets_the_leaf() -> None:
    device = Zephyr("1.1")

    def without_room(operation: Operation) -> int | Answer | str:
        too_long = operation.path == "/0/1/3" and len(operation.payload) > len(LEAF)
        return coap.REQUEST_ENTITY_TOO_LARGE if too_long else device(operation)

    request = BootstrapRequest("device", ContentFormat.SENML_CBOR, asked_for_pack=True)
    chain: dict[int, Credential | PskCredential] = {0: Credential(chain=(LEAF, CA), private_key_pkcs8=KEY)}
    plan = replace(WITH_CERTIFICATES, content_format="senml-cbor")
    done = run(without_room, plan=plan, request=request, credentials=chain, block_size=BLOCK)
    assert (done.verdict, device.resources[3]) == (Done(), LEAF)
    assert done.session.learned == Learned(leaf_only=True, in_parts=True)


def test_a_repair_goes_out_in_parts_too() -> None:
    """What was written first fits a datagram; what the 4.06 has it written with does not."""
    device = Zephyr("1.1")

    def without_est(operation: Operation) -> int | Answer | str:
        if operation.kind is OperationKind.FINISH and device.resources[2] == 4:
            return coap.NOT_ACCEPTABLE
        return device(operation)

    plan = replace(PLAN, securities=(replace(SECURITY, mode="est-then-server-key"),))
    done = run(without_est, plan=plan, credentials=CREDENTIALS, block_size=BLOCK)
    assert done.verdict == Done()
    assert (device.resources[2], device.resources[3], device.resources[5]) == (2, LEAF, KEY)
    assert done.session.learned == Learned(est_refused=True, in_parts=True)


@pytest.mark.parametrize("code", [coap.UNAUTHORIZED, coap.FORBIDDEN, coap.NOT_ACCEPTABLE])
def test_another_refusal_of_blocks_is_one(code: int) -> None:
    def refusing(operation: Operation) -> int | Answer | str:
        return code if operation.kind is OperationKind.WRITE else agreeable(operation)

    done = run(refusing, plan=WITH_CERTIFICATES, credentials=CREDENTIALS, block_size=BLOCK)
    assert written(done) == ["/0/1"]


def test_what_was_refused_whole_is_not_written_in_parts() -> None:
    def refusing(operation: Operation) -> int | Answer | str:
        return coap.INTERNAL_SERVER_ERROR if operation.kind is OperationKind.WRITE else agreeable(operation)

    done = run(refusing, plan=WITH_CERTIFICATES, credentials=CREDENTIALS)
    assert (done.verdict, written(done)) == (
        Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.INTERNAL_SERVER_ERROR),
        ["/0/1"],
    )


def test_an_izuma_client_is_written_security_to_its_object_all_the_same() -> None:
    to_object = replace(SECURITY, server_certificate=CA, to_object=True)
    plan = replace(PLAN, securities=(to_object,), content_format="tlv")
    done = bootstrapped(Zephyr("1.1"), None, plan, Learned(in_parts=True, izuma=True))
    assert written(done) == ["/0"]
