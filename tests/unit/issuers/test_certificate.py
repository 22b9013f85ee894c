"""What a certificate says: the usual one, read from its bytes, says what the library's reading says."""

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuers import certificate as module
from issuers.certificate import Certificate, ca_certificate, read_certificate, signed_by
from tests import pki

ROOT = pki.make_factory_ca("Root")
OTHER_NAME = pki.make_certificate("Another Root", key=ROOT.key)
RSA = pki.make_certificate("RSA Root", key=rsa.generate_private_key(65537, 2048))
P384 = pki.make_certificate("P-384 Root", key=ec.generate_private_key(ec.SECP384R1()))
KEY = pki.make_key()
USAGE = (pki.key_usage("digital_signature"), True)
CLIENT = (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False)
NAME = (x509.SubjectAlternativeName([x509.DNSName("device")]), False)
OWN = (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False)
# `plain` is what makes the difference; names and keys are compared as the properties that show them.
UNCOMPARED = ("_ec_key", "_fingerprint", "_issuer", "_subject", "plain")
SHOWN = ("subject", "issuer", "name", "fingerprint")


def usual() -> Iterator[pki.Holder]:
    for extensions in ((), (USAGE,), (USAGE, CLIENT), (CLIENT, NAME, OWN), ((pki.key_usage("key_agreement"), False),)):
        yield pki.make_certificate("device", ROOT, key=KEY, extensions=extensions)
    yield pki.make_certificate("device", P384, digest=hashes.SHA384())
    yield pki.make_certificate("device", OTHER_NAME)
    yield pki.make_certificate("its own", extensions=(USAGE,))
    yield pki.make_certificate("Root", pki.make_certificate("Root"))


def whole(certificate: x509.Certificate, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    with monkeypatch.context() as patched:
        patched.setattr(module, "end_entity", lambda _der: None)
        return read_certificate(certificate)


@pytest.mark.parametrize("holder", list(usual()))
def test_it_is_read_as_the_library_reads_it(holder: pki.Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, twin = read_certificate(holder.certificate), whole(holder.certificate, monkeypatch)
    assert quick.plain is not None
    assert twin.plain is None
    for slot in Certificate.__slots__:
        if slot not in UNCOMPARED:
            assert getattr(quick, slot) == getattr(twin, slot), slot
    for shown in SHOWN:
        assert getattr(quick, shown) == getattr(twin, shown), shown
    assert quick == twin
    assert hash(quick) == hash(twin)
    for issuer in (ROOT, OTHER_NAME, RSA, P384, holder):
        above = read_certificate(issuer.certificate)
        assert signed_by(quick, above) is signed_by(twin, above)


def test_the_bytes_at_hand_are_taken() -> None:
    assert read_certificate(ROOT.certificate, ROOT.der).der is not read_certificate(ROOT.certificate).der


def test_a_ca_is_read_once_by_its_object_and_once_by_its_content() -> None:
    again = x509.load_der_x509_certificate(ROOT.der)
    assert ca_certificate(ROOT.certificate) is ca_certificate(ROOT.certificate) is ca_certificate(again)


def test_cas_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    for number in range(10):
        made = pki.make_factory_ca(f"Root {number}").certificate
        assert ca_certificate(made).subject == made.subject
    assert len(module._known) <= 3


def test_a_very_large_ca_is_read_and_not_remembered() -> None:
    much = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(module.LARGEST_REMEMBERED))
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    large = pki.make_certificate("Large CA", ROOT, extensions=(ca, (much, False)))
    root = ca_certificate(ROOT.certificate)
    sizes = [memory.cache_info().currsize for memory in (module._signed_by_remembered, module._ca_certificate)]
    first, second = ca_certificate(large.certificate), ca_certificate(large.certificate)
    assert first == second
    assert first is not second
    assert signed_by(first, root)
    assert not signed_by(root, first)
    assert sizes == [memory.cache_info().currsize for memory in (module._signed_by_remembered, module._ca_certificate)]
    assert id(large.certificate) not in module._known
