"""A certificate as a path reads it: the usual one, read from its bytes, says what the library's reading says."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuers.end_entity import end_entity
from server import certificate as module
from server.certificate import Certificate
from server.trust import Anchor, Refused, TrustIndex
from tests import pki

CA = pki.make_factory_ca("Root")
P384 = pki.make_factory_ca("P-384 Root", key=ec.generate_private_key(ec.SECP384R1()))
OTHER = pki.make_factory_ca("Root")
KEY = pki.make_key()
SERVER = x509.ExtendedKeyUsage(pki.SERVER_AUTH)
CLIENT = x509.ExtendedKeyUsage(pki.CLIENT_AUTH)
IDENTIFIERS = (
    (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False),
    (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.public_key()), False),
)
# What the library alone knows of the algorithm; asked only of a key that is RSA.
UNCOMPARED = ("_key", "_spki", "signature_hash", "signature_padding")


def usual() -> Iterator[pki.Holder]:
    for extensions in (
        (),
        IDENTIFIERS,
        ((CLIENT, False),),
        ((SERVER, True), *IDENTIFIERS),
        ((pki.key_usage("digital_signature"), True), (CLIENT, False)),
        ((pki.key_usage("key_agreement"), True), (CLIENT, False)),
        ((pki.key_usage("key_agreement"), True), (SERVER, False)),
        ((SERVER, False), (pki.key_usage("key_cert_sign"), False)),
        ((pki.key_usage("digital_signature", "key_cert_sign"), True), (SERVER, False)),
        ((x509.BasicConstraints(ca=False, path_length=None), True), (pki.key_usage("key_cert_sign"), True)),
    ):
        yield pki.make_certificate("device", CA, key=KEY, extensions=extensions)
    yield pki.make_certificate("device", CA, digest=hashes.SHA384())
    yield pki.make_device_certificate(P384, "device")
    yield pki.make_device_certificate(OTHER, "device")


def whole(der: bytes, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    with monkeypatch.context() as patched:
        patched.setattr(module, "end_entity", lambda _der: None)
        return Certificate(der)


def public_bytes(certificate: Certificate) -> bytes:
    assert certificate.key is not None
    return certificate.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("holder", list(usual()))
def test_it_is_read_as_the_library_reads_it(holder: pki.Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end_entity(holder.der) is not None
    quick, twin = Certificate(holder.der), whole(holder.der, monkeypatch)
    for slot in Certificate.__slots__:
        if slot not in UNCOMPARED:
            assert getattr(quick, slot) == getattr(twin, slot), slot
    assert quick.signature_hash is not None
    assert twin.signature_hash is not None
    assert quick.signature_hash.name == twin.signature_hash.name
    assert quick.spki == twin.spki == public_bytes(quick) == public_bytes(twin)
    for issuer in (CA, P384, OTHER, holder):
        above = Certificate(issuer.der)
        assert above.signed(quick) is above.signed(twin)
        assert above.may_have_issued(quick) is above.may_have_issued(twin)
    below = Certificate(pki.make_certificate("below", holder).der)
    assert quick.signed(below) is twin.signed(below) is True


@pytest.mark.parametrize("holder", list(usual()))
@pytest.mark.parametrize("year", [2020, 2026, 2099])
def test_the_verdict_is_the_same(holder: pki.Holder, year: int, monkeypatch: pytest.MonkeyPatch) -> None:
    index = TrustIndex(
        Anchor(id=uuid4(), account_id=uuid4(), service="bootstrap", certificate=each.der) for each in (CA, P384)
    )
    now = datetime(year, 12, 1, tzinfo=UTC)
    quick = index.judge([holder.der], now)
    with monkeypatch.context() as patched:
        patched.setattr(module, "end_entity", lambda _der: None)
        assert index.judge([holder.der], now) == quick
    assert year == 2026 or isinstance(quick, Refused)


def test_a_damaged_certificate_is_refused_in_the_librarys_words(monkeypatch: pytest.MonkeyPatch) -> None:
    index = TrustIndex([Anchor(id=uuid4(), account_id=uuid4(), service="bootstrap", certificate=CA.der)])
    der, now = pki.make_device_certificate(CA, "device").der, datetime(2026, 12, 1, tzinfo=UTC)
    seen = set()
    for at in range(len(der)):
        for put in (0, der[at] ^ 1, der[at] ^ 0x80):
            damaged = der[:at] + bytes((put,)) + der[at + 1 :]
            if damaged == der:
                continue
            verdict = index.judge([damaged], now)
            with monkeypatch.context() as patched:
                patched.setattr(module, "end_entity", lambda _der: None)
                assert index.judge([damaged], now) == verdict
            assert isinstance(verdict, Refused)
            seen.add(verdict.reason)
    assert {"malformed", "bad_signature", "unknown_ca"} <= {reason.value for reason in seen}
