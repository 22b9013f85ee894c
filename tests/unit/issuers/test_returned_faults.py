"""Every hard check of a CA's answer fails by its own name."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from issuers.base import Issued
from issuers.errors import Check
from issuers.returned import CLOCK_SKEW
from tests import pki
from tests.unit.issuers import surgery
from tests.unit.issuers.answers import (
    ACCOUNT,
    CLIENT,
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

OTHER_ROOT = pki.make_factory_ca("Other Root")


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
