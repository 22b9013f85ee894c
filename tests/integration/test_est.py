"""EST over CoAP on a whole server: real DTLS, an embedded CA, and devices that make their own keys (RFC 9148)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from simulators import est
from simulators.dtls import PskCredential
from simulators.est import KeyPair, common_name
from tests.integration import enrolments
from tests.integration.enrolments import (
    delivered,
    enrolled,
    is_of,
    of_somebody_else,
    refused,
    signatures,
    tampered,
    until_sessions,
    with_a_foreign_san,
)
from tests.integration.field import Field, asked_to_finish, profile, steps

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "00112233445566778899aabbccddeeff"
PROFILES = {
    "est": profile("est-*", mode="est"),
    "either": profile("either-*", mode="est-then-server-key"),
    "named": profile("named-*", mode="est", security='subject = "CN={endpoint},OU={account}"'),
    "keyed": profile("keyed-*", mode="est", est="psk_enrolls = true"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    keys = {"keyed-1": KEY, "est-psk": KEY}
    async with enrolments.opened(tmp_path_factory.mktemp("est"), PROFILES, keys=keys) as started:
        yield started


# -- when ----------------------------------------


async def test_a_device_enrols_after_its_bootstrap_on_the_same_association(field: Field) -> None:
    report, device = await field.bootstrap("est-after", est="expects")
    assert report.ok, device.transcript
    assert report.credential == "est"
    shown = await delivered(field, "est-after")
    [session] = shown["sessions"]
    assert [row["op"] for row in session["steps"]] == [
        "discover",
        "delete",
        "delete",
        "write",
        "write",
        "finish",
        "est",
    ]
    assert steps(session, "write")[0]["note"] == "mode 4, the device makes its key"
    [enrolment] = steps(session, "est")
    assert (enrolment["path"], enrolment["code"], enrolment["format"]) == ("/.well-known/est/sen", "2.04", "pkcs7")
    assert [(row["serial"], row["state"]) for row in shown["certificates"]] == [(report.serial, "delivered")]
    assert len(device.ca_certificates) == 2


async def test_a_device_enrols_before_its_bootstrap(field: Field) -> None:
    async with field.device("est-before") as device:
        pair, chain = await enrolled(await device.connect(), "est-before")
        assert is_of(chain, pair, "est-before")
        shown = await delivered(field, "est-before")
        [session] = shown["sessions"]
        assert (session["kind"], session["outcome"], shown["state"]) == ("enrollment", "succeeded", "bootstrapped")
        assert [row["op"] for row in session["steps"]] == ["est"]


async def test_a_device_enrols_during_its_bootstrap(field: Field) -> None:
    async with field.device("est-during", est="later", finish_delay=0.5) as device:
        running = asyncio.create_task(device.bootstrap())
        await asked_to_finish(device)
        pair, chain = await enrolled(device.est, "est-during")
        assert is_of(chain, pair, "est-during")
        assert (await running).ok
        shown = await field.ended("est-during")
    [session] = shown["sessions"]
    assert [row["op"] for row in session["steps"]][-2:] == ["finish", "est"]
    assert session["outcome"] == "succeeded"


async def test_the_association_of_a_device_that_has_its_certificate_is_closed_and_of_one_that_waits_it_is_not(
    field: Field,
) -> None:
    async with field.device("est-waits", est="later") as waits, field.device("either-done", est="refuses") as done:
        assert (await waits.bootstrap()).ok
        assert (await done.bootstrap()).ok
        # The server keeps an association after Finish for five seconds, for one that is to enrol 120.
        async with asyncio.timeout(20):
            while not done.is_lost:
                await asyncio.sleep(0.1)
        pair, chain = await enrolled(waits.est, "est-waits")
        assert is_of(chain, pair, "est-waits")


# -- mode 4 refused ----------------------------------------


async def test_a_device_without_est_gets_a_server_made_key_and_is_not_asked_twice(field: Field) -> None:
    report, _ = await field.bootstrap("either-1", est="refuses")
    assert report.ok, report.reason
    shown = await field.ended("either-1")
    assert json.loads(shown["learned"]) == {"est_refused": True}
    notes = [row["note"] for row in steps(shown["sessions"][0], "write") if row["path"].startswith("/0")]
    assert notes[0].startswith("mode 4, the device makes its key")
    assert notes[1].startswith("mode 4 was refused")
    report, _ = await field.bootstrap("either-1", est="refuses")
    assert report.ok
    shown = await field.ended("either-1", count=2)
    assert not any("mode 4" in row.get("note", "") for row in steps(shown["sessions"][0], "write"))


async def test_a_device_with_est_keeps_mode_4_where_the_profile_allows_both(field: Field) -> None:
    report, _ = await field.bootstrap("either-est", est="expects")
    assert report.ok, report.reason
    assert (await delivered(field, "either-est"))["learned"] == "{}"


# -- the same CSR ----------------------------------------


async def test_the_same_csr_gets_the_same_certificate_on_this_association_and_on_the_next(field: Field) -> None:
    pair = KeyPair.make(common_name("est-again"))
    async with field.device("est-again") as device:
        client = await device.connect()
        first, second = await client.enroll(pair.csr), await client.enroll(pair.csr)
        third = await (await device.connect()).enroll(pair.csr)
    assert first == second == third
    assert signatures(field, pair.csr) == 1
    shown = await delivered(field, "est-again", 3)
    assert len(shown["certificates"]) == 1
    assert [row["steps"][0].get("note") for row in shown["sessions"]] == [
        "the recorded certificate once more",
        "the recorded certificate once more",
        None,
    ]


async def test_the_same_csr_at_once_is_signed_once(field: Field) -> None:
    pair = KeyPair.make(common_name("est-at-once"))
    async with field.device("est-at-once") as one, field.device("est-at-once") as other:
        clients = [await one.connect(), await other.connect()]
        chains = await asyncio.gather(*(client.enroll(pair.csr) for client in clients))
    assert chains[0] == chains[1]
    assert signatures(field, pair.csr) == 1


async def test_a_key_of_another_endpoint_is_refused(field: Field) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for name in ("est-key-1", "est-key-2"):
        async with field.device(name) as device:
            client = await device.connect()
            csr = est.sign_csr(key, common_name(name))
            if name == "est-key-1":
                await client.enroll(csr)
            else:
                assert await refused(client, payload=csr) == "4.03"
    [session] = (await until_sessions(field, "est-key-2"))["sessions"]
    assert session["cause"] == "key_taken"
    assert "another device's" in session["sentence"]


async def test_the_factory_key_of_another_device_is_refused_and_ones_own_is_not(field: Field) -> None:
    credential = field.certificate("est-cloned")
    async with field.device("est-cloned", credential=credential) as device:
        assert (await device.bootstrap()).ok
        await field.over("est-cloned")
        async with field.device("est-cloner") as other:
            csr = est.sign_csr(credential.key, common_name("est-cloner"))
            assert await refused(await other.connect(), payload=csr) == "4.03"
        assert device.est is not None
        assert await device.est.enroll(est.sign_csr(credential.key, common_name("est-cloned")))
    [session] = (await until_sessions(field, "est-cloner"))["sessions"]
    assert session["cause"] == "key_taken"


# -- what a CSR must be ----------------------------------------


def on_another_curve(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return est.sign_csr(key, common_name(name))


def asks_to_be_a_ca(name: str) -> bytes:
    return KeyPair.make(common_name(name), x509.BasicConstraints(ca=True, path_length=None)).csr


def with_more_words(name: str) -> bytes:
    return KeyPair.make(x509.Name([*common_name(name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME")])).csr


def no_csr(name: str) -> bytes:
    return b"this is no CSR"


def in_pem(name: str) -> bytes:
    return x509.load_der_x509_csr(KeyPair.make(common_name(name)).csr).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "make",
    [
        tampered,
        on_another_curve,
        asks_to_be_a_ca,
        of_somebody_else,
        with_more_words,
        with_a_foreign_san,
        no_csr,
        in_pem,
    ],
)
async def test_a_csr_that_is_not_fit_is_refused_and_the_ca_is_not_asked(
    field: Field, make: Callable[[str], bytes]
) -> None:
    name = f"est-{make.__name__.replace('_', '-')}"
    async with field.device(name) as device:
        assert await refused(await device.connect(), payload=make(name)) == "4.00"
    shown = await until_sessions(field, name)
    assert (shown["sessions"][0]["cause"], shown["issuances"], shown["state"]) == ("csr_refused", [], "failed")


async def test_empty_attributes_count_as_absent(field: Field) -> None:
    empty = [
        x509.NameAttribute(oid, "", _validate=False)
        for oid in (NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    ]
    name = x509.Name([*empty, *common_name("est-empty")])
    async with field.device("est-empty") as device:
        chain = await (await device.connect()).enroll(KeyPair.make(name).csr)
    assert chain[0].subject == common_name("est-empty")


async def test_the_endpoint_name_may_be_the_subject_alternative_name(field: Field) -> None:
    pair = KeyPair.make(common_name("est-san"), x509.SubjectAlternativeName([x509.DNSName("est-san")]))
    async with field.device("est-san") as device:
        assert is_of(await (await device.connect()).enroll(pair.csr), pair, "est-san")


async def test_the_subject_is_the_one_of_the_profile(field: Field) -> None:
    async with field.device("named-1") as device:
        client = await device.connect()
        assert await refused(client, payload=KeyPair.make(common_name("named-1")).csr) == "4.00"
        account = field.account
        unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account)
        pair = KeyPair.make(x509.Name([unit, *common_name("named-1")]))
        assert is_of(await client.enroll(pair.csr), pair, "named-1")


# -- services ----------------------------------------


async def test_the_label_is_the_service_and_an_unknown_one_is_not_found(field: Field) -> None:
    async with field.device("est-label") as device:
        client = await device.connect()
        pair, chain = await enrolled(client, "est-label", label="LWM2M")
        assert is_of(chain, pair, "est-label")
        pair, chain = await enrolled(client, "est-label", label="DLMS")
        assert is_of(chain, pair, "est-label")
        csr = KeyPair.make(common_name("est-label")).csr
        for label in ("dlms", "Wi-SUN", "lwm2m"):
            assert await refused(client, (*est.ROOT, label, "sen"), payload=csr) == "4.04"
            assert await refused(client, ("est", label, "crts"), code=codes.GET, content_format=None) == "4.04"
        assert signatures(field, csr) == 0
    shown = await until_sessions(field, "est-label", 3)
    assert {row["service"] for row in shown["issuances"]} == {"LWM2M", "DLMS"}
    assert shown["sessions"][0]["cause"] == "no_service"


# -- who ----------------------------------------


async def test_a_pre_shared_key_enrols_only_where_the_profile_says_so(field: Field) -> None:
    async with field.device("est-psk", credential=PskCredential(b"est-psk", bytes.fromhex(KEY))) as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("est-psk")).csr
        assert await refused(client, payload=csr) == "4.01"
        assert await refused(client, (*est.ROOT, "crts"), code=codes.GET, content_format=None) == "4.01"
    async with field.device("keyed-1", credential=PskCredential(b"keyed-1", bytes.fromhex(KEY))) as device:
        client = await device.connect()
        pair, chain = await enrolled(client, "keyed-1")
        assert is_of(chain, pair, "keyed-1")
        assert await refused(client, (*est.ROOT, "sren"), payload=pair.csr) == "4.01"
