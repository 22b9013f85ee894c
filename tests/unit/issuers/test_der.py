"""Names read off the bytes against their readable twin, the library's own parser."""

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from issuers import der
from issuers.der import issuer_name, names, signature_algorithms
from tests import pki
from tests.unit.issuers import surgery

LONG = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "FI"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * 64),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 64),
        x509.NameAttribute(NameOID.COMMON_NAME, "ä" * 30),
    ]
)
MANY = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"unit {n}") for n in range(30)])


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def certificates() -> Iterator[x509.Certificate]:
    for subject in (pki.make_factory_ca("Root").certificate.subject, LONG, MANY, x509.Name([])):
        yield pki.make_certificate(subject).certificate
    yield pki.make_device_certificate(pki.make_factory_ca("Root"), "device").certificate


@pytest.mark.parametrize("certificate", list(certificates()))
def test_the_names_are_those_that_the_library_reads(certificate: x509.Certificate) -> None:
    twins = certificate.issuer.public_bytes(), certificate.subject.public_bytes()
    assert names(der_of(certificate)) == twins
    assert issuer_name(certificate, der_of(certificate)) == certificate.issuer


def test_the_names_of_one_ca_are_parsed_once() -> None:
    ca = pki.make_factory_ca("Root")
    first, second = (pki.make_device_certificate(ca, name).certificate for name in ("one", "two"))
    assert issuer_name(first, der_of(first)) is issuer_name(second, der_of(second))


def test_names_that_peers_choose_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(der, "LIMIT", 3)
    monkeypatch.setattr(der, "_remembered", {})
    for number in range(10):
        holder = pki.make_factory_ca(f"Root {number}")
        issuer_name(holder.certificate, holder.der)
    assert len(der._remembered) <= 3


def test_a_certificate_of_the_first_version_has_no_version_to_skip() -> None:
    holder = pki.make_certificate("Old Root")
    _, _, rest = holder.certificate.tbs_certificate_bytes.partition(bytes.fromhex("a003020102"))
    old = x509.load_der_x509_certificate(surgery.signed(surgery.element(0x30, rest), pki.make_key()))
    assert old.version is x509.Version.v1
    assert names(der_of(old)) == names(holder.der)


@pytest.mark.parametrize("certificate", list(certificates()))
def test_both_signature_algorithms_are_read(certificate: x509.Certificate) -> None:
    assert signature_algorithms(der_of(certificate)) == (surgery.ECDSA_SHA256, surgery.ECDSA_SHA256)
