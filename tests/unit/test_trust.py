"""The path from a device to an anchor: who is trusted, by whom, and who is denied."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from server import trust
from server.trust import Anchor, RefusalReason, Refused, Trusted, TrustIndex, describe
from tests.pki import Holder, key_usage
from tests.unit.transport.certificates import HOUR, NOW, anchor, make
from tests.unit.verdicts import DEVICE, LINE, ROOT, A, B, accounts, judge, reason

# -- who is trusted -------------------------------------------------------------------------------------------


def test_a_path_over_a_sent_intermediate_ends_at_the_root() -> None:
    root = anchor(ROOT)
    assert judge(root, DEVICE, LINE) == Trusted((DEVICE.der, LINE.der, ROOT.der), (root,))


def test_the_root_may_be_sent_too_and_the_order_does_not_matter() -> None:
    root = anchor(ROOT)
    assert judge(root, DEVICE, ROOT, LINE) == judge(root, DEVICE, LINE, ROOT) == judge(root, DEVICE, LINE)


def test_an_intermediate_may_be_the_anchor_and_need_not_be_sent() -> None:
    line = anchor(LINE)
    assert judge(line, DEVICE) == Trusted((DEVICE.der, LINE.der), (line,))


def test_an_anchored_intermediate_that_is_not_sent_still_leads_to_the_root_of_another() -> None:
    assert accounts(judge([anchor(LINE, account=A, active=False), anchor(ROOT, account=B)], DEVICE)) == [B]


def test_the_devices_own_certificate_may_be_the_anchor() -> None:
    own = anchor(DEVICE)
    assert judge(own, DEVICE) == Trusted((DEVICE.der,), (own,))
    alone = make("alone")
    assert accounts(judge(anchor(alone, account=A), alone)) == [A]


def test_every_account_that_holds_the_anchor_is_named() -> None:
    assert accounts(judge([anchor(ROOT, account=A), anchor(ROOT, account=B)], DEVICE, LINE)) == [A, B]


def test_each_service_of_an_account_is_named() -> None:
    verdict = judge([anchor(ROOT), anchor(ROOT, service="lwm2m")], DEVICE, LINE)
    assert isinstance(verdict, Trusted)
    assert [found.service for found in verdict.anchors] == ["bootstrap", "lwm2m"]


def test_a_renewed_root_of_the_same_name_and_key_is_the_same_anchor() -> None:
    renewed = make("Root", ca=True, key=ROOT.key, not_after=NOW + 9000 * HOUR)
    both = [anchor(ROOT, account=A), anchor(renewed, account=B)]
    assert accounts(judge(both, DEVICE, LINE)) == [A, B]


def test_the_nearest_anchor_of_an_account_is_the_one_named() -> None:
    near, far = anchor(LINE), anchor(ROOT)
    assert judge([far, near], DEVICE, LINE) == Trusted((DEVICE.der, LINE.der), (near,))


def test_nobody_draws_devices_to_itself_by_anchoring_anothers_intermediate() -> None:
    assert accounts(judge([anchor(ROOT, account=A), anchor(LINE, account=B)], DEVICE, LINE)) == [B, A]
    assert accounts(judge([anchor(ROOT, account=A), anchor(DEVICE, account=B)], DEVICE, LINE)) == [B, A]


def test_a_verdict_holds_until_the_first_certificate_below_its_anchors_ends() -> None:
    root = make("Root", ca=True, not_after=NOW + HOUR)
    upper = make("Upper", root, ca=True, not_after=NOW + 2 * HOUR)
    line = make("Line", upper, ca=True, not_after=NOW + 3 * HOUR)
    device = make("dev-1", line, ca=False, not_after=NOW + 4 * HOUR)

    def until(*anchors: Anchor, path: tuple[Holder, ...] = (device, line, upper)) -> float:
        verdict = judge(list(anchors), *path)
        assert isinstance(verdict, Trusted)
        return (verdict.until - NOW) / HOUR

    assert until(anchor(root)) == 2
    assert until(anchor(upper)) == 3
    assert until(anchor(line)) == 4
    assert until(anchor(device)) == 4
    assert until(anchor(line, account=A), anchor(upper, account=B)) == 3
    # Nothing more follows from the one further up.
    assert until(anchor(line), anchor(upper)) == 4
    # Denied here, it stands on the one further up all the same.
    assert until(anchor(line, account=A, active=False), anchor(root, account=B)) == 2


@pytest.mark.parametrize("key_ids", [True, False])
def test_two_accounts_may_have_anchors_of_the_same_name(key_ids: bool) -> None:
    ours = make("Factory", ca=True, key_ids=key_ids)
    theirs = make("Factory", ca=True, key_ids=key_ids)
    index = TrustIndex([anchor(theirs, account=B), anchor(ours, account=A)])
    for root, account in ((ours, A), (theirs, B)):
        assert accounts(judge([], make("dev", root, key_ids=key_ids), index=index)) == [account]


def test_two_intermediates_of_one_name_are_told_apart() -> None:
    other_root = make("Other Root", ca=True)
    other_line = make("Line", other_root, ca=True)
    assert accounts(judge(anchor(ROOT, account=A), DEVICE, other_line, LINE)) == [A]


def test_a_self_issued_rollover_leads_from_the_new_key_to_the_old_anchor() -> None:
    rollover = make("Root", ROOT, ca=True)
    assert accounts(judge(anchor(ROOT, account=A), make("dev", rollover), rollover)) == [A]


def test_a_self_issued_rollover_does_not_count_against_a_path_length() -> None:
    """RFC 5280 4.2.1.9: non-self-issued intermediates are counted."""
    old = make("Root", ca=True, path_length=1)
    rollover = make("Root", old, ca=True)
    line = make("Line", rollover, ca=True)
    assert accounts(judge(anchor(old, account=A), make("dev", line), line, rollover)) == [A]


def test_an_anchor_has_no_end_but_what_is_below_it_has() -> None:
    past = {"not_before": NOW - 20 * HOUR, "not_after": NOW - HOUR}
    old_root = make("Old Root", ca=True, **past)
    assert accounts(judge(anchor(old_root, account=A), make("dev", old_root))) == [A]
    old_line = make("Old Line", ROOT, ca=True, **past)
    assert reason(judge(anchor(ROOT), make("dev", old_line), old_line)) is RefusalReason.EXPIRED


@pytest.mark.parametrize("version_1_like", [None, False])
def test_a_device_needs_no_extensions(version_1_like: bool | None) -> None:
    assert isinstance(judge(anchor(ROOT), make("dev", ROOT, ca=version_1_like)), Trusted)


@pytest.mark.parametrize(
    "extensions",
    [
        [(key_usage("digital_signature"), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
        [(x509.SubjectAlternativeName([x509.DNSName("a")]), True)],
    ],
)
def test_a_device_may_carry_what_fits_a_client(extensions: list[Any]) -> None:
    assert isinstance(judge(anchor(ROOT), make("dev", ROOT, extensions=extensions)), Trusted)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["rsa-2048", "p-384", "p-521"],
)
def test_a_factory_may_sign_with_other_strong_keys(key: Any) -> None:
    root = make("Root", ca=True, key=key, digest=hashes.SHA384())
    device = make("dev", root, digest=hashes.SHA512())
    assert isinstance(judge(anchor(root), device), Trusted)


def test_a_factory_may_sign_with_ed25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ed")])

    def build(of: Any, public: Any, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(of).issuer_name(subject).public_key(public)
            .serial_number(1).not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
            .add_extension(x509.BasicConstraints(ca, None), True)
        )  # fmt: skip

    root = Holder(key, build(subject, key.public_key(), True).sign(key, None))
    own = ec.generate_private_key(ec.SECP256R1())
    device = Holder(own, build(DEVICE.certificate.subject, own.public_key(), False).sign(key, None))
    assert isinstance(judge(anchor(root), device), Trusted)


# -- who is denied --------------------------------------------------------------------------------------------


def test_a_denied_anchor_refuses() -> None:
    assert reason(judge(anchor(ROOT, active=False), DEVICE, LINE)) is RefusalReason.DENIED


def test_a_denied_intermediate_refuses_below_a_trusted_root_sent_or_not() -> None:
    anchors = [anchor(ROOT), anchor(LINE, active=False)]
    assert reason(judge(anchors, DEVICE, LINE)) is RefusalReason.DENIED
    assert reason(judge(anchors, DEVICE)) is RefusalReason.DENIED
    sibling = make("Line 2", ROOT, ca=True)
    assert isinstance(judge(anchors, make("dev", sibling), sibling), Trusted)


def test_a_reissued_certificate_does_not_escape_its_denial() -> None:
    reissued = make("Line", ROOT, ca=True, key=LINE.key, not_after=NOW + 5 * HOUR)
    assert reason(judge([anchor(ROOT), anchor(LINE, active=False)], DEVICE, reissued)) is RefusalReason.DENIED


def test_a_denied_device_refuses_below_a_trusted_root() -> None:
    assert reason(judge([anchor(ROOT), anchor(DEVICE, active=False)], DEVICE, LINE)) is RefusalReason.DENIED
    assert reason(judge(anchor(DEVICE, active=False), DEVICE)) is RefusalReason.DENIED


def test_what_one_account_denies_another_may_trust() -> None:
    denies = [anchor(ROOT, account=A), anchor(LINE, account=A, active=False)]
    assert accounts(judge([*denies, anchor(ROOT, account=B)], DEVICE, LINE)) == [B]
    assert accounts(judge([*denies, anchor(LINE, account=B)], DEVICE, LINE)) == [B]


def test_what_is_denied_for_one_service_may_serve_the_other() -> None:
    anchors = [anchor(ROOT), anchor(LINE, active=False, service="lwm2m"), anchor(ROOT, service="lwm2m")]
    verdict = judge(anchors, DEVICE, LINE)
    assert isinstance(verdict, Trusted)
    assert [found.service for found in verdict.anchors] == ["bootstrap"]


def test_a_renewed_active_anchor_overrules_the_denied_old_one_of_its_key() -> None:
    renewed = make("Root", ca=True, key=ROOT.key, not_after=NOW + 9000 * HOUR)
    assert isinstance(judge([anchor(ROOT, active=False), anchor(renewed)], DEVICE, LINE), Trusted)


# -- anchors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rubbish", [b"", b"\x30\x00", b"rubbish"])
def test_what_is_no_certificate_cannot_be_an_anchor(rubbish: bytes) -> None:
    with pytest.raises(ValueError):
        Anchor(id=A, account_id=A, service="bootstrap", certificate=rubbish)


def test_an_anchor_tells_its_name_and_key() -> None:
    made = anchor(ROOT)
    assert made.fingerprint == ROOT.certificate.fingerprint(hashes.SHA256())
    assert made.subject == ROOT.certificate.subject.public_bytes()
    assert made.spki in ROOT.der
    assert TrustIndex([made]).unreadable == ()


# -- the caches -----------------------------------------------------------------------------------------------


def test_a_remembered_link_gives_the_same_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    index = TrustIndex([anchor(ROOT)])
    bad_line = make("Line", make("Root", ca=True), ca=True)
    verdicts = [judge([], DEVICE, LINE, index=index) for _ in range(2)]
    refusals = [judge([], make("dev", bad_line), bad_line, index=index) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    assert [reason(refusal) for refusal in refusals] == [RefusalReason.BAD_SIGNATURE] * 2
    monkeypatch.setattr(trust, "MAX_CACHED", 1)
    for _ in range(3):
        assert judge([], DEVICE, LINE, index=index) == verdicts[0]
        assert reason(judge([], make("dev", bad_line), bad_line, index=index)) is RefusalReason.BAD_SIGNATURE


def test_a_remembered_link_does_not_outlive_the_validity_of_its_certificates() -> None:
    index = TrustIndex([anchor(ROOT)])
    line = make("Line", ROOT, ca=True, not_after=NOW + HOUR)
    device = make("dev", line)
    assert isinstance(judge([], device, line, index=index), Trusted)
    assert reason(judge([], device, line, index=index, now=NOW + 2 * HOUR)) is RefusalReason.EXPIRED


# -- hostile input --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_bytes_raise_and_no_changed_byte_is_trusted(data: st.DataObject) -> None:
    index = TrustIndex([anchor(ROOT)])
    der = bytearray(DEVICE.der)
    at = data.draw(st.integers(0, len(der) - 1))
    der[at] ^= data.draw(st.integers(1, 255))
    assert isinstance(index.judge([bytes(der), LINE.der], NOW), Refused)
    other = bytearray(LINE.der)
    at = data.draw(st.integers(0, len(other) - 1))
    other[at] ^= data.draw(st.integers(1, 255))
    assert isinstance(index.judge([DEVICE.der, bytes(other)], NOW), Refused)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=12))
def test_any_bytes_are_refused_in_words(chain: list[bytes]) -> None:
    verdict = TrustIndex([anchor(ROOT)]).judge(chain, NOW)
    assert isinstance(verdict, Refused)
    assert verdict.detail


def test_a_serial_number_below_one_is_read_without_a_warning() -> None:
    der = bytearray(DEVICE.der)
    serial = DEVICE.certificate.serial_number
    # Not the sign alone: of 0x7f that makes 0xff, which is no shortest form where a bit follows (X.690 8.3.2).
    der[der.index(serial.to_bytes(serial.bit_length() // 8 + 1, "big"))] = 0x80
    refused = TrustIndex([anchor(ROOT)]).judge([bytes(der), LINE.der], NOW)
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.BAD_SIGNATURE
    assert describe(bytes(der)) == "CN=dev-1"


# -- describe -------------------------------------------------------------------------------------------------


def test_a_certificate_is_described_by_its_subject_or_its_fingerprint() -> None:
    assert describe(DEVICE.der) == "CN=dev-1"
    assert describe(make("a\nb").der) == "CN=a\\nb"
    assert describe(b"rubbish").startswith("sha256:")
