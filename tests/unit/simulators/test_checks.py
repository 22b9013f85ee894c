"""A device's own look at its credentials: what it cannot use, what is wrong with a chain."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from simulators import checks
from simulators.checks import Identity, UnusableCredential, problems, read_certificates, read_identity, unusable
from simulators.formats import Resource
from tests import pki
from tests.unit.issuers import surgery

NOW = datetime.now(UTC)
ROOT = pki.make_factory_ca("Root")
ISSUING = pki.make_factory_ca("Issuing", issuer=ROOT)
LEAF = pki.make_device_certificate(ISSUING, "device")


def pkcs8(key: pki.PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def account(**others: Resource) -> dict[int, Resource]:
    """An instance of /0 of mode 2; `r3=…` replaces resource 3."""
    held: dict[int, Resource] = {2: 2, 3: LEAF.der, 4: ROOT.der, 5: pkcs8(LEAF.key)}
    return held | {int(name[1:]): value for name, value in others.items()}


def identity(*chain: pki.Holder) -> Identity:
    key = chain[0].key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Identity(instance=1, chain=tuple(each.certificate for each in chain), key=key)


# -- reading ----------------------------------------------------------------------------------------------


def test_one_der_and_a_pem_chain_are_read() -> None:
    assert read_certificates(LEAF.der) == (LEAF.certificate,)
    assert read_certificates(pki.pem_chain(LEAF, ISSUING)) == (LEAF.certificate, ISSUING.certificate)
    assert read_certificates(b"\n" + LEAF.pem) == (LEAF.certificate,)


def test_of_several_der_certificates_only_the_first_is_used() -> None:
    assert read_certificates(LEAF.der + ISSUING.der) == (LEAF.certificate,)


def duplicated() -> bytes:
    twice = pki.make_certificate(
        "device",
        extensions=[
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\0"), False),
        ],
    )
    return surgery.exchanged(twice.der, bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304"))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        LEAF.der[:-1],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        surgery.of_unknown_version(LEAF.certificate),
        duplicated(),
    ],
    ids=["empty", "one byte", "no length", "long length", "cut", "empty pem", "version 6", "extension twice"],
)
def test_what_is_no_certificate_is_unusable(value: bytes) -> None:
    with pytest.raises(UnusableCredential, match="not a certificate"):
        read_certificates(value)


@pytest.mark.filterwarnings("ignore")
@given(position=st.integers(0, 8 * len(LEAF.der) - 1))
def test_no_flipped_bit_raises_anything_else(position: int) -> None:
    data = bytearray(LEAF.der)
    data[position // 8] ^= 1 << position % 8
    held = account(r3=bytes(data))
    reason = unusable(1, held)
    assert reason is None or reason.startswith("/0/1/")


@given(st.dictionaries(st.integers(0, 17), st.binary(max_size=40) | st.integers(0, 5) | st.text(max_size=4)))
def test_no_instance_raises_anything_else(held: dict[int, Resource]) -> None:
    reason = unusable(3, held)
    assert reason is None or reason.startswith("/0/3/")


def test_a_sound_account_gives_its_identity() -> None:
    found = read_identity(1, account(r3=pki.pem_chain(LEAF, ISSUING)))
    assert found.leaf == LEAF.certificate
    assert len(found.chain) == 2
    assert found.key.public_key() == LEAF.certificate.public_key()


P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (account(r3=b"x"), "/0/1/3: not a certificate"),
        (account(r3=7), "/0/1/3: not a certificate"),
        (account(r5=b""), "/0/1/5 is no private key"),
        (account(r5=b"secret"), "/0/1/5 is no private key"),
        (account(r5=pkcs8(P384)), "/0/1/5 is no key on P-256"),
        (account(r5=pkcs8(rsa.generate_private_key(65537, 2048))), "/0/1/5 is no key on P-256"),
        (account(r5=pkcs8(pki.make_key())), "/0/1/5 does not fit the first certificate of /0/1/3"),
        (account(r3=pki.pem_chain(ISSUING, LEAF)), "/0/1/5 does not fit the first certificate of /0/1/3"),
    ],
)
def test_a_certificate_account_that_cannot_be_used_names_its_resource(held: Mapping[int, Resource], said: str) -> None:
    assert unusable(1, held) is not None
    with pytest.raises(UnusableCredential) as raised:
        read_identity(1, held)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (account(), None),
        (account(r4=b""), "/0/1/4: not a certificate"),
        (account(r4=b"\x01" * 32, r13=1), None),
        (account(r4=b"", r13=1), "/0/1/4 is empty"),
        ({2: 0, 3: b"identity", 5: b"0123456789abcdef"}, None),
        ({2: 0, 3: b"", 5: b"0123456789abcdef"}, "/0/1/3 is no PSK identity"),
        ({2: 0, 3: b"i" * 128, 5: b"k" * 64}, None),
        ({2: 0, 3: b"i" * 129, 5: b"k"}, "/0/1/3 is no PSK identity"),
        ({2: 0, 3: b"i", 5: b"k" * 65}, "/0/1/5 is no pre-shared key"),
        ({2: 0, 3: b"i"}, "/0/1/5 is no pre-shared key"),
        ({2: 3}, None),
        ({2: 4, 4: ROOT.der}, None),
        ({2: 4}, "/0/1/4: not a certificate"),
        ({2: 1}, "/0/1/2: security mode 1 is not supported"),
        ({}, "/0/1/2: security mode None is not supported"),
    ],
)
def test_whether_an_account_can_be_connected_with(held: Mapping[int, Resource], said: str | None) -> None:
    """LwM2M Transport 1.2 5.2: 128 bytes of identity and 64 of key are what every device stores."""
    found = unusable(1, held)
    assert found is None if said is None else found is not None and found.startswith(said)


# -- judging ----------------------------------------------------------------------------------------------


def judged(*chain: pki.Holder, trust: tuple[pki.Holder, ...] = (), now: datetime = NOW) -> list[str]:
    return problems(identity(*chain), endpoint="device", now=now, trust=[each.certificate for each in trust])


@pytest.mark.parametrize(
    ("chain", "trust"),
    [
        ((LEAF, ISSUING), (ROOT,)),
        ((LEAF,), (ROOT, ISSUING)),
        ((LEAF,), (ISSUING,)),
        ((LEAF, ISSUING), (ISSUING,)),
        ((LEAF, ISSUING), ()),
        ((LEAF,), ()),
    ],
)
def test_a_chain_that_leads_to_its_anchor_has_no_problems(
    chain: tuple[pki.Holder, ...], trust: tuple[pki.Holder, ...]
) -> None:
    assert judged(*chain, trust=trust) == []


OTHER = pki.make_factory_ca("Root")


@pytest.mark.parametrize("trust", [(OTHER,), (pki.make_factory_ca("Elsewhere"),)])
def test_a_chain_that_leads_elsewhere_is_a_problem(trust: tuple[pki.Holder, ...]) -> None:
    assert judged(LEAF, ISSUING, trust=trust) == ["the chain does not end at the trust anchor"]


def test_a_missing_intermediate_is_a_problem() -> None:
    assert judged(LEAF, trust=(ROOT,)) == ["the chain does not end at the trust anchor"]


def test_an_expired_anchor_is_none() -> None:
    old = pki.make_factory_ca("Old", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1))
    leaf = pki.make_device_certificate(old, "device")
    assert judged(leaf, trust=(old,)) == ["the chain does not end at the trust anchor"]


def test_each_certificate_has_its_time() -> None:
    soon = pki.make_device_certificate(ROOT, "device", not_before=NOW + timedelta(days=1))
    assert [text.split(" before ")[0] for text in judged(soon)] == ["certificate 1 of 1 is not valid"]
    late = judged(LEAF, ISSUING, now=NOW + timedelta(days=4000))
    assert [text.split(" at ")[0] for text in late] == ["certificate 1 of 2 expired", "certificate 2 of 2 expired"]


def test_another_name_or_purpose_is_a_problem() -> None:
    assert problems(identity(LEAF), endpoint="other", now=NOW, trust=()) == [
        "the certificate's CN is ['device'], the endpoint name 'other'"
    ]
    assert judged(pki.make_device_certificate(ROOT, "device", usages=pki.SERVER_AUTH)) == [
        "the certificate is not for clientAuth"
    ]
    assert judged(pki.make_device_certificate(ROOT, "device", usages=())) == []
    ca = pki.make_device_certificate(ROOT, "device", extensions=[(x509.BasicConstraints(True, None), True)])
    assert judged(ca) == ["the certificate is one of a CA"]


def test_a_chain_out_of_order_or_with_its_root_is_a_problem() -> None:
    policy = pki.make_factory_ca("Policy", issuer=ROOT)
    low = pki.make_factory_ca("Low", issuer=policy)
    leaf = pki.make_device_certificate(low, "device")
    assert judged(leaf, policy, low) == [
        "certificate 2 of 3 did not sign the one before it",
        "certificate 3 of 3 did not sign the one before it",
    ]
    assert judged(LEAF, ISSUING, ROOT) == ["certificate 3 of 3 is a root, which has no place in the chain of a device"]


def test_a_signer_that_is_no_ca_did_not_sign() -> None:
    signer = pki.make_certificate("Signer", ROOT)
    leaf = pki.make_certificate("device", signer)
    assert judged(leaf, signer) == ["certificate 2 of 2 did not sign the one before it"]


def test_a_search_for_the_anchor_ends() -> None:
    """Two CAs that signed each other are no way round for ever."""
    a, b = pki.make_key(), pki.make_key()
    first, second = pki.make_factory_ca("A", key=a), pki.make_factory_ca("B", key=b)
    a_by_b = pki.make_factory_ca("A", issuer=second, key=a)
    b_by_a = pki.make_factory_ca("B", issuer=first, key=b)
    leaf = pki.make_device_certificate(a_by_b, "device")
    assert judged(leaf, trust=(a_by_b, b_by_a)) == ["the chain does not end at the trust anchor"]
    assert checks.MAX_PATH == 8
