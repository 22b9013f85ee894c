"""A device's CSR before any CA sees it: what is refused, with which words."""

from collections.abc import Iterable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from issuers import template
from issuers.csr import (
    LARGEST,
    alternative_names,
    check_csr,
    make_csr,
    request_for_new_key,
    require_names,
    same_names,
)
from issuers.errors import Rejected
from tests import pki
from tests.unit.issuers import surgery

KEY = pki.make_key()
NAME = "urn:dev:os:0001"
ACCOUNT = "0123456789abcdef0123456789abcdef"
# Their object identifiers in DER (RFC 5280 A.1).
OIDS = {name: bytes.fromhex(f"06035504{last}") for name, last in (("CN", "03"), ("L", "07"), ("OU", "0b"))}


def request(
    subject: x509.Name | None = None,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY,
    digest: hashes.HashAlgorithm | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(pki.make_name(NAME) if subject is None else subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None)
    return builder.sign(key, digest or hashes.SHA256())


def der(csr: x509.CertificateSigningRequest) -> bytes:
    return csr.public_bytes(Encoding.DER)


DER = der(request())


def refused(csr: bytes | x509.CertificateSigningRequest, **expected: str) -> str:
    with pytest.raises(Rejected) as raised:
        check_csr(csr, **expected)
    return raised.value.message


@pytest.mark.parametrize("before", [b"", b"\n", b"A CSR:\n"])
def test_pem_is_refused_where_der_belongs(before: bytes) -> None:
    with pytest.raises(Rejected, match=r"PEM, which is text|not a CSR"):
        check_csr(before + request().public_bytes(Encoding.PEM), endpoint=NAME, pem=False)
    assert check_csr(request().public_bytes(Encoding.DER), endpoint=NAME, pem=False)


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_sound_csr_is_taken_in_der_and_pem(encoding: Encoding) -> None:
    csr = request()
    taken = check_csr(csr.public_bytes(encoding), endpoint=NAME)
    assert der(taken) == der(csr)
    assert check_csr(csr) is csr


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_csr_of_mbed_tls_2_is_taken_without_its_null(digest: hashes.HashAlgorithm) -> None:
    """Its ECDSA algorithm has a NULL for parameters, which RFC 5758 3.2 leaves out and the library refuses."""
    csr = request(digest=digest)
    written = surgery.with_null_parameters(csr)
    with pytest.raises(ValueError, match="signature_alg"):
        x509.load_der_x509_csr(written)
    taken = check_csr(written, endpoint=NAME)
    assert der(taken) == der(csr)


def test_only_a_null_is_overlooked() -> None:
    written = surgery.with_null_parameters(request())
    for wrong in (
        written.replace(b"\x02\x05\x00\x03", b"\x02\x05\x01\x03"),
        surgery.with_null_parameters(request(), bytes.fromhex("0c00")),
        written + b"\0",
        written[:-1],
        written[: len(written) // 2],
    ):
        assert "not a CSR" in refused(wrong)


def test_our_own_csrs_pass_our_own_checks() -> None:
    subject = pki.make_name(NAME, organizational_unit_name=ACCOUNT, locality_name="d1")
    csr = make_csr(KEY, subject)
    assert csr.subject == subject
    assert csr.public_key() == KEY.public_key()
    assert list(csr.extensions) == []
    check_csr(der(csr), endpoint=NAME, organizational_unit=ACCOUNT, locality="d1")


def test_a_csr_of_another_version_is_refused() -> None:
    """PKCS#10 knows version 1, which is written 0 (RFC 2986 4.1)."""
    later = surgery.csr_with(request(), KEY, bytes.fromhex("020100") + b"\x30", bytes.fromhex("020101") + b"\x30")
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_csr(later)
    assert "not a CSR" in refused(later)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30\x00", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"],
)
def test_what_is_no_csr_is_refused(data: bytes) -> None:
    assert "not a CSR" in refused(data)


def test_a_certificate_is_no_csr() -> None:
    assert "not a CSR" in refused(pki.make_factory_ca().pem)


def test_bytes_behind_the_csr_are_refused() -> None:
    assert "not a CSR" in refused(der(request()) + b"\0")


def test_two_pem_blocks_are_not_one_csr() -> None:
    assert "more than one PEM block" in refused(request().public_bytes(Encoding.PEM) * 2)


