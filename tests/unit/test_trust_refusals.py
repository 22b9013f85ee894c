"""Whom trust refuses, and with what words: paths that lead nowhere, certificates for another use, keys too weak."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from server import trust
from server.certificate import Certificate
from server.trust import RefusalReason, Refused, Trusted, TrustIndex
from tests.pki import Holder, key_usage
from tests.unit.transport.certificates import HOUR, NOW, anchor, make
from tests.unit.verdicts import DEVICE, LINE, ROOT, A, B, accounts, judge, reason


def test_without_anchors_nobody_is_known() -> None:
    assert reason(judge([], DEVICE, LINE, ROOT)) is RefusalReason.UNKNOWN_CA


def test_a_missing_intermediate_is_an_unknown_ca() -> None:
    assert reason(judge(anchor(ROOT), DEVICE)) is RefusalReason.UNKNOWN_CA


def test_a_self_signed_stranger_is_an_unknown_ca() -> None:
    assert reason(judge(anchor(ROOT), make("Root 2", ca=True))) is RefusalReason.UNKNOWN_CA


def test_nothing_sent_is_malformed() -> None:
    assert reason(judge(anchor(ROOT))) is RefusalReason.MALFORMED


def test_a_forged_issuer_name_is_a_bad_signature() -> None:
    impostor = make("Root", ca=True)
    assert reason(judge(anchor(ROOT), make("dev", impostor))) is RefusalReason.BAD_SIGNATURE
    assert reason(judge(anchor(ROOT), make("dev", impostor), impostor)) is RefusalReason.BAD_SIGNATURE


def test_a_copy_of_the_anchors_name_and_key_without_its_secret_proves_nothing() -> None:
    impostor = make("Somebody", ca=True)
    copied = make("Line", impostor, ca=True, key=LINE.key)
    other = make("dev", make("Line", ca=True))
    assert reason(judge(anchor(LINE), other, copied)) is RefusalReason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(-2 * HOUR, RefusalReason.NOT_YET_VALID), (1001 * HOUR, RefusalReason.EXPIRED)],
)
def test_a_device_outside_its_validity_is_refused(shift: timedelta, expected: RefusalReason) -> None:
    assert reason(judge(anchor(ROOT), make("dev", ROOT), now=NOW + shift)) is expected


def test_an_intermediate_that_begins_later_is_refused() -> None:
    line = make("Line", ROOT, ca=True, not_before=NOW + HOUR)
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.NOT_YET_VALID


def test_the_last_second_is_valid() -> None:
    device = make("dev", ROOT, not_after=NOW)
    assert isinstance(judge(anchor(ROOT), device, now=NOW), Trusted)
    assert reason(judge(anchor(ROOT), device, now=NOW + timedelta(seconds=1))) is RefusalReason.EXPIRED


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        dsa.generate_private_key(key_size=2048),
    ],
    ids=["p-224", "p-521", "rsa", "dsa"],
)
def test_a_device_key_that_cannot_prove_itself_is_weak(key: Any) -> None:
    assert reason(judge(anchor(ROOT), make("dev", ROOT, key=key))) is RefusalReason.WEAK_KEY


def test_a_weak_issuer_key_is_weak_even_in_an_anchor() -> None:
    root = make("Weak", ca=True, key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert reason(judge(anchor(root), make("dev", root))) is RefusalReason.WEAK_KEY


def test_a_weak_hash_is_weak_below_the_anchor_and_means_nothing_on_it() -> None:
    weak = hashes.SHA224()
    assert reason(judge(anchor(ROOT), make("dev", ROOT, digest=weak))) is RefusalReason.WEAK_KEY
    line = make("Line", ROOT, ca=True, digest=weak)
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.WEAK_KEY
    old = make("Old", ca=True, digest=weak)
    assert isinstance(judge(anchor(old), make("dev", old)), Trusted)


@pytest.mark.parametrize(
    "extensions",
    [
        [(key_usage("key_agreement"), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
    ],
)
def test_a_device_certificate_for_another_use_is_refused(extensions: list[Any]) -> None:
    assert reason(judge(anchor(ROOT), make("dev", ROOT, extensions=extensions))) is RefusalReason.WRONG_USAGE


def test_an_intermediate_for_another_use_is_refused() -> None:
    line = make("Line", ROOT, ca=True, extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)])
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.WRONG_USAGE


@pytest.mark.parametrize("ca", [None, False])
def test_a_device_certificate_cannot_issue_others(ca: bool | None) -> None:
    line = make("dev-1", ROOT, ca=ca)
    assert reason(judge(anchor(ROOT), make("dev-2", line), line)) is RefusalReason.NOT_A_CA
    assert reason(judge(anchor(line), make("dev-2", line))) is RefusalReason.NOT_A_CA


def test_an_issuer_without_the_right_to_sign_certificates_is_refused() -> None:
    line = make("Line", ROOT, ca=True, extensions=[(key_usage("digital_signature"), True)])
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.NOT_A_CA


def test_the_path_length_of_an_issuer_is_kept() -> None:
    root = make("Short", ca=True, path_length=0)
    line = make("Line", root, ca=True)
    assert isinstance(judge(anchor(root), make("dev", root)), Trusted)
    assert reason(judge(anchor(root), make("dev", line), line)) is RefusalReason.PATH_TOO_LONG


def test_an_expired_anchor_leads_no_further_up() -> None:
    """For its own account it has no end; for whoever holds the root above it is an intermediate like any other."""
    line = make("Line", ROOT, ca=True, not_before=NOW - 20 * HOUR, not_after=NOW - HOUR)
    device = make("dev", line)
    both = [anchor(line, account=A), anchor(ROOT, account=B)]
    assert accounts(judge(both, device)) == [A]
    gone = make("Line", ROOT, ca=True, key=line.key)
    assert accounts(judge([anchor(gone, account=A), both[1]], device)) == [A, B]


def test_an_issuer_whose_key_identifier_is_another_did_not_issue_it() -> None:
    root = make("Root", ca=True, key_ids=True)
    device = make("dev", root, key_ids=True)
    stranger = x509.SubjectKeyIdentifier(b"another key of this name")
    renamed = make("Root", ca=True, key=root.key, extensions=[(stranger, False)])
    assert isinstance(judge(anchor(root), device), Trusted)
    assert reason(judge(anchor(renamed), device)) is RefusalReason.UNKNOWN_CA
    line = make("Line", root, ca=True, key_ids=True)
    other = make("Line", root, ca=True, key=line.key, extensions=[(stranger, False)])
    device = make("dev", line, key_ids=True)
    assert isinstance(judge(anchor(root), device, line), Trusted)
    assert reason(judge(anchor(root), device, other)) is RefusalReason.UNKNOWN_CA


def test_no_peer_has_more_than_so_many_links_tried() -> None:
    """Each is a signature to verify: with nine intermediates of one name and one key there are thousands of paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    loop = Holder(key, make("Loop", ca=True, key=key).certificate)
    sent = [make("Loop", loop, ca=True, key=key) for _ in range(trust.MAX_SENT - 1)]
    tried = 0

    class Counting(TrustIndex):
        def link(self, issuer: Certificate, child: Certificate) -> bool | None:
            nonlocal tried
            tried += 1
            return super().link(issuer, child)

    verdict = judge([], make("dev", loop), *sent, index=Counting([anchor(ROOT)]))
    assert reason(verdict) is RefusalReason.PATH_TOO_LONG
    assert 0 < tried <= trust.MAX_LINKS


