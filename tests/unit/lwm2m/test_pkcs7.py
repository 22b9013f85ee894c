"""lwm2m/pkcs7.py, read by libraries that are not ours."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from lwm2m.der import SEQUENCE, encode
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.pkcs7 import MOST, decode_certificates, encode_certificates
from tests.pki import make_device_certificate, make_factory_ca

CA = make_factory_ca("CA")
LEAF = make_device_certificate(CA, "a-device-with-a-name-so-long-that-the-leaf-outgrows-its-ca")
CHAIN = tuple(holder.certificate.public_bytes(Encoding.DER) for holder in (LEAF, CA))


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
        assert decode_certificates(encode_certificates(chain)) == chain
        assert decode_certificates(encode_certificates(chain, "der")) == tuple(sorted(CHAIN))


def test_what_a_library_writes_is_read_and_is_our_der_order() -> None:
    written = pkcs7.serialize_certificates([LEAF.certificate, CA.certificate], Encoding.DER)
    assert decode_certificates(written) == decode_certificates(encode_certificates(CHAIN, "der"))


def test_no_certificates_are_a_message_too() -> None:
    assert decode_certificates(encode_certificates(())) == ()


@given(st.lists(st.binary(max_size=300).map(lambda content: encode(SEQUENCE, content)), max_size=MOST))
def test_what_is_written_is_read_back(certificates: list[bytes]) -> None:
    assert decode_certificates(encode_certificates(certificates)) == tuple(certificates)
    assert sorted(decode_certificates(encode_certificates(certificates, "der"))) == sorted(certificates)


@pytest.mark.parametrize("certificate", [b"", b"\x30", b"\x30\x00\x30\x00", b"\x31\x00", b"not DER"])
def test_what_is_no_certificate_is_not_written(certificate: bytes) -> None:
    with pytest.raises(EncodeError):
        encode_certificates([certificate])


@given(st.data())
def test_a_damaged_message_fails_in_one_way_only(data: st.DataObject) -> None:
    message = bytearray(encode_certificates(CHAIN))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, 80))] = data.draw(st.integers(0, 255))
    try:
        decode_certificates(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (encode_certificates([b"\x30\x00"] * (MOST + 1)), "at most"),
        (encode_certificates(()).replace(b"\x02\x01\x01", b"\x02\x01\x03"), "more than certificates"),
        (encode_certificates(()).replace(bytes.fromhex("0702"), bytes.fromhex("0703")), "no PKCS#7"),
        (b"", "one DER value"),
        (bytes.fromhex("3080"), "length"),
        (bytes.fromhex("308100"), "length"),
        (bytes.fromhex("1f0100"), "several bytes"),
    ],
)
def test_what_is_no_certs_only_message_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_certificates(message)
