"""From a leaf to a trusted certificate: order, intermediates as anchors, several CAs of one name (RFC 5280 6.1)."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from issuers.certificate import Certificate, read_certificate
from issuers.errors import BadCertificate, Check
from issuers.path import DEEPEST, find_path, why_untrusted
from tests import pki

NOW = datetime.now(UTC)
ROOT = pki.make_factory_ca("Root")
POLICY = pki.make_factory_ca("Policy", issuer=ROOT)
ISSUING = pki.make_factory_ca("Issuing", issuer=POLICY)
LEAF = pki.make_device_certificate(ISSUING, "device")


def read(*holders: pki.Holder) -> list[Certificate]:
    return [read_certificate(each.certificate) for each in holders]


def names(path: tuple[Certificate, ...]) -> list[str]:
    return [each.name.removeprefix("CN=").partition(",")[0] for each in path]


def found(
    sent: tuple[pki.Holder, ...], anchors: tuple[pki.Holder, ...], leaf: pki.Holder = LEAF, now: datetime = NOW
) -> list[str]:
    return names(find_path(read_certificate(leaf.certificate), read(*sent), read(*anchors), now))


def nothing(
    sent: tuple[pki.Holder, ...], anchors: tuple[pki.Holder, ...], leaf: pki.Holder = LEAF, now: datetime = NOW
) -> str:
    with pytest.raises(BadCertificate) as raised:
        found(sent, anchors, leaf, now)
    assert raised.value.check is Check.PATH
    return raised.value.message


@pytest.mark.parametrize("sent", list(permutations((ISSUING, POLICY, ROOT))))
def test_the_order_in_which_a_ca_sends_means_nothing(sent: tuple[pki.Holder, ...]) -> None:
    assert found(sent, (ROOT,)) == ["device", "Issuing", "Policy", "Root"]


@pytest.mark.parametrize(
    ("sent", "anchors", "path"),
    [
        ((ISSUING, POLICY), (ROOT,), ["device", "Issuing", "Policy", "Root"]),
        ((), (ISSUING,), ["device", "Issuing"]),
        ((ISSUING,), (POLICY,), ["device", "Issuing", "Policy"]),
        ((), (ISSUING, POLICY, ROOT), ["device", "Issuing", "Policy", "Root"]),
        ((ISSUING, POLICY), (ISSUING, POLICY), ["device", "Issuing", "Policy"]),
        ((ISSUING, POLICY), (ISSUING,), ["device", "Issuing"]),
    ],
)
def test_the_path_goes_to_the_highest_anchor_it_reaches(
    sent: tuple[pki.Holder, ...], anchors: tuple[pki.Holder, ...], path: list[str]
) -> None:
    assert found(sent, anchors) == path


def test_the_root_itself_may_be_what_signed_the_leaf() -> None:
    assert found((), (ROOT,), pki.make_device_certificate(ROOT, "device")) == ["device", "Root"]


def test_what_is_no_ca_leads_nowhere_even_as_an_anchor() -> None:
    for extensions in ([], [(x509.BasicConstraints(False, None), True)]):
        pinned = pki.make_certificate("Pinned", ROOT, extensions=extensions)
        below = pki.make_certificate("device", pinned)
        assert "not allowed to sign certificates" in nothing((), (pinned,), below)
        assert "not allowed to sign certificates" in nothing((pinned,), (ROOT,), below)


def test_a_foreign_anchor_of_the_same_name_is_passed_over() -> None:
    twin = pki.make_factory_ca("Root")
    assert found((ISSUING, POLICY), (twin, ROOT)) == ["device", "Issuing", "Policy", "Root"]
    assert "not that of CN=Root" in nothing((ISSUING, POLICY), (twin,))


def test_twins_without_key_identifiers_are_told_apart_by_their_signatures() -> None:
    def ca() -> pki.Holder:
        return pki.make_certificate("Root", extensions=[(x509.BasicConstraints(True, None), True)])

    own, twin = ca(), ca()
    leaf = pki.make_certificate("device", own)
    assert found((), (twin, own), leaf) == ["device", "Root"]
    assert "the signature of CN=device is not by the key of CN=Root" in nothing((), (twin,), leaf)


def test_a_cross_signed_ca_leads_to_whichever_root_is_trusted() -> None:
    key = pki.make_key()
    old_root, new_root = pki.make_factory_ca("Old"), pki.make_factory_ca("New")
    by_old = pki.make_factory_ca("Issuing", issuer=old_root, key=key)
    by_new = pki.make_factory_ca("Issuing", issuer=new_root, key=key)
    leaf = pki.make_device_certificate(by_old, "device")
    assert found((by_old, by_new), (old_root,), leaf) == ["device", "Issuing", "Old"]
    assert found((by_old, by_new), (new_root,), leaf) == ["device", "Issuing", "New"]


def test_cas_that_signed_each_other_do_not_send_us_in_circles() -> None:
    a, b = pki.make_key(), pki.make_key()
    first = pki.make_factory_ca("A", key=a)
    second = pki.make_factory_ca("B", key=b)
    a_by_b = pki.make_factory_ca("A", issuer=second, key=a)
    b_by_a = pki.make_factory_ca("B", issuer=first, key=b)
    leaf = pki.make_device_certificate(a_by_b, "device")
    assert "upload the certificate of" in nothing((a_by_b, b_by_a), (), leaf)
    assert found((a_by_b, b_by_a), (second,), leaf) == ["device", "A", "B"]


def test_a_self_issued_certificate_is_not_counted_against_the_path_length() -> None:
    """RFC 5280 6.1.4 (l): a CA that rolled its key over signs itself once more."""
    root = pki.make_factory_ca("Root", path_length=0)
    old, new = pki.make_key(), pki.make_key()
    first = pki.make_certificate(
        root.certificate.subject, root, key=new, extensions=pki.ca_extensions(new.public_key())
    )
    leaf = pki.make_device_certificate(first, "device")
    assert found((first,), (root,), leaf) == ["device", "Root", "Root"]
    other = pki.make_factory_ca("Other", issuer=root, key=old)
    assert "CN=Root,O=Factory allows 0 CAs below it and has 1" in nothing(
        (other,), (root,), pki.make_device_certificate(other, "device")
    )


def test_a_ca_is_valid_from_its_first_to_its_last_second() -> None:
    begin = NOW.replace(microsecond=0)
    end = begin + timedelta(days=2)
    root = pki.make_factory_ca("Root", not_before=begin, not_after=end)
    leaf = pki.make_device_certificate(root, "device")
    assert found((), (root,), leaf, begin) == ["device", "Root"]
    assert found((), (root,), leaf, end - timedelta(seconds=1)) == ["device", "Root"]
    assert "renew the CA" in nothing((), (root,), leaf, begin - timedelta(seconds=1))
    assert "renew the CA" in nothing((), (root,), leaf, end + timedelta(seconds=1))


def test_an_rsa_ca_signs_too() -> None:
    root = pki.make_factory_ca("Root", key=rsa.generate_private_key(65537, 2048))
    assert found((), (root,), pki.make_device_certificate(root, "device")) == ["device", "Root"]


def chain(length: int) -> list[pki.Holder]:
    """`length` CAs, root last."""
    made = [pki.make_factory_ca("CA 0")]
    for number in range(1, length):
        made.insert(0, pki.make_factory_ca(f"CA {number}", issuer=made[0]))
    return made


def test_no_path_is_longer_than_the_deepest() -> None:
    fits = chain(DEEPEST - 1)
    leaf = pki.make_device_certificate(fits[0], "device")
    assert len(found(tuple(fits), (fits[-1],), leaf)) == DEEPEST
    long = chain(DEEPEST)
    leaf = pki.make_device_certificate(long[0], "device")
    assert f"longer than {DEEPEST} certificates" in nothing(tuple(long), (long[-1],), leaf)


def test_a_self_signed_leaf_leads_nowhere() -> None:
    alone = pki.make_certificate("device")
    assert "upload the certificate of CN=device" in nothing((), (ROOT,), alone)


def test_a_leaf_without_an_issuers_name_is_described_in_words() -> None:
    nameless = pki.make_certificate(x509.Name([]))
    leaf = pki.make_certificate("device", nameless)
    assert "an issuer without a name" in nothing((), (), leaf)


def test_the_words_name_what_is_missing_and_the_service_it_belongs_to() -> None:
    assert nothing((ISSUING,), ()) == (
        "the certificate's path ends at CN=Policy,O=Factory, which is no active trusted certificate for the service; "
        "upload the certificate of CN=Policy,O=Factory as a trusted certificate of service lwm2m, then verify the "
        "issuer"
    )


@given(sent=st.lists(st.sampled_from((ISSUING, POLICY, ROOT)), max_size=6), anchor=st.sampled_from((POLICY, ROOT)))
def test_a_path_is_found_exactly_when_every_link_is_there(sent: list[pki.Holder], anchor: pki.Holder) -> None:
    needed = {POLICY: {"Issuing"}, ROOT: {"Issuing", "Policy"}}[anchor]
    there = set(names(tuple(read(*sent))))
    if needed <= there:
        assert found(tuple(sent), (anchor,))[-1] == names(tuple(read(anchor)))[0]
    else:
        nothing(tuple(sent), (anchor,))


@pytest.mark.parametrize(
    ("chain", "anchors"),
    [
        ((ISSUING, POLICY, ROOT), (ROOT,)),
        ((ISSUING, POLICY), (ROOT,)),
        ((ISSUING,), (ISSUING,)),
        ((ISSUING,), (POLICY,)),
        ((ROOT,), (ROOT,)),
    ],
)
def test_a_ca_whose_chain_reaches_an_anchor_is_trusted(
    chain: tuple[pki.Holder, ...], anchors: tuple[pki.Holder, ...]
) -> None:
    assert why_untrusted(read(*chain), read(*anchors), NOW) == ""


@pytest.mark.parametrize(
    ("chain", "anchors", "missing"),
    [
        ((ROOT,), (), "Root"),
        ((ROOT,), (pki.make_factory_ca("Another"),), "Root"),
        ((ISSUING, POLICY), (), "Root"),
        ((ISSUING,), (ROOT,), "Policy"),
        # Of the same name, with another key.
        ((ROOT,), (pki.make_factory_ca("Root"),), "Root"),
    ],
)
def test_a_ca_whose_chain_reaches_none_says_what_to_upload(
    chain: tuple[pki.Holder, ...], anchors: tuple[pki.Holder, ...], missing: str
) -> None:
    assert f"upload the certificate of CN={missing}" in why_untrusted(read(*chain), read(*anchors), NOW)