def test_a_signature_with_unused_bits_is_malformed() -> None:
    """They stand outside what is signed: the same certificate would have eight forms, of which one may be denied."""
    for device in (DEVICE, make("dev", LINE, extensions=[(x509.OCSPNoCheck(), False)])):
        at = len(device.der) - len(device.certificate.signature) - 1
        assert device.der[at] == 0
        changed = device.der[:at] + b"\x01" + device.der[at + 1 :]
        verdict = TrustIndex([anchor(ROOT)]).judge([changed, LINE.der], NOW)
        assert reason(verdict) is RefusalReason.MALFORMED


def chain_of(length: int) -> list[Holder]:
    """Certificates from a root down, root first."""
    made = [make("CA 0", ca=True)]
    while len(made) < length - 1:
        made.append(make(f"CA {len(made)}", made[-1], ca=True))
    return [*made, make("dev", made[-1])]


def test_a_path_has_at_most_six_certificates() -> None:
    longest = chain_of(trust.MAX_PATH)
    assert isinstance(judge(anchor(longest[0]), *longest[:0:-1]), Trusted)
    too_long = chain_of(trust.MAX_PATH + 1)
    assert reason(judge(anchor(too_long[0]), *too_long[:0:-1])) is RefusalReason.PATH_TOO_LONG


def test_a_peer_may_send_at_most_ten_certificates() -> None:
    assert isinstance(judge(anchor(ROOT), DEVICE, *[LINE] * (trust.MAX_SENT - 1)), Trusted)
    assert reason(judge(anchor(ROOT), DEVICE, *[LINE] * trust.MAX_SENT)) is RefusalReason.PATH_TOO_LONG


def test_certificates_that_issue_each_other_come_to_an_end() -> None:
    first, second = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    a = Holder(first, make("A", ca=True).certificate)
    b = make("B", a, ca=True, key=second)
    sent = [make("A", b, ca=True, key=first) for _ in range(4)]
    sent += [make("B", a, ca=True, key=second) for _ in range(4)]
    device = make("dev", a)
    assert reason(judge(anchor(ROOT), device, *sent)) is RefusalReason.PATH_TOO_LONG


@pytest.mark.parametrize("critical", [True, False])
def test_name_constraints_are_refused_as_nobody_applies_them(critical: bool) -> None:
    constraints = x509.NameConstraints([x509.DNSName("example.com")], None)
    line = make("Line", ROOT, ca=True, extensions=[(constraints, critical)])
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.MALFORMED


def test_an_unknown_critical_extension_is_refused_and_an_uncritical_one_is_not() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert reason(judge(anchor(ROOT), make("dev", ROOT, extensions=[(unknown, True)]))) is RefusalReason.MALFORMED
    assert isinstance(judge(anchor(ROOT), make("dev", ROOT, extensions=[(unknown, False)])), Trusted)
    line = make("Line", ROOT, ca=True, extensions=[(unknown, True)])
    assert reason(judge(anchor(ROOT), make("dev", line), line)) is RefusalReason.MALFORMED


def test_an_unreadable_intermediate_does_not_hide_a_readable_one() -> None:
    index = TrustIndex([anchor(ROOT)])
    assert isinstance(index.judge([DEVICE.der, b"\x30\x03abc", LINE.der], NOW), Trusted)
    refused = index.judge([DEVICE.der, b"\x30\x03abc"], NOW)
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.MALFORMED
