"""Renewal by EST, with the certificate a device has: whose, for which service, and under which names."""

from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulators import est
from simulators.dtls import X509Credential
from simulators.est import KeyPair, common_name
from tests import pki
from tests.integration import enrolments
from tests.integration.enrolments import (
    SHORT_SEN,
    enrolled,
    is_of,
    of_somebody_else,
    refused,
    signatures,
    taken_up,
    with_a_foreign_san,
)
from tests.integration.field import Field, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILES = {
    "est": profile("est-*", mode="est"),
    "meter": profile("meter-*", mode="est", est='subject = "CN={endpoint},O=Meter"'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with enrolments.opened(tmp_path_factory.mktemp("est-renewal"), PROFILES) as started:
        yield started


async def test_a_device_renews_with_its_operational_certificate_and_the_same_key(field: Field) -> None:
    async with field.device("est-renews") as device:
        pair, chain = await enrolled(await device.connect(), "est-renews")
    operational = X509Credential(chain, pair.key)
    async with field.device("est-renews", credential=operational) as device:
        client = await device.connect()
        again = est.sign_csr(pair.key, common_name("est-renews"))
        renewed = await client.enroll(again, function="sren")
        assert is_of(renewed, pair, "est-renews")
        assert renewed[0].serial_number != chain[0].serial_number
        # A new key will do as well; another name, another service's sen without label will not.
        fresh = KeyPair.make(common_name("est-renews"))
        assert is_of(await client.enroll(fresh.csr, function="sren"), fresh, "est-renews")
        assert await refused(client, (*est.ROOT, "sren"), payload=of_somebody_else("")) == "4.00"
        other = KeyPair.make(common_name("est-renews"))
        assert await refused(client, payload=other.csr) == "4.03"
        assert await refused(client, (*est.ROOT, "skg"), payload=other.csr) == "4.03"
        custom, chain = await enrolled(client, "est-renews", label="DLMS")
        assert is_of(chain, custom, "est-renews")
        # The Izuma client renews at /est/sen.
        izuma = KeyPair.make(common_name("est-renews"))
        answer = await client.ask(codes.POST, SHORT_SEN, payload=izuma.csr, content_format=0)
        assert is_of(est.read_certificates(answer.payload), izuma, "est-renews")


async def test_sren_with_the_certificate_of_a_custom_service_gives_none_for_the_lwm2m_server(field: Field) -> None:
    name = "est-sren-custom"
    async with field.device(name) as device:
        pair, chain = await enrolled(await device.connect(), name, label="DLMS")
    async with field.device(name, credential=X509Credential(chain, pair.key)) as device:
        client = await device.connect()
        csr = KeyPair.make(common_name(name)).csr
        for path in ((*est.ROOT, "sren"), ("est", "LWM2M", "sren"), SHORT_SEN):
            assert await refused(client, path, payload=csr) == "4.03"
        assert signatures(field, csr) == 0
        fresh, renewed = await enrolled(client, name, label="DLMS", function="sren")
        assert is_of(renewed, fresh, name)


async def test_a_factory_certificate_renews_under_the_names_of_the_profile_and_never_its_own(field: Field) -> None:
    name = "est-factory-renews"
    factorys = pki.make_certificate(pki.make_name(name, organization_name="Evil"), field.factory)
    credential = X509Credential((factorys.certificate,), cast("ec.EllipticCurvePrivateKey", factorys.key))
    async with field.device(name, credential=credential) as device:
        client = await device.connect()
        evil = KeyPair.make(factorys.certificate.subject)
        assert await refused(client, (*est.ROOT, "sren"), payload=evil.csr) == "4.00"
        pair, chain = await enrolled(client, name, function="sren")
        assert is_of(chain, pair, name)


async def test_sren_for_a_custom_service_has_the_subject_of_this_service(field: Field) -> None:
    name = "meter-1"
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Meter")
    subject = x509.Name([*common_name(name), organization])
    sren = (*est.ROOT, "DLMS", "sren")
    async with field.device(name) as device:
        client = await device.connect()
        assert await refused(client, sren, payload=KeyPair.make(common_name(name)).csr) == "4.00"
        pair, chain = await enrolled(client, name)
        await client.enroll(KeyPair.make(subject).csr, label="DLMS", function="sren")
    # What the devices have stays theirs, whatever the profile says from now on.
    now = profile("meter-*", mode="est", est='subject = "CN={endpoint},O=Now"')
    await taken_up(field, field.set_profile("meter", now))
    async with field.device(name, credential=X509Credential(chain, pair.key)) as device:
        client = await device.connect()
        assert await refused(client, sren, payload=KeyPair.make(common_name(name)).csr) == "4.00"
        fresh = KeyPair.make(subject)
        assert is_of(await client.enroll(fresh.csr, label="DLMS", function="sren"), fresh, name)


async def test_sren_takes_the_alternative_name_that_the_ca_left_out_of_the_certificate(field: Field) -> None:
    name = "est-sren-san"
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    pair = KeyPair.make(common_name(name), san)
    async with field.device(name) as device:
        chain = await (await device.connect()).enroll(pair.csr)
    async with field.device(name, credential=X509Credential(chain, pair.key)) as device:
        client = await device.connect()
        again = est.sign_csr(pair.key, common_name(name), san)
        renewed = await client.enroll(again, function="sren")
        assert is_of(renewed, pair, name)
        assert renewed[0].serial_number != chain[0].serial_number
        assert await refused(client, (*est.ROOT, "sren"), payload=with_a_foreign_san(name)) == "4.00"


async def test_a_device_that_keeps_key_and_csr_renews_the_certificate_it_shows_and_gets_the_new_one_once(
    field: Field,
) -> None:
    name = "est-keeps"
    async with field.device(name) as device:
        pair, first = await enrolled(await device.connect(), name)
    async with field.device(name, credential=X509Credential(first, pair.key)) as device:
        second = await (await device.connect()).enroll(pair.csr, function="sren")
        # Perhaps it never got that answer.
        again = await (await device.connect()).enroll(pair.csr, function="sren")
    assert is_of(second, pair, name)
    assert second == again
    assert second[0].serial_number != first[0].serial_number
    async with field.device(name, credential=X509Credential(second, pair.key)) as device:
        third = await (await device.connect()).enroll(pair.csr, function="sren")
    assert third[0].serial_number not in (first[0].serial_number, second[0].serial_number)
    assert signatures(field, pair.csr) == 3


async def test_sen_with_the_certificate_it_shows_is_the_same_wish_and_sren_a_new_one(field: Field) -> None:
    name = "est-sen-again"
    async with field.device(name) as device:
        pair, first = await enrolled(await device.connect(), name, label="DLMS")
    async with field.device(name, credential=X509Credential(first, pair.key)) as device:
        client = await device.connect()
        assert await client.enroll(pair.csr, label="DLMS") == first
        assert signatures(field, pair.csr) == 1
        second = await client.enroll(pair.csr, label="DLMS", function="sren")
        assert second[0].serial_number != first[0].serial_number
