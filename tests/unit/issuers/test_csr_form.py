"""CSRs that no library makes: one CA reads them thus, another so, or no handshake takes their key (RFC 5480, 2985)."""

from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuers.csr import check_csr
from issuers.errors import Rejected
from tests import pki
from tests.unit.issuers import surgery

KEY = pki.make_key()
NAME = "urn:dev:os:0001"


def refused(csr: bytes) -> str:
    with pytest.raises(Rejected) as raised:
        check_csr(csr)
    return raised.value.message


def hand_made(*, spki: bytes = b"", attributes: Iterable[bytes] = ()) -> bytes:
    """A CSR for KEY as no library makes it, soundly signed."""
    subject = pki.make_name(NAME).public_bytes()
    spki = spki or KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    version, rest = bytes.fromhex("020100"), surgery.element(0xA0, *sorted(attributes))
    return surgery.signed(surgery.element(0x30, version, subject, spki, rest), KEY)


# id-ecPublicKey, secp256r1, prime-field (RFC 5480 2.1.1, RFC 3279 2.3.5).
EC_PUBLIC_KEY, P256, PRIME_FIELD = (
    bytes.fromhex(each) for each in ("06072a8648ce3d0201", "06082a8648ce3d030107", "06072a8648ce3d0101")
)
# p, a, b, n, x and y of the base point (SEC 2 2.4.2).
PRIME, COEFFICIENT_A, COEFFICIENT_B, ORDER, BASE_X, BASE_Y = (
    bytes.fromhex(each)
    for each in (
        "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
        "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    )
)


def key_info(parameters: bytes, format: PublicFormat = PublicFormat.UncompressedPoint) -> bytes:
    point = KEY.public_key().public_bytes(Encoding.X962, format)
    algorithm = surgery.element(0x30, EC_PUBLIC_KEY, parameters)
    return surgery.element(0x30, algorithm, surgery.element(0x03, b"\0", point))


def test_a_curve_that_is_not_named_is_refused() -> None:
    """RFC 5480 2.1.1: specifiedCurve MUST NOT be used in PKIX; what is made of it nobody takes."""
    element = surgery.element
    specified = element(
        0x30,
        bytes.fromhex("020101"),
        element(0x30, PRIME_FIELD, element(0x02, b"\0", PRIME)),
        element(0x30, element(0x04, COEFFICIENT_A), element(0x04, COEFFICIENT_B)),
        element(0x04, b"\x04", BASE_X, BASE_Y),
        element(0x02, b"\0", ORDER),
        bytes.fromhex("020101"),
    )
    assert check_csr(hand_made(spki=key_info(P256)), endpoint=NAME)
    assert "named curve" in refused(hand_made(spki=key_info(specified)))


def test_a_compressed_point_is_refused() -> None:
    """RFC 8422 5.1.2 knows uncompressed points alone: no server takes the certificate in a handshake."""
    assert "uncompressed" in refused(hand_made(spki=key_info(P256, PublicFormat.CompressedPoint)))


# The attributes that ask for extensions: extensionRequest (RFC 2985 5.4.2), and Microsoft's, which OpenSSL reads too.
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
MICROSOFTS_REQUEST = bytes.fromhex("060a2b060104018237 02010e".replace(" ", ""))


def asked(kind: bytes, identifier: str, value: bytes) -> bytes:
    extension = surgery.element(0x30, bytes.fromhex(identifier), surgery.element(0x04, value))
    return surgery.element(0x30, kind, surgery.element(0x31, surgery.element(0x30, extension)))


OF_ANOTHER = "0603551d11", surgery.element(0x30, surgery.element(0x82, b"another-device"))
NOTHING_MUCH = "06032a0304", bytes.fromhex("0500")


@pytest.mark.parametrize(
    "attributes",
    [
        # Each order of the two is one that some parser makes the first: what one CA reads another does not.
        [asked(EXTENSION_REQUEST, *NOTHING_MUCH), asked(EXTENSION_REQUEST, *OF_ANOTHER)],
        [asked(EXTENSION_REQUEST, *NOTHING_MUCH), asked(MICROSOFTS_REQUEST, *OF_ANOTHER)],
        [asked(MICROSOFTS_REQUEST, *OF_ANOTHER)],
    ],
)
@pytest.mark.parametrize("proof", [True, False])
def test_extensions_are_asked_for_in_one_place_that_every_ca_reads(attributes: list[bytes], proof: bool) -> None:
    """CFSSL gave the alternative name of a second request, which was read by nobody here."""
    with pytest.raises(Rejected, match="one extensionRequest"):
        check_csr(hand_made(attributes=attributes), endpoint=NAME, proof=proof)
    for alone in ([], [asked(EXTENSION_REQUEST, *NOTHING_MUCH)]):
        check_csr(hand_made(attributes=alone), endpoint=NAME, proof=proof)


def test_other_attributes_say_nothing_about_extensions() -> None:
    # challengePassword, with its value, twice, and without one (RFC 2985 5.4.1).
    password, kind = surgery.element(0x13, b"secret"), bytes.fromhex("06092a864886f70d010907")
    for values in ((password,), (password, password), ()):
        attribute = surgery.element(0x30, kind, surgery.element(0x31, *values))
        check_csr(hand_made(attributes=[attribute, asked(EXTENSION_REQUEST, *NOTHING_MUCH)]), endpoint=NAME)
