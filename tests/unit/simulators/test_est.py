"""The witness's own reader of certs-only PKCS#7 (simulators/est.py)."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from simulators.est import EnrolmentFailed, KeyPair, common_name, read_certificates
from tests.pki import make_device_certificate, make_factory_ca
from tests.unit.lwm2m import vectors

CA = make_factory_ca("CA")
LEAF = make_device_certificate(CA, "device-1")
(CRTS,) = (bytes.fromhex(each["hex"]) for each in vectors.load("rfc9148-appendix-a.json") if each["name"][:3] == "A.1")


def test_the_message_of_the_rfc_is_read() -> None:
    (root,) = read_certificates(CRTS)
    root.verify_directly_issued_by(root)


def test_what_a_library_writes_is_read() -> None:
    message = pkcs7.serialize_certificates([LEAF.certificate, CA.certificate], Encoding.DER)
    assert {each.serial_number for each in read_certificates(message)} == {
        LEAF.certificate.serial_number,
        CA.certificate.serial_number,
    }


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        CRTS[:-1],
        CRTS + b"\x00",
        CRTS.replace(bytes.fromhex("0702"), bytes.fromhex("0703"), 1),
        LEAF.certificate.public_bytes(Encoding.DER),
    ],
    ids=range(7),
)
def test_anything_else_is_refused(message: bytes) -> None:
    with pytest.raises(EnrolmentFailed):
        read_certificates(message)


def test_a_device_keeps_its_csr_and_shows_no_key() -> None:
    pair = KeyPair.make(common_name("device-1"))

    assert "PRIVATE" not in repr(pair)
    assert "EllipticCurve" not in repr(pair)
