"""A certificate nobody can read is a sentence for an operator: x509.InvalidVersion, for one, is no ValueError."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lwm2m.plan import Credential, Learned, Plan, SecurityPlan
from server.preflight import Finding, check_plan
from server.profile import ProfileError, parse_profile
from tests import pki
from tests.unit.issuers import surgery

NOW = datetime.now(UTC)
CA = pki.make_factory_ca("Root")
LEAF = pki.make_device_certificate(CA, "device")
PKCS8 = LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PROFILE = """
[[security]]
uri = "coaps://lwm2m.example.com"
short_server_id = 123
mode = "server-key"
server_certificate_file = "server-ca.pem"
[[servers]]
short_server_id = 123
"""


def duplicated(holder: pki.Holder) -> bytes:
    """A certificate with an extension twice."""
    twice = pki.make_certificate(
        holder.certificate.subject,
        key=holder.key,
        extensions=[
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\0"), False),
        ],
    )
    return surgery.exchanged(twice.der, bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304"))


def later_version(holder: pki.Holder) -> bytes:
    return surgery.of_unknown_version(holder.certificate)


def misnamed(holder: pki.Holder) -> bytes:
    """A common name that is no UTF-8, found only when the name is read."""
    name = str(holder.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value).encode()
    return holder.der.replace(b"\x0c" + bytes([len(name)]) + name, b"\x0c" + bytes([len(name)]) + b"\xff" * len(name))


def findings(server_certificate: bytes, chain: tuple[bytes, ...], key: bytes = PKCS8) -> tuple[Finding, ...]:
    security = SecurityPlan(
        uri="coaps://lwm2m.example.com",
        short_server_id=123,
        mode="server-key",
        server_certificate=server_certificate,
        certificate_usage=2,
        chain="pem-chain",
    )
    credential = Credential(chain=chain, private_key_pkcs8=key)
    return check_plan(Plan(securities=(security,)), {0: credential}, Learned(), NOW)


Damage = Callable[[pki.Holder], bytes]


@pytest.mark.parametrize("damage", [later_version, duplicated, misnamed])
def test_a_server_certificate_that_cannot_be_read_is_a_finding(damage: Damage) -> None:
    [finding] = findings(damage(CA), (LEAF.der,))
    assert finding.severity == "error"
    assert "the server certificate (/0/x/4) cannot be read" in finding.sentence


@pytest.mark.parametrize("damage", [later_version, misnamed])
@pytest.mark.parametrize("place", [0, 1])
def test_a_chain_that_cannot_be_read_is_a_finding(damage: Damage, place: int) -> None:
    chain = [LEAF.der, CA.der]
    chain[place] = damage((LEAF, CA)[place])
    [finding] = findings(CA.der, tuple(chain))
    assert finding.severity == "error"
    assert "holds something that is not a certificate" in finding.sentence


def test_a_private_key_of_a_kind_nobody_reads_does_not_fit() -> None:
    # The form of Ed25519 keys (RFC 8410 7) with an algorithm that does not exist, 1.3.101.99.
    unknown = bytes.fromhex("302e020100300506032b656304220420" + "11" * 32)
    found = findings(CA.der, (LEAF.der,), unknown)
    assert any("the private key does not belong to the certificate" in each.sentence for each in found)


@pytest.mark.parametrize("form", ["der", "pem"])
def test_a_profiles_certificate_of_another_version_is_refused_by_the_name_of_its_file(form: str) -> None:
    content = later_version(CA)
    if form == "pem":
        content = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(content) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(
        ProfileError, match=r"server_certificate_file names 'server-ca.pem', which holds no certificate"
    ):
        parse_profile(PROFILE, {"server-ca.pem": content}, name="mine")
