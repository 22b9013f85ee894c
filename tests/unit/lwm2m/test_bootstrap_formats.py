"""The encoding of a bootstrap's writes: which one, and what becomes of a refusal."""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import BootstrapRequest, Done, Failed, FailureCause, Learned
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat
from lwm2m.plan import OnError
from lwm2m.steps import OperationKind
from tests.unit.lwm2m.run import DEVICE_1_0, DEVICE_1_1, PLAN, only_takes, run


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
