"""EST over CoAP on a whole server: real DTLS, an embedded CA, and devices that make their own keys (RFC 9148)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7
from cryptography.x509.oid import NameOID

from lwm2m.est import decode_csr_attributes, decode_izuma_chain
from lwm2m.multipart import decode_parts
from simulators import est
from simulators.association import CoapParameters
from simulators.dtls import PskCredential, X509Credential
from simulators.est import CERTIFICATE, PKCS7, PKCS10, EnrolmentFailed, EstClient, KeyPair, common_name
from tests import pki
from tests.integration import field as fields
from tests.integration.field import Field, asked_to_finish, profile, steps, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEN, SHORT_SEN = (*est.ROOT, "sen"), ("est", "sen")
KEY = "00112233445566778899aabbccddeeff"
PROFILES = {
    "est": profile("est-*", mode="est"),
    "either": profile("either-*", mode="est-then-server-key"),
    "named": profile("named-*", mode="est", security='subject = "CN={endpoint},OU={account}"'),
    "keyed": profile("keyed-*", mode="est", est="psk_enrolls = true"),
    "meter": profile("meter-*", mode="est", est='subject = "CN={endpoint},O=Meter"'),
    "izuma": profile("izuma-*", mode="est"),
    "narrow": profile("narrow-*", mode="est", est="certificate_bytes = 512"),
    "compliant": profile("compliant-*", mode="est", est='client = "izuma"\nanswer = "pkcs7"\npkcs7_order = "der"'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    keys = {"keyed-1": KEY, "est-psk": KEY}
    async with fields.opened(tmp_path_factory.mktemp("est"), profiles=PROFILES, keys=keys) as started:
        renewed = len(started.service.events("knowledge_renewed"))
        await started.service.command("service", "add", "DLMS")
        await until(lambda: asyncio.sleep(0, len(started.service.events("knowledge_renewed")) > renewed))
        yield started


async def enrolled(client: EstClient, endpoint: str, **kind: Any) -> tuple[KeyPair, tuple[x509.Certificate, ...]]:
    pair = KeyPair.make(common_name(endpoint))
    return pair, await client.enroll(pair.csr, **kind)


async def refused(client: EstClient, path: tuple[str, ...] = SEN, **request: Any) -> str | None:
    """The code of an answer that is none."""
    request = {"code": codes.POST, "content_format": PKCS10, **request}
    with pytest.raises(EnrolmentFailed) as failure:
        await client.ask(request.pop("code"), path, **request)
    return failure.value.code


def is_of(chain: tuple[x509.Certificate, ...], pair: KeyPair, endpoint: str) -> bool:
    """Leaf first, each the signer of the one before, for this key and this name."""
    for child, issuer in pairwise(chain):
        child.verify_directly_issued_by(issuer)
    names = [str(name.value) for name in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return chain[0].public_key() == pair.key.public_key() and names == [endpoint]


async def delivered(field: Field, endpoint: str, count: int = 1) -> dict[str, Any]:
    """What `device show` says once so many certificates of a device are on record as delivered."""

    async def on_record() -> bool:
        return len(field.service.events("certificate_delivered")) and count <= sum(
            event["endpoint"] == endpoint for event in field.service.events("certificate_delivered")
        )

    await until(on_record)
    return await field.shown(endpoint)


def signatures(field: Field, csr: bytes) -> int:
    """How often the CA signed, by its own journal."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(csr)
    wanted = digest.finalize().hex()
    return sum(line["event"] == "signed" and line["csr_sha256"] == wanted for line in field.service.journal())


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


async def until_sessions(field: Field, endpoint: str, count: int = 1) -> dict[str, Any]:
    async def failures() -> bool:
        events = field.service.events("enrollment_failed")
        return sum(event["endpoint"] == endpoint for event in events) >= count

    await until(failures)
    return await field.shown(endpoint)


# -- what a CSR must be ----------------------------------------


