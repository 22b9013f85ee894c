"""Who signed whom, against its readable twin, the library's own `verify_directly_issued_by`."""

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuers.certificate import UNREADABLE, read_certificate, signed_by
from tests import pki
from tests.unit.issuers import surgery

ROOT = pki.make_factory_ca("Root")
OTHER_KEY = pki.make_factory_ca("Root")
OTHER_NAME = pki.make_certificate("Another Root", key=ROOT.key)
RSA = pki.make_certificate("RSA Root", key=rsa.generate_private_key(65537, 2048))
P384 = pki.make_certificate("P-384 Root", key=ec.generate_private_key(ec.SECP384R1()))


def another_algorithm_outside(holder: pki.Holder) -> x509.Certificate:
    """What is signed names SHA-256, what stands beside the signature SHA-384."""
    head, _, tail = holder.der.rpartition(surgery.ECDSA_SHA256)
    return x509.load_der_x509_certificate(head + surgery.ECDSA_SHA256[:-1] + b"\x03" + tail)


def pairs() -> Iterator[tuple[x509.Certificate, x509.Certificate, bool]]:
    device = pki.make_device_certificate(ROOT, "device")
    yield device.certificate, ROOT.certificate, True
    yield device.certificate, OTHER_KEY.certificate, False
    yield device.certificate, OTHER_NAME.certificate, False
    yield device.certificate, RSA.certificate, False
    yield another_algorithm_outside(device), ROOT.certificate, False
    yield pki.make_device_certificate(RSA, "device").certificate, RSA.certificate, True
    yield pki.make_device_certificate(P384, "device").certificate, P384.certificate, True
    strong = pki.make_certificate("device", ROOT, digest=hashes.SHA384())
    yield strong.certificate, ROOT.certificate, True
    yield ROOT.certificate, ROOT.certificate, True


@pytest.mark.parametrize(("child", "issuer", "signed"), list(pairs()))
def test_it_says_what_the_library_says(child: x509.Certificate, issuer: x509.Certificate, signed: bool) -> None:
    try:
        child.verify_directly_issued_by(issuer)
        twin = True
    except (InvalidSignature, *UNREADABLE):
        twin = False
    assert signed_by(read_certificate(child), read_certificate(issuer)) is twin is signed