def test_a_csr_of_4096_bytes_is_looked_at_and_a_longer_one_is_not() -> None:
    assert "not a CSR" in refused(bytes(LARGEST))
    assert "at most 4096 are taken" in refused(bytes(LARGEST + 1))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.generate_private_key(65537, 2048), id="rsa"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()), id="P-224"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="ed25519"),
    ],
)
def test_only_keys_on_p256_are_taken(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    assert "secp256r1 (P-256)" in refused(der(request(key=key)))


def test_a_point_that_is_not_on_the_curve_is_refused() -> None:
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    beside = point[:-1] + bytes([point[-1] ^ 1])
    assert "cannot be read" in refused(surgery.csr_with(request(), KEY, point, beside))


@pytest.mark.parametrize("digest", [hashes.SHA224(), hashes.SHA1()], ids=lambda each: each.name)
def test_a_hash_weaker_than_sha256_is_refused(digest: hashes.HashAlgorithm) -> None:
    # The object identifiers of ECDSA with SHA-224 and SHA-1 (RFC 5758 3.2, RFC 3279 2.2.3).
    algorithm = {"sha224": "300a06082a8648ce3d040301", "sha1": "300906072a8648ce3d0401"}[digest.name]
    to_be_signed = request().tbs_certrequest_bytes
    signature = KEY.sign(to_be_signed, ec.ECDSA(digest))
    weak = surgery.element(0x30, to_be_signed, bytes.fromhex(algorithm), surgery.element(0x03, b"\0", signature))
    assert "weaker than SHA-256" in refused(weak)


@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA512()], ids=lambda each: each.name)
def test_a_stronger_hash_is_taken(digest: hashes.HashAlgorithm) -> None:
    check_csr(der(request(digest=digest)))


def test_a_csr_for_a_key_its_sender_does_not_hold_is_refused() -> None:
    """Somebody else's public key, signed with one's own: no proof of possession."""
    foreign = pki.make_key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    own = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert "not by its own key" in refused(surgery.csr_with(request(), KEY, own, foreign))


@given(position=st.integers(0, 8 * len(DER) - 1))
def test_no_flipped_bit_passes_or_raises_anything_else(position: int) -> None:
    data = bytearray(DER)
    data[position // 8] ^= 1 << position % 8
    try:
        taken = check_csr(bytes(data))
    except Rejected:
        return
    assert taken.tbs_certrequest_bytes == x509.load_der_x509_csr(DER).tbs_certrequest_bytes


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_rejected(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (x509.Name([]), "has 0 CN"),
        (x509.Name([*pki.make_name(NAME), *pki.make_name("other")]), "has 2 CN"),
        (pki.make_name(NAME, title="Dr"), "2.5.4.12, which is none of CN, OU, O, L, ST, C, serialNumber, emailAddress"),
        (pki.make_name(NAME, domain_component="com"), "0.9.2342.19200300.100.1.25"),
        (pki.make_name("a\tb"), "CN of the CSR's subject holds characters that cannot be printed"),
        (pki.make_name(NAME, organization_name="a\0b"), "O of the CSR's subject holds characters"),
        (pki.make_name("somebody-else"), f"has CN='somebody-else' where this device's is '{NAME}'"),
        (
            pki.make_name(NAME, organizational_unit_name="another"),
            f"has OU='another' where this device's is '{ACCOUNT}'",
        ),
        (pki.make_name(NAME, locality_name="another"), "has L='another' where this device's is 'd1'"),
    ],
)
def test_a_subject_that_is_not_this_devices_is_refused(subject: x509.Name, said: str) -> None:
    message = refused(der(request(subject)), endpoint=NAME, organizational_unit=ACCOUNT, locality="d1")
    assert said in message


def test_the_endpoint_name_is_compared_letter_by_letter() -> None:
    assert "has CN=" in refused(request(pki.make_name(NAME.upper())), endpoint=NAME)
    assert "has CN=" in refused(request(pki.make_name(f"{NAME} ")), endpoint=NAME)


def with_values(**values: str) -> bytes:
    """A CSR in DER whose attributes have lengths that the library would not write."""
    attributes = [
        surgery.element(0x31, surgery.element(0x30, OIDS[name], surgery.element(0x0C, value.encode())))
        for name, value in values.items()
    ]
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    information = surgery.element(0x30, b"\x02\x01\0", surgery.element(0x30, *attributes), public, b"\xa0\0")
    return surgery.signed(information, KEY)


def test_a_common_name_holds_64_characters_and_no_more() -> None:
    check_csr(with_values(CN="x" * 64), endpoint="x" * 64)
    with pytest.warns(UserWarning, match="Attribute's length"):
        message = refused(with_values(CN="x" * 65), endpoint="x" * 65)
    assert "is 65 characters long; 64 is the most it can hold" in message


def test_empty_attributes_of_some_device_builds_are_overlooked() -> None:
    """The Izuma client sends an empty L or OU."""
    check_csr(with_values(L="", OU="", CN=NAME), endpoint=NAME, organizational_unit=ACCOUNT, locality="d1")
    with pytest.warns(UserWarning, match="Attribute's length"):
        assert "has CN=''" in refused(with_values(CN=""), endpoint=NAME)


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        (x509.BasicConstraints(ca=True, path_length=None), "asks to be a certificate authority"),
        (x509.BasicConstraints(ca=True, path_length=0), "asks to be a certificate authority"),
        (pki.key_usage("key_cert_sign"), "right to sign certificates or CRLs"),
        (pki.key_usage("digital_signature", "crl_sign"), "right to sign certificates or CRLs"),
    ],
)
@pytest.mark.parametrize("critical", [True, False])
def test_the_wish_to_be_a_ca_is_refused(extension: x509.ExtensionType, critical: bool, said: str) -> None:
    assert said in refused(der(request(extensions=[(extension, critical)])))


