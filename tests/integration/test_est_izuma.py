"""EST as Izuma clients speak it: their chain format, their subject, and the id in the Finish."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from lwm2m.est import decode_izuma_chain
from simulators import est
from simulators.est import PKCS7, KeyPair, common_name
from tests.integration import enrolments
from tests.integration.enrolments import SHORT_SEN, enrolled, is_of, refused
from tests.integration.field import Field, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILES = {
    "est": profile("est-*", mode="est"),
    "izuma": profile("izuma-*", mode="est"),
    "compliant": profile("compliant-*", mode="est", est='client = "izuma"\nanswer = "pkcs7"\npkcs7_order = "der"'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with enrolments.opened(tmp_path_factory.mktemp("est-izuma"), PROFILES) as started:
        yield started


async def test_an_izuma_device_gets_its_chain_in_its_own_format_and_its_id_with_the_finish(field: Field) -> None:
    account = field.account
    async with field.device("izuma-1", account=1, query=(f"aid={account}", "mccv=4.13.2")) as device:
        assert (await device.bootstrap()).ok
        assert device.finish_query[0].startswith("iep=")
        device_id = device.finish_query[0].removeprefix("iep=")
        [held] = device.tree.server_accounts().values()
        assert held[0] == f"coaps://lwm2m:5684?aid={account}"
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.LOCALITY_NAME, device_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account),
                *common_name("izuma-1"),
            ]
        )
        for label in ((), ("DLMS",)):
            pair = KeyPair.make(name)
            answer = await device.est.ask(codes.POST, ("est", *label, "sen"), payload=pair.csr, content_format=0)
            chain = tuple(map(x509.load_der_x509_certificate, decode_izuma_chain(answer.payload)))
            assert is_of(chain, pair, "izuma-1")
            assert (chain[0].subject, answer.opt.content_format) == (name, None)
        # Who names a format gets it.
        answer = await device.est.ask(codes.POST, SHORT_SEN, payload=pair.csr, content_format=0, accept=PKCS7)
        assert is_of(est.read_certificates(answer.payload), pair, "izuma-1")
        stranger = x509.Name([x509.NameAttribute(NameOID.LOCALITY_NAME, "0" * 32), *common_name("izuma-1")])
        assert await refused(device.est, SHORT_SEN, payload=KeyPair.make(stranger).csr, content_format=0) == "4.00"
        # What its bootstrap showed is known on the next association too.
        await field.over("izuma-1")
        pair, client = KeyPair.make(name), await device.connect()
        answer = await client.ask(codes.POST, SHORT_SEN, payload=pair.csr, content_format=0)
        assert is_of(tuple(map(x509.load_der_x509_certificate, decode_izuma_chain(answer.payload))), pair, "izuma-1")


async def test_what_client_a_device_is_follows_its_last_bootstrap_and_not_one_before(field: Field) -> None:
    async with field.device("est-once-izuma", account=1, query=("aid=of nobody",)) as device:
        assert (await device.bootstrap()).ok
        assert device.finish_query[0].startswith("iep=")
    async with field.device("est-once-izuma", credential=device.credential) as device:
        assert (await device.bootstrap()).ok
        assert device.finish_query == ()
    await field.over("est-once-izuma", count=2)
    # Nothing on this association says which client it is.
    async with field.device("est-once-izuma", credential=device.credential) as device:
        pair, chain = await enrolled(await device.connect(), "est-once-izuma")
    assert is_of(chain, pair, "est-once-izuma")


async def test_an_izuma_device_of_standard_lwm2m_gets_pkcs7_by_its_profile(field: Field) -> None:
    empty = [
        x509.NameAttribute(oid, "", _validate=False)
        for oid in (NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    ]
    pair = KeyPair.make(x509.Name([*empty, *common_name("compliant-1")]))
    async with field.device("compliant-1") as device:
        client = await device.connect()
        answer = await client.ask(codes.POST, SHORT_SEN, payload=pair.csr, content_format=0)
    # A reader that takes nothing but DER has nothing to say.
    assert len(pkcs7.load_der_pkcs7_certificates(answer.payload)) == 2
