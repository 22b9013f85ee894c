"""The certificate of a server-made key: the leaf as DER, or the chain as PEM."""

from dataclasses import replace

import pytest

from lwm2m.bootstrap import BootstrapRequest, Credential, Done, Failed, FailureCause, Learned
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat
from lwm2m.objects import ObjectInstance
from lwm2m.plan import OnError
from lwm2m.steps import OperationKind
from tests.unit.lwm2m.run import (
    DEVICE_1_0,
    DEVICE_1_1,
    DEVICE_1_2,
    INVENTORY,
    KEY,
    LEAF,
    PLAN,
    SECURITY,
    discovering,
    only_takes,
    refuse,
    run,
)


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


@pytest.mark.parametrize(
    "code",
    [
        # MCC cannot read PEM
        coap.BAD_REQUEST,
        coap.UNSUPPORTED_CONTENT_FORMAT,
        # Wakaama takes no more than 2,048 bytes
        coap.REQUEST_ENTITY_TOO_LARGE,
        # Anjay Lite has less room for a certificate than the chain needs
        coap.INTERNAL_SERVER_ERROR,
    ],
)
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
