"""What is allowed in a CA's answer and worth a look is said."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests import pki
from tests.unit.issuers.answers import CLIENT, EXPECTED, KEY, NOW, SOUND, SUBJECT, USAGE, answer, leaf, passed

RSA_ROOT = pki.make_factory_ca("RSA Root", key=rsa.generate_private_key(65537, 2048))
POINTER = x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example.com")], None, None, None)
RESPONDER = x509.AccessDescription(
    AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ocsp.example.com")
)
ISSUERS = x509.AccessDescription(
    AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example.com/ca.der")
)
SAN = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:dev:os:0001")])


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


def test_dropped_attributes_that_no_device_needs_are_said() -> None:
    wanted = x509.Name([*SUBJECT, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Acme")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(wanted).sign(KEY, hashes.SHA256())
    checked = passed(answer(SOUND), replace(EXPECTED, csr=csr))
    assert checked.warnings == ("the CA dropped or changed O of the CSR's subject",)
