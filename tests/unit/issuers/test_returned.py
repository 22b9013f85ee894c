"""What a CA sends back: every hard check of issuers.md D4 fails by its own name, and the warnings are said."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from issuers import certificate
from issuers.base import Issued
from issuers.errors import BadCertificate, Check
from issuers.returned import CLOCK_SKEW, Checked, DeviceLimits, Expectation, check_returned
from tests import pki
from tests.unit.issuers import surgery

NOW = datetime.now(UTC).replace(microsecond=0)
ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
NAME = "urn:dev:os:0001"
SUBJECT = pki.make_name(NAME, locality_name="d1", organizational_unit_name=ACCOUNT.hex)
KEY = pki.make_key()
ROOT = pki.make_factory_ca("Root")
ISSUING = pki.make_factory_ca("Issuing", issuer=ROOT, path_length=0)
CSR = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(KEY, hashes.SHA256())

OTHER_SUBJECT = pki.make_name(NAME, locality_name="d2", organizational_unit_name=ACCOUNT.hex)
OTHER_CSR = x509.CertificateSigningRequestBuilder().subject_name(OTHER_SUBJECT).sign(KEY, hashes.SHA256())
WITH_NAMES = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(SUBJECT)
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("d1")]), critical=False)
    .sign(KEY, hashes.SHA256())
)

EXPECTED = Expectation(
    csr=CSR,
    endpoint=NAME,
    now=NOW,
    minimum_validity=timedelta(days=1),
    anchors=(ROOT.certificate,),
    account_id=ACCOUNT,
)

USAGE: tuple[x509.ExtensionType, bool] = (pki.key_usage("digital_signature"), True)
CLIENT: tuple[x509.ExtensionType, bool] = (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False)


def leaf(
    subject: x509.Name = SUBJECT,
    ca: pki.Holder = ISSUING,
    *,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (USAGE, CLIENT),
    not_before: datetime = NOW - timedelta(hours=1),
    not_after: datetime = NOW + timedelta(days=730),
    key: pki.PrivateKey = KEY,
    serial: int | None = None,
    digest: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | None = None,
) -> x509.Certificate:
    return pki.make_certificate(
        subject,
        ca,
        key=key,
        serial=serial,
        not_before=not_before,
        not_after=not_after,
        digest=digest,
        extensions=[
            *extensions,
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False),
        ],
    ).certificate


def answer(certificate: x509.Certificate, *above: pki.Holder) -> Issued:
    return Issued(certificate, (certificate, *(each.certificate for each in above or (ISSUING,))), "1")


def broken(issued: Issued, expected: Expectation = EXPECTED) -> tuple[Check, str]:
    with pytest.raises(BadCertificate) as raised:
        check_returned(issued, expected)
    return raised.value.check, raised.value.message


def passed(issued: Issued, expected: Expectation = EXPECTED) -> Checked:
    return check_returned(issued, expected)


SOUND = leaf()


def test_a_sound_certificate_passes_without_a_warning() -> None:
    checked = passed(answer(SOUND))
    assert checked.leaf == SOUND
    assert checked.serial == SOUND.serial_number
    assert checked.issuer_fingerprint == ISSUING.certificate.fingerprint(hashes.SHA256())
    assert checked.chain == (SOUND.public_bytes(Encoding.DER), ISSUING.der)
    assert checked.warnings == ()


def test_a_root_in_the_answer_is_left_out_of_what_the_device_gets() -> None:
    assert passed(answer(SOUND, ISSUING, ROOT)).chain == (SOUND.public_bytes(Encoding.DER), ISSUING.der)
    assert passed(answer(SOUND, ROOT, ISSUING)).chain == (SOUND.public_bytes(Encoding.DER), ISSUING.der)


def test_what_the_ca_forgot_to_send_is_taken_from_the_trusted_certificates() -> None:
    anchors = (ROOT.certificate, ISSUING.certificate)
    checked = passed(Issued(SOUND, (SOUND,), "1"), replace(EXPECTED, anchors=anchors))
    assert checked.chain == (SOUND.public_bytes(Encoding.DER), ISSUING.der)


# -- hard checks ------------------------------------------------------------------------------------------

OTHER_ROOT = pki.make_factory_ca("Other Root")


def big_extension(size: int) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size)), False


def without(oid: x509.ObjectIdentifier) -> x509.Name:
    return x509.Name([each for each in SUBJECT if each.oid != oid])


def twice_extended() -> x509.Certificate:
    certificate = leaf(
        extensions=[
            USAGE,
            CLIENT,
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\0"), False),
        ]
    )
    assert isinstance(ISSUING.key, type(KEY))
    return surgery.certificate_with(certificate, ISSUING.key, bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304"))


def under(*, path_length: int | None = None, **others: object) -> Issued:
    """A leaf under a CA of its own below the root."""
    ca = pki.make_factory_ca("Issuing", issuer=ROOT, path_length=path_length, **others)  # type: ignore[arg-type]
    return answer(leaf(ca=ca), ca)


def under_no_ca() -> Issued:
    """A certificate signed by one that may not sign: its own end entity."""
    ca = pki.make_certificate("No CA", ROOT, extensions=[(pki.key_usage("digital_signature"), True)])
    certificate = leaf(ca=ca)
    return Issued(certificate, (certificate,), "1")


def under_no_signer() -> Issued:
    key = pki.make_key()
    ca = pki.make_certificate(
        "No signer",
        ROOT,
        key=key,
        extensions=[(x509.BasicConstraints(True, None), True), (pki.key_usage("digital_signature"), True)],
    )
    return answer(leaf(ca=ca), ca)


def too_deep() -> Issued:
    """Two CAs below one that allows none."""
    middle = pki.make_factory_ca("Middle", issuer=ROOT, path_length=0)
    low = pki.make_factory_ca("Low", issuer=middle)
    return answer(leaf(ca=low), low, middle)


def weakly_signed_ca() -> Issued:
    key = pki.make_key()
    ca = pki.make_certificate(
        "Weak", ROOT, key=key, extensions=pki.ca_extensions(key.public_key()), digest=hashes.SHA224()
    )
    return answer(leaf(ca=ca), ca)


def rekeyed() -> Issued:
    """The CA has a new key under its old name."""
    return answer(leaf(ca=pki.make_factory_ca("Issuing", issuer=ROOT)), ISSUING)


def badly_signed() -> Issued:
    key = pki.make_key()
    forger = pki.Holder(key, ISSUING.certificate)
    without_key_identifier = pki.make_certificate(
        SUBJECT,
        forger,
        key=KEY,
        not_before=NOW - timedelta(hours=1),
        not_after=NOW + timedelta(days=700),
        extensions=[USAGE, CLIENT],
    )
    return answer(without_key_identifier.certificate)


def long_chain(length: int) -> Issued:
    """A leaf with `length` - 1 CAs above it, the topmost below the root."""
    chain = [pki.make_factory_ca("CA 1", issuer=ROOT)]
    for number in range(2, length):
        chain.insert(0, pki.make_factory_ca(f"CA {number}", issuer=chain[0]))
    return answer(leaf(ca=chain[0]), *chain)


BROKEN: list[tuple[str, Callable[[], Issued], Check, str]] = [
    ("extension twice", lambda: answer(twice_extended()), Check.PARSE, "the CA's answer cannot be read"),
    ("no chain", lambda: Issued(SOUND, (), "1"), Check.ONE_LEAF, "does not begin with the certificate"),
    (
        "chain of another",
        lambda: Issued(SOUND, (ISSUING.certificate,), "1"),
        Check.ONE_LEAF,
        "does not begin with the certificate",
    ),
    (
        "two leaves",
        lambda: Issued(SOUND, (SOUND, leaf(), ISSUING.certificate), "1"),
        Check.ONE_LEAF,
        "a second certificate that is no CA's: CN=urn:dev:os:0001",
    ),
    ("other key", lambda: answer(leaf(key=pki.make_key())), Check.KEY, "another key than the CSR's"),
    (
        "a CA",
        lambda: answer(leaf(extensions=[(x509.BasicConstraints(True, None), True), USAGE, CLIENT])),
        Check.NOT_CA,
        "choose a CA profile for end entities",
    ),
    (
        "server only",
        lambda: answer(leaf(extensions=[USAGE, (x509.ExtendedKeyUsage(pki.SERVER_AUTH), False)])),
        Check.EXTENDED_KEY_USAGE,
        "no clientAuth",
    ),
    (
        "any usage only",
        lambda: answer(
            leaf(extensions=[USAGE, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)])
        ),
        Check.EXTENDED_KEY_USAGE,
        "choose a CA profile with clientAuth",
    ),
    (
        "no signature",
        lambda: answer(leaf(extensions=[(pki.key_usage("key_agreement"), True), CLIENT])),
        Check.KEY_USAGE,
        "no digitalSignature",
    ),
    (
        "other CN",
        lambda: answer(leaf(x509.Name([*without(x509.NameOID.COMMON_NAME), *pki.make_name("other")]))),
        Check.SUBJECT,
        "CN is 'other' and not the endpoint name 'urn:dev:os:0001'",
    ),
    ("no CN", lambda: answer(leaf(without(x509.NameOID.COMMON_NAME))), Check.SUBJECT, "CN is missing"),
    ("no subject", lambda: answer(leaf(x509.Name([]))), Check.SUBJECT, "set the CA profile to keep the CSR's subject"),
    (
        "two CNs",
        lambda: answer(leaf(x509.Name([*SUBJECT, *pki.make_name("other")]))),
        Check.SUBJECT,
        "CN is 'urn:dev:os:0001', 'other'",
    ),
    ("no L", lambda: answer(leaf(without(x509.NameOID.LOCALITY_NAME))), Check.SUBJECT, "dropped or changed L='d1'"),
    (
        "other L",
        lambda: answer(leaf(pki.make_name(NAME, locality_name="d2", organizational_unit_name=ACCOUNT.hex))),
        Check.SUBJECT,
        "set the CA profile to keep L",
    ),
    (
        "no account",
        lambda: answer(leaf(without(x509.NameOID.ORGANIZATIONAL_UNIT_NAME))),
        Check.SUBJECT,
        f"dropped or changed OU={ACCOUNT.hex}",
    ),
    (
        "in the future",
        lambda: answer(leaf(not_before=NOW + CLOCK_SKEW + timedelta(seconds=1))),
        Check.VALIDITY,
        "in the future; compare the CA's clock",
    ),
    (
        "too short",
        lambda: answer(leaf(not_after=NOW + timedelta(days=1))),
        Check.VALIDITY,
        "it must be valid for another 1 day, 0:00:00",
    ),
    (
        "outlives its CA",
        lambda: answer(leaf(not_after=ISSUING.certificate.not_valid_after_utc + timedelta(seconds=1))),
        Check.VALIDITY,
        "after its issuer CN=Issuing,O=Factory",
    ),
    (
        "weak hash",
        lambda: answer(leaf(digest=hashes.SHA224())),
        Check.SIGNATURE_HASH,
        "a hash weaker than SHA-256; set the CA to SHA-256",
    ),
    (
        "unknown CA",
        lambda: answer(leaf(ca=OTHER_ROOT), OTHER_ROOT),
        Check.PATH,
        "upload the certificate of CN=Other Root,O=Factory as a trusted certificate of service lwm2m",
    ),
    ("missing link", lambda: Issued(SOUND, (SOUND,), "1"), Check.PATH, "path ends at CN=Issuing,O=Factory"),
    ("re-keyed CA", rekeyed, Check.PATH, "the CA has a new key, or this is another CA of the same name"),
    ("forged", badly_signed, Check.PATH, "the signature of CN=urn:dev:os:0001"),
    ("signer without the right", under_no_signer, Check.PATH, "is not allowed to sign certificates"),
    (
        "expired CA",
        lambda: under(not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1)),
        Check.PATH,
        "renew the CA",
    ),
    ("too deep", too_deep, Check.PATH, "allows 0 CAs below it and has 1"),
    ("weak CA", weakly_signed_ca, Check.PATH, "CN=Weak is signed with a hash weaker than SHA-256"),
    ("six certificates", lambda: long_chain(6), Check.SIZE, "the chain has 6 certificates; a device takes 5"),
    ("nine certificates", lambda: long_chain(9), Check.SIZE, "the CA sent 9 certificates; 8 are looked at"),
    (
        "large leaf",
        lambda: answer(leaf(extensions=[USAGE, CLIENT, big_extension(700)])),
        Check.SIZE,
        "bytes; a device takes 1024",
    ),
]


@pytest.mark.parametrize(("issued", "check", "said"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_each_fault_fails_its_own_check_and_says_what_to_do(
    issued: Callable[[], Issued], check: Check, said: str
) -> None:
    found, message = broken(issued())
    assert found is check
    assert said in message


def test_every_check_has_a_fault_here() -> None:
    assert {each[2] for each in BROKEN} | {Check.SERIAL} == set(Check)


def test_a_leaf_signed_by_what_is_no_ca_is_refused() -> None:
    issued = under_no_ca()
    found, message = broken(issued)
    assert found is Check.PATH
    assert "path ends at CN=No CA" in message


def large_serial(bits: int) -> x509.Certificate:
    """A serial number of `bits` bits: 0x01 and twenty octets, of which the first 21 are patched in."""
    certificate = leaf(serial=(1 << 158) | 0x1234)
    assert isinstance(ISSUING.key, type(KEY))
    old = b"\x02\x14" + ((1 << 158) | 0x1234).to_bytes(20, "big")
    wanted = (1 << (bits - 1)) | 0x1234
    data = certificate.tbs_certificate_bytes
    assert data.count(old) == 1
    length = wanted.bit_length() // 8 + 1
    inner = data[4:].replace(old, bytes([2, length]) + wanted.to_bytes(length, "big"))
    return x509.load_der_x509_certificate(surgery.signed(surgery.element(0x30, inner), ISSUING.key))


@pytest.mark.parametrize(("bits", "fits"), [(64, True), (159, True), (160, False), (168, False)])
def test_a_serial_number_has_at_most_20_octets(bits: int, fits: bool) -> None:
    """RFC 5280 4.1.2.2."""
    issued = answer(large_serial(bits))
    if fits:
        assert passed(issued).serial.bit_length() == bits
    else:
        found, message = broken(issued)
        assert found is Check.SERIAL
        assert "at most 20 octets" in message


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.filterwarnings("ignore:.*serial number.*:cryptography.utils.CryptographyDeprecationWarning")
def test_a_serial_number_is_positive(number: int) -> None:
    certificate = leaf(serial=0x7F)
    assert isinstance(ISSUING.key, type(KEY))
    value = number.to_bytes(1, "big", signed=True)
    patched = surgery.certificate_with(
        certificate, ISSUING.key, bytes.fromhex("a00302010202017f"), bytes.fromhex("a003020102" + "0201") + value
    )
    found, message = broken(answer(patched))
    assert found is Check.SERIAL
    assert "positive" in message


def test_a_serial_number_seen_before_is_refused() -> None:
    found, message = broken(answer(SOUND), replace(EXPECTED, known_serial=lambda serial: serial == SOUND.serial_number))
    assert found is Check.SERIAL
    assert f"{SOUND.serial_number:x} before" in message
    assert passed(answer(SOUND), replace(EXPECTED, known_serial=lambda serial: False)).serial == SOUND.serial_number


def test_no_trusted_certificate_at_all_says_what_to_upload() -> None:
    found, message = broken(answer(SOUND), replace(EXPECTED, anchors=()))
    assert found is Check.PATH
    assert "upload the certificate of CN=Root,O=Factory" in message


# -- what lies just inside --------------------------------------------------------------------------------


def test_a_clock_five_minutes_ahead_is_forgiven() -> None:
    passed(answer(leaf(not_before=NOW + CLOCK_SKEW)))


def test_the_minimum_validity_is_a_setting() -> None:
    short = answer(leaf(not_after=NOW + timedelta(days=1, seconds=1)))
    passed(short)
    found, _ = broken(short, replace(EXPECTED, minimum_validity=timedelta(days=2)))
    assert found is Check.VALIDITY


def test_a_leaf_may_outlive_its_ca_where_that_is_allowed() -> None:
    long = answer(leaf(not_after=ISSUING.certificate.not_valid_after_utc + timedelta(days=1)))
    allowed = replace(EXPECTED, may_outlive_issuer=True, unusual_validity=timedelta(days=5000))
    assert passed(long, allowed).warnings == ()


def test_five_certificates_fit_a_device() -> None:
    assert len(passed(long_chain(5)).chain) == 5


def test_what_a_device_takes_is_a_setting() -> None:
    large = answer(leaf(extensions=[USAGE, CLIENT, big_extension(700)]))
    assert passed(large, replace(EXPECTED, limits=DeviceLimits(certificate_bytes=2048))).warnings == ()
    found, _ = broken(answer(SOUND), replace(EXPECTED, limits=DeviceLimits(chain_length=1)))
    assert found is Check.SIZE


def test_a_large_certificate_above_the_leaf_counts_too() -> None:
    key = pki.make_key()
    ca = pki.make_certificate(
        "Large", ROOT, key=key, extensions=[*pki.ca_extensions(key.public_key()), big_extension(1000)]
    )
    found, message = broken(answer(leaf(ca=ca), ca))
    assert found is Check.SIZE
    assert "the certificate of CN=Large has" in message


def test_another_ou_than_the_account_may_go() -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(pki.make_name(NAME, organizational_unit_name="Sales"))
        .sign(KEY, hashes.SHA256())
    )
    checked = passed(answer(leaf(pki.make_name(NAME))), replace(EXPECTED, csr=csr))
    assert checked.warnings == ("the CA dropped or changed OU of the CSR's subject",)


def test_an_account_that_was_not_asked_for_is_not_missed() -> None:
    csr = x509.CertificateSigningRequestBuilder().subject_name(pki.make_name(NAME)).sign(KEY, hashes.SHA256())
    assert passed(answer(leaf(pki.make_name(NAME))), replace(EXPECTED, csr=csr)).warnings == ()


def test_values_are_compared_and_not_their_encoding() -> None:
    """A CA may write PrintableString where the CSR had UTF8String (issuers.md A5)."""
    encoded = x509.Name(
        [x509.NameAttribute(each.oid, str(each.value), x509.name._ASN1Type.PrintableString) for each in SUBJECT]
    )
    assert encoded.public_bytes() != SUBJECT.public_bytes()
    assert passed(answer(leaf(encoded))).warnings == ()


def test_no_key_usage_and_no_extended_key_usage_are_allowed() -> None:
    checked = passed(answer(leaf(extensions=[])))
    assert checked.warnings == ("the certificate has no key usage",)


# -- warnings ---------------------------------------------------------------------------------------------

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


# -- anything at all --------------------------------------------------------------------------------------

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@pytest.mark.filterwarnings("ignore")
@given(
    victim=st.integers(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_no_changed_byte_raises_anything_but_bad_certificate(victim: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray((SOUND.public_bytes(Encoding.DER), ISSUING.der)[victim])
    for position, mask in changes:
        data[position % len(data)] ^= mask
    try:
        changed = x509.load_der_x509_certificate(bytes(data))
    except UNREADABLE:
        return
    chain = (changed, ISSUING.certificate) if victim == 0 else (SOUND, changed)
    try:
        checked = check_returned(Issued(chain[0], chain, "1"), EXPECTED)
    except BadCertificate as error:
        assert error.message  # noqa: PT017
        return
    assert checked.leaf.tbs_certificate_bytes == SOUND.tbs_certificate_bytes
    assert checked.leaf.signature == SOUND.signature


def test_a_certificate_of_another_version_is_none() -> None:
    """What an adapter has to reckon with when it reads a CA's answer: it is no ValueError."""
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_certificate(surgery.of_unknown_version(SOUND))


