"""What is allowed in a CA's answer and worth a look is said."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests import pki
from tests.unit.issuers.answers import (
    ACCOUNT,
    CLIENT,
    EXPECTED,
    KEY,
    NOW,
    ROOT,
    SOUND,
    SUBJECT,
    USAGE,
    answer,
    leaf,
    passed,
)

RSA_ROOT = pki.make_factory_ca("RSA Root", key=rsa.generate_private_key(65537, 2048))
POINTER = x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example.com")], None, None, None)
RESPONDER = x509.AccessDescription(
    AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ocsp.example.com")
)
ISSUERS = x509.AccessDescription(
    AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example.com/ca.der")
)
SAN_NAME = x509.UniformResourceIdentifier("urn:dev:os:0001")
SAN = x509.SubjectAlternativeName([SAN_NAME])


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (leaf(extensions=[CLIENT]), "the certificate has no key usage"),
        (leaf(extensions=[(USAGE[0], False), CLIENT]), "the certificate's key usage is not critical"),
        (
            leaf(extensions=[USAGE, CLIENT, (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False)]),
            "the certificate has a subject key identifier, which a device only stores",
        ),
        (
            leaf(extensions=[USAGE, CLIENT, (x509.CRLDistributionPoints([POINTER]), False)]),
            "the certificate points to a CRL or OCSP responder, which devices do not ask",
        ),
        (
            leaf(extensions=[USAGE, CLIENT, (x509.AuthorityInformationAccess([RESPONDER]), False)]),
            "the certificate points to a CRL or OCSP responder, which devices do not ask",
        ),
        (leaf(extensions=[USAGE, CLIENT, (x509.AuthorityInformationAccess([ISSUERS]), False)]), None),
        (leaf(serial=1 << 54), "the serial number is short: it should hold 64 random bits"),
        (leaf(serial=1 << 56), None),
        (
            leaf(x509.Name(reversed(list(SUBJECT)))),
            "the CA reordered the CSR's subject",
        ),
        (
            leaf(x509.Name([*SUBJECT, x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "FI")])),
            None,
        ),
    ],
)
def test_what_is_allowed_and_worth_a_look_is_said(certificate: x509.Certificate, said: str | None) -> None:
    assert passed(answer(certificate)).warnings == ((said,) if said else ())


def test_an_unusually_long_validity_is_said() -> None:
    assert passed(answer(SOUND), replace(EXPECTED, unusual_validity=timedelta(days=700))).warnings == (
        f"the certificate is valid until {NOW + timedelta(days=730):%Y-%m-%d}",
    )


def test_an_rsa_key_above_the_leaf_is_said() -> None:
    issued = answer(leaf(ca=RSA_ROOT), RSA_ROOT)
    checked = passed(issued, replace(EXPECTED, anchors=(RSA_ROOT.certificate,)))
    assert checked.warnings == (
        "CN=RSA Root,O=Factory has an RSA key, which devices with elliptic curves only cannot verify",
    )


def test_a_dropped_alternative_name_is_said() -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(SUBJECT)
        .add_extension(SAN, critical=False)
        .sign(KEY, hashes.SHA256())
    )
    expected = replace(EXPECTED, csr=csr)
    assert passed(answer(SOUND), expected).warnings == ("the CA dropped the CSR's subject alternative name",)
    assert passed(answer(leaf(extensions=[USAGE, CLIENT, (SAN, False)])), expected).warnings == ()


def test_an_alternative_name_that_nobody_asked_for_is_said() -> None:
    foreign = x509.SubjectAlternativeName([SAN_NAME, x509.DNSName("another-device")])
    certificate = leaf(extensions=[USAGE, CLIENT, (foreign, False)])
    said = "the CA added the subject alternative name 'another-device', which was not asked for"
    assert passed(answer(certificate)).warnings == (said,)
    many = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("192.0.2.7")), *foreign])
    said = "the CA added the subject alternative name '192.0.2.7' and 1 more, which was not asked for"
    assert passed(answer(leaf(extensions=[USAGE, CLIENT, (many, True)]))).warnings == (said,)
    # Some CAs write the common name there.
    assert passed(answer(leaf(extensions=[USAGE, CLIENT, (SAN, False)]))).warnings == ()


PRIVATE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
CONSTRAINTS = x509.NameConstraints([x509.DNSName("example.com")], None)
SERVERS = x509.ExtendedKeyUsage(pki.SERVER_AUTH)
UNKNOWN = "has the critical extension 1.2.3.4, which who does not know it must refuse"


def test_a_critical_extension_that_few_know_is_said_of_the_leaf() -> None:
    certificate = leaf(extensions=[USAGE, CLIENT, (PRIVATE, True)])
    assert passed(answer(certificate)).warnings == (f"CN=urn:dev:os:0001,OU={ACCOUNT.hex},L=d1 {UNKNOWN}",)
    assert passed(answer(leaf(extensions=[USAGE, CLIENT, (PRIVATE, False)]))).warnings == ()


@pytest.mark.parametrize(
    ("key", "extension", "said"),
    [
        (None, (PRIVATE, True), UNKNOWN),
        (None, (PRIVATE, False), None),
        (None, (CONSTRAINTS, True), "has name constraints, which not every server applies"),
        (
            None,
            (SERVERS, False),
            "has an extended key usage without clientAuth, so many servers take no client below it",
        ),
        (None, (CLIENT[0], False), None),
        (ec.generate_private_key(ec.SECP224R1()), None, "has a key on secp224r1, which most servers refuse as weak"),
        (rsa.generate_private_key(65537, 1024), None, "has an RSA key of 1024 bits, which most servers refuse as weak"),
        (ec.generate_private_key(ec.SECP384R1()), None, None),
    ],
)
def test_what_servers_refuse_above_the_leaf_is_said(
    key: pki.PrivateKey | None, extension: tuple[x509.ExtensionType, bool] | None, said: str | None
) -> None:
    """The check of the path lets it pass, so the device has the certificate and its server does not take it."""
    key = key or pki.make_key()
    extensions = [*pki.ca_extensions(key.public_key()), *([extension] if extension else [])]
    ca = pki.make_certificate("Issuing", ROOT, key=key, extensions=extensions)
    name = "CN=Issuing"
    found = passed(answer(leaf(ca=ca), ca)).warnings
    expected = [f"{name} {said}"] if said else []
    if isinstance(key, rsa.RSAPrivateKey):
        expected.insert(0, f"{name} has an RSA key, which devices with elliptic curves only cannot verify")
    assert list(found) == expected


def test_dropped_attributes_that_no_device_needs_are_said() -> None:
    wanted = x509.Name([*SUBJECT, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Acme")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(wanted).sign(KEY, hashes.SHA256())
    checked = passed(answer(SOUND), replace(EXPECTED, csr=csr))
    assert checked.warnings == ("the CA dropped or changed O of the CSR's subject",)
