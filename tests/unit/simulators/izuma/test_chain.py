"""The client's chain format: what it can store, and what fails its bootstrap."""

from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from simulators.izuma.chain import UnusableChain, named, read_chain, read_pkcs7
from tests.pki import Holder
from tests.unit.transport.certificates import HOUR, NOW, make

ROOT = make("Root", ca=True)
ISSUING = make("Issuing", ROOT, ca=True)


def leaf(*names: tuple[x509.ObjectIdentifier, str], size: int = 0) -> Holder:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
        .issuer_name(ISSUING.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + HOUR)
    )
    if size:
        filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(size))
        builder = builder.add_extension(filler, critical=False)
    return Holder(key, builder.sign(ISSUING.key, hashes.SHA256()))


LEAF = leaf((NameOID.LOCALITY_NAME, "0" * 32), (NameOID.COMMON_NAME, "dev-1"))


def encoded(*chain: Holder) -> bytes:
    ders = [each.der for each in chain]
    return bytes([1, len(ders)]) + b"".join(len(der).to_bytes(2, "big") + der for der in ders)


def test_a_chain_is_read_in_its_order() -> None:
    chain = read_chain(encoded(LEAF, ISSUING))
    assert [each.public_bytes(Encoding.DER) for each in chain] == [LEAF.der, ISSUING.der]
    who = named(chain, LEAF.key)
    assert (who.endpoint, who.device_id) == ("dev-1", "0" * 32)


def deep(count: int) -> Sequence[Holder]:
    """A chain of `count`, leaf first."""
    authorities = [ROOT]
    for number in range(count - 1):
        authorities.append(make(f"CA {number}", authorities[-1], ca=True))
    return [make("dev-1", authorities[-1], ca=False), *reversed(authorities[1:])]


def test_five_certificates_are_the_most() -> None:
    assert len(read_chain(encoded(*deep(5)))) == 5
    with pytest.raises(UnusableChain, match="6 certificates"):
        read_chain(encoded(*deep(6)))


def test_a_certificate_has_1024_bytes_at_the_most() -> None:
    small = leaf((NameOID.LOCALITY_NAME, "x"), (NameOID.COMMON_NAME, "dev-1"))
    filler = 1024 - len(small.der)
    sizes = {
        len((made := leaf((NameOID.COMMON_NAME, "dev-1"), size=filler + more)).der): made for more in range(-60, 60, 3)
    }
    for size, made in sizes.items():
        if size <= 1024:
            assert read_chain(encoded(made, ISSUING))
        else:
            with pytest.raises(UnusableChain, match=f"has {size} bytes"):
                read_chain(encoded(made, ISSUING))
    assert min(sizes) <= 1024 < max(sizes)


@pytest.mark.parametrize("chain", [(ISSUING, LEAF), (LEAF, ROOT), (LEAF, ISSUING, ISSUING)])
def test_each_next_one_must_have_signed_the_one_before(chain: tuple[Holder, ...]) -> None:
    with pytest.raises(UnusableChain, match="not signed by the next"):
        read_chain(encoded(*chain))


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 100, -1])
def test_what_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(UnusableChain):
        read_chain(encoded(LEAF, ISSUING)[:cut])


@pytest.mark.parametrize(
    "body",
    [b"\x02\x01" + encoded(LEAF)[2:], b"\x01\x00", encoded(LEAF) + b"\0", b"\x01\x01\x00\x04abcd", LEAF.der],
)
def test_what_is_no_chain_is_refused(body: bytes) -> None:
    with pytest.raises(UnusableChain):
        read_chain(body)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([(NameOID.COMMON_NAME, "dev-1")], "has no L"),
        ([(NameOID.LOCALITY_NAME, "x")], "has no CN"),
        ([(NameOID.LOCALITY_NAME, "x" * 65), (NameOID.COMMON_NAME, "dev-1")], "L has 65"),
    ],
)
def test_a_certificate_without_the_names_it_is_read_back_from_is_refused(
    names: list[tuple[x509.ObjectIdentifier, str]], words: str
) -> None:
    made = leaf(*names)
    with pytest.raises(UnusableChain, match=words):
        named(read_chain(encoded(made, ISSUING)), made.key)


def test_a_certificate_for_another_key_is_refused() -> None:
    with pytest.raises(UnusableChain, match="not for the key"):
        named(read_chain(encoded(LEAF, ISSUING)), ISSUING.key)


# -- builds for standard LwM2M --------------------------------------------------------------------------------


def tlv(tag: int, *contents: bytes) -> bytes:
    """A DER value."""
    body = b"".join(contents)
    size = len(body)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def pkcs7(*chain: Holder) -> bytes:
    """A certs-only message with the certificates in this order, which DER would sort (RFC 5652 5.1)."""
    data = tlv(0x30, bytes.fromhex("06092a864886f70d010701"))
    certificates = tlv(0xA0, *(each.der for each in chain))
    signed = tlv(0x30, b"\x02\x01\x01", tlv(0x31), data, certificates, tlv(0x31))
    return tlv(0x30, bytes.fromhex("06092a864886f70d010702"), tlv(0xA0, signed))


def test_a_chain_in_pkcs7_is_taken_in_the_order_it_has() -> None:
    chain = read_pkcs7(pkcs7(LEAF, ISSUING))
    assert named(chain, LEAF.key, needs_device_id=False).endpoint == "dev-1"
    with pytest.raises(UnusableChain, match="not signed by the next"):
        read_pkcs7(pkcs7(ISSUING, LEAF))
    with pytest.raises(UnusableChain, match="6 certificates"):
        read_pkcs7(pkcs7(*deep(6)))


def test_a_certificate_of_a_build_for_standard_lwm2m_needs_no_device_id() -> None:
    made = leaf((NameOID.COMMON_NAME, "dev-1"))
    chain = read_pkcs7(pkcs7(made, ISSUING))
    assert named(chain, made.key, needs_device_id=False).device_id == ""


@pytest.mark.parametrize("body", [b"", b"\x30\x00", encoded(LEAF), pkcs7(LEAF)[:-1]])
def test_what_is_no_pkcs7_is_refused(body: bytes) -> None:
    with pytest.raises(UnusableChain):
        read_pkcs7(body)