def test_bytes_that_are_not_the_certificate_do_not_reach_the_device() -> None:
    issued, other = answer(leaf()), leaf()
    for der in (other.public_bytes(Encoding.DER), ISSUING.der):
        checked = check_returned(replace(issued, der=der), EXPECTED)
        assert checked.chain[0] == issued.leaf.public_bytes(Encoding.DER)
    with pytest.raises(BadCertificate) as raised:
        check_returned(replace(issued, der=b"0"), EXPECTED)
    assert raised.value.check is Check.PARSE
    own = issued.leaf.public_bytes(Encoding.DER)
    assert check_returned(replace(issued, der=own), EXPECTED).chain[0] == own


@pytest.mark.parametrize("issued", [answer(leaf()), answer(leaf(key=pki.make_key())), answer(leaf(OTHER_SUBJECT))])
@pytest.mark.parametrize("csr", [CSR, WITH_NAMES, OTHER_CSR])
def test_the_answer_is_judged_the_same_without_the_quick_reading(
    issued: Issued, csr: x509.CertificateSigningRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict() -> Checked | tuple[Check, str]:
        try:
            return check_returned(issued, replace(EXPECTED, csr=csr))
        except BadCertificate as error:
            return error.check, error.message

    quick = verdict()
    monkeypatch.setattr(certificate, "end_entity", lambda _der: None)
    assert verdict() == quick
