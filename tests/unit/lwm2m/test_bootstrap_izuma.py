"""Security as the Izuma client needs it written: to the object, so that nothing of its instance is removed."""

from dataclasses import replace

import pytest

from lwm2m import tlv
from lwm2m.bootstrap import BootstrapRequest, Done
from lwm2m.content_format import ContentFormat
from lwm2m.plan import Plan, SecurityPlan
from lwm2m.steps import OperationKind
from tests.unit.lwm2m.run import CREDENTIAL, KEY, PLAN, SECURITY, run

TO_OBJECT = replace(SECURITY, mode="est", to_object=True)


def with_security(*securities: SecurityPlan) -> Plan:
    return replace(PLAN, securities=securities, content_format="tlv")


def test_in_tlv_an_instance_is_written_to_its_object_and_server_is_not() -> None:
    done = run(plan=with_security(TO_OBJECT), request=BootstrapRequest("device", None))
    assert done.verdict == Done()
    assert [step for step in done.story if step.startswith("write")] == ["write /0", "write /1/0"]
    usual = run(plan=with_security(replace(TO_OBJECT, to_object=False)), request=BootstrapRequest("device", None))
    assert done.written() == usual.written()
    (to_object, to_instance) = (
        next(op.payload for op in each.sent if op.kind is OperationKind.WRITE) for each in (done, usual)
    )
    assert to_object == tlv.wrapped(1, to_instance)
    # The kind of its one record is that of an object instance (LwM2M Core 1.2 7.5.5).
    assert (to_object[0] & 0xC0, to_instance[0] & 0xC0) == (0x00, 0xC0)


def test_mode_4_brings_a_key_that_is_none_and_mode_2_the_one_made_for_it() -> None:
    clearing = replace(TO_OBJECT, clears_key=True)
    done = run(plan=with_security(clearing), request=BootstrapRequest("device", None))
    assert (done.written().resources[2], done.written().resources[5]) == (4, b"\0")
    assert 3 not in done.written().resources
    server_key = with_security(replace(clearing, mode="server-key"))
    done = run(plan=server_key, request=BootstrapRequest("device", None), credentials={0: CREDENTIAL})
    assert (done.written().resources[2], done.written().resources[5]) == (2, KEY)
    usual = run(plan=with_security(TO_OBJECT), request=BootstrapRequest("device", None))
    assert not {3, 5} & set(usual.written().resources)


def test_two_servers_are_two_writes_to_the_object() -> None:
    other = replace(TO_OBJECT, short_server_id=124)
    servers = (*PLAN.servers, replace(PLAN.servers[0], short_server_id=124))
    plan = replace(with_security(TO_OBJECT, other), servers=servers)
    done = run(plan=plan, request=BootstrapRequest("device", None))
    assert done.verdict == Done()
    assert [done.written(number).instance for number in (0, 1)] == [1, 2]


@pytest.mark.parametrize("format", [ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON])
def test_other_formats_name_the_instance_anyway(format: ContentFormat) -> None:
    plan = replace(PLAN, securities=(TO_OBJECT,))
    done = run(plan=plan, request=BootstrapRequest("device", format))
    assert [step for step in done.story if step.startswith("write")] == ["write /0/1", "write /1/0"]