def test_other_requested_extensions_are_no_reason_to_refuse() -> None:
    check_csr(
        der(
            request(
                extensions=[
                    (x509.BasicConstraints(ca=False, path_length=None), True),
                    (pki.key_usage("digital_signature", "key_agreement"), True),
                    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                    (x509.SubjectAlternativeName([x509.DNSName("device.example.com")]), False),
                    (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), True),
                ]
            )
        ),
        endpoint=NAME,
    )


def test_an_extension_asked_for_twice_cannot_be_read() -> None:
    twice = request(
        extensions=[
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\0"), False),
        ]
    )
    csr = surgery.csr_with(twice, KEY, bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304"))
    assert "cannot be read" in refused(csr)


# -- names ----------------------------------------


def san(*names: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName(names), False


def test_a_server_made_key_needs_no_proof_and_its_names_do() -> None:
    weak = request(key=ec.generate_private_key(ec.SECP384R1()))
    check_csr(weak, endpoint=NAME, proof=False)
    with pytest.raises(Rejected, match="CN"):
        check_csr(weak, endpoint="another", proof=False)


def test_a_subject_is_compared_by_what_it_says() -> None:
    wanted = pki.make_name(NAME, organization_name="ACME")
    require_names(request(wanted), wanted)
    empty = x509.NameAttribute(x509.NameOID.LOCALITY_NAME, "", _validate=False)
    require_names(request(x509.Name([*reversed(list(wanted)), empty])), wanted)
    for subject, said in (
        (pki.make_name(NAME), "lacks O='ACME'"),
        (pki.make_name(NAME, organization_name="Other"), "O='Other' where this device's is 'ACME'"),
        (pki.make_name(NAME, organization_name="ACME", locality_name="x"), "L='x' where this device's has none"),
    ):
        with pytest.raises(Rejected, match=said):
            require_names(request(subject), wanted)
    require_names(request(pki.make_name(NAME)), wanted, optional=(x509.NameOID.ORGANIZATION_NAME,))


def test_alternative_names_are_one_of_the_allowed_sets_in_any_order() -> None:
    one, two = x509.DNSName("one"), x509.UniformResourceIdentifier("urn:two")
    name = pki.make_name(NAME)
    asked = request(extensions=[san(one, two)])
    assert alternative_names(asked.extensions) == (one, two)
    require_names(asked, name, alternative_names=((), (two, one)))
    for allowed in (((),), ((one,),), ((one, two, x509.DNSName("three")),)):
        with pytest.raises(Rejected, match="alternative name is"):
            require_names(asked, name, alternative_names=allowed)
    with pytest.raises(Rejected, match="nothing"):
        require_names(request(), name, alternative_names=((one,),))


def test_two_csrs_ask_for_the_same_when_subject_and_alternative_names_are_equal() -> None:
    named = request(extensions=[san(x509.DNSName("one"))])
    assert same_names(request(), request(key=ec.generate_private_key(ec.SECP256R1())))
    assert same_names(named, request(extensions=[san(x509.DNSName("one"))]))
    assert not same_names(named, request())
    assert not same_names(request(), request(pki.make_name("another")))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COUNTRY_NAME]),
            st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), min_size=2, max_size=16),
        ),
        max_size=6,
    )
)
@settings(deadline=None)
def test_a_request_of_ours_is_the_one_that_the_builder_makes(
    attributes: list[tuple[x509.ObjectIdentifier, str]],
) -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(oid, "DE" if oid == NameOID.COUNTRY_NAME else text, _validate=False)
            for oid, text in attributes
        ]
    )
    ours = request_for_new_key(subject.public_bytes())
    private_key = load_der_private_key(ours.key, None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    builders = make_csr(private_key, subject)
    # A signature is another each time; everything else is the same.
    assert ours.csr.tbs_certrequest_bytes == builders.tbs_certrequest_bytes
    assert ours.csr.is_signature_valid
    assert template.request(
        subject=subject.public_bytes(), spki=ours.spki, sign=lambda _inner: builders.signature
    ) == der(builders)
    assert ours.der == der(ours.csr)
    assert ours.public_key == private_key.public_key() == ours.csr.public_key()
    assert ours.spki == private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert ours.key == private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def test_a_request_of_ours_is_fit_for_a_ca_and_does_not_show_its_key() -> None:
    ours = request_for_new_key(pki.make_name(NAME).public_bytes())
    assert check_csr(ours.der, endpoint=NAME).subject == pki.make_name(NAME)
    assert ours.key.hex() not in repr(ours)
    assert str(ours.key) not in f"{ours} {ours!r}"
