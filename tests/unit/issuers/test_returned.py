"""What a CA sends back and the checks let through: at their edges, read in either way, and with any byte changed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from issuers import certificate
from issuers.base import Issued
from issuers.errors import BadCertificate, Check
from issuers.returned import CLOCK_SKEW, Checked, DeviceLimits, check_returned
from tests import pki
from tests.unit.issuers import surgery
from tests.unit.issuers.answers import (
    ACCOUNT,
    CLIENT,
    CSR,
    EXPECTED,
    ISSUING,
    KEY,
    NAME,
    NOW,
    ROOT,
    SOUND,
    SUBJECT,
    USAGE,
    answer,
    big_extension,
    broken,
    leaf,
    long_chain,
    passed,
)

OTHER_SUBJECT = pki.make_name(NAME, locality_name="d2", organizational_unit_name=ACCOUNT.hex)
OTHER_CSR = x509.CertificateSigningRequestBuilder().subject_name(OTHER_SUBJECT).sign(KEY, hashes.SHA256())
WITH_NAMES = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(SUBJECT)
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("d1")]), critical=False)
    .sign(KEY, hashes.SHA256())
)


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
    """A CA may write PrintableString where the CSR had UTF8String."""
    encoded = x509.Name(
        [x509.NameAttribute(each.oid, str(each.value), x509.name._ASN1Type.PrintableString) for each in SUBJECT]
    )
    assert encoded.public_bytes() != SUBJECT.public_bytes()
    assert passed(answer(leaf(encoded))).warnings == ()


def test_no_key_usage_and_no_extended_key_usage_are_allowed() -> None:
    checked = passed(answer(leaf(extensions=[])))
    assert checked.warnings == ("the certificate has no key usage",)


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
    sound = (SOUND, ISSUING.certificate)
    data = bytearray(sound[victim].public_bytes(Encoding.DER))
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
    # What was changed and passes is outside of what is signed, and of the signature.
    judged = x509.load_der_x509_certificate(checked.chain[victim])
    assert judged.tbs_certificate_bytes == sound[victim].tbs_certificate_bytes
    assert judged.signature == sound[victim].signature


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
    asked: list[bytes] = []
    monkeypatch.setattr(certificate, "end_entity", asked.append)
    assert verdict() == quick
    assert asked


def test_a_further_trusted_root_does_not_lead_over_a_certificate_that_no_device_stores() -> None:
    """A CA changes its root: the new one is trusted beside the old one, which cross-signs it with a large key."""
    key = pki.make_key()
    old = pki.make_factory_ca("Old Root", key=rsa.generate_private_key(65537, 2048))
    new = pki.make_certificate("New Root", key=key, extensions=pki.ca_extensions(key.public_key()))
    extensions = [*pki.ca_extensions(key.public_key()), big_extension(700)]
    crossed = pki.make_certificate("New Root", old, key=key, extensions=extensions)
    issuing = pki.make_factory_ca("Issuing", issuer=new)
    certificate = leaf(ca=issuing)
    for anchors in ((new,), (new, old), (old, new)):
        expected = replace(EXPECTED, anchors=[each.certificate for each in anchors])
        checked = passed(answer(certificate, crossed, issuing), expected)
        assert checked.chain == (certificate.public_bytes(Encoding.DER), issuing.der)
    # Where nothing else leads anywhere, that is what is said.
    check, message = broken(answer(certificate, crossed, issuing), replace(EXPECTED, anchors=[old.certificate]))
    assert (check, "a device takes 1024" in message) == (Check.SIZE, True)


def test_a_ca_that_renewed_its_certificate_is_measured_by_the_one_that_lasts() -> None:
    """The same name and key: a CA still shows the old one, and the operator has given the new one."""
    key = pki.make_key()
    extensions = pki.ca_extensions(key.public_key())
    old = pki.make_certificate("Issuing", ROOT, key=key, extensions=extensions, not_after=NOW + timedelta(days=300))
    new = pki.make_certificate("Issuing", ROOT, key=key, extensions=extensions, not_after=NOW + timedelta(days=3000))
    certificate = leaf(ca=new)
    expected = replace(EXPECTED, anchors=(ROOT.certificate, new.certificate))
    assert passed(answer(certificate, old), expected).chain[1] == new.der
    check, _ = broken(answer(certificate, old), replace(EXPECTED, anchors=(ROOT.certificate,)))
    assert check is Check.VALIDITY
