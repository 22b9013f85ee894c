"""lwm2m/pkcs7.py, read by libraries that are not ours."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from lwm2m.errors import EncodeError
from lwm2m.pkcs7 import encode_certificates
from simulators.est import read_certificates
from tests.pki import make_device_certificate, make_factory_ca

CA = make_factory_ca("CA")
LEAF = make_device_certificate(CA, "a-device-with-a-name-so-long-that-the-leaf-outgrows-its-ca")
CHAIN = tuple(holder.certificate.public_bytes(Encoding.DER) for holder in (LEAF, CA))


def as_read(message: bytes) -> list[bytes]:
    """The certificates as a device reads them (DER)."""
    return [each.public_bytes(Encoding.DER) for each in read_certificates(message)]


def test_a_library_reads_the_certificates_in_their_order() -> None:
    with pytest.warns(UserWarning, match="InvalidSetOrdering"):
        read = pkcs7.load_der_pkcs7_certificates(encode_certificates(CHAIN))
    assert read == [LEAF.certificate, CA.certificate]


def test_a_library_has_nothing_to_say_about_the_sorted_set() -> None:
    # Warnings are errors here.
    read = pkcs7.load_der_pkcs7_certificates(encode_certificates(CHAIN, "der"))
    assert sorted(each.public_bytes(Encoding.DER) for each in read) == sorted(CHAIN)


def test_leaf_first_keeps_the_order_and_der_sorts() -> None:
    assert len(CHAIN[0]) > len(CHAIN[1])
    for chain in (CHAIN, CHAIN[::-1]):
        assert as_read(encode_certificates(chain)) == list(chain)
        assert as_read(encode_certificates(chain, "der")) == sorted(CHAIN)


def test_our_der_order_is_that_of_a_library() -> None:
    written = pkcs7.serialize_certificates([LEAF.certificate, CA.certificate], Encoding.DER)
    assert as_read(written) == as_read(encode_certificates(CHAIN, "der"))


@pytest.mark.parametrize("certificate", [b"", b"\x30", b"\x30\x00\x30\x00", b"\x31\x00", b"not DER"])
def test_what_is_no_certificate_is_not_written(certificate: bytes) -> None:
    with pytest.raises(EncodeError):
        encode_certificates([certificate])