def tampered(name: str) -> bytes:
    csr = bytearray(KeyPair.make(common_name(name)).csr)
    csr[-1] ^= 1
    return bytes(csr)


def on_another_curve(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return est.sign_csr(key, common_name(name))


def asks_to_be_a_ca(name: str) -> bytes:
    return KeyPair.make(common_name(name), x509.BasicConstraints(ca=True, path_length=None)).csr


def of_somebody_else(name: str) -> bytes:
    return KeyPair.make(common_name("est-somebody-else")).csr


def with_more_words(name: str) -> bytes:
    return KeyPair.make(x509.Name([*common_name(name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME")])).csr


def with_a_foreign_san(name: str) -> bytes:
    return KeyPair.make(common_name(name), x509.SubjectAlternativeName([x509.DNSName("est-somebody-else")])).csr


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
    assert chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "est-empty"


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


# -- formats ----------------------------------------


async def test_accept_and_content_format_are_honoured(field: Field) -> None:
    async with field.device("est-formats") as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("est-formats")).csr
        for path in (SEN, SHORT_SEN):
            for accept, content_format in ((None, PKCS7), (PKCS7, PKCS7), (CERTIFICATE, CERTIFICATE)):
                answer = await client.ask(codes.POST, path, payload=csr, content_format=PKCS10, accept=accept)
                assert (answer.code, answer.opt.content_format) == (codes.CHANGED, content_format)
                leaf = answer.payload if accept == CERTIFICATE else _first(answer.payload)
                assert x509.load_der_x509_certificate(leaf).version is x509.Version.v3
            assert await refused(client, path, payload=csr, accept=0) == "4.06"
            assert await refused(client, path, payload=csr, content_format=42) == "4.15"
            await client.ask(codes.POST, path, payload=csr)
        assert await refused(client, SEN, payload=csr, content_format=0) == "4.15"
        await client.ask(codes.POST, SHORT_SEN, payload=csr, content_format=0)
    assert signatures(field, csr) == 1


def _first(message: bytes) -> bytes:
    return est.read_certificates(message)[0].public_bytes(Encoding.DER)


async def test_paths_and_methods_that_are_none_have_their_codes(field: Field) -> None:
    async with field.device("est-paths") as device:
        client = await device.connect()
        csr = KeyPair.make(common_name("est-paths")).csr
        assert await refused(client, ("est", "enroll"), payload=csr) == "4.04"
        assert await refused(client, ("est",), payload=csr) == "4.04"
        assert await refused(client, (*est.ROOT, "crts")) == "4.05"
        assert await refused(client, SEN, code=codes.GET) == "4.05"
        assert await refused(client, SEN, code=codes.PUT, payload=csr) == "4.05"


async def test_ca_certificates_and_csr_attributes_are_told(field: Field) -> None:
    async with field.device("est-reads") as device:
        client = await device.connect()
        issuing, root = await client.ca_certificates()
        issuing.verify_directly_issued_by(root)
        alone = await client.ask(codes.GET, ("est", "crts"), accept=CERTIFICATE)
        assert x509.load_der_x509_certificate(alone.payload) == root
        attributes = await client.ask(codes.GET, (*est.ROOT, "att"))
        assert (attributes.code, attributes.opt.content_format) == (codes.CONTENT, 285)
        assert len(decode_csr_attributes(attributes.payload)) == 2
        assert await refused(client, ("est", "att"), code=codes.GET, accept=0) == "4.06"


async def test_discovery_tells_of_both_roots_and_of_the_labels(field: Field) -> None:
    async with field.device("est-discovers") as device:
        client = await device.connect()
        answer = await client.ask(codes.GET, (".well-known", "core"), query=("rt=ace.est*",))
        links = answer.payload.decode().split(",")
        assert answer.opt.content_format == 40
        assert '</.well-known/est/sen>;rt="ace.est.sen";ct="281 287"' in links
        assert '</est/DLMS/crts>;rt="ace.est.crts";ct="281 287"' in links
        answer = await client.ask(codes.GET, (".well-known", "core"), query=("rt=core.rd",))
        assert answer.payload == b""


async def test_a_server_made_key_comes_with_its_certificate(field: Field) -> None:
    async with field.device("est-skg") as device:
        client = await device.connect()
        # Key and signature of the CSR mean nothing here.
        csr = tampered("est-skg")
        answer = await client.ask(codes.POST, (*est.ROOT, "skg"), payload=csr, content_format=PKCS10, accept=62)
        (key_format, key), (chain_format, chain) = decode_parts(answer.payload)
        assert (key_format, chain_format, answer.opt.content_format) == (284, PKCS7, 62)
        leaf = est.read_certificates(chain)[0]
        assert leaf.public_key() == load_der_private_key(key, None).public_key()
        alone = await client.ask(codes.POST, ("est", "skc"), payload=csr, content_format=PKCS10)
        (_, key), (format, certificate) = decode_parts(alone.payload)
        assert format == CERTIFICATE
        assert x509.load_der_x509_certificate(certificate).public_key() == load_der_private_key(key, None).public_key()
        assert await refused(client, (*est.ROOT, "skg"), payload=of_somebody_else("")) == "4.00"
    shown = await delivered(field, "est-skg", 2)
    assert {row["state"] for row in shown["certificates"]} == {"delivered"}


async def test_a_certificate_that_the_device_cannot_store_is_a_bad_gateways(field: Field) -> None:
    name = "narrow-" + "n" * 57
    async with field.device(name) as device:
        client = await device.connect()
        assert await refused(client, payload=KeyPair.make(common_name(name)).csr) == "5.02"
    shown = await until_sessions(field, name)
    assert shown["sessions"][0]["cause"] == "issuer_bad_certificate"
    assert [row["state"] for row in shown["issuances"]] == ["bad"]


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
    renewed = len(field.service.events("knowledge_renewed"))
    await field.set_profile("meter", profile("meter-*", mode="est", est='subject = "CN={endpoint},O=Now"'))
    await until(lambda: asyncio.sleep(0, len(field.service.events("knowledge_renewed")) > renewed))
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


# -- blocks ----------------------------------------


@pytest.mark.parametrize("exponent", range(7), ids=lambda exponent: str(16 << exponent))
async def test_blocks_of_the_size_of_the_client_carry_csr_and_certificate(field: Field, exponent: int) -> None:
    name = f"est-blocks-{16 << exponent}"
    async with field.device(name, coap=CoapParameters(block_exponent=exponent)) as device:
        client = await device.connect()
        pair, chain = await enrolled(client, name)
        assert is_of(chain, pair, name)
        assert len(await client.ca_certificates()) == 2
    assert signatures(field, pair.csr) == 1
    shown = await delivered(field, name)
    assert [row["state"] for row in shown["certificates"]] == ["delivered"]


async def test_a_client_keeps_its_block_size_where_the_servers_own_is_smaller(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[limits]\nblock_size = 64\n")
    async with (
        fields.opened(tmp_path, "--config", str(settings), profiles={"est": PROFILES["est"]}) as small,
        small.device("est-small") as device,
    ):
        client = await device.connect()
        pair = KeyPair.make(common_name("est-small"))
        for number in (0, 1):
            asked = (number, False, 5)
            request = Message(code=codes.POST, uri_path=SEN, payload=b"" if number else pair.csr, block2=asked)
            request.opt.content_format = PKCS10
            request.remote = client._remote
            answer = await client._context.request(request, handle_blockwise=False).response
            # 512 bytes a block, as it asked.
            block = answer.opt.block2
            assert (answer.code, block.block_number, block.size) == (codes.CHANGED, number, 512)
            assert len(answer.payload) == 512 or not block.more


# -- the Izuma client ----------------------------------------


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
