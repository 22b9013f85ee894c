"""A device that behaves as Eclipse Wakaama's example client does, and is to get its credential all the same.

It refuses with 4.00 a Security instance with a resource it does not know (LwM2M Core 1.2 6.1.7.5: those are skipped),
with 4.06 a Security Mode it does not know, and with 4.00 SenML JSON whose base64 has a character of the URL's alphabet
(RFC 8428 5 asks for that alphabet).
"""

import re
from dataclasses import replace

import pytest

from lwm2m.bootstrap import BootstrapRequest, Credential, Done, Failed, FailureCause, Learned, PskCredential
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat, decode_instances
from lwm2m.paths import Path
from lwm2m.plan import OnError, Plan
from lwm2m.steps import Operation, OperationKind
from tests.unit.lwm2m.run import CREDENTIAL, EST_FIRST, PLAN, SECURITY, Run, agreeable, run

JSON = BootstrapRequest("device", ContentFormat.SENML_JSON)
TLV = BootstrapRequest("device", None)
FULL = replace(
    SECURITY, certificate_usage=2, matching_type=1, sni="lwm2m.example.com", ciphersuites=(0xC0AE,), chain="leaf"
)
# In base64 of the URL's alphabet the one has "-" and "_", the other neither.
URL_KEY, PLAIN_KEY = b"\xfb\xff\xbf" * 5, b"\x00\x10\x83" * 5


def wakaama(operation: Operation) -> int | tuple[int, int | None, bytes] | str:
    if operation.kind is not OperationKind.WRITE or operation.content_format is None:
        return agreeable(operation)
    if operation.content_format == ContentFormat.SENML_JSON and re.search(rb'"vd":"[^"]*[-_]', operation.payload):
        return coap.BAD_REQUEST
    if operation.content_format not in (ContentFormat.TLV, ContentFormat.SENML_JSON):
        return coap.UNSUPPORTED_CONTENT_FORMAT
    (instance,) = decode_instances(operation.payload, operation.content_format, Path.parse(operation.path))
    if instance.object == 0:
        for resource, value in sorted(instance.resources.items()):
            if resource == 2 and value not in (0, 1, 2, 3):
                return coap.NOT_ACCEPTABLE
            if resource > 12:
                return coap.BAD_REQUEST
    return coap.CHANGED


def formats(done: Run) -> list[int | None]:
    return [op.content_format for op in done.sent if op.kind is OperationKind.WRITE]


def psk(key: bytes) -> dict[int, Credential | PskCredential]:
    return {0: PskCredential(identity=b"device", key=key)}


def test_json_that_it_cannot_read_is_written_as_tlv_and_the_next_time_at_once() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="psk"),))
    done = run(wakaama, plan=plan, request=JSON, credentials=psk(URL_KEY))
    assert done.verdict == Done()
    assert formats(done) == [ContentFormat.SENML_JSON, ContentFormat.TLV, ContentFormat.TLV]
    assert done.written().resources[5] == URL_KEY
    again = run(wakaama, plan=plan, request=JSON, credentials=psk(URL_KEY), learned=done.session.learned)
    assert (again.verdict, formats(again)) == (Done(), [ContentFormat.TLV] * 2)


def test_json_that_it_reads_stays_json() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, mode="psk"),))
    done = run(wakaama, plan=plan, request=JSON, credentials=psk(PLAIN_KEY))
    assert (done.verdict, formats(done)) == (Done(), [ContentFormat.SENML_JSON] * 2)
    assert done.session.learned == Learned()


def test_a_fixed_json_stays_json() -> None:
    plan = replace(PLAN, content_format="senml-json", securities=(replace(SECURITY, mode="psk"),))
    done = run(wakaama, plan=plan, request=JSON, credentials=psk(URL_KEY))
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST)
    assert formats(done) == [ContentFormat.SENML_JSON]


def test_resources_it_does_not_know_are_left_out_and_the_server_certificate_is_whole() -> None:
    plan = replace(PLAN, securities=(FULL,))
    done = run(wakaama, plan=plan, request=TLV)
    assert done.verdict == Done()
    assert set(done.written(0).resources) == {0, 1, 2, 3, 4, 5, 10, 13, 14, 15, 16}
    assert set(done.written(1).resources) == {0, 1, 2, 3, 4, 5, 10}
    assert done.written(1).resources[4] == b"server CA"
    assert "without resources 13 to 16" in done.session.log[-3].note
    # the next one may be refused for another reason: nothing a device knows is kept from it for good
    assert done.session.learned == Learned()


def test_the_second_server_is_written_without_them_at_once() -> None:
    second = replace(FULL, short_server_id=124, service="OTHER")
    server = replace(PLAN.servers[0], short_server_id=124)
    plan = Plan(securities=(FULL, second), servers=(*PLAN.servers, server))
    done = run(wakaama, plan=plan, request=TLV, credentials={0: CREDENTIAL, 1: CREDENTIAL})
    assert (done.verdict, len(formats(done))) == (Done(), 5)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, securities=(FULL,))])
def test_a_device_that_refuses_without_them_too_fails_with_that(plan: Plan) -> None:
    def refusing(operation: Operation) -> int | tuple[int, int | None, bytes] | str:
        return coap.BAD_REQUEST if operation.kind is OperationKind.WRITE else agreeable(operation)

    done = run(refusing, plan=plan, request=TLV)
    assert done.verdict == Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST)
    assert len(formats(done)) == (1 if plan is PLAN else 2)
    gone_on = run(refusing, plan=replace(plan, on_error=OnError(write="continue")), request=TLV)
    assert gone_on.verdict == Done()


@pytest.mark.parametrize("request_", [TLV, JSON])
def test_a_mode_4_refused_with_4_06_falls_back_to_a_server_made_key(request_: BootstrapRequest) -> None:
    plan = replace(EST_FIRST, securities=(replace(FULL, mode="est-then-server-key"),))
    done = run(wakaama, plan=plan, request=request_, credentials={})
    assert (done.verdict, done.asked) == (Done(), [0])
    assert done.written().resources[2] == 2
    assert done.session.learned.est_refused
