"""The fast path of the embedded CA against its readable form, the library's builder: byte for byte."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from issuers.csr import make_csr
from issuers.der import certificate_parts, element, request_names
from issuers.extensions import CLIENT_AUTH, DIGITAL_SIGNATURE, authority_key_identifier
from issuers.template import Template
from tests import pki

CA = pki.make_factory_ca("Issuing CA " + "x" * 53)
KEY = pki.make_key()
SIGNER = pki.make_key()
DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
PROFILE = (
    x509.CertificateBuilder()
    .issuer_name(CA.certificate.subject)
    .add_extension(DIGITAL_SIGNATURE, critical=True)
    .add_extension(CLIENT_AUTH, critical=False)
    .add_extension(authority_key_identifier(CA.certificate), critical=False)
)
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

texts = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), min_size=1, max_size=16)
subjects = st.lists(
    st.tuples(
        st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME]),
        texts,
    ),
    max_size=5,
).map(lambda pairs: x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs]))
serials = st.integers(1, (1 << 159) - 1)
moments = st.datetimes(datetime(1951, 1, 1), datetime(2199, 12, 31)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


def built(
    subject: x509.Name, serial: int, begin: datetime, end: datetime, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    return (
        PROFILE.subject_name(subject)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )


TEMPLATE = Template.of(built(x509.Name([]), 1, datetime(2020, 1, 1), datetime(2020, 1, 1), pki.make_key()))


@given(subjects, serials, moments, st.integers(0, 40_000))
def test_a_certificate_from_the_template_is_the_one_that_the_builder_makes(
    subject: x509.Name, serial: int, begin: datetime, days: int
) -> None:
    end = begin + timedelta(days=days)
    der = TEMPLATE.certificate(
        serial=serial,
        not_before=begin,
        not_after=end,
        subject=subject.public_bytes(),
        spki=SPKI,
        sign=lambda inner: SIGNER.sign(inner, DETERMINISTIC),
    )
    assert der == built(subject, serial, begin, end, SIGNER).public_bytes(Encoding.DER)


@given(subjects)
def test_the_names_of_a_request_are_those_that_the_library_reads(subject: x509.Name) -> None:
    csr = make_csr(KEY, subject)
    assert request_names(csr.public_bytes(Encoding.DER)) == (csr.subject.public_bytes(), SPKI)


def test_the_parts_of_a_certificate_are_its_own() -> None:
    certificate = pki.make_device_certificate(CA, "device").certificate
    parts = certificate_parts(certificate.public_bytes(Encoding.DER))
    assert parts.issuer == certificate.issuer.public_bytes()
    # RFC 5758 3.2: ecdsa-with-SHA256
    assert parts.algorithm == bytes.fromhex("300a06082a8648ce3d040302")
    assert certificate.tbs_certificate_bytes.endswith(parts.extensions)
    assert parts.extensions[0] == 0xA3


def test_a_length_has_as_few_octets_as_it_needs() -> None:
    # X.690 10.1
    assert element(0x04, b"x" * 127)[:2] == b"\x04\x7f"
    assert element(0x04, b"x" * 128)[:3] == b"\x04\x81\x80"
    assert element(0x04, b"x" * 256)[:4] == b"\x04\x82\x01\x00"
